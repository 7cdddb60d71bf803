// victim-bench: how much a hostile peer slows down an honest client of the same server. Measures
// null calls of a victim (a) beside a plain busy loop and (b) beside a hostile peer that floods the
// server, in turns, and compares their tails: two merely busy programs on two cores make long
// tails, so a quiet machine is no measure (it is printed as well).
//
//   victim-bench --peer PROGRAM [--repetitions N] [--calls N] [--attacks NAME,...]
//
// Exit codes: 0 the median ratio of the p99 is at most 2, 1 it is more, or it cannot be measured.
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "abi/proto/echo.hpp"
#include "tests/support/test_instance.hpp"
#include "tests/support/whole_instance.hpp"

using namespace aios;

namespace {

constexpr double most_times_slower = 2.0;

struct Options {
  std::string peer;
  std::size_t repetitions = 9;
  std::size_t calls = 4000;
  std::string attacks = "flood,full_ring,bell_flood";
  bool let_halt = false;
};

/// A child that does what it is told until this object goes.
class Beside {
 public:
  explicit Beside(const std::function<void()>& body) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(127);
  }
  ~Beside() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Beside(const Beside&) = delete;

 private:
  pid_t pid_ = -1;
};

void loop_for_ever() {
  std::atomic<std::uint64_t> turns{0};
  for (;;) turns.fetch_add(1, std::memory_order_relaxed);
}

/// None of the cores that this process may use halts while it lives.
class KeptAwake {
 public:
  KeptAwake() {
    cpu_set_t ours;
    ::sched_getaffinity(0, sizeof ours, &ours);
    for (int core = 0; core < CPU_SETSIZE; ++core)
      if (CPU_ISSET(core, &ours))
        loops_.push_back(std::make_unique<Beside>([core] { idle_on(core); }));
  }

 private:
  static void idle_on(int core) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(core, &only);
    constexpr sched_param none{};
    // Otherwise it would take the core from those that are measured.
    if (::sched_setscheduler(0, SCHED_IDLE, &none) != 0) return;
    ::sched_setaffinity(0, sizeof only, &only);
    loop_for_ever();
  }
  std::vector<std::unique_ptr<Beside>> loops_;
};

struct Tail {
  double p50_us = 0;
  double p99_us = 0;
};

Result<Tail> measure(Client& client, std::size_t calls) {
  std::vector<double> times;
  for (std::size_t i = 0; i < calls + calls / 10; ++i) {
    const std::uint64_t began = now_ns();
    TRY(client.call<proto::Null>({}, test::patience()));
    // The first tenth is for the other program to get going.
    if (i >= calls / 10) times.push_back(static_cast<double>(now_ns() - began) / 1000);
  }
  std::ranges::sort(times);
  return Tail{times[times.size() / 2], times[times.size() * 99 / 100]};
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void print_row(const char* name, const std::vector<Tail>& tails) {
  std::vector<double> p50, p99;
  for (const Tail& tail : tails) {
    p50.push_back(tail.p50_us);
    p99.push_back(tail.p99_us);
  }
  std::printf("%-22s p50 %9.2f us   p99 %9.2f us (%.2f to %.2f)\n", name, median(p50), median(p99),
              *std::ranges::min_element(p99), *std::ranges::max_element(p99));
}

Result<bool> run(const Options& options) {
  const auto instance = TRY(test::TestInstance::boot_running(test::whole_instance));
  const auto visitor = TRY(instance->attach({.job_name = "victim", .quota = {}}));
  const auto client = TRY(visitor->client<proto::echo::Protocol>());
  const std::string socket = instance->socket_path();
  const auto attack = [&] {
    ::execl(options.peer.c_str(), options.peer.c_str(), "--socket", socket.c_str(), "--seed", "1",
            "--actions", "1000000000000", "--only", options.attacks.c_str(), "--target", "echo",
            nullptr);
  };
  std::optional<KeptAwake> awake;
  if (!options.let_halt) awake.emplace();
  std::vector<Tail> alone, beside_loop, beside_peer;
  std::vector<double> ratios;
  for (std::size_t i = 0; i < options.repetitions; ++i) {
    alone.push_back(TRY(measure(*client, options.calls)));
    {
      const Beside loop(loop_for_ever);
      beside_loop.push_back(TRY(measure(*client, options.calls)));
    }
    {
      const Beside peer(attack);
      beside_peer.push_back(TRY(measure(*client, options.calls)));
    }
    ratios.push_back(beside_peer.back().p99_us / beside_loop.back().p99_us);
  }
  std::printf("cores %s\n", options.let_halt ? "halt when nothing is to be done"
                                             : "are kept from halting (--let-halt: they may)");
  print_row("alone", alone);
  print_row("beside a busy loop", beside_loop);
  print_row("beside a hostile peer", beside_peer);
  const double ratio = median(ratios);
  std::printf(
      "p99 beside the peer / beside the loop: median %.2f (%.2f to %.2f), at most %.1f: %s\n",
      ratio, *std::ranges::min_element(ratios), *std::ranges::max_element(ratios),
      most_times_slower, ratio <= most_times_slower ? "kept" : "missed");
  return ratio <= most_times_slower;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--let-halt") {
      options.let_halt = true;
      continue;
    }
    if (++i == argc) return false;
    if (name == "--peer")
      options.peer = argv[i];
    else if (name == "--repetitions")
      options.repetitions = std::strtoul(argv[i], nullptr, 10);
    else if (name == "--calls")
      options.calls = std::strtoul(argv[i], nullptr, 10);
    else if (name == "--attacks")
      options.attacks = argv[i];
    else
      return false;
  }
  return !options.peer.empty() && options.repetitions != 0 && options.calls >= 100;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: victim-bench --peer PROGRAM [--repetitions N] [--calls N] "
                 "[--attacks NAME,...] [--let-halt]\n");
    return 2;
  }
  const Result<bool> kept = run(options);
  if (!kept) std::fprintf(stderr, "victim-bench: %s\n", kept.error().to_string().c_str());
  return kept && *kept ? 0 : 1;
}
