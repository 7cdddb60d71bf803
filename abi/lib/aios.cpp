// The C interface over the runtime. Every entry checks its arguments, keeps errors per thread, and
// lets nothing escape that a C program could not handle.
#include "abi/include/aios/aios.h"

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"

using aios::Code;
using aios::Deadline;
using aios::Result;

struct aios_instance {
  std::unique_ptr<aios::Kernel> kernel;
};

struct aios_service {
  std::recursive_mutex mutex;
  aios_instance* instance;
  std::unique_ptr<aios::Client> client;
  std::uint64_t disconnects = 0;
};

struct aios_region {
  aios::Region region;
};

struct aios_call {
  /// Shared with the client's callback, which may come after the call was freed.
  struct State {
    std::atomic<bool> done = false;
    aios_code code = AIOS_INTERNAL;
    std::string text;
    std::vector<std::byte> reply;
  };
  aios_service* service;
  std::shared_ptr<State> state;
};

namespace {

thread_local std::string last_error;

aios_code fail(Code code, std::string text) {
  last_error = std::move(text);
  return static_cast<aios_code>(code);
}

aios_code fail(const aios::Status& status) {
  return fail(status.code(), status.message());
}

/// Runs `body`, which returns an aios_code; the only thing the runtime may throw is bad_alloc.
template <class Body>
aios_code guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return fail(Code::no_memory, "out of memory");
  } catch (...) {
    return fail(Code::internal, "unexpected exception in libaios");
  }
}

/// Under the service's mutex: connected, or why not.
Result<void> connect_service(aios_service& service, Deadline deadline) {
  // A null call opens the link; every protocol answers it.
  if (service.client->connected() && !service.client->link()->closed()) return {};
  const auto null = service.client->call<aios::proto::Null>({}, deadline);
  if (!null) return std::unexpected(null.error());
  return {};
}

std::shared_ptr<aios_call::State> start(aios_service& service, std::uint16_t opcode,
                                        const void* request, std::size_t request_bytes,
                                        Deadline deadline) {
  auto state = std::make_shared<aios_call::State>();
  service.client->start_raw(opcode, {static_cast<const std::byte*>(request), request_bytes}, {}, {},
                            deadline, [state](Result<std::span<const std::byte>> reply) {
                              if (reply) {
                                state->code = AIOS_OK;
                                state->reply.assign(reply->begin(), reply->end());
                              } else {
                                state->code = static_cast<aios_code>(reply.error().code());
                                state->text = reply.error().message();
                              }
                              state->done.store(true, std::memory_order_release);
                            });
  return state;
}

aios_code wrong_size(std::size_t has, std::size_t room) {
  return fail(Code::invalid_argument, "the reply has " + std::to_string(has) +
                                          " bytes, the caller has room for " +
                                          std::to_string(room));
}

/// A call whose caller waits: the answer goes straight to where it wants it.
struct Blocking {
  void* reply;
  std::size_t reply_bytes;
  bool done = false;
  aios_code code = AIOS_INTERNAL;

  void finish(Result<std::span<const std::byte>> answer) {
    done = true;
    if (!answer) {
      code = fail(answer.error());
    } else if (answer->size() != reply_bytes) {
      code = wrong_size(answer->size(), reply_bytes);
    } else {
      std::copy(answer->begin(), answer->end(), static_cast<std::byte*>(reply));
      code = AIOS_OK;
    }
  }
};

aios_code take(const aios_call::State& state, void* reply, std::size_t reply_bytes) {
  if (!state.done.load(std::memory_order_acquire)) return fail(Code::busy, "the call is under way");
  if (state.code != AIOS_OK) return fail(static_cast<Code>(state.code), state.text);
  if (state.reply.size() != reply_bytes) return wrong_size(state.reply.size(), reply_bytes);
  if (reply_bytes != 0) std::memcpy(reply, state.reply.data(), reply_bytes);
  return AIOS_OK;
}

Deadline deadline_of(std::uint64_t timeout_ns) {
  return timeout_ns == AIOS_FOREVER ? Deadline::never() : Deadline::after(timeout_ns);
}

aios_service* service_of(const aios_wait_item& item) {
  if (item.kind == AIOS_WAIT_CALL) return item.what.call->service;
  if (item.kind == AIOS_WAIT_SERVICE) return item.what.service;
  return nullptr;
}

/// One look at every item. True when any is ready.
bool look(std::span<aios_wait_item> items) {
  bool any = false;
  for (aios_wait_item& item : items) {
    if (aios_service* service = service_of(item)) {
      const std::lock_guard lock(service->mutex);
      while (service->client->work()) {
      }
      service->client->expire();
    }
    if (item.kind == AIOS_WAIT_CALL)
      item.ready = item.what.call->state->done.load(std::memory_order_acquire) ? 1 : 0;
    else if (item.kind == AIOS_WAIT_SERVICE)
      item.ready = item.what.service->client->connected() ? 0 : 1;
    else if (item.kind == AIOS_WAIT_TIMER)
      item.ready = aios::now_ns() >= item.what.at_ns ? 1 : 0;
    any = any || item.ready != 0;
  }
  return any;
}

