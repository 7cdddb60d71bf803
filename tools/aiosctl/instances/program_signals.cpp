#include "tools/aiosctl/instances/program_signals.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <utility>

namespace aios::ctl {

namespace {

namespace fs = std::filesystem;
namespace pk = proto::kernel;

/// A process that is stopped starts no more; those that it started just before are found by looking
/// again.
constexpr int most_looks = 100;
/// For all of a program to stop. Only what waits in Linux for a device or a file server takes
/// longer, and stops before it goes on.
constexpr std::uint64_t stop_ns = 2 * ns_per_s;

/// One of a tree: what is open is no later process with the same number.
struct Member {
  pid_t pid = 0;
  Fd process{};
  bool was_stopped = false;  ///< before, by somebody else
};

/// Of a process or thread, by its folder in /proc; empty when it has ended.
std::string stat_in(const fs::path& folder) {
  std::ifstream file(folder / "stat");
  // An iterator over the stream would throw when it ends between the opening and the reading.
  std::string text;
  std::getline(file, text, '\0');
  return text;
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

Result<void> send(const Member& member, int number) {
  if (::syscall(SYS_pidfd_send_signal, member.process.get(), number, nullptr, 0) == 0 ||
      errno == ESRCH)
    return {};
  const std::string name = "process " + std::to_string(member.pid);
  if (errno != EPERM) return errno_error("signal " + name, errno);
  return error(Code::denied,
               name + " is another user's: only that user, or root, can suspend and resume it");
}

/// Each member is open until all have been signalled.
void allow_open_files() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

/// Adds those of the tree that are not in it yet, a parent before its children.
Result<void> find_members(std::vector<Member>& tree) {
  std::set<pid_t> known;
  for (const Member& member : tree) known.insert(member.pid);
  for (const pid_t pid : tree_below(tree.front().pid, children_by_parent())) {
    if (known.contains(pid)) continue;
    Member found{.pid = pid, .process = open_process(pid)};
    if (!found.process.valid() && errno != ESRCH)
      return errno_error("open process " + std::to_string(pid), errno);
    // What is open is of the tree when it says so after the opening.
    if (!found.process.valid() || !known.contains(parent_in(stat_of(pid)))) continue;
    known.insert(pid);
    tree.push_back(std::move(found));
  }
  return {};
}

/// From the leaves to the root: one that goes on may end at once, and its children have another
/// parent then. Nobody is left out for another's sake; the first error.
Result<void> let_go_on(const std::vector<Member>& tree) {
  Result<void> all;
  for (auto member = tree.rbegin(); member != tree.rend(); ++member)
    if (!member->was_stopped)
      if (Result<void> sent = send(*member, SIGCONT); !sent && all) all = std::move(sent);
  return all;
}

/// Whether each of its threads has stopped or ended.
bool is_still(pid_t pid) {
  std::error_code failed;
  fs::directory_iterator thread("/proc/" + std::to_string(pid) + "/task", failed);
  for (; !failed && thread != fs::directory_iterator(); thread.increment(failed))
    switch (state_in(stat_in(*thread))) {
      case 'T':
      case 't':
      case 'Z':
      case 'X':
      case 0:
        break;
      default:
        return false;
    }
  return true;
}

/// One that is to stop may first end the call it is in, and that may start another. Linux tells
/// only the parent when it has.
void wait_until_still(pid_t pid, const Deadline& deadline) {
  while (!is_still(pid) && !deadline.passed())
    std::this_thread::sleep_for(std::chrono::microseconds(100));
}

/// Stops `tree`, of which there is the root, and adds what is found of it meanwhile; how many of it
/// have been `stopped`.
Result<void> stop(std::vector<Member>& tree, std::size_t& stopped) {
  const Deadline deadline = Deadline::after(stop_ns);
  for (int look = 0; look < most_looks && stopped < tree.size(); ++look) {
    for (; stopped < tree.size(); ++stopped) {
      tree[stopped].was_stopped = state_in(stat_of(tree[stopped].pid)) == 'T';
      TRY(send(tree[stopped], SIGSTOP));
      // Its children are not stopped before: after a vfork it can only stop when one has gone on.
      wait_until_still(tree[stopped].pid, deadline);
    }
    TRY(find_members(tree));
  }
  return {};
}

Result<void> stop_or_undo(std::vector<Member>& tree) {
  std::size_t stopped = 0;
  const Result<void> done = stop(tree, stopped);
  if (done || stopped == 0) return done;
  tree.resize(stopped);
  (void)let_go_on(tree);
  return error(done.error().code(),
               done.error().message() + "; what had been stopped of the program goes on");
}

}  // namespace

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

std::string stat_of(pid_t pid) {
  return stat_in("/proc/" + std::to_string(pid));
}

pid_t parent_in(const std::string& stat) {
  // "PID (NAME) STATE PARENT ...": the name may have blanks and brackets in it.
  const std::size_t name_end = stat.rfind(") ");
  if (name_end == stat.npos || name_end + 4 >= stat.size()) return 0;
  pid_t parent = 0;
  std::from_chars(stat.data() + name_end + 4, stat.data() + stat.size(), parent);
  return parent;
}

char state_in(const std::string& stat) {
  const std::size_t name_end = stat.rfind(") ");
  return name_end == stat.npos || name_end + 2 >= stat.size() ? '\0' : stat[name_end + 2];
}

char state_of_process(pid_t pid) {
  const auto has_ended = [](char state) { return state == 'Z' || state == 'X'; };
  const fs::path folder = "/proc/" + std::to_string(pid);
  char state = state_in(stat_in(folder));
  // So says the first thread when it alone has ended.
  std::error_code failed;
  fs::directory_iterator thread(folder / "task", failed);
  for (; has_ended(state) && !failed && thread != fs::directory_iterator();
       thread.increment(failed))
    if (const char other = state_in(stat_in(*thread)); other != 0) state = other;
  return state;
}

std::multimap<pid_t, pid_t> children_by_parent() {
  std::multimap<pid_t, pid_t> children;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc", failed)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    const auto [end, failure] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (failure != std::errc() || end != name.data() + name.size()) continue;
    if (const pid_t parent = parent_in(stat_of(pid)); parent != 0) children.emplace(parent, pid);
  }
  return children;
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

Result<std::size_t> signal_tree(pid_t root, Fd process, int number) {
  allow_open_files();
  std::vector<Member> tree;
  tree.push_back({.pid = root, .process = std::move(process)});
  if (number == SIGCONT) {
    // What is stopped starts nothing: one look finds all.
    TRY(find_members(tree));
    TRY(let_go_on(tree));
  } else {
    TRY(stop_or_undo(tree));
  }
  return tree.size();
}

Result<std::size_t> signal_program(Operator& attached, const pk::ProcessRecord& program,
                                   int number) {
  TRY(check_namespace(attached.kernel()));
  const auto root = static_cast<pid_t>(program.pid);
  Fd process = open_process(root);
  TRY(check_alive(attached, program, process));
  if (std::ranges::count(tree_below(root, children_by_parent()), ::getpid()) != 0)
    return error(Code::denied, "the program has started this very command; give it from elsewhere");
  return signal_tree(root, std::move(process), number);
}

}  // namespace aios::ctl
