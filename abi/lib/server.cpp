// Serving.
#include "abi/lib/server.hpp"

#include <utility>

#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"

using namespace aios;
using namespace aios::lib;
namespace pk = proto::kernel;

namespace {
constexpr std::uint32_t port_rights =
    rights::info | rights::duplicate | rights::connect | rights::accept;

/// No label has a colon. Of a label of 31 bytes, 30 have room behind it.
pk::Name lease_name(std::string_view label) {
  constexpr std::size_t room = sizeof(pk::Name) - 2;
  if (label.size() > room) label.remove_prefix(label.size() - room);
  return pk::Name::from(":" + std::string(label));
}

/// Whether a region of the own job that is older than the own lease `of` has its name.
Result<bool> is_leased(Kernel& kernel, Handle of, const pk::Name& name) {
  const std::uint64_t own = TRY(kernel.call<pk::HandleInfo>({of})).reply.object_id;
  std::uint64_t after = 0;
  for (;;) {
    const auto next = TRY(kernel.call<pk::RegionNext>({kernel.job(), after})).reply;
    // Ids grow: what follows is younger.
    if (next.region_id == 0 || next.region_id >= own) return false;
    if (next.job_id == kernel.job_id() && next.name.view() == name.view()) return true;
    after = next.region_id;
  }
}
}  // namespace

// ---- the listener ---------------------------------------------------------------------------

void Listener::dispatch(ClientId client, Peer& peer, const Message& message) {
  const ReplyToken token = token_of(client, message);
  if (message.header.opcode == proto::Null::opcode) {
    const proto::Empty nothing{};
    return reply_bytes(token, std::as_bytes(std::span(&nothing, 1)));
  }
  if (peer.info.protocol_version != version())
    return reply_error(
        token, Status(Code::version_mismatch,
                      "this server speaks version " + std::to_string(version()) +
                          ", its client version " + std::to_string(peer.info.protocol_version)));
  const auto bytes = message.bytes();
  requests_.push_back({token, peer.info, {bytes.begin(), bytes.end()}});
}

void Listener::closed(ClientId client) {
  std::erase_if(requests_, [client](const Incoming& r) { return r.token.client == client; });
}

Result<void> Listener::answer(ReplyToken token, std::span<const std::byte> reply) {
  if (peer(token.client) == nullptr) return error(Code::peer_closed, "the client is gone");
  reply_bytes(token, reply);
  return {};
}

Result<void> Listener::refuse(ReplyToken token, const Status& why) {
  if (peer(token.client) == nullptr) return error(Code::peer_closed, "the client is gone");
  reply_error(token, why);
  return {};
}

// ---- the server -----------------------------------------------------------------------------

Result<std::shared_ptr<aios_server>> aios_server::create(const std::shared_ptr<Core>& core,
                                                         const char* label, std::uint64_t version) {
  TRY(check_label(*core, label));
  auto server = std::make_shared<aios_server>(core);
  TRY(server->take_lease(label));
  const auto kept = core->kernel().startup(label);
  if (kept && (kept->type != ObjectType::port || (kept->use & port_rights) != port_rights))
    return error(Code::already_exists, "the job keeps a region under this label; forget it first");
  if (kept) {
    server->port_ = kept->handle;
  } else {
    server->port_ = TRY(core->kernel().call<pk::PortCreate>({pk::Name::from(label)})).reply.port;
    server->own_port_ = true;
  }
  server->loop_ = TRY(EventLoop::create(nullptr));
  server->listener_ = std::make_unique<Listener>(core->kernel(), *server->loop_, version);
  TRY(server->listener_->listen(server->port_));
  TRY(keep(*core, server->port_, port_rights, 0, label));
  server->label_ = label;
  core->add(server);
  return server;
}

/// The lease is a region that has the label in its name. The kernel gives it up with the process,
/// and nothing else that it shows to programs of a job tells whether one of them lives. Of several
/// who take it at once the first has it.
Result<void> aios_server::take_lease(const char* label) {
  Kernel& kernel = core().kernel();
  const pk::Name name = lease_name(label);
  lease_ = TRY(kernel.call<pk::RegionCreate>({1, name, 0, 0, 0})).reply.region;
  if (TRY(is_leased(kernel, lease_, name)))
    return error(Code::already_exists, "a program of this job serves '" + std::string(label) +
                                           "' already; end that one, or choose another label");
  return {};
}

void aios_server::close() {
  listener_.reset();
  loop_.reset();
  // Freed, or never made: what there is no memory for must not end the host.
  guarded_end([&] {
    if (!label_.empty()) (void)forget(core(), std::exchange(label_, {}).c_str());
  });
  if (std::exchange(own_port_, false)) core().kernel().close(port_);
  // Last: until then nobody else has the label.
  core().kernel().close(std::exchange(lease_, 0));
}

std::optional<Incoming> aios_server::take_request() {
  if (!has_request()) return std::nullopt;
  Incoming first = std::move(listener_->requests().front());
  listener_->requests().pop_front();
  return first;
}

Result<Listener*> aios_server::listener() {
  if (listener_ == nullptr) return error(Code::peer_closed, "the server was closed");
  return listener_.get();
}

void aios_server::replied() {
  const std::size_t before = listener_->requests().size();
  listener_->work();
  if (listener_->requests().size() > before) changed();
  settle();
}

bool aios_server::ready() const {
  return listener_ != nullptr && !core().lost() &&
         (listener_->ready() || seen_signals_ != core().kernel().signal_count());
}

