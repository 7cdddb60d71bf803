#include "tests/fuzz/fake_linux.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "kernel/sys_linux.hpp"

namespace aios::fuzz {

std::vector<FakeChild>& fake_children() {
  static std::vector<FakeChild> children;
  return children;
}

void forget_children() {
  fake_children().clear();
}

}  // namespace aios::fuzz

// All that kernel/sys_linux_child.cpp defines, which is therefore not linked.
namespace aios::kernel::sys {

namespace {

/// Above every pid that Linux gives: a signal to it goes nowhere.
constexpr pid_t first_pid = 1 << 29;

fuzz::FakeChild* child_of(const Fd& pidfd) {
  // The latest: descriptors of the buried are used again.
  auto& all = fuzz::fake_children();
  const auto found = std::find_if(all.rbegin(), all.rend(), [&](const fuzz::FakeChild& child) {
    return child.pidfd == pidfd.get();
  });
  return found == all.rend() ? nullptr : &*found;
}

Child make_child(Fd socket) {
  Child child;
  child.pid = first_pid + static_cast<pid_t>(fuzz::fake_children().size());
  child.pidfd = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  fuzz::fake_children().push_back({std::move(socket), child.pidfd.get()});
  return child;
}

}  // namespace

Result<Child> spawn(const ChildPlan& plan) {
  return make_child(Fd(::fcntl(plan.socket_fd, F_DUPFD_CLOEXEC, 4)));
}

/// Done at once; the kernel hears of it when it looks at its events.
Result<Child> freeze_in_child(const Fd& file) {
  Child child = make_child({});
  fuzz::FakeChild& helper = fuzz::fake_children().back();
  const bool sealed = ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL) == 0;
  helper.code = sealed ? 0 : errno;
  helper.signalled = false;
  helper.ended = true;
  ::eventfd_write(child.pidfd.get(), 1);
  return child;
}

bool can_make_namespaces() {
  return true;
}

Result<Child> in_child(int, const std::function<int()>&) {
  return error(Code::not_supported);
}

Result<Child> close_in_child(Fd) {
  return error(Code::not_supported);
}

Result<Fd> open_image(const std::string& path) {
  if (path.find('x') != std::string::npos) return error(Code::not_found, "no image " + path);
  return open_null();
}

Result<Fd> open_log(const std::filesystem::path&, std::uint64_t) {
  return open_null();
}

Result<void> signal_process(const Fd& pidfd, int signal_number) {
  fuzz::FakeChild* child = child_of(pidfd);
  if (child == nullptr) return error(Code::not_found, "no such child");
  if (signal_number == SIGKILL || signal_number == SIGTERM) child->ended = true;
  return {};
}

bool reap(const Fd& pidfd, ExitStatus& status) {
  const fuzz::FakeChild* child = child_of(pidfd);
  if (child == nullptr || !child->ended) return child == nullptr;
  status = {child->code, child->signalled};
  return true;
}

bool wait_exit(const Fd& pidfd, Deadline) {
  const fuzz::FakeChild* child = child_of(pidfd);
  return child == nullptr || child->ended;
}

}  // namespace aios::kernel::sys
