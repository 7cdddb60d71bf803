#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tools/aiosctl/instances/program_signals.hpp"

using namespace aios;
using namespace aios::ctl;

namespace {

constexpr int patience_ms = 30'000;

/// A process, and below it what it starts: each says when it begins and when it goes on. All are
/// killed at the end of the test.
class Family {
 public:
  struct Said {
    char what = 0;  ///< b: it begins; c: it goes on; 0: nothing more
    pid_t pid = 0;
  };

  /// In the family each calls `live` when it is ready.
  explicit Family(const std::function<void(const Family&)>& root) {
    REQUIRE(::pipe(ends_) == 0);
    root_ = ::fork();
    REQUIRE(root_ >= 0);
    if (root_ != 0) return;
    root(*this);
    ::_exit(1);
  }
  ~Family() {
    for (const pid_t pid : alive_) ::kill(pid, SIGKILL);
    ::waitpid(root_, nullptr, 0);
    for (const int end : ends_) ::close(end);
  }

  [[noreturn]] void live(bool end_when_it_goes_on) const {
    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGCONT);
    ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    say('b');
    for (int number = 0; ::sigwait(&signals, &number) == 0;) {
      if (end_when_it_goes_on) ::_exit(0);
      say('c');
    }
    ::_exit(1);
  }
  Said next() {
    Said said;
    pollfd event{ends_[0], POLLIN, 0};
    if (::poll(&event, 1, patience_ms) != 1) return {};
    if (::read(ends_[0], &said, sizeof said) != sizeof said) return {};
    if (said.what == 'b') alive_.insert(said.pid);
    return said;
  }
  pid_t root() const { return root_; }
  Fd open_root() const { return Fd(static_cast<int>(::syscall(SYS_pidfd_open, root_, 0))); }
  const std::set<pid_t>& begun() const { return alive_; }

 private:
  void say(char what) const {
    const Said said{what, ::getpid()};
    if (::write(ends_[1], &said, sizeof said) != sizeof said) ::_exit(1);
  }

  int ends_[2];
  pid_t root_ = 0;
  std::set<pid_t> alive_;
};

}  // namespace

TEST_CASE("A process' parent is read past whatever the process calls itself") {
  CHECK(parent_in("812 (sh) S 57 812 57 0 -1") == 57);
  CHECK(parent_in("812 (a) R 1 (b)) T 58 812") == 58);
  for (const char* broken : {"", "812", "812 (sh)", "812 (sh) S", "812 (sh) S ", "812 (sh) S x"})
    CHECK(parent_in(broken) == 0);
  std::ifstream file("/proc/self/stat");
  CHECK(parent_in({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}) ==
        ::getppid());
}

TEST_CASE("The tree of a program is what it started, and what that started") {
  const std::multimap<pid_t, pid_t> children = {{1, 2}, {1, 9}, {2, 3}, {2, 4}, {4, 5}, {9, 7}};
  CHECK(tree_below(2, children) == std::vector<pid_t>{2, 3, 4, 5});
  CHECK(tree_below(7, children) == std::vector<pid_t>{7});
  // Numbers that were used again while they were looked at.
  CHECK(tree_below(2, {{2, 3}, {3, 2}}) == std::vector<pid_t>{2, 3});
}

TEST_CASE("The state of a process is read past whatever it calls itself") {
  CHECK(state_in("812 (sh) T 57 812 57 0 -1") == 'T');
  CHECK(state_in("812 (a) T 1 (b)) S 58 812") == 'S');
  for (const char* broken : {"", "812", "812 (sh)", "812 (sh) "}) CHECK(state_in(broken) == 0);
}

TEST_CASE("A process has ended with the last of its threads, not with the first") {
  const auto becomes = [](pid_t pid, char state) {
    const Deadline deadline = Deadline::after(30 * ns_per_s);
    while (state_of_process(pid) != state && !deadline.passed()) ::poll(nullptr, 0, 1);
    return state_of_process(pid) == state;
  };
  int end[2];
  REQUIRE(::pipe(end) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    ::close(end[1]);
    std::thread([&] {
      char none = 0;
      (void)!::read(end[0], &none, 1);
      ::_exit(0);
    }).detach();
    ::syscall(SYS_exit, 0);  // of this thread alone
  }
  ::close(end[0]);
  // Its first thread is a zombie, and the other waits.
  const Deadline deadline = Deadline::after(30 * ns_per_s);
  while (state_in(stat_of(pid)) != 'Z' && !deadline.passed()) ::poll(nullptr, 0, 1);
  CHECK(state_in(stat_of(pid)) == 'Z');
  CHECK(becomes(pid, 'S'));
  ::close(end[1]);
  CHECK(becomes(pid, 'Z'));
  REQUIRE(::waitpid(pid, nullptr, 0) == pid);
  CHECK(state_of_process(pid) == 0);
}

