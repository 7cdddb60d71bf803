#include "abi/runtime/cgroup.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>

#include "abi/runtime/cgroup_files.hpp"

namespace aios::cgroup {

namespace {

constexpr std::uint64_t period_us = 100'000;
constexpr std::uint64_t us_per_milli = period_us / 1000;
constexpr std::uint64_t end_timeout_ns = 5 * ns_per_s;
constexpr int busy_recheck_ms = 5;

const char* part_name(Group::Part part) {
  return part == Group::Part::programs ? "/programs" : "/children";
}

template <class T>
T tighter(T own, T above) {
  return own == 0 ? above : above == 0 ? own : std::min(own, above);
}

/// The group and those below it, the deepest first.
std::vector<std::string> folders_of(const std::string& folder) {
  std::vector<std::string> all;
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failed))
    if (entry.is_directory(failed) && !entry.is_symlink(failed))
      for (std::string& below : folders_of(entry.path())) all.push_back(std::move(below));
  all.push_back(folder);
  return all;
}

/// Kills what is there now and waits for its end. False when there was nothing.
bool kill_once(const std::vector<std::string>& folders, Deadline deadline) {
  std::vector<Fd> killed;
  bool any = false;
  for (const std::string& folder : folders) {
    for (const pid_t pid : processes_in(folder)) {
      any = true;
      Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
      // Looked at once more: another process may have had the number before this one was opened.
      if (!pidfd.valid() || std::ranges::count(processes_in(folder), pid) == 0) continue;
      ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
      killed.push_back(std::move(pidfd));
    }
  }
  // What is on its way out, or cannot be seen from here, is looked for again.
  if (any && killed.empty()) (void)::poll(nullptr, 0, busy_recheck_ms);
  for (const Fd& pidfd : killed) {
    pollfd ended{pidfd.get(), POLLIN, 0};
    while (::poll(&ended, 1, deadline.poll_timeout_ms()) < 0 && errno == EINTR) {
    }
  }
  return any;
}

/// Of "/job-1/job-2" the first part.
std::string_view top_of(std::string_view path) {
  return path.substr(0, path.find('/', 1));
}

bool set_memory(const std::string& folder, bool unified, std::uint64_t bytes) {
  const std::string text = std::to_string(bytes);
  const bool set = write_file(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"), text);
  // Without this it would be moved to the swap space instead of being ended; best effort, since
  // many hosts have none.
  if (set && unified) (void)write_file(folder + "/memory.swap.max", "0");
  if (set && !unified) (void)write_file(folder + "/memory.memsw.limit_in_bytes", text);
  return set;
}

bool set_cpu(const std::string& folder, bool unified, std::uint32_t millis) {
  const std::string quota = std::to_string(millis * us_per_milli);
  if (unified) return write_file(folder + "/cpu.max", quota + " " + std::to_string(period_us));
  return write_file(folder + "/cpu.cfs_period_us", std::to_string(period_us)) &&
         write_file(folder + "/cpu.cfs_quota_us", quota);
}

}  // namespace

