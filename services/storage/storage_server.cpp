#include "services/storage/storage_server.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <cstring>

#include "abi/runtime/log.hpp"

namespace aios::storage {

namespace wire = proto::storage;

namespace {

std::uint64_t realtime_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * ns_per_s + static_cast<std::uint64_t>(t.tv_nsec);
}

Now current_time() {
  return {.monotonic_ns = now_ns(), .realtime_ns = realtime_ns()};
}

template <std::size_t N>
Result<std::string> text_of(const proto::Text<N>& text) {
  if (!text.valid())
    return error(Code::invalid_argument, "the name is not NUL-terminated text in a zero field");
  return std::string(text.view());
}

Result<> check_reserved(std::uint64_t reserved) {
  if (reserved != 0) return error(Code::invalid_argument, "a reserved field is not zero");
  return {};
}

proto::Empty nothing() {
  return {};
}

}  // namespace

StorageServer::StorageServer(Kernel& kernel, EventLoop& loop, std::unique_ptr<ObjectStore> store)
    : kernel_(kernel),
      loop_(loop),
      store_(std::move(store)),
      regions_(kernel),
      server_(kernel, loop, *this) {
  // After the protocol's own source: one advance serves all requests of a turn.
  loop_.add_source(this);
}

StorageServer::~StorageServer() {
  loop_.remove_source(this);
  loop_.cancel(timer_);
  for (const int fd : fds_)
    if (fd >= 0) loop_.unwatch(fd);
}

Result<> StorageServer::listen(Handle port, int disk_fd, int background_fd) {
  fds_[0] = disk_fd;
  fds_[1] = background_fd;
  // Each signal once: one that comes when what it tells of has been seen already is never read.
  for (const int fd : fds_)
    TRY(loop_.watch(fd, EPOLLIN | EPOLLET, [this](std::uint32_t) { due_ = true; }));
  return server_.listen(port);
}

bool StorageServer::work() {
  if (!due_) return false;
  due_ = false;
  store_->advance(current_time());
  if (store_->fatal()) {
    log_line("the metadata cannot be trusted any more, ending to recover: " +
             store_->fatal()->to_string());
    loop_.stop();
    return false;
  }
  if (store_->idle()) draining_.idle(server_);
  arm_timer();
  return due_;
}

void StorageServer::arm_timer() {
  const std::optional<std::uint64_t> deadline_ns = store_->deadline_ns();
  if (deadline_ns && *deadline_ns <= now_ns()) {
    due_ = true;
    return;
  }
  if (deadline_ns == timer_at_ns_) return;
  loop_.cancel(timer_);
  timer_at_ns_ = deadline_ns;
  if (deadline_ns)
    timer_ = loop_.at({*deadline_ns}, [this] {
      timer_at_ns_.reset();
      due_ = true;
    });
}

void StorageServer::client_opened(ClientId client, const PeerInfo& peer) {
  spaces_[client] = namespace_of(peer);
}

void StorageServer::client_closed(ClientId client) {
  store_->cancel(client);
  regions_.forget(client);
  spaces_.erase(client);
  due_ = true;
}

/// Answers the call when the store has its result, converted by `convert`.
template <class M, class T, class Convert>
ObjectStore::Done<T> StorageServer::answer(CallContext& context, Convert convert) {
  due_ = true;
  return [this, token = context.token(), convert](Result<T> result) {
    if (!result) return server_.reply<M>(token, std::unexpected(result.error()));
    if constexpr (std::is_void_v<T>)
      server_.reply<M>(token, convert());
    else
      server_.reply<M>(token, convert(*result));
  };
}

Result<ObjectKey> StorageServer::key(CallContext& context, const wire::ObjectName& name) const {
  std::string text = TRY(text_of(name));
  ObjectKey key{spaces_.at(context.client()), std::move(text)};
  TRY(check_object_name(key.name));
  return key;
}

Result<std::optional<Operation>> StorageServer::operation_of(const wire::Operation& id) {
  if (id.session == 0) {
    if ((id.sequence | id.acknowledged | id.age_ns) == 0) return std::optional<Operation>();
    return error(Code::invalid_argument, "an operation of session 0 has zeros only");
  }
  if (id.sequence <= id.acknowledged || id.sequence - id.acknowledged > wire::max_unacknowledged)
    return error(Code::invalid_argument,
                 "an operation's sequence is 1 to 1024 above what is acknowledged");
  return Operation{id, now_ns()};
}

Answer<proto::Empty> StorageServer::handle(proto::Drain, const proto::Empty&,
                                           CallContext& context) {
  draining_.begin(context.token());
  due_ = true;
  return deferred;
}

Answer<wire::AttachRegion::Reply> StorageServer::handle(AttachRegion,
                                                        const AttachRegion::Request& request,
                                                        CallContext& context) {
  if (request.writable > 1) return error(Code::invalid_argument, "writable is neither 0 nor 1");
  const auto number = regions_.attach(context.client(), request.region, context.peer().process_id,
                                      request.writable == 1);
  if (!number) return std::unexpected(number.error());
  return AttachRegion::Reply{*number, 0};
}

Answer<proto::Empty> StorageServer::handle(DetachRegion, const DetachRegion::Request& request,
                                           CallContext& context) {
  const Result<> detached = regions_.detach(context.client(), request.region);
  if (!detached) return std::unexpected(detached.error());
  return nothing();
}

