// A tracer must let go of everything: of a process with a thread that is still traced Linux tells
// nobody the end, neither its parent nor whoever waits for its pidfd.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "tests/fault/tracer.hpp"

namespace aios::fault {
namespace {

constexpr std::uint64_t patience_ns = 10 * ns_per_s;

/// A child that ends with this process at the latest.
class Child {
 public:
  template <class Body>
  explicit Child(Body body) : pid_(::fork()) {
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body();
    ::_exit(0);
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    CHECK(gone());
  }
  Child(const Child&) = delete;
  pid_t pid() const { return pid_; }

  /// Whether Linux tells its end, to a tracer before or to its parent now.
  bool gone() const {
    const Deadline end = Deadline::after(patience_ns);
    while (!end.passed()) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_ || errno == ECHILD) return true;
      ::usleep(1000);
    }
    return false;
  }
  std::string main_thread() const {
    std::ifstream file("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with("State:")) return line.substr(7, 1);
    return {};
  }
  template <class Condition>
  static bool until(Condition condition) {
    const Deadline end = Deadline::after(patience_ns);
    while (!condition()) {
      if (end.passed()) return false;
      ::usleep(100);
    }
    return true;
  }
  std::size_t threads() const {
    std::error_code failure;
    std::size_t count = 0;
    for (auto entry = std::filesystem::directory_iterator("/proc/" + std::to_string(pid_) + "/task",
                                                          failure);
         !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure))
      ++count;
    return count;
  }

 private:
  pid_t pid_;
};

[[noreturn]] void sleep_for_ever() {
  for (;;) ::pause();
}

/// Its main thread ends by a call that ends a thread alone, when `signal_number` comes.
void leave_a_thread_behind(int signal_number) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal_number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  std::thread(sleep_for_ever).detach();
  int got = 0;
  ::sigwait(&set, &got);
  ::syscall(SYS_exit, 0);
}

}  // namespace

TEST_CASE("A process whose main thread ends alone under a tracer is ended with it") {
  const Child child([] { leave_a_thread_behind(SIGUSR1); });
  REQUIRE(Child::until([&] { return child.threads() == 2; }));
  {
    auto tracer = Tracer::seize(child.pid());
    REQUIRE(tracer);
    tracer->resume_all();
    ::kill(child.pid(), SIGUSR1);
    const Deadline end = Deadline::after(patience_ns);
    while (child.main_thread() != "Z" && !end.passed())
      if (const auto stop = tracer->wait(Deadline::after(ns_per_ms))) tracer->resume(stop->thread);
    REQUIRE(child.main_thread() == "Z");
  }
  CHECK(child.gone());
}

TEST_CASE("A process whose main thread has ended before is left alone") {
  const Child child([] { leave_a_thread_behind(SIGUSR1); });
  REQUIRE(Child::until([&] { return child.threads() == 2; }));
  ::kill(child.pid(), SIGUSR1);
  REQUIRE(Child::until([&] { return child.main_thread() == "Z"; }));
  CHECK(!Tracer::seize(child.pid()));
  CHECK(child.threads() == 2);
}

TEST_CASE("Whatever threads begin and whenever the process is killed nothing of it stays traced") {
  std::mt19937 random(1);
  for (int round = 0; round < 150; ++round) {
    INFO("round ", round);
    const Child child([] {
      for (;;) std::thread([] { ::usleep(200); }).detach();
    });
    ::usleep(random() % 3000);
    std::thread killer([pid = child.pid(), after_us = random() % 2000] {
      ::usleep(after_us);
      ::kill(pid, SIGKILL);
    });
    if (auto tracer = Tracer::seize(child.pid())) {
      tracer->resume_all();
      (void)tracer->wait(Deadline::after(random() % 1000 * ns_per_us));
    }
    killer.join();
    REQUIRE(child.gone());
  }
}

}  // namespace aios::fault
