// The calls on ports, links and the instance.
#include <unistd.h>

#include "kernel/calls.hpp"
#include "kernel/limits.hpp"
#include "kernel/port.hpp"

namespace aios::kernel {

namespace wire = proto::kernel;

// ---- ports ----------------------------------------------------------------------------------

KERNEL_CALL(PortCreate, Calls::) {
  if (!request.name.valid()) return error(Code::invalid_argument, "the name is not valid");
  auto port = std::make_shared<Port>(instance_.registry.next_id++, request.name);
  return wire::PortCreate::Reply{TRY(caller.process.handles.install(
      Reference(std::move(port), Port::handle_rights, Port::handle_rights)))};
}

KERNEL_CALL(PortPublish, Calls::) {
  if (!request.label.valid() || request.label.view().empty())
    return error(Code::invalid_argument, "a label has 1 to 31 characters");
  const auto root = TRY(caller.process.handles.get<Job>(request.root, rights::manage));
  if (!root->is_root()) return error(Code::denied, "ports are published with the root job");
  const auto port = TRY(caller.process.handles.get<Port>(request.port, rights::connect));
  TRY(instance_.publish(request.label.view(), Reference(port, rights::connect, 0)));
  return wire::PortPublish::Reply{};
}

// ---- links ----------------------------------------------------------------------------------

namespace {

Result<void> must_be_ready(const Process& process) {
  if (!process.ready())
    return error(Code::denied, "the status page must be confirmed by `ready` before any link");
  return {};
}

}  // namespace

Result<void> Calls::give_link_fds(Caller& caller, const LinkEnd& end) {
  caller.fds.push_back(TRY(end.own().half->writable().duplicate()));
  caller.fds.push_back(TRY(end.own().bell.reader()));
  caller.fds.push_back(TRY(end.peer().bell.ringer()));
  return {};
}

KERNEL_CALL(PortConnect, Calls::) {
  Process& process = caller.process;
  const auto port = TRY(process.handles.get<Port>(request.port, rights::connect));
  TRY(must_be_ready(process));
  const auto end = TRY(Link::connect(instance_.registry, process, port, request.protocol_version));
  TRY(give_link_fds(caller, *end));
  const std::uint32_t index = end->own().index;
  return wire::PortConnect::Reply{
      TRY(process.handles.install(Reference(end, LinkEnd::handle_rights, 0))), index, 0};
}

KERNEL_CALL(PortAccept, Calls::) {
  Process& process = caller.process;
  const auto port = TRY(process.handles.get<Port>(request.port, rights::accept));
  TRY(must_be_ready(process));
  const auto link = port->front();
  if (link == nullptr) return error(Code::busy, "no connection waits");
  TRY(process.handles.can_install(1, 0));
  const auto end = TRY(link->accept(process));
  TRY(give_link_fds(caller, *end));
  const Process& client = *link->side(Link::client).process;
  wire::PortAccept::Reply reply{.link = 0,
                                .index = end->own().index,
                                .uid = client.uid,
                                .peer_process_id = client.id(),
                                .peer_job_id = client.job()->id(),
                                .protocol_version = link->protocol_version(),
                                .peer_name = client.name(),
                                .peer_job_name = client.job()->name()};
  reply.link = TRY(process.handles.install(Reference(end, LinkEnd::handle_rights, 0)));
  return reply;
}

KERNEL_CALL(LinkReady, Calls::) {
  const auto end = TRY(caller.process.handles.get<LinkEnd>(request.link, 0));
  Link& link = end->link();
  TRY(link.side_ready(end->side_index()));
  if (link.state() != Link::State::open) return wire::LinkReady::Reply{0};
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
  if (request.count > wire::max_sent_handles)
    return error(Code::invalid_argument, "more handles than one call sends");
  const auto entries = std::span(request.entries).first(request.count);
  std::vector<Reference> references;
  for (const auto& entry : entries) {
    const Slot* slot = TRY(sendable(sender, entry.handle, entry.use, entry.grant));
    const auto& object = slot->reference.object();
    if (static_cast<std::uint32_t>(object->type()) != entry.expected_type)
      return error(Code::wrong_type, "a handle is not of the type expected");
    if (object->type() == ObjectType::link)
      return error(Code::wrong_type, "a link cannot carry a link");
    if (entry.move > 1) return error(Code::invalid_argument, "`move` is 0 or 1");
    for (const auto& other : entries)
      if (&other != &entry && other.handle == entry.handle && (other.move | entry.move) != 0)
        return error(Code::invalid_argument, "a handle that moves is named twice");
    references.emplace_back(object, entry.use, entry.grant);
  }
  Process& receiver = *end->peer().process;
  const std::uint64_t tenant = sender.job()->top_id();
  const auto count = static_cast<std::uint32_t>(entries.size());
  TRY(receiver.handles.can_install(count, tenant));
  wire::LinkSend::Reply reply{};
  for (std::uint32_t i = 0; i < count; ++i)
    reply.handles[i] = TRY(receiver.handles.install(std::move(references[i]), tenant));
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
    return wire::LinkNext::Reply{
        .link_id = link.id(),
        .client_process_id = client.process_id,
        .server_process_id = server.process_id,
        .state = static_cast<std::uint32_t>(link.state()),
        .reserved = 0,
        .sent_slots = {link.sent_slots(Link::client), link.sent_slots(Link::server)},
        .port_name = link.port_name(),
        .client_name = client.process_name,
        .server_name = server.process_name};
  }
  return wire::LinkNext::Reply{};
}

// ---- the instance ---------------------------------------------------------------------------

KERNEL_CALL(InstanceShutdown, Calls::) {
  const auto root = TRY(caller.process.handles.get<Job>(request.root, rights::manage));
  if (!root->is_root()) return error(Code::denied, "the instance is stopped with its root job");
  instance_.begin_shutdown();
  return wire::InstanceShutdown::Reply{};
}

KERNEL_CALL(InstanceInfo, Calls::) {
  std::uint64_t region_bytes = 0;
  for (const auto& [id, region] : instance_.registry.regions) region_bytes += region->size_bytes();
  return wire::InstanceInfo::Reply{.pid = static_cast<std::uint64_t>(::getpid()),
                                   .started_ns = instance_.started_ns,
                                   .supervisor_restarts = instance_.supervisor_restarts,
                                   .processes = instance_.registry.processes.size(),
                                   .regions = instance_.registry.regions.size(),
                                   .region_bytes = region_bytes,
                                   .links = instance_.registry.links.size(),
                                   .user_namespaces = instance_.namespaces_work ? 1u : 0u,
                                   .pidfd_of_peers = instance_.peers_have_pidfds ? 1u : 0u};
}

}  // namespace aios::kernel
