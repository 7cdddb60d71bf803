// The storage protocol: abi/proto/storage.hpp.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "abi/proto/storage.hpp"
#include "abi/runtime/server.hpp"
#include "services/storage/attached_regions.hpp"
#include "services/storage/object_store.hpp"

namespace aios::storage {

class StorageServer : public Source {
 public:
  /// `disk_fd` and `background_fd` are what the parts of `store` are polled by.
  StorageServer(Kernel& kernel, EventLoop& loop, std::unique_ptr<ObjectStore> store);
  ~StorageServer() override;

  /// Serves `port`, advancing the store when one of the descriptors is readable.
  Result<> listen(Handle port, int disk_fd, int background_fd);
  void guard_by(InFlight& in_flight) { server_.guard_by(in_flight); }
  /// Why the loop was stopped: the process must end without answering anything more.
  const std::optional<Status>& fatal() const { return store_->fatal(); }

  template <class M>
  using Answered = Answer<typename M::Reply>;
  using AttachRegion = proto::storage::AttachRegion;
  using DetachRegion = proto::storage::DetachRegion;
  using Put = proto::storage::Put;
  using Get = proto::storage::Get;
  using Stat = proto::storage::Stat;
  using List = proto::storage::List;
  using Remove = proto::storage::Remove;
  using Rename = proto::storage::Rename;
  using RemovePrefix = proto::storage::RemovePrefix;
  using Info = proto::storage::Info;

  Answered<AttachRegion> handle(AttachRegion, const AttachRegion::Request&, CallContext&);
  Answered<DetachRegion> handle(DetachRegion, const DetachRegion::Request&, CallContext&);
  Answered<Put> handle(Put, const Put::Request&, CallContext&);
  Answered<Get> handle(Get, const Get::Request&, CallContext&);
  Answered<Stat> handle(Stat, const Stat::Request&, CallContext&);
  Answered<List> handle(List, const List::Request&, CallContext&);
  Answered<Remove> handle(Remove, const Remove::Request&, CallContext&);
  Answered<Rename> handle(Rename, const Rename::Request&, CallContext&);
  Answered<RemovePrefix> handle(RemovePrefix, const RemovePrefix::Request&, CallContext&);
  Answered<Info> handle(Info, const proto::Empty&, CallContext&);
  Answer<proto::Empty> handle(proto::Drain, const proto::Empty& request, CallContext& context);
  void client_opened(ClientId client, const PeerInfo& peer);
  void client_closed(ClientId client);

  /// Advances the store after this turn's requests.
  bool work() override;
  bool ready() const override { return due_; }

 private:
  Result<ObjectKey> key(CallContext& context, const proto::storage::ObjectName& name) const;
  template <class M, class T, class Convert>
  ObjectStore::Done<T> answer(CallContext& context, Convert convert);
  /// Nothing when the change may be made again. invalid_argument.
  static Result<std::optional<Operation>> operation_of(const proto::storage::Operation& id);
  void arm_timer();

  Kernel& kernel_;
  EventLoop& loop_;
  std::unique_ptr<ObjectStore> store_;
  AttachedRegions regions_;
  std::map<ClientId, std::string> spaces_;
  Server<proto::storage::Protocol, StorageServer> server_;
  Draining draining_;
  bool due_ = true;
  TimerId timer_ = 0;
  std::optional<std::uint64_t> timer_at_ns_;
  int fds_[2] = {-1, -1};
};

}  // namespace aios::storage