TEST_CASE("All of a program goes on, though its first process ends at once then") {
  Family family([](const Family& self) {
    if (::fork() == 0) {
      (void)::fork();
      self.live(false);
    }
    self.live(true);
  });
  for (int i = 0; i < 3; ++i) REQUIRE(family.next().what == 'b');
  const auto stopped = signal_tree(family.root(), family.open_root(), SIGSTOP);
  REQUIRE(stopped);
  CHECK(*stopped == 3);
  for (const pid_t pid : family.begun()) CHECK(state_in(stat_of(pid)) == 'T');
  const auto resumed = signal_tree(family.root(), family.open_root(), SIGCONT);
  REQUIRE(resumed);
  CHECK(*resumed == 3);
  std::set<pid_t> go_on{family.root()};
  for (int i = 0; i < 2; ++i) {
    const Family::Said said = family.next();
    CHECK(said.what == 'c');
    go_on.insert(said.pid);
  }
  CHECK(go_on == family.begun());
}

TEST_CASE("What starts others all the time stands still once it is suspended") {
  Family family([](const Family& self) {
    const pid_t starts = ::fork();
    if (starts != 0) self.live(false);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (pid_t child = 0; child >= 0; ::waitpid(child, nullptr, 0)) {
      if (child = ::fork(); child == 0) ::_exit(0);
      ::waitpid(child, nullptr, 0);
      // Until the child runs another program the parent cannot stop.
      if (child = ::vfork(); child == 0) {
        ::poll(nullptr, 0, 1);
        ::execl("/bin/true", "true", nullptr);
        ::_exit(1);
      }
    }
    ::_exit(1);
  });
  REQUIRE(family.next().what == 'b');
  for (int i = 0; i < 50; ++i) {
    const auto stopped = signal_tree(family.root(), family.open_root(), SIGSTOP);
    REQUIRE(stopped);
    std::string states;
    for (const pid_t pid : tree_below(family.root(), children_by_parent()))
      states += state_in(stat_of(pid));
    CHECK_MESSAGE(states.find_first_not_of("TZ") == states.npos, states);
    REQUIRE(signal_tree(family.root(), family.open_root(), SIGCONT));
    REQUIRE(family.next().what == 'c');
  }
}

TEST_CASE("A program that cannot be stopped whole goes on, and what is in the way is named") {
  if (::geteuid() != 0) {
    MESSAGE("skipped: only root can have processes of several users");
    return;
  }
  constexpr uid_t user = 65533, other = 65532;
  Family family([&](const Family& self) {
    const bool child = ::fork() == 0;
    if (::setuid(child ? other : user) == 0) self.live(false);
  });
  for (int i = 0; i < 2; ++i) REQUIRE(family.next().what == 'b');
  std::set<pid_t> child = family.begun();
  child.erase(family.root());
  REQUIRE(child.size() == 1);
  int answer[2];
  REQUIRE(::pipe(answer) == 0);
  const pid_t asks = ::fork();
  if (asks == 0) {
    if (::setuid(user) != 0) ::_exit(1);
    const auto stopped = signal_tree(family.root(), family.open_root(), SIGSTOP);
    const std::string why = stopped ? "stopped" : stopped.error().message();
    const bool denied = !stopped && stopped.error().code() == Code::denied;
    const auto sent = ::write(answer[1], why.data(), why.size());
    ::_exit(denied && sent == static_cast<ssize_t>(why.size()) ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(asks, &status, 0) == asks);
  CHECK(status == 0);
  ::close(answer[1]);
  char text[512];
  const auto size = ::read(answer[0], text, sizeof text);
  ::close(answer[0]);
  REQUIRE(size > 0);
  const std::string why(text, static_cast<std::size_t>(size));
  CHECK(why.starts_with("process " + std::to_string(*child.begin()) + " is another user's"));
  CHECK(why.find("goes on") != why.npos);
  const Family::Said said = family.next();
  CHECK(said.what == 'c');
  CHECK(said.pid == family.root());
}
