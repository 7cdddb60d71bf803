// The calls on ports, links and the instance.
#include <unistd.h>

#include "abi/runtime/socket.hpp"
#include "kernel/calls.hpp"

namespace aios::kernel {

namespace {

/// A handle to the end, its own half, its own doorbell to read, the peer's to ring.
Result<Handle> give_end(Caller& caller, const std::shared_ptr<LinkEnd>& end) {
  caller.fds.push_back(TRY(end->own().half->writable().duplicate()));
  caller.fds.push_back(TRY(end->own().bell.reader()));
  caller.fds.push_back(TRY(end->peer().bell.ringer()));
  return caller.process.handles.install(Reference(end, LinkEnd::handle_rights, 0));
}

}  // namespace

KERNEL_CALL(PortCreate, Calls::) {
  TRY(require(request.name.valid(), "the name is not valid"));
  auto port = std::make_shared<Port>(instance_.registry.next_id++, request.name);
  return wire::PortCreate::Reply{TRY(give(caller.process, std::move(port)))};
}

KERNEL_CALL(PortPublish, Calls::) {
  TRY(require_label(request.label));
  const auto root = TRY(caller.process.handles.get<Job>(request.root, rights::manage));
  if (!root->is_root()) return error(Code::denied, "ports are published with the root job");
  const auto port = TRY(caller.process.handles.get<Port>(request.port, rights::connect));
  auto& published = instance_.published;
  const std::string label(request.label.view());
  if (!published.contains(label) && published.size() >= limits::published_ports)
    return error(Code::quota, "as many ports are published as may be");
  published[label] = Reference(port, rights::info | rights::connect, 0);
  return wire::PortPublish::Reply{};
}

KERNEL_CALL(PortSetDown, Calls::) {
  TRY(require(request.down <= 1, "`down` is 0 or 1"));
  TRY(caller.process.handles.get<Port>(request.port, rights::manage))->set_down(request.down == 1);
  return wire::PortSetDown::Reply{};
}

KERNEL_CALL(PortConnect, Calls::) {
  const auto port = TRY(caller.process.handles.get<Port>(request.port, rights::connect));
  if (port->down())
    return error(Code::service_down, "the server behind this port is down for good");
  const auto end =
      TRY(Link::connect(instance_.registry, caller.process, port, request.protocol_version));
  caller.made = TRY(give_end(caller, end));
  return wire::PortConnect::Reply{caller.made, end->own().index, 0};
}

KERNEL_CALL(PortAccept, Calls::) {
  const auto port = TRY(caller.process.handles.get<Port>(request.port, rights::accept));
  const auto link = port->front();
  if (link == nullptr) return error(Code::busy, "no connection waits");
  TRY(caller.process.handles.can_install(1));
  const auto end = TRY(link->accept(caller.process));
  caller.made = TRY(give_end(caller, end));
  const Process& client = *end->peer().process;
  return wire::PortAccept::Reply(caller.made, end->own().index, client.uid, client.id(),
                                 client.job()->id(), link->protocol_version,
                                 static_cast<std::uint32_t>(client.role), 0, client.name(),
                                 client.job()->name());
}

KERNEL_CALL(LinkReady, Calls::) {
  const auto end = TRY(caller.process.handles.get<LinkEnd>(request.link, 0));
  TRY(end->link().side_ready(end->side));
  if (end->link().state() != Link::State::open) return wire::LinkReady::Reply{0};
  caller.fds.push_back(TRY(end->peer().half->read_only().duplicate()));
  caller.fds.push_back(TRY(end->peer().process->status_page().read_only().duplicate()));
  return wire::LinkReady::Reply{1};
}

KERNEL_CALL(LinkSend, Calls::) {
  Process& sender = caller.process;
  const auto end = TRY(sender.handles.get<LinkEnd>(request.link, 0));
  if (end->link().state() == Link::State::closed)
    return error(Code::peer_closed, "the link is closed");
  if (end->link().state() != Link::State::open)
    return error(Code::busy, "the link is not established yet");
  TRY(require(request.count <= wire::max_sent_handles, "more handles than one call sends"));
  const auto entries = std::span(request.entries).first(request.count);
  std::vector<Reference> references;
  for (const auto& entry : entries) {
    references.push_back(TRY(sendable(sender, entry.handle, entry.use, entry.grant)));
    if (static_cast<std::uint32_t>(references.back().object()->type()) != entry.expected_type)
      return error(Code::wrong_type, "a handle is not of the type expected");
    TRY(require(entry.move <= 1, "`move` is 0 or 1"));
    for (const auto& other : entries)
      TRY(require(&other == &entry || other.handle != entry.handle || !(other.move | entry.move),
                  "a handle that moves is named twice"));
  }
  Process& receiver = *end->peer().process;
  const std::uint64_t tenant = sender.job()->top_id();
  // All or nothing: after this nothing fails.
  TRY(receiver.handles.can_install(static_cast<std::uint32_t>(references.size()), tenant));
  wire::LinkSend::Reply reply{};
  for (std::size_t i = 0; i < references.size(); ++i)
    reply.handles[i] = TRY(
        receiver.handles.install(std::move(references[i]), tenant, sender.id(), end->link().id));
  for (const auto& entry : entries)
    if (entry.move == 1) TRY(sender.handles.close(entry.handle));
  return reply;
}

KERNEL_CALL(LinkNext, Calls::) {
  const auto job = TRY(caller.process.handles.get<Job>(request.job, rights::manage));
  const auto within = [&job](const Link::Side& side) {
    return side.process != nullptr && job->contains(*side.process->job());
  };
  const auto& all = instance_.registry.links;
  for (auto next = all.upper_bound(request.after); next != all.end(); ++next) {
    const Link& link = *next->second;
    const Link::Side& client = link.side(Link::client);
    const Link::Side& server = link.side(Link::server);
    if (!within(client) && !within(server)) continue;
    return wire::LinkNext::Reply(link.id, client.process_id, server.process_id,
                                 static_cast<std::uint32_t>(link.state()), 0,
                                 {link.sent_slots(Link::client), link.sent_slots(Link::server)},
                                 link.port_name, client.process_name, server.process_name);
  }
  return wire::LinkNext::Reply{};
}

KERNEL_CALL(InstanceShutdown, Calls::) {
  const auto root = TRY(caller.process.handles.get<Job>(request.root, rights::manage));
  if (!root->is_root()) return error(Code::denied, "the instance is stopped with its root job");
  instance_.begin_shutdown();
  return wire::InstanceShutdown::Reply{};
}

KERNEL_CALL(InstanceInfo, Calls::) {
  const Registry& registry = instance_.registry;
  return wire::InstanceInfo::Reply(
      static_cast<std::uint64_t>(::getpid()), instance_.started_ns, instance_.supervisor_restarts,
      registry.processes.size(), registry.regions.size(), instance_.root->used().memory_bytes,
      registry.links.size(), instance_.configuration.shutdown_timeout_ns, instance_.namespaces_work,
      instance_.peers_have_pidfds, instance_.configuration.open_to_users, instance_.own_uid);
}

KERNEL_CALL(InstanceConfigure, Calls::) {
  const auto root = TRY(caller.process.handles.get<Job>(request.root, rights::manage));
  if (!root->is_root()) return error(Code::denied, "the instance is configured with its root job");
  TRY(require(request.open_to_users <= 1, "`open_to_users` is 0 or 1"));
  if (request.open_to_users == 1) TRY(open_to_group(instance_.settings.socket, request.group));
  instance_.configuration = request;
  return wire::InstanceConfigure::Reply{};
}

}  // namespace aios::kernel
