#include "kernel/job.hpp"

#include <algorithm>
#include <cassert>

#include "kernel/limits.hpp"

namespace aios::kernel {

bool is_name(std::string_view text) {
  return text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
             "0123456789._-") == std::string_view::npos &&
         text.find_first_not_of('.') != std::string_view::npos;
}

Job::Job(std::uint64_t id, std::shared_ptr<Job> parent, const Name& name, const Quota& quota)
    : Object(object_type, id, name),
      parent_(std::move(parent)),
      most_{quota.memory_bytes, quota.processes, quota.handles, quota.links},
      cpu_millis_(quota.cpu_millis),
      depth_(parent_ ? parent_->depth_ + 1 : 0) {
  if (!parent_) return;
  parent_->children_.push_back(this);
  owner = parent_->owner;
}

Result<std::shared_ptr<Job>> Job::make_child(std::uint64_t id, const Name& name,
                                             const Quota& quota) {
  if (killed_) return error(Code::denied, "the job was killed");
  if (depth_ + 1 >= limits::job_depth) return error(Code::quota, "the tree of jobs is too deep");
  return std::make_shared<Job>(id, shared_from_this(), name, quota);
}

std::shared_ptr<Job> Job::find_child(std::string_view name) const {
  for (Job* child : children_)
    if (!child->killed_ && child->name().view() == name) return child->shared_from_this();
  return nullptr;
}

Result<void> Job::can_charge(Resource resource, std::uint64_t amount) const {
  static constexpr const char* names[] = {"memory", "processes", "handles", "links"};
  for (const Job* job = this; job != nullptr; job = job->parent_.get()) {
    const std::uint64_t most = job->most_[resource];
    const std::uint64_t used = job->used_[resource];
    if (most != 0 && (used > most || amount > most - used))
      return error(Code::quota, "job '" + std::string(job->name().view()) + "' may have no more " +
                                    names[resource] + ": " + std::to_string(used) + " of " +
                                    std::to_string(most) + " used");
  }
  return {};
}

Result<void> Job::charge(Resource resource, std::uint64_t amount) {
  TRY(can_charge(resource, amount));
  for (Job* job = this; job != nullptr; job = job->parent_.get()) job->used_[resource] += amount;
  return {};
}

void Job::release(Resource resource, std::uint64_t amount) {
  // Forgetting what a job keeps may drop the last reference to it or to its parent.
  for (auto job = shared_from_this(); job != nullptr; job = job->parent_) {
    assert(job->used_[resource] >= amount);
    job->used_[resource] -= amount;
    if (resource != processes || job->used_[resource] != 0) continue;
    job->raise(signal::empty);
    job->dissolve_if_unused();
  }
}

Result<Charge> Job::hold(Resource resource, std::uint64_t amount) {
  TRY(charge(resource, amount));
  return Charge(this, [self = shared_from_this(), resource, amount](void*) {
    self->release(resource, amount);
  });
}

const Job* Job::next(std::uint64_t after) const {
  const Job* best = id() > after ? this : nullptr;
  for (const Job* child : children_)
    if (const Job* found = child->next(after); found && (!best || found->id() < best->id()))
      best = found;
  return best;
}

Quota Job::by_name(const Amounts& amounts, std::uint32_t cpu_millis) {
  const auto [memory, processes, handles, links] = amounts;
  return {memory, static_cast<std::uint32_t>(processes), static_cast<std::uint32_t>(handles),
          static_cast<std::uint32_t>(links), cpu_millis};
}

void Job::mark_killed() {
  killed_ = true;
  // What a job keeps may be what keeps a child alive.
  std::vector<std::shared_ptr<Job>> children;
  for (Job* child : children_) children.push_back(child->shared_from_this());
  for (const auto& child : children) child->mark_killed();
  std::exchange(kept_, {}).clear();
  group = {};
}

void Job::dissolve_if_unused() {
  const auto self = shared_from_this();
  if (is_root() || used_[processes] != 0 || reference_count() != 0) return;
  std::exchange(kept_, {}).clear();
}

Result<void> Job::keep(std::string_view label, Reference reference) {
  const auto found = kept_.find(label);
  if (!reference) {
    if (found == kept_.end()) return error(Code::not_found, "nothing is kept under this label");
    const auto forgotten = kept_.extract(found);
    return {};
  }
  const auto* job = dynamic_cast<const Job*>(reference.object().get());
  if (job != nullptr && job->contains(*this))
    return error(Code::invalid_argument, "a job cannot keep itself or a job above it");
  if (killed_) return error(Code::denied, "the job was killed");
  if (found != kept_.end()) {
    found->second.first = std::move(reference);
    return {};
  }
  if (kept_.size() >= limits::kept_per_job)
    return error(Code::quota, "the job keeps as many handles as it may");
  kept_.emplace(label, std::pair(std::move(reference), TRY(hold(handles, 1))));
  return {};
}

std::uint64_t Job::next_epoch(std::string_view name) {
  if (epochs_.size() >= limits::epoch_names && !epochs_.contains(name)) {
    for (const auto& [old_name, epoch] : epochs_) epoch_floor_ = std::max(epoch_floor_, epoch);
    epochs_.clear();
  }
  return ++epochs_.try_emplace(std::string(name), epoch_floor_).first->second;
}

}  // namespace aios::kernel