Answer<wire::ObjectInfo> StorageServer::handle(Put, const Put::Request& request,
                                               CallContext& context) {
  const auto start = [&]() -> Result<> {
    TRY(check_reserved(request.reserved));
    // Services may still have to spill for the jobs that they finish.
    if (draining_.begun() && context.peer().role != proto::kernel::PeerRole::child)
      return error(Code::service_down, "the instance is shutting down and stores no more objects");
    ObjectKey object = TRY(key(context, request.object));
    if (request.length > wire::max_object_bytes)
      return error(Code::too_large, "an object holds at most 1 TiB");
    const auto operation = TRY(operation_of(request.operation));
    auto source = TRY(
        regions_.range(context.client(), request.region, request.offset, request.length, false));
    store_->put(
        context.client(), std::move(object), source.bytes, std::move(source.keep), current_time(),
        answer<Put, ObjectInfo>(context, [](const ObjectInfo& info) { return info; }), operation);
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<wire::Get::Reply> StorageServer::handle(Get, const Get::Request& request,
                                               CallContext& context) {
  const auto start = [&]() -> Result<> {
    TRY(check_reserved(request.reserved));
    ObjectKey object = TRY(key(context, request.object));
    auto target =
        TRY(regions_.range(context.client(), request.region, request.offset, request.length, true));
    store_->get(context.client(), std::move(object), request.version, request.object_offset,
                target.bytes, std::move(target.keep),
                answer<Get, GetResult>(context, [](const GetResult& got) {
                  return Get::Reply{got.length_bytes, got.info};
                }));
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<wire::ObjectInfo> StorageServer::handle(Stat, const Stat::Request& request,
                                               CallContext& context) {
  Result<ObjectKey> object = key(context, request.object);
  if (!object) return std::unexpected(object.error());
  store_->stat(*std::move(object),
               answer<Stat, ObjectInfo>(context, [](const ObjectInfo& info) { return info; }));
  return deferred;
}

Answer<wire::List::Reply> StorageServer::handle(List, const List::Request& request,
                                                CallContext& context) {
  const auto start = [&]() -> Result<> {
    TRY(check_reserved(request.reserved));
    std::string text = TRY(text_of(request.prefix));
    ObjectKey prefix{spaces_.at(context.client()), std::move(text)};
    TRY(check_prefix(prefix.name));
    auto target =
        TRY(regions_.range(context.client(), request.region, request.offset, request.length, true));
    const std::uint64_t room = request.length / sizeof(wire::ListEntry);
    if (room == 0)
      return error(Code::invalid_argument, "the range has no room for a single list entry");
    store_->list(std::move(prefix), TRY(text_of(request.after)),
                 static_cast<std::uint32_t>(std::min<std::uint64_t>(room, max_listed)),
                 answer<List, Listing>(context, [target](const Listing& listing) {
                   std::byte* to = target.bytes.data();
                   for (const ListedObject& object : listing.objects) {
                     const wire::ListEntry entry{object.info, wire::ObjectName::from(object.name)};
                     std::memcpy(to, &entry, sizeof entry);
                     to += sizeof entry;
                   }
                   return List::Reply{listing.objects.size(), listing.more ? 1u : 0u};
                 }));
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<proto::Empty> StorageServer::handle(Remove, const Remove::Request& request,
                                           CallContext& context) {
  const auto start = [&]() -> Result<> {
    ObjectKey object = TRY(key(context, request.object));
    const auto operation = TRY(operation_of(request.operation));
    store_->remove(std::move(object), current_time(), answer<Remove, void>(context, nothing),
                   operation);
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<proto::Empty> StorageServer::handle(Rename, const Rename::Request& request,
                                           CallContext& context) {
  const auto start = [&]() -> Result<> {
    ObjectKey from = TRY(key(context, request.from));
    ObjectKey to = TRY(key(context, request.to));
    const auto operation = TRY(operation_of(request.operation));
    store_->rename(std::move(from), std::move(to.name), current_time(),
                   answer<Rename, void>(context, nothing), operation);
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<wire::RemovePrefix::Reply> StorageServer::handle(RemovePrefix,
                                                        const RemovePrefix::Request& request,
                                                        CallContext& context) {
  const auto start = [&]() -> Result<> {
    std::string text = TRY(text_of(request.prefix));
    ObjectKey prefix{spaces_.at(context.client()), std::move(text)};
    TRY(check_folder_prefix(prefix.name));
    const auto operation = TRY(operation_of(request.operation));
    store_->remove_prefix(
        std::move(prefix), current_time(),
        answer<RemovePrefix, std::uint64_t>(
            context, [](std::uint64_t count) { return RemovePrefix::Reply{count}; }),
        operation);
    return {};
  };
  if (Result<> started = start(); !started) return std::unexpected(started.error());
  return deferred;
}

Answer<wire::Info::Reply> StorageServer::handle(Info, const proto::Empty&, CallContext& context) {
  store_->info(answer<Info, StoreInfo>(context, [](const StoreInfo& info) {
    return Info::Reply{.objects = info.objects,
                       .stored_bytes = info.stored_bytes,
                       .free_bytes = info.free_bytes,
                       .puts = info.puts,
                       .flushes = info.flushes,
                       .backend = proto::Text<16>::from(info.backend)};
  }));
  return deferred;
}

}  // namespace aios::storage
