// A job: a tree of processes with quotas. What a job uses is also charged to all its ancestors, and
// must fit all their quotas. Of Linux a job knows only the control group that holds its processes,
// where it has one.
#pragma once

#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/cgroup.hpp"
#include "abi/runtime/status.hpp"
#include "kernel/object.hpp"

namespace aios::kernel {

using proto::kernel::Quota;

/// Something charged to a job: released when this goes.
using Charge = std::shared_ptr<void>;

class Job final : public Object, public std::enable_shared_from_this<Job> {
 public:
  static constexpr ObjectType object_type = ObjectType::job;
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::duplicate | rights::send | rights::manage | rights::wait | rights::act;
  enum Resource : std::size_t { memory, processes, handles, links };
  using Kept = std::map<std::string, std::pair<Reference, Charge>, std::less<>>;

  /// `parent` is null for the root. A zero field of `quota` is limited by the ancestors alone.
  Job(std::uint64_t id, std::shared_ptr<Job> parent, const Name& name, const Quota& quota);
  ~Job() override {
    if (parent_) std::erase(parent_->children_, this);
  }
  /// quota when the tree is too deep; denied when the job was killed.
  Result<std::shared_ptr<Job>> make_child(std::uint64_t id, const Name& name, const Quota& quota);
  /// The living child of that name, or null.
  std::shared_ptr<Job> find_child(std::string_view name) const;
  /// Whether this is `other` or one of its ancestors.
  bool contains(const Job& other) const {
    return this == &other || (other.parent_ && contains(*other.parent_));
  }
  /// The ancestor right below the root (itself there; the root's own id for the root).
  std::uint64_t top_id() const { return depth_ > 1 ? parent_->top_id() : id(); }
  std::uint64_t parent_id() const { return parent_ ? parent_->id() : 0; }
  std::uint64_t detail() const override { return owner; }
  bool is_root() const { return parent_ == nullptr; }

  Result<void> can_charge(Resource resource, std::uint64_t amount) const;
  Result<void> charge(Resource resource, std::uint64_t amount);
  /// The last process leaving raises `empty`.
  void release(Resource resource, std::uint64_t amount);
  /// As `charge`, for as long as what it returns lives.
  Result<Charge> hold(Resource resource, std::uint64_t amount);
  Quota quota() const { return by_name(most_, cpu_millis_); }
  Quota used() const { return by_name(used_); }
  /// The control group for its processes: its own, or the nearest above. Null: none.
  const cgroup::Group* limiting_group() const {
    return group.exists() ? &group : parent_ ? parent_->limiting_group() : nullptr;
  }
  /// Of this and the jobs below, the one with the least id above `after`, or null.
  const Job* next(std::uint64_t after) const;

  /// Refuses new processes and children, here and below, and forgets what is kept.
  void mark_killed();
  bool killed() const { return killed_; }

  /// Replaces what is kept under `label`; an empty reference forgets it. Charged as a handle.
  /// quota; not_found when there is nothing to forget; invalid_argument for the job itself or one
  /// of its ancestors, which it would keep alive for ever.
  Result<void> keep(std::string_view label, Reference reference);
  const Kept& kept() const { return kept_; }
  /// Grows with each call for the same name.
  std::uint64_t next_epoch(std::string_view name);

  cgroup::Group group;             ///< ends when the job is killed
  std::uint32_t owner = 0;         ///< uid of the user whose work it is; from the job above
  bool ends_with_outside = false;  ///< the job ends with its last outside process
  std::uint32_t standing = 0;      ///< raised on handles made from now on (the root's `shutdown`)
  std::uint32_t standing_signals() const override { return standing; }

 protected:
  void unreferenced() override { dissolve_if_unused(); }

 private:
  void dissolve_if_unused();

  std::shared_ptr<Job> parent_;
  std::vector<Job*> children_;
  using Amounts = std::array<std::uint64_t, 4>;  ///< by Resource
  static Quota by_name(const Amounts& amounts, std::uint32_t cpu_millis = 0);
  Amounts most_;  ///< 0: no limit of its own
  Amounts used_{};
  std::uint32_t cpu_millis_;
  std::uint32_t depth_;
  bool killed_ = false;
  Kept kept_;
  std::map<std::string, std::uint64_t, std::less<>> epochs_;
  std::uint64_t epoch_floor_ = 0;
};

/// Letters, digits, '.', '_' and '-'; not empty, not all dots. Names become file names.
bool is_name(std::string_view text);

}  // namespace aios::kernel
