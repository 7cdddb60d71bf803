// The calls on regions and lent files.
#include "abi/runtime/socket.hpp"
#include "kernel/calls.hpp"

namespace aios::kernel {

KERNEL_CALL(RegionCreate, Calls::) {
  TRY(require(request.name.valid(), "the name is not valid"));
  TRY(require(request.freezable <= 1, "`freezable` is 0 or 1"));
  TRY(caller.process.handles.can_install(1));
  auto region =
      TRY(Region::create(instance_.registry, caller.process, request.name, request.size_bytes,
                         RegionKind::data, request.freezable != 0, request.numa_nodes));
  filling_.push_back({caller.process.weak_from_this(), std::move(region)});
  caller.process.awaited_call = caller.call_id;
  return wire::RegionCreate::Reply{};
}

void Calls::fill_slice() {
  const auto [creator, region] = std::move(filling_.front());
  filling_.pop_front();
  const auto process = creator.lock();
  if (process == nullptr || !process->alive()) return;
  const Result<bool> filled = region->allocate_slice();
  if (filled && !*filled) return filling_.push_back({creator, region});  // the others' turn
  const auto finish = [&, &made = region]() -> Result<wire::RegionCreate::Reply> {
    TRY(Result<bool>(filled));
    return wire::RegionCreate::Reply{TRY(give(*process, made)), made->size_bytes()};
  };
  reply_later(*process, finish());
}

KERNEL_CALL(RegionFreeze, Calls::) {
  const auto region = TRY(caller.process.handles.get<Region>(request.region, rights::map_write));
  if (region->region_kind() == RegionKind::frozen) return wire::RegionFreeze::Reply{};
  if (!region->freezable())
    return error(Code::not_supported, "the region was not created to be frozen");
  auto child = TRY(sys::freeze_in_child(region->writable()));
  caller.process.awaited_call = caller.call_id;
  const auto end = [this, waiting = caller.process.weak_from_this(), region](const auto& status) {
    const auto frozen = region->end_freeze(status);
    if (const auto process = waiting.lock()) reply_later(*process, frozen);
  };
  instance_.add_helper(std::move(child), end);
  return wire::RegionFreeze::Reply{};
}

KERNEL_CALL(RegionMap, Calls::) {
  TRY(require(request.writable <= 1, "`writable` is 0 or 1"));
  const std::uint32_t needed = rights::map_read | (request.writable != 0 ? rights::map_write : 0);
  const auto region = TRY(caller.process.handles.get<Region>(request.region, needed));
  if (request.writable != 0 && !region->writable().valid())
    return error(Code::denied, "the region is frozen: nobody can map it for writing");
  const Fd& file = request.writable != 0 ? region->writable() : region->read_only();
  caller.fds.push_back(TRY(file.duplicate()));
  return wire::RegionMap::Reply{region->size_bytes()};
}

KERNEL_CALL(RegionNext, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const auto& all = instance_.registry.regions;
  for (auto next = all.upper_bound(request.after); next != all.end(); ++next) {
    const Region& region = *next->second;
    if (!job->contains(region.job())) continue;
    return wire::RegionNext::Reply(
        region.id(), region.size_bytes(), region.job().id(), region.reference_count(),
        static_cast<std::uint32_t>(region.region_kind()), region.name(), region.job().name());
  }
  return wire::RegionNext::Reply{};
}

KERNEL_CALL(FileCreate, Calls::) {
  auto [writing_end, reading_end] = TRY(make_socket_pair());
  auto file =
      std::make_shared<File>(instance_.registry, caller.process.job(), std::move(reading_end));
  caller.fds.push_back(std::move(writing_end));
  return wire::FileCreate::Reply{caller.made = TRY(caller.process.handles.install(Reference(
                                     std::move(file), File::use_rights, File::grant_rights)))};
}

KERNEL_CALL(FileOpen, Calls::) {
  const auto file = TRY(caller.process.handles.get<File>(request.file, rights::map_read));
  caller.fds.push_back(TRY(file->open_for(*caller.process.job())));
  return wire::FileOpen::Reply{};
}

}  // namespace aios::kernel
