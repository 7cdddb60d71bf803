// MapReduce jobs with known output, and calls to the two servers without state.
#include <aios/job.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "abi/proto/echo.hpp"
#include "abi/proto/supervisor.hpp"
#include "tests/fault/worker.hpp"

namespace aios::fault {

namespace {

namespace fs = std::filesystem;

void rest(std::uint64_t duration_ns) {
  const timespec pause{0, static_cast<long>(duration_ns)};
  ::nanosleep(&pause, nullptr);
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// ---- jobs -----------------------------------------------------------------------------------

constexpr Parts job_parts =
    parts({Part::mapreduce, Part::scheduler, Part::cpu, Part::contexts, Part::storage});
constexpr std::size_t words = 20'000;
constexpr std::size_t distinct_words = 900;

class JobWorker final : public Worker {
 public:
  explicit JobWorker(Ground& ground) : Worker(ground, "jobs", job_parts, 500 * ns_per_ms) {}

 protected:
  void open() override {
    // Once: later the disk may be full.
    if (expected_.empty()) write_input();
    aios_attach_options options{};
    options.socket_path = ground_.socket.c_str();
    if (aios_attach(&options, &instance_) != AIOS_OK)
      breach(std::string("cannot attach: ") + aios_last_error());
  }
  void close() override { aios_detach(std::exchange(instance_, nullptr)); }

  void round() override {
    const fs::path output = folder() / "output";
    fs::remove_all(output);
    const std::string input = folder() / "input";
    const std::string target = output;
    const char* inputs[] = {input.c_str()};
    aios_mapreduce_options options{};
    options.module_path = ground_.job_module.c_str();
    options.inputs = inputs;
    options.input_count = 1;
    options.output = target.c_str();
    options.threads = 2;
    options.memory_bytes = 16u << 20;
    const aios_code code = call("job", job_parts, job_timeout_ns, [&](std::uint64_t timeout) {
      // It has no timeout of its own: the callback is its end.
      Deadline end = Deadline::after(timeout);
      const auto go_on = [](void* context, const aios_mapreduce_progress*) {
        return static_cast<Deadline*>(context)->passed() ? 1 : 0;
      };
      return aios_mapreduce_run(instance_, &options, go_on, &end, nullptr);
    });
    if (code == AIOS_OK) {
      if (read_file(output / "part-00000") != expected_)
        breach("job: other counts than the text's");
    } else if (fs::exists(output / "_SUCCESS")) {
      breach("job: failed, and yet its output says that it succeeded");
    }
    rest(5 * ns_per_ms);
  }

 private:
  fs::path folder() const { return fs::path(ground_.folder) / "job"; }

  void write_input() {
    fs::create_directories(folder());
    std::map<std::string, std::uint64_t> counts;
    std::ofstream input(folder() / "input");
    for (std::size_t i = 0; i < words; ++i) {
      const std::string word = "w" + std::to_string(random_() % distinct_words);
      input << word << (i % 11 == 10 ? "\n" : " ");
      ++counts[word];
    }
    input << "\n";
    for (const auto& [word, count] : counts)
      expected_ += word + "\t" + std::to_string(count) + "\n";
  }

  std::string expected_;
};

// ---- calls ----------------------------------------------------------------------------------

/// Calls one method of a service again and again.
class CallWorker : public Worker {
 public:
  CallWorker(Ground& ground, Part part, std::uint64_t version)
      : Worker(ground, std::string(name_of(part)), bit(part), 0), part_(part), version_(version) {}

 protected:
  void open() override {
    aios_attach_options options{};
    options.socket_path = ground_.socket.c_str();
    options.flags = AIOS_ATTACH_NEVER_SPIN;
    if (aios_attach(&options, &instance_) != AIOS_OK ||
        aios_connect(instance_, name().c_str(), version_, &service_) != AIOS_OK)
      breach(std::string("cannot begin: ") + aios_last_error());
  }
  void close() override {
    aios_service_close(std::exchange(service_, nullptr));
    aios_detach(std::exchange(instance_, nullptr));
  }
  template <class M>
  bool ask(const typename M::Request& request, typename M::Reply& reply) {
    return call(M::name, bit(part_), call_timeout_ns, [&](std::uint64_t timeout) {
             return aios_call_method(service_, M::opcode, &request, sizeof request, &reply,
                                     sizeof reply, timeout);
           }) == AIOS_OK;
  }

 private:
  Part part_;
  std::uint64_t version_;
  aios_service* service_ = nullptr;
};

class EchoWorker final : public CallWorker {
 public:
  explicit EchoWorker(Ground& ground)
      : CallWorker(ground, Part::echo, proto::echo::Protocol::version) {}

 protected:
  void round() override {
    proto::echo::Echo::Request request{};
    request.value = random_();
    for (auto& byte : request.bytes) byte = static_cast<std::uint8_t>(random_());
    proto::echo::Echo::Reply reply{};
    if (ask<proto::echo::Echo>(request, reply) && std::memcmp(&request, &reply, sizeof reply) != 0)
      breach("another answer than what was sent");
    if (random_() % 64 == 0) rest(ns_per_ms);
  }
};

class ListingWorker final : public CallWorker {
 public:
  ListingWorker(Ground& ground, std::uint32_t servers)
      : CallWorker(ground, Part::supervisor, proto::supervisor::Protocol::version),
        servers_(servers) {}

 protected:
  void round() override {
    proto::supervisor::Server::Reply reply{};
    if (ask<proto::supervisor::Server>({random_() % servers_}, reply) &&
        (reply.count != servers_ || reply.server.view().empty()))
      breach("another record than a server's");
    rest(ns_per_ms);
  }

 private:
  std::uint32_t servers_;
};

}  // namespace

std::unique_ptr<Worker> make_job_worker(Ground& ground) {
  return std::make_unique<JobWorker>(ground);
}
std::unique_ptr<Worker> make_echo_worker(Ground& ground) {
  return std::make_unique<EchoWorker>(ground);
}
std::unique_ptr<Worker> make_listing_worker(Ground& ground, std::uint32_t servers) {
  return std::make_unique<ListingWorker>(ground, servers);
}

}  // namespace aios::fault
