// Control groups of Linux: what a job's processes may take together. Version 2 where a part of its
// tree is ours, the controllers of version 1 where their folders can be written, or nothing; what
// the host does not give is said, never pretended.
//
//   GROUP/aios-PID          the instance's own group, in the group (or above) in which it began
//     job-ID                a job's: memory and CPU of everything in it
//       programs            programs from outside that joined it: these and their threads are
//       counted children            what AIOS has started for the job job-ID ...          a job
//       below it
//
// The instance holds a lock on its own group. A group of that name that nobody has locked belongs
// to an instance that was killed: whoever makes a tree beside it ends what is left in it, and
// removes it. Only the folders of one process are touched; nothing here is thread-safe.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/kernel_types.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/time.hpp"

namespace aios::cgroup {

/// Bits that name limits.
namespace limit = proto::kernel::enforced;

/// A zero means no limit but that of the group above.
struct Limits {
  std::uint64_t memory_bytes = 0;  ///< of their own; what others allocated for them is not theirs
  std::uint32_t cpu_millis = 0;    ///< thousandths of a core, at least `min_cpu_millis`
  std::uint32_t processes = 0;     ///< programs and their threads
  bool operator==(const Limits&) const = default;
};
inline constexpr std::uint32_t min_cpu_millis = 10;

struct Usage {
  std::uint64_t memory_bytes = 0;
  std::uint64_t cpu_ns = 0;
  std::uint64_t memory_kills = 0;   ///< processes that Linux ended because the memory was used up
  std::uint64_t refused_forks = 0;  ///< processes and threads that were one too many
};

/// Of one user, that is, who could have thousands of jobs.
inline constexpr std::size_t max_groups_below = 64;

/// Where a hierarchy is mounted and which group of it is ours.
struct Place {
  std::string folder;             ///< of the group that this process is in
  std::string mount;              ///< the topmost group that is seen here
  std::uint32_t limits = 0;       ///< which a version 1 hierarchy has controllers for
  bool unified = false;           ///< version 2: what it controls its groups tell
  bool accounts_for_cpu = false;  ///< version 1
};
/// Reads the texts of /proc/self/mountinfo and /proc/self/cgroup. Pure.
std::vector<Place> find_places(std::string_view mounts, std::string_view groups);
/// Those of this process.
std::vector<Place> find_places_here();

/// Kills every process in a group and below and removes it. Waits for them; false when something
/// is still there at the deadline.
bool remove(const std::string& folder, Deadline deadline);
/// All of them, within 5 s.
bool remove(const std::vector<std::string>& folders);

class Tree;

/// A job's group. Removed, by whoever takes the tree's condemned ones, when it is destroyed.
class Group {
 public:
  Group() = default;
  Group(Group&& other) noexcept;
  Group& operator=(Group&& other) noexcept;
  ~Group();

  bool exists() const { return tree_ != nullptr; }
  /// Bits of the limits, its own or from above, that Linux holds it to.
  std::uint32_t enforced() const { return enforced_; }
  enum class Part { programs, children };
  /// Moves a process. What Linux says; not_found when it has ended.
  Result<void> add(pid_t pid, Part part) const;
  Usage usage() const;

 private:
  friend class Tree;
  Tree* tree_ = nullptr;
  std::string path_;  ///< below the instance's group
  Limits limits_;     ///< the tightest of its own and those above
  std::uint32_t enforced_ = 0;
};

class Tree {
 public:
  /// Makes the instance's group in every place where it can. Never fails: see `limits`. Logs what
  /// is missing.
  static Tree create();
  static Tree create(const std::vector<Place>& places);
  Tree(Tree&& other) = default;
  Tree(const Tree&) = delete;
  /// Removes all of it, as `remove` does, within 5 s. Groups end before it, and it does not move
  /// while there are any.
  ~Tree();

  /// Bits of what this host lets us enforce, and why not the rest: what is missing and how to get
  /// it; empty when nothing is.
  std::uint32_t limits() const;
  const std::string& missing() const { return missing_; }

  /// A group below `parent`, or below the instance's when that is null. A limit that could not be
  /// set is not among its `enforced`. quota when it would be one more than `max_groups_below` some
  /// group right below the instance's.
  Result<Group> make(const Group* parent, const std::string& name, const Limits& limits);

  /// Folders of groups that were destroyed, for `remove`; once.
  std::vector<std::string> take_condemned() { return std::exchange(condemned_, {}); }

 private:
  friend class Group;
  struct Hierarchy {
    std::string folder;
    std::uint32_t limits;
    bool unified;
    bool accounts_for_cpu;
    Fd lock;
  };
  Tree() = default;
  void open(const Place& place);
  void open_unified(const Place& place);
  Result<void> claim(const std::string& parent, Hierarchy hierarchy);

  std::vector<Hierarchy> hierarchies_;
  std::string missing_;
  std::vector<std::string> condemned_;
  std::map<std::string, std::size_t, std::less<>> below_;  ///< groups, by the top one above them
};

}  // namespace aios::cgroup
