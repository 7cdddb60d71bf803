#include "kernel/link.hpp"

#include <unistd.h>

#include <cassert>

namespace aios::kernel {

void Port::set_down(bool down) {
  if (!(down_ = down)) return;
  for (const auto& link : std::exchange(waiting_, {})) link->close();
}

Link::Link(Registry& registry, const std::shared_ptr<Port>& port, std::uint64_t protocol_version)
    : id(registry.next_id++),
      port_name(port->name()),
      protocol_version(protocol_version),
      registry_(registry),
      port_(port) {
  registry_.links.emplace(id, this);
}

Result<std::shared_ptr<LinkEnd>> Link::connect(Registry& registry, Process& process,
                                               const std::shared_ptr<Port>& port,
                                               std::uint64_t protocol_version) {
  const auto link = std::make_shared<Link>(registry, port, protocol_version);
  for (Side& side : link->sides_) side.bell = TRY(sys::Doorbell::create());
  return link->occupy(client, process);
}

Result<std::shared_ptr<LinkEnd>> Link::accept(Process& process) {
  assert(state_ == State::waiting);
  auto end = TRY(occupy(server, process));
  state_ = State::accepted;
  if (const auto port = port_.lock()) port->remove(*this);
  return end;
}

Result<std::shared_ptr<LinkEnd>> Link::occupy(SideIndex index, Process& process) {
  if (!process.ready())
    return error(Code::denied, "the status page must be confirmed by `ready` before any link");
  Side& side = sides_[index];
  auto charge = TRY(process.job()->hold(Job::links, 1));
  auto half = TRY(Region::create(registry_, process, Name::from("link half"), proto::half_bytes,
                                 RegionKind::control));
  side.index = TRY(process.take_link_index());
  auto end = std::make_shared<LinkEnd>(shared_from_this(), index);
  side.end = end.get();
  side.process = &process;
  side.process_id = process.id();
  side.process_name = process.name();
  side.charge = std::move(charge);
  side.half = std::move(half);
  return end;
}

Result<void> Link::side_ready(SideIndex index) {
  if (state_ == State::closed) return error(Code::peer_closed, "the link is closed");
  Side& side = sides_[index];
  if (side.ready()) return {};
  const auto port = port_.lock();
  auto sealed = side.half->seal_writer();
  if (sealed && index == client && (port == nullptr || port->down()))
    sealed = error(Code::peer_closed, "the port is gone or down");
  if (!sealed) {
    close();
    return sealed;
  }
  if (index == client) {
    state_ = State::waiting;
    port->push(shared_from_this());
  } else {
    state_ = State::open;
    sides_[client].end->raise(signal::established);
    sides_[client].bell.ring();
  }
  return {};
}

void Link::close() {
  // The queue's reference may be the last one.
  const auto self = shared_from_this();
  const State before = std::exchange(state_, State::closed);
  if (before == State::closed) return;
  if (const auto port = port_.lock(); port != nullptr && before == State::waiting)
    port->remove(*this);
  for (Side& side : sides_) {
    side.half.reset();
    if (side.end == nullptr) continue;
    side.process->mark_link_closed(side.index);
    side.bell.ring();
    side.end->raise(signal::closed);
  }
}

void Link::end_gone(SideIndex index) {
  Side& side = sides_[index];
  if (side.end == nullptr) return;
  side.end = nullptr;
  close();
  side.process->handles.close_unnamed(id);
  side.process->release_link_index(side.index);
  side.process = nullptr;
  side.charge.reset();
  side.bell = {};
}

std::uint64_t Link::sent_slots(SideIndex sender) const {
  const auto& half = sides_[sender == client ? server : client].half;
  std::uint64_t slots = 0;
  constexpr auto offset = offsetof(proto::HalfHeader, consumed);
  if (half == nullptr || ::pread(half->read_only().get(), &slots, sizeof slots, offset) < 0)
    return 0;
  return slots;
}

}  // namespace aios::kernel