/// Sleeps until something rings, by the sleep protocol of abi/proto/link.hpp, then looks at the
/// descriptors. An error when the kernel hung up.
Result<void> sleep(std::span<aios_wait_item> items, Deadline deadline) {
  std::vector<pollfd> fds;
  std::vector<aios::Kernel*> kernels;
  for (const aios_wait_item& item : items) {
    pollfd entry{-1, POLLIN, 0};
    if (item.kind == AIOS_WAIT_FD)
      entry = {item.what.fd.fd, static_cast<short>(item.what.fd.events), 0};
    if (const aios_service* service = service_of(item)) {
      if (service->client->connected()) entry.fd = service->client->link()->bell_fd();
      kernels.push_back(service->instance->kernel.get());
      deadline.at_ns = std::min(deadline.at_ns, service->client->wake_at().at_ns);
    }
    if (item.kind == AIOS_WAIT_TIMER && item.what.at_ns < deadline.at_ns)
      deadline.at_ns = item.what.at_ns;
    fds.push_back(entry);
  }
  for (const aios::Kernel* kernel : kernels) fds.push_back({kernel->socket_fd(), POLLRDHUP, 0});
  {
    std::list<aios::Asleep> asleep;
    for (aios::Kernel* kernel : kernels) asleep.emplace_back(*kernel);
    if (!look(items)) ::poll(fds.data(), fds.size(), deadline.poll_timeout_ms());
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (items[i].kind == AIOS_WAIT_FD) items[i].ready = fds[i].revents;
    const aios_service* service = service_of(items[i]);
    if (service != nullptr && fds[i].revents != 0 && service->client->connected())
      service->client->link()->drain_bell();
  }
  for (std::size_t i = items.size(); i < fds.size(); ++i)
    if ((fds[i].revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0)
      return aios::error(Code::unreachable, "the AIOS instance has ended");
  return {};
}

}  // namespace

const char* aios_code_name(aios_code code) {
  return aios::code_name(static_cast<Code>(code)).data();
}

const char* aios_last_error(void) {
  return last_error.c_str();
}

aios_code aios_attach(const aios_attach_options* options, aios_instance** instance) {
  if (instance == nullptr) return fail(Code::invalid_argument, "aios_attach: instance is NULL");
  return guarded([&] {
    aios::AttachOptions attach;
    std::string socket = aios::default_socket_path(aios::default_state_folder());
    if (options != nullptr && options->socket_path != nullptr) socket = options->socket_path;
    const char* job = options != nullptr ? options->job_name : nullptr;
    if (job == nullptr) job = std::getenv("AIOS_JOB");
    if (job != nullptr) attach.job_name = job;
    if (options != nullptr) attach.quota.memory_bytes = options->memory_bytes;
    auto kernel = aios::Kernel::attach(socket, attach);
    if (!kernel) return fail(kernel.error());
    *instance = new aios_instance{std::move(*kernel)};
    return AIOS_OK;
  });
}

void aios_detach(aios_instance* instance) {
  delete instance;
}

aios_code aios_connect(aios_instance* instance, const char* name, std::uint64_t protocol_version,
                       aios_service** service) {
  if (instance == nullptr || name == nullptr || service == nullptr)
    return fail(Code::invalid_argument, "aios_connect: an argument is NULL");
  return guarded([&] {
    const auto port = instance->kernel->startup(name);
    if (!port) return fail(Code::not_found, std::string("no service named '") + name + "'");
    auto made = std::make_unique<aios_service>();
    made->instance = instance;
    made->client = std::make_unique<aios::Client>(*instance->kernel, nullptr, port->handle,
                                                  protocol_version, name);
    *service = made.release();
    return AIOS_OK;
  });
}

void aios_service_close(aios_service* service) {
  delete service;
}

aios_code aios_call_method(aios_service* service, std::uint16_t opcode, const void* request,
                           std::size_t request_bytes, void* reply, std::size_t reply_bytes,
                           std::uint64_t timeout_ns) {
  if (service == nullptr || (request == nullptr && request_bytes != 0) ||
      (reply == nullptr && reply_bytes != 0))
    return fail(Code::invalid_argument, "aios_call_method: an argument is NULL");
  if (request_bytes > aios::proto::max_payload_bytes)
    return fail(Code::too_large, "a request has at most 440 bytes; put more into a region");
  return guarded([&] {
    const std::lock_guard lock(service->mutex);
    Blocking call{reply, reply_bytes};
    service->client->call_raw(
        opcode, {static_cast<const std::byte*>(request), request_bytes}, timeout_ns, call.done,
        [&call](Result<std::span<const std::byte>> answer) { call.finish(std::move(answer)); });
    return call.code;
  });
}

