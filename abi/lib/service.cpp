// Services and calls.
#include <algorithm>
#include <cstring>

#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"

using namespace aios;
using namespace aios::lib;

aios_service::aios_service(std::shared_ptr<Core> of, Handle port, std::uint64_t version,
                           const char* name)
    : ClientEndpoint(std::move(of)),
      name(name),
      is_idempotent(idempotent_methods_of(name)),
      owned(std::make_unique<Client>(core().kernel(), nullptr, port, version, name)) {
  client = owned.get();
  client->allow_spinning(core().may_spin());
  client->on_disconnect([this] { had_connection = true; });
  // Of a blocking call, whose thread holds the mutex.
  client->on_drive([this](const bool& done) {
    const Uncancelled meanwhile;
    std::unique_lock lock(mutex, std::adopt_lock);
    finish(*this, lock, [&done] { return done; });
    lock.release();
  });
}

namespace {

using State = aios_call::State;

/// Under the service's mutex.
std::shared_ptr<State> start(aios_service& service, std::uint16_t opcode, const void* request,
                             std::size_t request_bytes, Deadline deadline) {
  auto state = std::make_shared<State>();
  const auto ended = [state, &service](Result<std::span<const std::byte>> reply) {
    if (reply)
      state->reply_bytes = static_cast<std::size_t>(
          std::copy(reply->begin(), reply->end(), state->reply.begin()) - state->reply.begin());
    else
      state->result = std::unexpected(std::move(reply).error());
    state->done.store(true, std::memory_order_release);
    service.changed();
  };
  service.client->start_raw(opcode, {static_cast<const std::byte*>(request), request_bytes}, {}, {},
                            deadline, ended, service.is_idempotent(opcode));
  return state;
}

/// Under the service's mutex.
bool is_done(aios_call& call) {
  if (!call.state->done) call.service->drive();
  return call.state->done.load(std::memory_order_acquire);
}

/// What the call came to; busy before it has ended.
Result<void> outcome(const State& state) {
  if (!state.done.load(std::memory_order_acquire))
    return error(Code::busy, "the call is under way");
  return state.result;
}

Result<void> wrong_size(std::size_t has, std::size_t room) {
  return error(Code::invalid_argument, "the reply has " + std::to_string(has) +
                                           " bytes, the caller has room for " +
                                           std::to_string(room));
}

/// A call whose caller waits: the answer goes straight to where it wants it.
struct Blocking final : Client::Awaiting {
  Blocking(aios_service& called, void* to, std::size_t to_bytes)
      : service(called), reply(to), reply_bytes(to_bytes) {}
  aios_service& service;
  void* reply;
  std::size_t reply_bytes;
  Result<void> result = {};
  const void* thread = this_thread();

  void finish(const Result<std::span<const std::byte>>& answer) override {
    done = true;
    if (this_thread() != thread) service.changed();
    if (!answer || answer->size() != reply_bytes) return refuse(answer);
    std::copy(answer->begin(), answer->end(), static_cast<std::byte*>(reply));
  }

 private:
  void refuse(const Result<std::span<const std::byte>>& answer) {
    const Code code = answer ? Code::invalid_argument : answer.error().code();
    try {
      if (answer)
        result = wrong_size(answer->size(), reply_bytes);
      else
        result = std::unexpected(answer.error());
    } catch (const std::bad_alloc&) {
      result = error(code);
    }
  }
};

Result<void> take(const State& state, void* reply, std::size_t reply_bytes) {
  TRY(outcome(state));
  if (state.reply_bytes != reply_bytes) return wrong_size(state.reply_bytes, reply_bytes);
  if (reply_bytes != 0) std::memcpy(reply, state.reply.data(), reply_bytes);
  return {};
}

Result<void> check_request(const aios_service& service, std::size_t request_bytes) {
  TRY(service.core().check_process());
  static_assert(AIOS_MAX_REQUEST_BYTES == proto::max_payload_bytes);
  if (request_bytes > AIOS_MAX_REQUEST_BYTES)
    return error(Code::too_large, "a request has at most 440 bytes; put more into a region");
  return {};
}

/// Connected, or why not. Under the mutex, which `lock` holds.
Result<void> connect_service(aios_service& service, std::unique_lock<std::mutex>& lock,
                             Deadline deadline) {
  if (service.client->connected() && !service.client->link()->closed()) return {};
  // A null call opens the link; every protocol answers it.
  const proto::Empty nothing{};
  const auto state = start(service, proto::Null::opcode, &nothing, sizeof nothing, deadline);
  finish(service, lock, [&] { return state->done.load(std::memory_order_acquire); });
  return outcome(*state);
}

Result<std::uint64_t> grant(aios_service& service, const aios_region& region, std::uint32_t access,
                            Deadline deadline) {
  TRY(service.core().check_process());
  if (&service.core() != region.core.get())
    return error(Code::invalid_argument, "the region is of another attachment than the service");
  const auto entry = TRY(grant_entry(region, access));
  TRY(prepare_to_sleep());
  std::unique_lock lock(service.mutex);
  TRY(connect_service(service, lock, deadline));
  const Link* const link = service.client->link();
  const Handle over = link == nullptr ? 0 : link->handle();
  lock.unlock();  // the kernel may take long, and calls of other threads go on meanwhile
  auto sent = over == 0 ? error(Code::bad_handle)
                        : Link::send_handles(service.core().kernel(), over, std::span(&entry, 1));
  if (!sent && sent.error().code() == Code::bad_handle)
    return error(Code::peer_closed, "the server went away meanwhile");
  return granted(std::move(sent));
}

}  // namespace

