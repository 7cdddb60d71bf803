// Where control groups are mounted, and the making of the instance's own.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>

#include "abi/runtime/cgroup.hpp"
#include "abi/runtime/cgroup_files.hpp"
#include "abi/runtime/log.hpp"

namespace aios::cgroup {

namespace {

constexpr std::uint64_t sweep_timeout_ns = 2 * ns_per_s;
constexpr std::string_view own_prefix = "aios-";
constexpr std::uint32_t all_limits = limit::memory | limit::cpu | limit::processes;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t end; (end = text.find(separator)) != text.npos; text.remove_prefix(end + 1))
    parts.push_back(text.substr(0, end));
  parts.push_back(text);
  return parts;
}

bool has(const std::vector<std::string_view>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

std::vector<std::string_view> split(std::string&& text, char separator) = delete;

std::uint32_t limits_of(const std::vector<std::string_view>& controllers) {
  return (has(controllers, "memory") ? limit::memory : 0u) |
         (has(controllers, "cpu") ? limit::cpu : 0u) |
         (has(controllers, "pids") ? limit::processes : 0u);
}

/// The path of this process's group in the hierarchy with one of these controllers; version 2 has
/// the line "0::PATH".
std::string_view path_in(std::string_view groups, bool unified,
                         const std::vector<std::string_view>& controllers) {
  for (const std::string_view line : split(groups, '\n')) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    const auto names = split(line.substr(first + 1, second - first - 1), ',');
    const bool found =
        unified ? line.starts_with("0::") : std::ranges::any_of(names, [&](std::string_view name) {
          return !name.empty() && has(controllers, name);
        });
    if (found) return line.substr(second + 1);
  }
  return {};
}

/// Ends what an instance that was killed left in `parent`.
void sweep(const std::string& parent) {
  std::error_code failed;
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(parent, failed))
    if (entry.path().filename().string().starts_with(own_prefix)) found.push_back(entry.path());
  for (const std::string& folder : found) {
    const Fd lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (lock.valid() && ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0)
      (void)remove(folder, Deadline::after(sweep_timeout_ns));
  }
}

/// The process and those it descends from.
std::set<pid_t> line_of(pid_t pid) {
  std::set<pid_t> line;
  while (pid > 0 && line.insert(pid).second) {
    const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
    const std::size_t end = stat.rfind(')');
    const auto fields = split(end == stat.npos ? "" : std::string_view(stat).substr(end), ' ');
    pid = fields.size() > 2 ? static_cast<pid_t>(number_in(fields[2])) : 0;
  }
  return line;
}

/// Version 2 gives controllers only to the groups below one that has no processes of its own. Those
/// of a group that nobody else is in move to `main`, beside the groups of jobs: what this process
/// has started, and who started it (aiosctl, process 1), but not the shell of a session.
bool make_room(const std::string& folder) {
  const auto is_ours = [](pid_t pid) {
    return pid == 1 || pid == ::getppid() || line_of(pid).contains(::getpid());
  };
  const auto found = processes_in(folder);
  if (!std::ranges::all_of(found, is_ours)) return false;
  const std::string main = folder + "/main";
  if (::mkdir(main.c_str(), 0755) != 0 && errno != EEXIST) return false;
  // One that has ended meanwhile is no obstacle.
  for (const pid_t pid : found)
    if (!write_file(main + "/cgroup.procs", std::to_string(pid)) && errno != ESRCH) return false;
  return true;
}

}  // namespace

std::vector<Place> find_places(std::string_view mounts, std::string_view groups) {
  std::vector<Place> places;
  for (const std::string_view line : split(mounts, '\n')) {
    const auto fields = split(line, ' ');
    const auto dash = std::ranges::find(fields, std::string_view("-"));
    if (fields.size() < 6 || fields.end() - dash < 4) continue;
    const bool unified = dash[1] == "cgroup2";
    if (!unified && dash[1] != "cgroup") continue;
    const auto controllers = split(dash[3], ',');
    Place place{.limits = unified ? 0 : limits_of(controllers),
                .unified = unified,
                .accounts_for_cpu = !unified && has(controllers, "cpuacct")};
    if (!unified && place.limits == 0 && !place.accounts_for_cpu) continue;
    // The mount shows the group `root` and those below it; ours must be among them.
    const std::string_view root = fields[3] == "/" ? "" : fields[3];
    const std::string_view path = path_in(groups, unified, controllers);
    if (!path.starts_with('/') || !path.starts_with(root) || path.contains("/..")) continue;
    if (path.size() > root.size() && path[root.size()] != '/') continue;
    place.mount = fields[4];
    place.folder = place.mount + std::string(path.substr(root.size()));
    if (place.folder.ends_with('/')) place.folder.pop_back();
    places.push_back(std::move(place));
  }
  return places;
}