std::string read_file(const std::string& path) {
  std::string text;
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[4096];
  for (ssize_t n; file.valid() && (n = ::read(file.get(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  while (text.ends_with('\n')) text.pop_back();
  return text;
}

bool write_file(const std::string& path, const std::string& text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return false;
  ssize_t written = 0;
  do written = ::write(file.get(), text.data(), text.size());
  while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(text.size());
}

std::uint64_t number_in(std::string_view text) {
  std::uint64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::uint64_t value_of(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.starts_with(key) && line.substr(key.size()).starts_with(' '))
      return number_in(line.substr(key.size() + 1));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return 0;
}

std::vector<pid_t> processes_in(const std::string& folder) {
  std::vector<pid_t> all;
  const std::string text = read_file(folder + "/cgroup.procs");
  for (std::string_view rest = text; !rest.empty();) {
    all.push_back(static_cast<pid_t>(number_in(rest)));
    const std::size_t end = rest.find('\n');
    rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  }
  return all;
}

void enable_all(const std::string& folder) {
  for (const char* controller : {"+memory", "+cpu", "+pids"})
    (void)write_file(folder + "/cgroup.subtree_control", controller);
}

bool remove(const std::string& folder, Deadline deadline) {
  const auto folders = folders_of(folder);
  // Against what forks as fast as it is killed.
  for (const std::string& each : folders) (void)write_file(each + "/pids.max", "0");
  (void)write_file(folder + "/cgroup.kill", "1");
  while (kill_once(folders, deadline))
    if (deadline.passed()) return false;
  for (const std::string& each : folders) {
    while (::rmdir(each.c_str()) != 0 && errno != ENOENT) {
      // For a moment after the end of its last process a group may still be in use.
      if (errno != EBUSY || deadline.passed()) return false;
      (void)::poll(nullptr, 0, busy_recheck_ms);
    }
  }
  return true;
}

bool remove(const std::vector<std::string>& folders) {
  const Deadline deadline = Deadline::after(end_timeout_ns);
  return std::ranges::count_if(
             folders, [&](const std::string& each) { return !remove(each, deadline); }) == 0;
}

Group::Group(Group&& other) noexcept
    : tree_(std::exchange(other.tree_, nullptr)),
      path_(std::move(other.path_)),
      limits_(other.limits_),
      enforced_(std::exchange(other.enforced_, 0)) {}

Group& Group::operator=(Group&& other) noexcept {
  std::swap(tree_, other.tree_);
  std::swap(path_, other.path_);
  std::swap(limits_, other.limits_);
  std::swap(enforced_, other.enforced_);
  return *this;
}

Group::~Group() {
  if (tree_ == nullptr) return;
  if (const auto top = tree_->below_.find(top_of(path_)); top != tree_->below_.end())
    if (--top->second == 0) tree_->below_.erase(top);
  for (const auto& hierarchy : tree_->hierarchies_)
    tree_->condemned_.push_back(hierarchy.folder + path_);
}

Result<void> Group::add(pid_t pid, Part part) const {
  if (tree_ == nullptr) return {};
  for (const auto& hierarchy : tree_->hierarchies_) {
    const std::string path = hierarchy.folder + path_ + part_name(part) + "/cgroup.procs";
    if (write_file(path, std::to_string(pid))) continue;
    if (errno == ESRCH) return error(Code::not_found, "the process has ended");
    return errno_error("put a process into " + path, errno);
  }
  return {};
}

Usage Group::usage() const {
  Usage usage;
  if (tree_ == nullptr) return usage;
  for (const auto& hierarchy : tree_->hierarchies_) {
    const std::string folder = hierarchy.folder + path_;
    if (hierarchy.unified)
      usage.cpu_ns = value_of(read_file(folder + "/cpu.stat"), "usage_usec") * ns_per_us;
    else if (hierarchy.accounts_for_cpu)
      usage.cpu_ns = number_in(read_file(folder + "/cpuacct.usage"));
    if ((hierarchy.limits & limit::processes) != 0)
      usage.refused_forks = value_of(read_file(folder + "/programs/pids.events"), "max");
    if ((hierarchy.limits & limit::memory) == 0) continue;
    usage.memory_bytes = number_in(
        read_file(folder + (hierarchy.unified ? "/memory.current" : "/memory.usage_in_bytes")));
    if (hierarchy.unified) {
      usage.memory_kills = value_of(read_file(folder + "/memory.events"), "oom_kill");
    } else {
      for (const Part part : {Part::programs, Part::children})
        usage.memory_kills +=
            value_of(read_file(folder + part_name(part) + "/memory.oom_control"), "oom_kill");
    }
  }
  return usage;
}

Result<Group> Tree::make(const Group* parent, const std::string& name, const Limits& limits) {
  Group group;
  if (hierarchies_.empty()) return group;
  group.tree_ = this;
  group.path_ = (parent == nullptr ? "" : parent->path_) + "/" + name;
  std::size_t& below = below_[std::string(top_of(group.path_))];
  if (parent != nullptr && below > max_groups_below) {
    group.tree_ = nullptr;
    return error(Code::quota, "there are as many jobs with limits of Linux as one user may have");
  }
  ++below;
  const Limits above = parent == nullptr ? Limits{} : parent->limits_;
  group.limits_ = {tighter(limits.memory_bytes, above.memory_bytes),
                   tighter(limits.cpu_millis, above.cpu_millis),
                   tighter(limits.processes, above.processes)};
  if (limits.cpu_millis != 0)
    group.limits_.cpu_millis = std::max(group.limits_.cpu_millis, min_cpu_millis);
  const Limits& own = group.limits_;
  for (const Hierarchy& hierarchy : hierarchies_) {
    const std::string folder = hierarchy.folder + group.path_;
    ::mkdir(folder.c_str(), 0700);
    if (hierarchy.unified) enable_all(folder);
    for (const auto part : {Group::Part::programs, Group::Part::children})
      ::mkdir((folder + part_name(part)).c_str(), 0700);
    const auto set = [&](std::uint32_t which, std::uint64_t value, auto&& write) {
      if ((hierarchy.limits & which) != 0 && value != 0 && write()) group.enforced_ |= which;
    };
    set(limit::memory, own.memory_bytes,
        [&] { return set_memory(folder, hierarchy.unified, own.memory_bytes); });
    set(limit::cpu, own.cpu_millis,
        [&] { return set_cpu(folder, hierarchy.unified, own.cpu_millis); });
    set(limit::processes, own.processes,
        [&] { return write_file(folder + "/programs/pids.max", std::to_string(own.processes)); });
  }
  return group;
}

Tree::~Tree() {
  const Deadline deadline = Deadline::after(end_timeout_ns);
  for (const Hierarchy& hierarchy : hierarchies_) (void)remove(hierarchy.folder, deadline);
}

}  // namespace aios::cgroup
