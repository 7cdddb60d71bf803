// The calls on regions and lent files.
#include <algorithm>

#include "kernel/calls.hpp"

namespace aios::kernel {

KERNEL_CALL(RegionCreate, Calls::) {
  TRY(require(request.name.valid(), "the name is not valid"));
  TRY(require(request.freezable <= 1, "`freezable` is 0 or 1"));
  TRY(caller.process.handles.can_install(1));
  auto region = TRY(Region::create(instance_.registry, caller.process, request.name,
                                   request.size_bytes, RegionKind::data, request.freezable != 0));
  filling_.push_back(defer(caller, std::move(region)));
  return wire::RegionCreate::Reply{};
}

template <class M, class Finish>
void Calls::answer(const Deferred& call, Finish finish) {
  const auto process = call.process.lock();
  if (process == nullptr || !process->alive()) return;
  process->awaits_reply = false;
  Packet reply;
  write_reply<typename M::Reply>(reply, call.call_id, finish(*process));
  send_later_(*process, reply);
}

void Calls::fill_slice() {
  const Deferred filling = std::move(filling_.front());
  filling_.pop_front();
  if (const auto process = filling.process.lock(); !process || !process->alive()) return;
  const Result<bool> filled = filling.region->allocate_slice();
  if (filled && !*filled) return filling_.push_back(filling);  // the others' turn
  answer<wire::RegionCreate>(filling, [&](Process& process) -> Result<wire::RegionCreate::Reply> {
    TRY(Result<bool>(filled));
    const Handle handle = TRY(process.handles.install(
        Reference(filling.region, Region::handle_rights, Region::handle_rights)));
    return wire::RegionCreate::Reply{handle, filling.region->size_bytes()};
  });
}

KERNEL_CALL(RegionFreeze, Calls::) {
  const auto region = TRY(caller.process.handles.get<Region>(request.region, rights::map_write));
  if (region->region_kind() == RegionKind::frozen) return wire::RegionFreeze::Reply{};
  if (!region->freezable())
    return error(Code::not_supported, "the region was not created to be frozen");
  auto child = TRY(sys::freeze_in_child(region->writable()));
  const auto end = [this, call = defer(caller, region)](const sys::ExitStatus& status) {
    const auto frozen = call.region->end_freeze(status);
    answer<wire::RegionFreeze>(call, [&](Process&) -> Result<proto::Empty> {
      TRY(Result<void>(frozen));
      return proto::Empty{};
    });
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