aios_code aios_connect(aios_instance* instance, const char* name, std::uint64_t protocol_version,
                       aios_service** service) {
  if (instance == nullptr || name == nullptr || service == nullptr)
    return null_argument("aios_connect");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    const auto port = instance->core->kernel().startup(name);
    if (!port || port->type != ObjectType::port)
      return error(Code::not_found,
                   "no service named '" + std::string(name) +
                       "' was there when this program attached (aiosctl status lists servers)");
    auto made =
        std::make_shared<aios_service>(instance->core, port->handle, protocol_version, name);
    instance->core->add(made);
    made->self = made;
    *service = made.get();
    return {};
  });
}

void aios_service_close(aios_service* service) {
  if (service == nullptr || service->core().foreign()) return;
  const Uncancelled until_end;
  std::shared_ptr<aios_service> last;
  guarded_end([&] {
    const std::lock_guard lock(service->mutex);
    last = std::move(service->self);
    service->client->disconnect();
    service->drive();
  });
}

aios_code aios_call_method(aios_service* service, std::uint16_t opcode, const void* request,
                           std::size_t request_bytes, void* reply, std::size_t reply_bytes,
                           std::uint64_t timeout_ns) {
  if (service == nullptr || (request == nullptr && request_bytes != 0) ||
      (reply == nullptr && reply_bytes != 0))
    return null_argument("aios_call_method");
  return guarded_call([&]() -> Result<void> {
    TRY(check_request(*service, request_bytes));
    TRY(prepare_to_sleep());
    const std::lock_guard lock(service->mutex);
    Blocking call(*service, reply, reply_bytes);
    service->client->call_raw(opcode, {static_cast<const std::byte*>(request), request_bytes},
                              timeout_ns, call, service->is_idempotent(opcode));
    service->settle();
    return std::move(call.result);
  });
}

aios_code aios_call_start(aios_service* service, std::uint16_t opcode, const void* request,
                          std::size_t request_bytes, std::uint64_t timeout_ns, aios_call** call) {
  if (service == nullptr || call == nullptr || (request == nullptr && request_bytes != 0))
    return null_argument("aios_call_start");
  return guarded([&]() -> Result<void> {
    TRY(check_request(*service, request_bytes));
    const std::lock_guard lock(service->mutex);
    auto made = std::make_unique<aios_call>();
    made->service = service->self;
    made->state = start(*service, opcode, request, request_bytes, deadline_of(timeout_ns));
    *call = made.release();
    // It has begun. What there is no memory for now is done when somebody waits.
    guarded_end([&] { service->drive(); });
    service->core().disturb();
    return {};
  });
}

aios_code aios_call_is_done(aios_call* call, int* done) {
  if (call == nullptr || done == nullptr) return null_argument("aios_call_is_done");
  return guarded([&]() -> Result<void> {
    TRY(call->service->core().check_process());
    const std::lock_guard lock(call->service->mutex);
    *done = is_done(*call) ? 1 : 0;
    return {};
  });
}

aios_code aios_call_result(aios_call* call, void* reply, std::size_t reply_bytes) {
  if (call == nullptr || (reply == nullptr && reply_bytes != 0))
    return null_argument("aios_call_result");
  return guarded([&]() -> Result<void> {
    TRY(call->service->core().check_process());
    const std::lock_guard lock(call->service->mutex);
    (void)is_done(*call);
    return take(*call->state, reply, reply_bytes);
  });
}

aios_code aios_call_reply_bytes(aios_call* call, std::size_t* reply_bytes) {
  if (call == nullptr || reply_bytes == nullptr) return null_argument("aios_call_reply_bytes");
  return guarded([&]() -> Result<void> {
    TRY(call->service->core().check_process());
    const std::lock_guard lock(call->service->mutex);
    (void)is_done(*call);
    TRY(outcome(*call->state));
    *reply_bytes = call->state->reply_bytes;
    return {};
  });
}

void aios_call_free(aios_call* call) {
  const Uncancelled until_end;
  if (call != nullptr && !call->service->core().foreign()) delete call;
}

aios_code aios_grant(aios_service* service, const aios_region* region, std::uint32_t access,
                     std::uint64_t timeout_ns, std::uint64_t* handle) {
  if (service == nullptr || region == nullptr || handle == nullptr)
    return null_argument("aios_grant");
  return guarded([&]() -> Result<void> {
    *handle = TRY(grant(*service, *region, access, deadline_of(timeout_ns)));
    return {};
  });
}

aios_code aios_region_receive(aios_service* service, std::uint64_t handle, std::uint32_t access,
                              aios_region** region) {
  if (service == nullptr || region == nullptr) return null_argument("aios_region_receive");
  return guarded([&]() -> Result<void> {
    TRY(service->core().check_process());
    Handle over = 0;
    {
      const std::lock_guard lock(service->mutex);
      if (service->client->connected()) over = service->client->link()->handle();
    }
    const auto info = service->core().kernel().call<proto::kernel::HandleInfo>({over});
    if (!info && info.error().code() == Code::bad_handle)
      return error(Code::bad_handle, "the connection over which the region came has ended");
    if (!info) return std::unexpected(info.error());
    *region = TRY(receive_region(service->shared_core(), handle, info->reply.detail, access));
    return {};
  });
}