std::vector<Place> find_places_here() {
  return find_places(read_file("/proc/self/mountinfo"), read_file("/proc/self/cgroup"));
}

Tree Tree::create() {
  Tree tree = create(find_places_here());
  if (!tree.missing_.empty())
    log_line("Linux does not hold jobs to all of their quotas here: " + tree.missing_);
  return tree;
}

Tree Tree::create(const std::vector<Place>& places) {
  Tree tree;
  for (const Place& place : places) place.unified ? tree.open_unified(place) : tree.open(place);
  const std::uint32_t without = all_limits & ~tree.limits();
  if (without == 0) {
    tree.missing_.clear();
  } else if (tree.missing_.empty()) {
    tree.missing_ = "no control groups of this kind are mounted under /sys/fs/cgroup";
  } else {
    tree.missing_ +=
        "; as root, or in a group of one's own, it works: systemd-run --user --scope -p "
        "Delegate=yes aiosctl boot";
  }
  return tree;
}

std::uint32_t Tree::limits() const {
  std::uint32_t all = 0;
  for (const Hierarchy& hierarchy : hierarchies_) all |= hierarchy.limits;
  return all;
}

void Tree::open(const Place& place) {
  // Version 2 comes first where it controls the same.
  const std::uint32_t wanted = place.limits & ~limits();
  if (wanted == 0 && !place.accounts_for_cpu) return;
  const auto made = claim(place.folder, {{}, wanted, false, place.accounts_for_cpu, Fd()});
  if (!made && wanted != 0) missing_ = made.error().message();
}

void Tree::open_unified(const Place& place) {
  std::string folder = place.folder;
  for (;;) {
    const std::string controllers = read_file(folder + "/cgroup.controllers");
    const auto offered = split(controllers, ' ');
    std::uint32_t given = 0;
    for (const char* name : {"memory", "cpu", "pids"}) {
      if (!has(offered, name)) continue;
      const std::string enable = "+" + std::string(name);
      bool enabled = write_file(folder + "/cgroup.subtree_control", enable);
      if (!enabled && errno == EBUSY && make_room(folder))
        enabled = write_file(folder + "/cgroup.subtree_control", enable);
      if (enabled) given |= limits_of({name});
    }
    const auto made = given == 0 ? Result<void>() : claim(folder, {{}, given, true, true, Fd()});
    if (given != 0 && made) return;
    missing_ = "the control group " + folder + " gives none to this process";
    if (folder.size() <= place.mount.size()) return;
    folder = folder.substr(0, folder.rfind('/'));
  }
}

Result<void> Tree::claim(const std::string& parent, Hierarchy hierarchy) {
  sweep(parent);
  constexpr int most_attempts = 8;
  for (int attempt = 0; attempt < most_attempts; ++attempt) {
    hierarchy.folder = parent + "/" + std::string(own_prefix) + std::to_string(::getpid()) +
                       (attempt == 0 ? "" : "-" + std::to_string(attempt));
    if (::mkdir(hierarchy.folder.c_str(), 0700) != 0 && errno != EEXIST)
      return errno_error("make the control group " + hierarchy.folder, errno);
    hierarchy.lock = Fd(::open(hierarchy.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!hierarchy.lock.valid() || ::flock(hierarchy.lock.get(), LOCK_EX | LOCK_NB) != 0) continue;
    // One that sweeps may have taken it for abandoned before it was locked.
    struct stat held {};
    struct stat named {};
    if (::fstat(hierarchy.lock.get(), &held) != 0 ||
        ::stat(hierarchy.folder.c_str(), &named) != 0 || held.st_ino != named.st_ino)
      continue;
    if (hierarchy.unified) enable_all(hierarchy.folder);
    hierarchies_.push_back(std::move(hierarchy));
    return {};
  }
  return error(Code::busy, "others remove every control group made in " + parent);
}

}  // namespace aios::cgroup
