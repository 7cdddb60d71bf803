#include "kernel/region.hpp"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "kernel/process.hpp"

namespace aios::kernel {

Result<std::shared_ptr<Region>> Region::create(Registry& registry, Process& creator,
                                               const Name& name, std::uint64_t size_bytes,
                                               RegionKind kind, bool freezable, NumaNodes nodes) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max() - proto::page_bytes;
  if (size_bytes == 0) return error(Code::invalid_argument, "a region of 0 bytes");
  if (size_bytes > most) return error(Code::quota, "no job may have a region of this size");
  const std::uint64_t rounded = (size_bytes + proto::page_bytes - 1) & ~(proto::page_bytes - 1);
  const auto region = std::make_shared<Region>(registry, creator, name);
  region->charge_ = TRY(creator.job()->hold(Job::memory, rounded));
  region->size_bytes_ = rounded;
  creator.region_bytes += rounded;
  region->kind_ = kind;
  region->freezable_ = freezable;
  region->nodes_ = nodes;
  region->file_ = TRY(sys::make_memory_file(rounded));
  // No holder may seal others out of a data region, unless it was made to be sealed.
  if (kind == RegionKind::data && !freezable) TRY(sys::seal(region->writable(), false));
  if (kind == RegionKind::control) TRY(region->allocate_slice());
  return region;
}

Region::Region(Registry& registry, Process& creator, const Name& name)
    : Object(object_type, registry.next_id++, name),
      registry_(registry),
      creator_(creator.weak_from_this()),
      job_(creator.job()) {
  registry_.regions.emplace(id(), this);
}

Region::~Region() {
  registry_.regions.erase(id());
  if (const auto process = creator_.lock()) process->region_bytes -= size_bytes_;
  if (allocated_bytes_ > limits::slice_bytes)
    registry_.released.push_back(
        {std::move(writable().valid() ? file_.writable : file_.read_only), allocated_bytes_});
}

Result<bool> Region::allocate_slice() {
  const std::uint64_t slice = std::min(limits::slice_bytes, size_bytes_ - allocated_bytes_);
  const auto preference = TRY(NumaPreference::take(nodes_));
  // Counted first: a slice that fails half-way has pages too.
  TRY(sys::allocate(writable(), std::exchange(allocated_bytes_, allocated_bytes_ + slice), slice));
  return allocated_bytes_ == size_bytes_;
}

Result<void> Region::seal_writer() {
  TRY(sys::seal(writable(), true));
  file_.writable.reset();
  return {};
}

Result<proto::Empty> Region::end_freeze(const sys::ExitStatus& status) {
  // What counts is the file: a child that was killed may have done it first.
  if (!sys::is_frozen(read_only())) {
    if (status.signalled || status.code == EBUSY)
      return error(Code::busy, "it is mapped for writing, or pages of it are in a pipe or device");
    return errno_error("freeze region", status.code);
  }
  kind_ = RegionKind::frozen;
  file_.writable.reset();
  return proto::Empty{};
}

}  // namespace aios::kernel
