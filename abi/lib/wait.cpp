// Waiting for several things at once.
#include <algorithm>
#include <span>

#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"
#include "abi/lib/server.hpp"
#include "abi/lib/tasks.hpp"

using namespace aios;
using namespace aios::lib;

namespace {

Endpoint* endpoint_of(const aios_wait_item& item) {
  switch (item.kind) {
    case AIOS_WAIT_CALL:
      return item.what.call->service.get();
    case AIOS_WAIT_SERVICE:
      return item.what.service;
    case AIOS_WAIT_SERVER:
      return item.what.server;
    case AIOS_WAIT_TENANT:
      return item.what.tenant;
    default:
      return nullptr;
  }
}

bool is_ready(const aios_wait_item& item) {
  switch (item.kind) {
    case AIOS_WAIT_CALL:
      return item.what.call->state->done.load(std::memory_order_acquire);
    case AIOS_WAIT_SERVICE:
      return item.what.service->had_connection && !item.what.service->client->connected();
    case AIOS_WAIT_SERVER:
      return item.what.server->has_request();
    case AIOS_WAIT_TENANT:
      item.what.tenant->want_completions();
      return item.what.tenant->has_news();
    case AIOS_WAIT_TIMER:
      return now_ns() >= item.what.at_ns;
    default:
      return item.ready != 0;
  }
}

/// One look at every item. True when any is ready.
bool look(std::span<aios_wait_item> items) {
  bool any = false;
  for (aios_wait_item& item : items) {
    std::unique_lock<std::mutex> lock;
    if (Endpoint* endpoint = endpoint_of(item)) {
      lock = std::unique_lock(endpoint->mutex);
      if (!is_ready(item)) endpoint->drive();
    }
    if (item.kind != AIOS_WAIT_FD) item.ready = is_ready(item) ? 1 : 0;
    any = any || item.ready != 0;
  }
  return any;
}

Result<void> check_items(std::span<aios_wait_item> items) {
  for (aios_wait_item& item : items) {
    item.ready = 0;
    const bool object = item.kind != AIOS_WAIT_FD && item.kind != AIOS_WAIT_TIMER;
    if (item.kind < AIOS_WAIT_CALL || item.kind > AIOS_WAIT_TENANT ||
        (object && item.what.call == nullptr))
      return error(Code::invalid_argument, "aios_wait: an item has no kind or names nothing");
    if (const Endpoint* endpoint = endpoint_of(item)) TRY(endpoint->core().check_process());
  }
  return {};
}

Result<void> wait(std::span<aios_wait_item> items, Deadline deadline) {
  TRY(check_items(items));
  TRY(prepare_to_sleep());
  std::vector<Endpoint*> endpoints;
  std::vector<pollfd> fds;
  Deadline wake = deadline;
  for (const aios_wait_item& item : items) {
    Endpoint* endpoint = endpoint_of(item);
    if (endpoint != nullptr && std::ranges::find(endpoints, endpoint) == endpoints.end())
      endpoints.push_back(endpoint);
    if (item.kind == AIOS_WAIT_FD)
      fds.push_back({item.what.fd.fd, static_cast<short>(item.what.fd.events), 0});
    if (item.kind == AIOS_WAIT_TIMER) wake.at_ns = std::min(wake.at_ns, item.what.at_ns);
  }
  // The caller's descriptors are looked at once, whatever else is ready.
  if (!fds.empty()) ::poll(fds.data(), fds.size(), 0);
  for (;;) {
    auto fd = fds.begin();
    for (aios_wait_item& item : items)
      if (item.kind == AIOS_WAIT_FD) item.ready = (fd++)->revents;
    if (look(items)) return {};
    for (Endpoint* endpoint : endpoints)
      if (endpoint->core().lost()) return Core::loss();
    if (deadline.passed()) return error(Code::timed_out, "nothing happened in time");
    for (pollfd& entry : fds) entry.revents = 0;
    TRY(sleep(endpoints, fds, wake, [items] { return look(items); }));
  }
}

}  // namespace

aios_code aios_wait(aios_wait_item* items, std::size_t count, std::uint64_t timeout_ns) {
  if (items == nullptr || count == 0 || count > AIOS_MAX_WAIT_ITEMS)
    return fail(Code::invalid_argument, "aios_wait takes 1 to 256 items");
  return guarded([&] { return wait({items, count}, deadline_of(timeout_ns)); });
}
