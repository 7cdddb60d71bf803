// The calls on regions and lent files.
#include <algorithm>

#include "kernel/calls.hpp"

namespace aios::kernel {

KERNEL_CALL(RegionCreate, Calls::) {
  TRY(require(request.name.valid(), "the name is not valid"));
  TRY(caller.process.handles.can_install(1));
  auto region = TRY(Region::create(instance_.registry, caller.process, request.name,
                                   request.size_bytes, RegionKind::data));
  filling_.push_back({caller.process.weak_from_this(), caller.call_id, std::move(region)});
  caller.deferred = true;
  return wire::RegionCreate::Reply{};
}

std::shared_ptr<Process> Calls::fill_slice(Packet& reply) {
  const Filling filling = std::move(filling_.front());
  filling_.pop_front();
  const auto process = filling.process.lock();
  if (process == nullptr || !process->alive()) return nullptr;
  const Result<bool> filled = filling.region->allocate_slice();
  if (filled && !*filled) {
    filling_.push_back(filling);  // the others' turn
    return nullptr;
  }
  const auto finish = [&]() -> Result<wire::RegionCreate::Reply> {
    TRY(Result<bool>(filled));
    const Handle handle = TRY(process->handles.install(
        Reference(filling.region, Region::handle_rights, Region::handle_rights)));
    return wire::RegionCreate::Reply{handle, filling.region->size_bytes()};
  };
  write_reply(reply, filling.call_id, finish());
  return process;
}

bool Calls::is_waiting(const Process& process) const {
  return std::ranges::any_of(
      filling_, [&](const Filling& filling) { return filling.process.lock().get() == &process; });
}

KERNEL_CALL(RegionMap, Calls::) {
  TRY(require(request.writable <= 1, "`writable` is 0 or 1"));
  const std::uint32_t needed = rights::map_read | (request.writable != 0 ? rights::map_write : 0);
  const auto region = TRY(caller.process.handles.get<Region>(request.region, needed));
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
    return wire::RegionNext::Reply(region.id(), region.size_bytes(), region.job().id(),
                                   region.reference_count(), region.is_control(), region.name(),
                                   region.job().name());
  }
  return wire::RegionNext::Reply{};
}

KERNEL_CALL(FileCreate, Calls::) {
  auto [writing_end, reading_end] = TRY(sys::make_socket_pair());
  auto file =
      std::make_shared<File>(instance_.registry, caller.process.job(), std::move(reading_end));
  caller.fds.push_back(std::move(writing_end));
  return wire::FileCreate::Reply{TRY(caller.process.handles.install(
      Reference(std::move(file), File::use_rights, File::grant_rights)))};
}

KERNEL_CALL(FileOpen, Calls::) {
  const auto file = TRY(caller.process.handles.get<File>(request.file, rights::map_read));
  caller.fds.push_back(TRY(file->open_for(*caller.process.job())));
  return wire::FileOpen::Reply{};
}

}  // namespace aios::kernel
