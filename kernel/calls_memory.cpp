// The calls on regions and lent files.
#include "kernel/calls.hpp"
#include "kernel/file.hpp"
#include "kernel/limits.hpp"

namespace aios::kernel {

namespace wire = proto::kernel;

// ---- regions --------------------------------------------------------------------------------

KERNEL_CALL(RegionCreate, Calls::) {
  if (!request.name.valid()) return error(Code::invalid_argument, "the name is not valid");
  TRY(caller.process.handles.can_install(1, 0));
  auto region = TRY(Region::create(instance_.registry, caller.process, request.name,
                                   request.size_bytes, RegionKind::data));
  filling_.push_back({caller.process.weak_from_this(), caller.call_id, std::move(region)});
  caller.deferred = true;
  return wire::RegionCreate::Reply{};
}

std::optional<Calls::Finished> Calls::fill_slice() {
  Filling& oldest = filling_.front();
  const auto process = oldest.process.lock();
  if (process == nullptr || !process->alive()) {
    filling_.pop_front();
    return std::nullopt;
  }
  const auto filled = oldest.region->allocate_slice();
  if (filled && !*filled) {
    // The others' turn.
    filling_.push_back(std::move(oldest));
    filling_.pop_front();
    return std::nullopt;
  }
  const auto finish = [&]() -> Result<wire::RegionCreate::Reply> {
    TRY(Result<bool>(filled));
    const std::uint64_t size_bytes = oldest.region->size_bytes();
    const Handle handle = TRY(process->handles.install(
        Reference(std::move(oldest.region), Region::handle_rights, Region::handle_rights)));
    return wire::RegionCreate::Reply{handle, size_bytes};
  };
  std::optional<Finished> finished(std::in_place, process);
  write_reply(finished->reply, oldest.call_id, finish(), 0);
  filling_.pop_front();
  return finished;
}

bool Calls::is_waiting(const Process& process) const {
  for (const Filling& filling : filling_)
    if (filling.process.lock().get() == &process) return true;
  return false;
}

KERNEL_CALL(RegionMap, Calls::) {
  if (request.writable > 1) return error(Code::invalid_argument, "`writable` is 0 or 1");
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
    return wire::RegionNext::Reply{region.id(),
                                   region.size_bytes(),
                                   region.job().id(),
                                   region.reference_count(),
                                   region.is_control() ? 1u : 0u,
                                   region.name(),
                                   region.job().name()};
  }
  return wire::RegionNext::Reply{};
}

// ---- lent files -----------------------------------------------------------------------------

KERNEL_CALL(FileCreate, Calls::) {
  auto pair = TRY(sys::make_socket_pair());
  auto file =
      std::make_shared<File>(instance_.registry, caller.process.job(), std::move(pair.second));
  const Handle handle = TRY(caller.process.handles.install(
      Reference(std::move(file), File::use_rights, File::grant_rights)));
  caller.fds.push_back(std::move(pair.first));
  return wire::FileCreate::Reply{handle};
}

KERNEL_CALL(FileOpen, Calls::) {
  const auto file = TRY(caller.process.handles.get<File>(request.file, rights::map_read));
  caller.fds.push_back(TRY(file->open_for(*caller.process.job())));
  return wire::FileOpen::Reply{};
}

}  // namespace aios::kernel
