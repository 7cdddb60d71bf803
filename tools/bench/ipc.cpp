#include "tools/bench/ipc.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <memory>
#include <optional>
#include <thread>

#include "abi/runtime/time.hpp"
#include "tools/bench/bare.hpp"
#include "tools/bench/echo_client.hpp"

namespace aios::bench {

namespace {

constexpr std::size_t spin_calls = 100'000;
constexpr std::size_t sleep_calls = 4'000;
constexpr std::size_t region_grants = 200;
constexpr std::size_t batches = 3'000;
constexpr std::size_t batch_size = 64;
constexpr std::size_t crowd = 16;
constexpr std::uint64_t crowd_ns = 300 * ns_per_ms;
constexpr std::uint64_t busy_ns = 300 * ns_per_ms;

/// The servers' processes and the clients that the cases share.
struct Stage {
  IpcOptions options;
  Cores cores = two_cores();
  pid_t echo = 0;
  pid_t sleepy = 0;
  std::optional<EchoClient> awake;   ///< of echo
  std::optional<EchoClient> asleep;  ///< of sleepy, and never spinning itself
  std::uint64_t large_region = 0;    ///< attached at echo by `awake`
};

Result<void> place(pid_t server, const Cores& cores) {
  TRY(pin(cores.server, server));
  return pin(cores.client);
}

Cores same(const Cores& cores) {
  return {cores.server, cores.server};
}

/// `count` timed runs of `step` after some that are not counted.
template <class Step>
Result<Outcome> time_each(std::size_t count, Step step) {
  for (std::size_t i = 0; i < count / 10 + 1; ++i) TRY(step());
  Samples samples(count);
  std::uint64_t last = ticks();
  for (std::size_t i = 0; i < count; ++i) {
    TRY(step());
    const std::uint64_t now = ticks();
    samples.add(now - last);
    last = now;
  }
  return Outcome{samples.quantiles(), 0};
}

Result<Outcome> outcome_of(Result<Samples> samples) {
  if (!samples) return std::unexpected(std::move(samples).error());
  return Outcome{samples->quantiles(), 0};
}

Result<Outcome> time_grant(Stage& stage, std::uint64_t bytes, std::size_t count) {
  TRY(place(stage.echo, stage.cores));
  EchoClient client = TRY(EchoClient::connect(stage.options.socket, "echo", Spin::adaptive));
  TRY(client.create_region(bytes));
  Samples samples(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t begin = ticks();
    const std::uint64_t region = TRY(client.attach_region());
    samples.add(ticks() - begin);
    TRY(client.detach_region(region));
  }
  return Outcome{samples.quantiles(), 0};
}

Result<Outcome> batched(Stage& stage) {
  TRY(place(stage.echo, stage.cores));
  for (std::size_t i = 0; i < batches / 10; ++i) TRY(stage.awake->batch(batch_size));
  const std::uint64_t begin = now_ns();
  for (std::size_t i = 0; i < batches; ++i) TRY(stage.awake->batch(batch_size));
  const double seconds = static_cast<double>(now_ns() - begin) / ns_per_s;
  return Outcome{{}, static_cast<double>(batches * batch_size) / seconds};
}

// ---- many clients -------------------------------------------------------------------------------

struct CrowdResult {
  Outcome times;
  double slowest_over_fastest = 0;
};

/// 16 clients, each with a connection and a thread of its own, on one server, on all cores.
Result<CrowdResult> run_crowd(Stage& stage) {
  TRY(unpin(stage.echo));
  TRY(unpin(0));
  std::vector<EchoClient> clients;
  for (std::size_t i = 0; i < crowd; ++i)
    clients.push_back(TRY(EchoClient::connect(stage.options.socket, "echo", Spin::adaptive)));
  std::vector<Samples> samples(crowd, Samples(1 << 16));
  std::vector<Result<void>> results(crowd);
  const std::uint64_t end = now_ns() + crowd_ns;
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < crowd; ++i)
    threads.emplace_back([&, i] {
      while (now_ns() < end && results[i]) {
        const std::uint64_t begin = ticks();
        results[i] = clients[i].null_call();
        samples[i].add(ticks() - begin);
      }
    });
  for (std::thread& thread : threads) thread.join();
  Samples all(1 << 20);
  std::size_t least = samples[0].size();
  std::size_t most = least;
  for (std::size_t i = 0; i < crowd; ++i) {
    TRY(Result<void>(results[i]));
    all.add_all(samples[i]);
    least = std::min(least, samples[i].size());
    most = std::max(most, samples[i].size());
  }
  return CrowdResult{{all.quantiles(), 0}, static_cast<double>(least) / static_cast<double>(most)};
}

// ---- more work than cores -----------------------------------------------------------------------

struct Counter {
  alignas(128) std::atomic<std::uint64_t> calls;
};

/// Two clients and two servers on two cores: calls a second of both together.
Result<Outcome> busy(Stage& stage, const char* const (&servers)[2], Spin spin) {
  void* memory = ::mmap(nullptr, sizeof(Counter) * 2, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_error("map memory", errno);
  auto* counters = static_cast<Counter*>(memory);
  const std::unique_ptr<void, void (*)(void*)> unmap(
      memory, [](void* mapped) { ::munmap(mapped, sizeof(Counter) * 2); });
  for (const char* server : servers) TRY(unpin(TRY(stage.awake->server_pid(server))));
  std::vector<Peer> peers;
  for (int i = 0; i < 2; ++i)
    peers.push_back(TRY(Peer::start(any_core, [&, i] {
      auto client = EchoClient::connect(stage.options.socket, servers[i], spin);
      while (client && client->null_call())
        counters[i].calls.fetch_add(1, std::memory_order_relaxed);
    })));
  const Deadline started = Deadline::after(20 * ns_per_s);
  while (counters[0].calls == 0 || counters[1].calls == 0) {
    if (started.passed()) return error(Code::timed_out, "the busy clients did not start");
    ::sched_yield();
  }
  const auto calls = [&] { return counters[0].calls.load() + counters[1].calls.load(); };
  const std::uint64_t before = calls();
  const std::uint64_t begin = now_ns();
  const timespec window{0, static_cast<long>(busy_ns)};
  ::nanosleep(&window, nullptr);
  const double seconds = static_cast<double>(now_ns() - begin) / ns_per_s;
  return Outcome{{}, static_cast<double>(calls() - before) / seconds};
}

// ---- other systems ------------------------------------------------------------------------------

/// A program that prints what Quantiles::print does.
Result<Outcome> run_program(const std::string& command) {
  FILE* output = ::popen(command.c_str(), "re");
  if (output == nullptr) return errno_error("run " + command, errno);
  Quantiles times;
  const int read =
      std::fscanf(output, "%lf %lf %lf %lf", &times.mean, &times.p50, &times.p99, &times.p999);
  const int status = ::pclose(output);
  if (read != 4 || status != 0) return error(Code::io_error, "failed: " + command);
  return Outcome{times, 0};
}

// ---- the cases, each beside what it is measured by
// ------------------------------------------------

using Cases = std::vector<Case>;

template <class Run>
void add_bare(const std::shared_ptr<Stage>& stage, Cases& cases, const char* name, Run run) {
  cases.push_back({name, Measures::time, [stage, run] { return outcome_of(run(*stage)); }});
}

void add_peer(const std::shared_ptr<Stage>& stage, Cases& cases, const char* name,
              const char* program, const std::string& before) {
  const std::string path = stage->options.peers + "/" + program;
  if (::access(path.c_str(), X_OK) != 0) return;
  const std::string command = before + path + " " + std::to_string(stage->cores.client) + " " +
                              std::to_string(stage->cores.server) + " 2>/dev/null";
  cases.push_back({name, Measures::time, [command] { return run_program(command); }});
}

Result<Outcome> read_region(Stage& stage, std::uint64_t length, std::size_t count) {
  TRY(place(stage.echo, stage.cores));
  return time_each(count, [&] { return stage.awake->read_region(stage.large_region, 0, length); });
}

void add_awake(const std::shared_ptr<Stage>& stage, Cases& cases) {
  add_peer(stage, cases, "openmpi_pingpong", "bench-openmpi",
           "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 "
           "mpirun -q --oversubscribe --bind-to none -n 2 ");
  add_bare(stage, cases, "bare_pingpong",
           [](Stage& s) { return bare_pingpong(s.cores, spin_calls); });
  cases.push_back({"null_call_spin", Measures::time, [stage]() -> Result<Outcome> {
                     TRY(place(stage->echo, stage->cores));
                     return time_each(spin_calls, [&] { return stage->awake->null_call(); });
                   }});
  cases.push_back(
      {"region_ref_1gib", Measures::time, [stage] { return read_region(*stage, 8, spin_calls); }});
  add_peer(stage, cases, "iceoryx_reqresp", "bench-iceoryx",
           "iox-roudi >/dev/null 2>&1 & roudi=$!; trap 'kill $roudi' EXIT; timeout 60 ");
  cases.push_back({"throughput_msgs_per_s", Measures::number, [stage] { return batched(*stage); }});
}

void add_asleep(const std::shared_ptr<Stage>& stage, Cases& cases) {
  add_bare(stage, cases, "bare_eventfd",
           [](Stage& s) { return bare_eventfd(s.cores, sleep_calls); });
  cases.push_back({"null_call_sleep", Measures::time, [stage]() -> Result<Outcome> {
                     TRY(place(stage->sleepy, stage->cores));
                     return time_each(sleep_calls, [&] { return stage->asleep->null_call(); });
                   }});
  add_bare(stage, cases, "unix_seqpacket",
           [](Stage& s) { return unix_seqpacket(s.cores, sleep_calls); });
  add_bare(stage, cases, "bare_eventfd_same_core",
           [](Stage& s) { return bare_eventfd(same(s.cores), sleep_calls); });
  cases.push_back({"null_call_same_core", Measures::time, [stage]() -> Result<Outcome> {
                     TRY(place(stage->echo, same(stage->cores)));
                     return time_each(sleep_calls, [&] { return stage->awake->null_call(); });
                   }});
}

void add_regions(const std::shared_ptr<Stage>& stage, Cases& cases) {
  cases.push_back({"region_grant_4kib", Measures::time,
                   [stage] { return time_grant(*stage, 4096, region_grants); }});
  cases.push_back({"region_grant_1gib", Measures::time, [stage] {
                     return time_grant(*stage, stage->options.large_bytes, region_grants);
                   }});
  add_bare(stage, cases, "bare_memcpy_1gib",
           [](Stage& s) { return bare_memcpy(s.options.large_bytes, 2); });
  cases.push_back({"region_touch_1gib", Measures::time,
                   [stage] { return read_region(*stage, stage->options.large_bytes, 2); }});
}

void add_crowds(const std::shared_ptr<Stage>& stage, Cases& cases) {
  const auto fairness = std::make_shared<double>(0);
  cases.push_back({"clients_16", Measures::time, [=]() -> Result<Outcome> {
                     const CrowdResult result = TRY(run_crowd(*stage));
                     *fairness = result.slowest_over_fastest;
                     return result.times;
                   }});
  // Of the round that was just run.
  cases.push_back({"clients_16_slowest_over_fastest", Measures::number, [=]() -> Result<Outcome> {
                     return Outcome{{}, *fairness};
                   }});
  cases.push_back({"busy_calls_per_s_adaptive", Measures::number, [stage] {
                     return busy(*stage, {"echo", "echo2"}, Spin::adaptive);
                   }});
  cases.push_back({"busy_calls_per_s_never_spinning", Measures::number, [stage] {
                     return busy(*stage, {"sleepy", "sleepy2"}, Spin::never);
                   }});
}

}  // namespace

Result<std::vector<Case>> ipc_cases(const IpcOptions& options) {
  const auto stage = std::make_shared<Stage>();
  stage->options = options;
  stage->awake = TRY(EchoClient::connect(options.socket, "echo", Spin::adaptive));
  stage->asleep = TRY(EchoClient::connect(options.socket, "sleepy", Spin::never));
  stage->echo = TRY(stage->awake->server_pid("echo"));
  stage->sleepy = TRY(stage->awake->server_pid("sleepy"));
  TRY(stage->awake->create_region(options.large_bytes));
  stage->large_region = TRY(stage->awake->attach_region());
  std::vector<Case> cases;
  add_awake(stage, cases);
  add_asleep(stage, cases);
  add_regions(stage, cases);
  add_crowds(stage, cases);
  return cases;
}

std::vector<Ratio> ipc_ratios() {
  return {{"null_call_spin", "bare_pingpong", 2.0},
          {"null_call_sleep", "bare_eventfd", 1.25},
          {"null_call_same_core", "bare_eventfd_same_core", 1.25},
          {"region_ref_1gib", "null_call_spin", 1.1},
          {"region_grant_1gib", "region_grant_4kib", 0},
          {"region_touch_1gib", "bare_memcpy_1gib", 0},
          {"null_call_spin", "openmpi_pingpong", 1.0},
          {"null_call_spin", "iceoryx_reqresp", 0.125},
          {"busy_calls_per_s_never_spinning", "busy_calls_per_s_adaptive", 1.1}};
}

}  // namespace aios::bench