bool aios_server::work() {
  if (listener_ == nullptr || core().lost()) return false;
  if (const std::uint64_t now = core().kernel().signal_count(); now != seen_signals_) {
    seen_signals_ = now;
    listener_->accept_all(port_);
  }
  const std::size_t before = listener_->requests().size();
  // Without a kernel a loop has nothing to fail on.
  (void)loop_->turn(Deadline{0});
  renew_rings(core().kernel().status_page());
  if (listener_->requests().size() > before) changed();
  return listener_->ready();
}

namespace {

Result<aios_request*> next(aios_server& server, Deadline deadline) {
  TRY(server.core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(server.mutex);
  finish(
      server, lock, [&] { return server.has_request() || server.core().lost(); }, deadline);
  if (auto incoming = server.take_request())
    return new aios_request{server.self, *std::move(incoming)};
  if (server.core().lost()) return Core::loss();
  return error(Code::timed_out, "no request came in time");
}

/// Ends `request` with what `answer(listener, token)` does.
template <class Answer>
Result<void> end(aios_request* request, Answer answer) {
  if (request->server->core().foreign()) return request->server->core().check_process();
  const std::unique_ptr<aios_request> owned(request);
  const std::lock_guard lock(owned->server->mutex);
  Listener* listener = TRY(owned->server->listener());
  const Result<void> answered = answer(*listener, owned->incoming.token);
  owned->server->replied();
  return answered;
}

}  // namespace

aios_code aios_server_create(aios_instance* instance, const char* label,
                             std::uint64_t protocol_version, aios_server** server) {
  if (instance == nullptr || label == nullptr || server == nullptr)
    return null_argument("aios_server_create");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    auto made = TRY(aios_server::create(instance->core, label, protocol_version));
    made->self = made;
    *server = made.get();
    return {};
  });
}

void aios_server_close(aios_server* server) {
  if (server == nullptr || server->core().foreign()) return;
  const Uncancelled until_end;
  std::shared_ptr<aios_server> last;
  const std::lock_guard lock(server->mutex);
  server->close();
  last = std::move(server->self);
}

aios_code aios_server_next(aios_server* server, std::uint64_t timeout_ns, aios_request** request) {
  if (server == nullptr || request == nullptr) return null_argument("aios_server_next");
  return guarded([&]() -> Result<void> {
    *request = TRY(next(*server, deadline_of(timeout_ns)));
    return {};
  });
}

std::uint16_t aios_request_opcode(const aios_request* request) {
  return request != nullptr ? request->incoming.token.opcode : 0;
}

const void* aios_request_data(const aios_request* request, std::size_t* bytes) {
  if (bytes != nullptr) *bytes = request != nullptr ? request->incoming.payload.size() : 0;
  return request != nullptr ? request->incoming.payload.data() : nullptr;
}

aios_code aios_request_peer(const aios_request* request, aios_peer* peer) {
  if (request == nullptr || peer == nullptr) return null_argument("aios_request_peer");
  return guarded([&]() -> Result<void> {
    const PeerInfo& info = request->incoming.peer;
    *peer = {info.process_id,
             info.job_id,
             info.protocol_version,
             request->incoming.token.client,
             info.uid,
             0};
    return {};
  });
}

aios_code aios_request_region(aios_request* request, std::uint64_t handle, std::uint32_t access,
                              aios_region** region) {
  if (request == nullptr || region == nullptr) return null_argument("aios_request_region");
  return guarded([&]() -> Result<void> {
    TRY(request->server->core().check_process());
    *region = TRY(receive_region(request->server->shared_core(), handle,
                                 request->incoming.peer.process_id, access));
    return {};
  });
}

aios_code aios_request_grant(aios_request* request, const aios_region* region, std::uint32_t access,
                             std::uint64_t* handle) {
  if (request == nullptr || region == nullptr || handle == nullptr)
    return null_argument("aios_request_grant");
  return guarded([&]() -> Result<void> {
    aios_server& server = *request->server;
    TRY(server.core().check_process());
    if (&server.core() != region->core.get())
      return error(Code::invalid_argument, "the region is of another attachment than the server");
    const auto entry = TRY(grant_entry(*region, access));
    const std::lock_guard lock(server.mutex);
    Listener* listener = TRY(server.listener());
    *handle =
        TRY(granted(listener->send_handles(request->incoming.token.client, std::span(&entry, 1))));
    return {};
  });
}

aios_code aios_request_reply(aios_request* request, const void* reply, std::size_t bytes) {
  if (request == nullptr || (reply == nullptr && bytes != 0))
    return null_argument("aios_request_reply");
  return guarded([&] {
    return end(request, [&](Listener& listener, ReplyToken token) -> Result<void> {
      static_assert(AIOS_MAX_REPLY_BYTES == proto::max_payload_bytes - sizeof(proto::ReplyHeader));
      if (bytes <= AIOS_MAX_REPLY_BYTES)
        return listener.answer(token, {static_cast<const std::byte*>(reply), bytes});
      (void)listener.refuse(token, Status(Code::internal, "the server's answer was too large"));
      return error(Code::too_large, "a reply has at most 432 bytes; put more into a region");
    });
  });
}

aios_code aios_request_fail(aios_request* request, aios_code code, const char* text) {
  if (request == nullptr || code == AIOS_OK) return null_argument("aios_request_fail");
  return guarded([&] {
    return end(request, [&](Listener& listener, ReplyToken token) {
      return listener.refuse(token, Status(static_cast<Code>(code), text != nullptr ? text : ""));
    });
  });
}
