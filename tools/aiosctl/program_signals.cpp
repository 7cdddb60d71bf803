#include "tools/aiosctl/program_signals.hpp"

#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "abi/runtime/fd.hpp"

namespace aios::ctl {

namespace {

namespace fs = std::filesystem;
namespace pk = proto::kernel;

/// A process that is stopped starts no more; those that it started just before are found by looking
/// again.
constexpr int most_looks = 100;

/// 0 when it has ended.
pid_t parent_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  return parent_in({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()});
}

std::multimap<pid_t, pid_t> children_by_parent() {
  std::multimap<pid_t, pid_t> children;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", failed)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure != std::errc() || end != name.data() + name.size()) continue;
    if (const pid_t parent = parent_of(pid); parent != 0) children.emplace(parent, pid);
  }
  return children;
}

/// The pids of the instance are ours when its kernel's is.
Result<void> check_namespace(Kernel& kernel) {
  const std::uint64_t pid = TRY(kernel.call<pk::InstanceInfo>({})).reply.pid;
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(kernel.socket_fd(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
    return errno_error("identify the kernel", errno);
  if (static_cast<std::uint64_t>(peer.pid) == pid) return {};
  return error(Code::not_supported,
               "the instance counts processes otherwise than this aiosctl does: run it where the "
               "instance was booted");
}

Fd open_process(pid_t pid) {
  return Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

/// What is open as `process` is the program for certain when the kernel says so after the opening.
Result<void> check_alive(Operator& attached, const pk::ProcessRecord& program, const Fd& process) {
  const Status ended(Code::not_found, "the program has ended meanwhile");
  if (!process.valid()) return std::unexpected(ended);
  Kernel& kernel = attached.kernel();
  const Handle scope = attached.root().value_or(kernel.job());
  const auto opened = kernel.call<pk::ProcessOpen>({scope, program.process_id});
  if (!opened) return std::unexpected(ended);
  const Handle handle = opened->reply.process;
  const auto info = kernel.call<pk::ProcessInfo>({handle});
  kernel.close(handle);
  if (!info || info->reply.exited != 0) return std::unexpected(ended);
  return {};
}

Result<void> send(const Fd& process, pid_t pid, int number) {
  if (::syscall(SYS_pidfd_send_signal, process.get(), number, nullptr, 0) == 0 || errno == ESRCH)
    return {};
  if (errno != EPERM) return errno_error("signal process " + std::to_string(pid), errno);
  return error(Code::denied, "process " + std::to_string(pid) +
                                 " is another user's: only that user, or root, can suspend and "
                                 "resume it");
}

}  // namespace

pid_t parent_in(const std::string& stat) {
  // "PID (NAME) STATE PARENT ...": the name may have blanks and brackets in it.
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == stat.npos || name_end + 4 >= stat.size()) return 0;
  pid_t parent = 0;
  std::from_chars(stat.data() + name_end + 4, stat.data() + stat.size(), parent);
  return parent;
}

std::vector<pid_t> tree_below(pid_t root, const std::multimap<pid_t, pid_t>& children) {
  std::vector<pid_t> all{root};
  std::set<pid_t> found{root};
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto [begin, end] = children.equal_range(all[i]);
    for (auto at = begin; at != end; ++at)
      if (found.insert(at->second).second) all.push_back(at->second);
  }
  return all;
}

Result<std::size_t> signal_program(Operator& attached, const pk::ProcessRecord& program,
                                   int number) {
  TRY(check_namespace(attached.kernel()));
  const auto root = static_cast<pid_t>(program.pid);
  const Fd process = open_process(root);
  TRY(check_alive(attached, program, process));
  if (std::ranges::count(tree_below(root, children_by_parent()), ::getpid()) != 0)
    return error(Code::denied, "the program has started this very command; give it from elsewhere");
  std::set<pid_t> signalled{root};
  TRY(send(process, root, number));
  for (int look = 0; look < most_looks; ++look) {
    const std::size_t before = signalled.size();
    for (const pid_t pid : tree_below(root, children_by_parent())) {
      if (!signalled.insert(pid).second) continue;
      // What is open is of the tree, and no later process with its pid.
      const Fd child = open_process(pid);
      if (child.valid() && signalled.contains(parent_of(pid))) TRY(send(child, pid, number));
    }
    if (signalled.size() == before) break;
  }
  return signalled.size();
}

}  // namespace aios::ctl
