// A region: a memory file made, allocated and charged by the kernel. Data regions are named by
// handles; control regions (halves of links, status and kernel pages) are not: they belong to the
// link or process that has them, and have one writer, sealed in once it has mapped them. And the
// channels of lent files.
#pragma once

#include <deque>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/host_memory.hpp"
#include "kernel/job.hpp"
#include "kernel/sys_linux.hpp"

namespace aios::kernel {

class Link;
class Process;
class Region;

/// Memory of an ended region: given back in slices by the event loop, or by a child where its seals
/// forbid that, since the last close of a large file takes long.
struct ReleasedMemory {
  Fd file;
  std::uint64_t size_bytes;
};

/// What the kernel can enumerate, and what waits to be freed.
struct Registry {
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, std::shared_ptr<Process>> processes;  ///< living ones
  std::map<std::uint64_t, Region*> regions;                     ///< entered and left by themselves
  std::map<std::uint64_t, Link*> links;                         ///< entered and left by themselves
  std::deque<ReleasedMemory> released;
  /// With unread files of others in them, perhaps, whose close may block.
  std::deque<Fd> released_sockets;
};

class Region final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::region;
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::duplicate | rights::send | rights::map_read | rights::map_write;

  /// Charges `creator`'s job, and makes the file; a control region is allocated at once, a data
  /// region by `allocate_slice`. Only a `freezable` one can become frozen. The size is rounded up
  /// to pages. invalid_argument for size 0; quota; no_memory. What may be had of `nodes` shows when
  /// it is allocated.
  static Result<std::shared_ptr<Region>> create(Registry& registry, Process& creator,
                                                const Name& name, std::uint64_t size_bytes,
                                                RegionKind kind, bool freezable = false,
                                                NumaNodes nodes = 0);
  Region(Registry& registry, Process& creator, const Name& name);
  ~Region() override;

  /// Allocates the next slice; true when every page is there. no_memory; invalid_argument.
  Result<bool> allocate_slice();
  /// Of a control region whose owner has mapped it: from now on it has no other writer. The
  /// writable descriptor is closed. denied when the owner prevented it.
  Result<void> seal_writer();
  /// A child of `sys::freeze_in_child` has ended. If it did it, the region is frozen, and the
  /// writable descriptor is closed. busy; denied.
  Result<proto::Empty> end_freeze(const sys::ExitStatus& status);

  const Fd& writable() const { return file_.writable; }  ///< invalid once sealed or frozen
  const Fd& read_only() const { return file_.read_only; }
  std::uint64_t size_bytes() const { return size_bytes_; }
  bool freezable() const { return freezable_; }
  const Job& job() const { return *job_; }
  std::uint64_t detail() const override { return size_bytes_; }
  RegionKind region_kind() const override { return kind_; }

 private:
  Registry& registry_;
  std::weak_ptr<Process> creator_;
  std::shared_ptr<Job> job_;
  Charge charge_;
  std::uint64_t size_bytes_ = 0;
  RegionKind kind_ = RegionKind::data;
  bool freezable_ = false;
  NumaNodes nodes_ = 0;
  sys::MemoryFile file_;
  std::uint64_t allocated_bytes_ = 0;
};

/// A lent-file channel: a socket pair on which one process hands opened files to processes of its
/// own job and below. The kernel passes the ends on and never looks at what lies in them.
class File final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::file;
  static constexpr std::uint32_t use_rights = rights::info | rights::duplicate | rights::send;
  static constexpr std::uint32_t grant_rights = use_rights | rights::map_read;

  File(Registry& registry, std::shared_ptr<Job> creator, Fd reading_end)
      : Object(object_type, registry.next_id++),
        registry_(registry),
        creator_(std::move(creator)),
        reading_end_(std::move(reading_end)) {}
  ~File() override { registry_.released_sockets.push_back(std::move(reading_end_)); }
  /// denied when `reader` is neither the creator's job nor below it.
  Result<Fd> open_for(const Job& reader) const {
    if (creator_->contains(reader)) return reading_end_.duplicate();
    return error(Code::denied, "these files are lent within another job");
  }

 private:
  Registry& registry_;
  std::shared_ptr<Job> creator_;
  Fd reading_end_;
};

}  // namespace aios::kernel