aios_code aios_call_start(aios_service* service, std::uint16_t opcode, const void* request,
                          std::size_t request_bytes, std::uint64_t timeout_ns, aios_call** call) {
  if (service == nullptr || call == nullptr || (request == nullptr && request_bytes != 0))
    return fail(Code::invalid_argument, "aios_call_start: an argument is NULL");
  if (request_bytes > aios::proto::max_payload_bytes)
    return fail(Code::too_large, "a request has at most 440 bytes; put more into a region");
  return guarded([&] {
    const std::lock_guard lock(service->mutex);
    const Deadline deadline = deadline_of(timeout_ns);
    if (auto connected = connect_service(*service, deadline); !connected)
      return fail(connected.error());
    auto made = std::make_unique<aios_call>();
    made->service = service;
    made->state = start(*service, opcode, request, request_bytes, deadline);
    service->client->work();
    *call = made.release();
    return AIOS_OK;
  });
}

aios_code aios_call_result(aios_call* call, void* reply, std::size_t reply_bytes) {
  if (call == nullptr || (reply == nullptr && reply_bytes != 0))
    return fail(Code::invalid_argument, "aios_call_result: an argument is NULL");
  return guarded([&] {
    const std::lock_guard lock(call->service->mutex);
    call->service->client->work();
    return take(*call->state, reply, reply_bytes);
  });
}

void aios_call_free(aios_call* call) {
  delete call;
}

aios_code aios_region_create(aios_instance* instance, std::uint64_t size_bytes, const char* name,
                             aios_region** region) {
  if (instance == nullptr || region == nullptr)
    return fail(Code::invalid_argument, "aios_region_create: an argument is NULL");
  return guarded([&] {
    auto made = aios::Region::create(*instance->kernel, size_bytes, name != nullptr ? name : "");
    if (!made) return fail(made.error());
    *region = new aios_region{std::move(*made)};
    return AIOS_OK;
  });
}

void aios_region_close(aios_region* region) {
  delete region;
}
void* aios_region_data(const aios_region* region) {
  return region->region.data();
}
std::uint64_t aios_region_size(const aios_region* region) {
  return region->region.size();
}

aios_code aios_grant(aios_service* service, const aios_region* region, std::uint32_t access,
                     std::uint64_t timeout_ns, std::uint64_t* handle) {
  if (service == nullptr || region == nullptr || handle == nullptr || access == 0 ||
      (access & ~3u) != 0)
    return fail(Code::invalid_argument,
                "aios_grant: an argument is NULL or access is not READ, WRITE or both");
  return guarded([&] {
    const std::lock_guard lock(service->mutex);
    if (auto connected = connect_service(*service, deadline_of(timeout_ns)); !connected)
      return fail(connected.error());
    std::uint32_t mask = aios::rights::info | aios::rights::send | aios::rights::duplicate;
    if ((access & AIOS_GRANT_READ) != 0) mask |= aios::rights::map_read;
    if ((access & AIOS_GRANT_WRITE) != 0) mask |= aios::rights::map_write | aios::rights::map_read;
    const aios::proto::kernel::LinkSend::Entry entry{
        region->region.handle(), static_cast<std::uint32_t>(aios::ObjectType::region), mask, mask,
        0};
    auto sent = const_cast<aios::Link*>(service->client->link())->send_handles({&entry, 1});
    if (!sent) return fail(sent.error());
    *handle = sent->front();
    return AIOS_OK;
  });
}

aios_code aios_wait(aios_wait_item* items, std::size_t count, std::uint64_t timeout_ns) {
  if (items == nullptr || count == 0 || count > AIOS_MAX_WAIT_ITEMS)
    return fail(Code::invalid_argument, "aios_wait takes 1 to 256 items");
  const std::span<aios_wait_item> all(items, count);
  for (aios_wait_item& item : all) {
    item.ready = 0;
    const bool named = item.kind == AIOS_WAIT_CALL || item.kind == AIOS_WAIT_SERVICE;
    if (item.kind < AIOS_WAIT_CALL || item.kind > AIOS_WAIT_TIMER ||
        (named && item.what.call == nullptr))
      return fail(Code::invalid_argument, "aios_wait: an item has no kind or names nothing");
  }
  return guarded([&] {
    const Deadline deadline = deadline_of(timeout_ns);
    for (;;) {
      if (look(all)) return AIOS_OK;
      for (const aios_wait_item& item : all)
        if (item.kind == AIOS_WAIT_FD && item.ready != 0) return AIOS_OK;
      if (deadline.passed()) return fail(Code::timed_out, "nothing happened in time");
      if (auto slept = sleep(all, deadline); !slept) return fail(slept.error());
    }
  });
}
