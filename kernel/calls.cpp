// Reading a packet, finding its method, writing its reply; and the calls on the process itself and
// on handles.
#include "kernel/calls.hpp"

#include <algorithm>

namespace aios::kernel {

namespace {

/// Every field called `reserved` of a request is zero.
template <class Request>
bool reserved_is_zero(const Request& request) {
  const auto* bytes = reinterpret_cast<const char*>(&request);
  return std::ranges::all_of(Request::fields(), [bytes](const proto::FieldInfo& field) {
    const std::string_view value(bytes + field.offset, field.size);
    return std::strcmp(field.name, "reserved") != 0 || value.find_first_not_of('\0') == value.npos;
  });
}

template <class... Ms, class Visit>
void with_method(std::uint32_t opcode, proto::MethodList<Ms...>, Visit visit) {
  ((opcode == Ms::opcode ? visit(Ms{}) : void()), ...);
}

std::unexpected<Status> other_version() {
  return error(Code::version_mismatch,
               "this kernel speaks version " + std::to_string(wire::abi_version));
}

}  // namespace

template <class M>
bool Calls::serve_method(Caller& caller, std::span<const std::byte> request) {
  typename M::Request copy;
  static_assert(proto::WireStruct<typename M::Request> && proto::WireStruct<typename M::Reply>);
  static_assert(sizeof(wire::CallHeader) + sizeof copy <= wire::max_packet_bytes);
  static_assert(sizeof(wire::KernelReply) + sizeof(typename M::Reply) <= wire::max_packet_bytes);
  if (request.size() != sizeof copy) return false;
  std::memcpy(&copy, request.data(), sizeof copy);
  Result<typename M::Reply> result = error(Code::denied, "hello must be a process's first call");
  if (!reserved_is_zero(copy))
    result = error(Code::invalid_argument, "a reserved field is not zero");
  else if (caller.process.has_pages() || M::opcode == wire::Hello::opcode)
    result = handle(M{}, copy, caller);
  if (!caller.process.awaited_call) reply(caller, result);
  return true;
}

bool Calls::serve(Process& process, std::span<const std::byte> packet) {
  Caller caller{process};
  wire::CallHeader header{};
  bool served = false;
  if (packet.size() >= sizeof header) {
    std::memcpy(&header, packet.data(), sizeof header);
    caller.call_id = header.call_id;
    if (packet.size() - sizeof header == header.length)
      with_method(header.opcode, wire::Protocol::Methods{}, [&]<class M>(M) {
        served = serve_method<M>(caller, packet.subspan(sizeof header));
      });
  }
  Result<proto::Empty> wrong = error(Code::protocol_error, "unknown opcode, or wrong length of it");
  if (header.opcode == wire::Hello::opcode) wrong = other_version();
  if (!served) reply(caller, wrong);
  return served;
}

KERNEL_CALL(Hello, Calls::) {
  Process& process = caller.process;
  if (request.version != wire::abi_version) return other_version();
  if (process.has_pages()) return error(Code::already_exists, "hello was said before");
  const bool named = !request.job_name.view().empty();
  TRY(require(request.job_name.valid() && (!named || is_name(request.job_name.view())),
              "job names are of letters, digits, '.', '_' and '-'"));
  TRY(require(request.confine <= 1, "`confine` is 0 or 1"));
  TRY(require(!named || process.is_outside(), "a child of AIOS has its job already"));
  if (!process.joined()) TRY(instance_.enter(process, request));
  TRY(process.handles.can_install(1));
  TRY(process.open_pages());
  caller.fds.push_back(TRY(process.status_page().writable().duplicate()));
  caller.fds.push_back(TRY(process.kernel_page().read_only().duplicate()));
  caller.fds.push_back(TRY(process.kernel_bell().reader()));
  const std::uint32_t use =
      rights::info | rights::wait | rights::send | (process.is_outside() ? rights::manage : 0);
  // What is delegated may be delegated on: client, service, scheduler, driver.
  const std::uint32_t grant = rights::info | rights::act | rights::send | rights::duplicate;
  const Handle job = TRY(process.handles.install(Reference(process.job(), use, grant)));
  return wire::Hello::Reply{process.id(), process.job()->id(), job, process.epoch, 0};
}

KERNEL_CALL(Ready, Calls::) {
  if (caller.process.ready()) return error(Code::already_exists, "the process is ready already");
  TRY(caller.process.seal_status_page());
  return wire::Ready::Reply{};
}

KERNEL_CALL(Startup, Calls::) {
  const auto& all = caller.process.startup();
  wire::Startup::Reply reply{};
  std::uint64_t at = request.cursor;
  for (; at < all.size() && reply.count < std::size(reply.entries); ++at) {
    const auto slot = caller.process.handles.find(all[at].handle);
    if (!slot) continue;  // closed since
    const Reference& reference = (*slot)->reference;
    const auto type = static_cast<std::uint32_t>(reference.object()->type());
    reply.entries[reply.count++] =
        wire::Startup::Entry(wire::Label::from(all[at].label), all[at].handle, type, reference.use,
                             reference.grant, all[at].kept ? 1u : 0u);
  }
  reply.next = at < all.size() ? at : 0;
  return reply;
}

KERNEL_CALL(SignalNext, Calls::) {
  return caller.process.handles.next_signal();
}

Result<Reference> Calls::sendable(Process& process, Handle handle, std::uint32_t use,
                                  std::uint32_t grant) {
  const Reference& own = TRY(process.handles.find(handle))->reference;
  if ((own.use & rights::send) == 0) return error(Code::denied, "the handle may not be sent");
  if (((use | grant) & ~own.grant) != 0)
    return error(Code::denied, "the rights asked for exceed what the handle may grant");
  return Reference(own.object(), use, grant);
}

KERNEL_CALL(HandleDuplicate, Calls::) {
  const Slot* slot = TRY(caller.process.handles.find(request.handle));
  const Reference& old = slot->reference;
  if ((old.use & rights::duplicate) == 0)
    return error(Code::denied, "the handle may not be duplicated");
  if ((request.use & ~old.use) != 0 || (request.grant & ~old.grant) != 0)
    return error(Code::denied, "a duplicate cannot have more rights than the handle");
  return wire::HandleDuplicate::Reply{TRY(caller.process.handles.install(
      Reference(old.object(), request.use, request.grant), slot->tenant))};
}

KERNEL_CALL(HandleKeep, Calls::) {
  TRY(require_label(request.label));
  Reference copy;
  if (request.handle != 0) {
    const Reference& old = TRY(caller.process.handles.find(request.handle))->reference;
    if ((old.use & rights::duplicate) == 0)
      return error(Code::denied, "the handle may not be duplicated, so it cannot be kept");
    copy = old.copy();
  }
  TRY(caller.process.job()->keep(request.label.view(), std::move(copy)));
  return wire::HandleKeep::Reply{};
}

KERNEL_CALL(HandleClose, Calls::) {
  TRY(caller.process.handles.close(request.handle));
  return wire::HandleClose::Reply{};
}

KERNEL_CALL(HandleInfo, Calls::) {
  const Slot& slot = *TRY(caller.process.handles.find(request.handle));
  const Object& object = *slot.reference.object();
  return wire::HandleInfo::Reply(object.id(), static_cast<std::uint32_t>(object.type()),
                                 slot.reference.use, slot.reference.grant,
                                 static_cast<std::uint32_t>(object.region_kind()), object.detail(),
                                 slot.sender, object.name());
}

}  // namespace aios::kernel
