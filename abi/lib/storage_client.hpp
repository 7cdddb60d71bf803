// Blocking calls to aios-storage, from and to regions.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/storage.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios {

/// Errors are those of the protocol, and those of Client::call. A region is lent to the server when
/// it is first used, and again after the server was restarted.
///
/// A call that a dying server interrupts is made again by itself, within its deadline. A change
/// then happens once: the server recognises it. indeterminate when the deadline passes, or storage
/// goes down for good, before anybody has said whether it happened.
class StorageClient {
 public:
  using ObjectInfo = proto::storage::ObjectInfo;
  using ListEntry = proto::storage::ListEntry;
  using Got = proto::storage::Get::Reply;

  /// Regions lent at once; one more takes the oldest back.
  static constexpr std::size_t max_lent = 32;

  /// Memory that puts read and gets fill; within the region, or it is invalid_argument.
  struct Part {
    const Region& region;
    bool writable;  ///< the region's mapping is
    std::uint64_t offset;
    std::uint64_t length;
  };

  /// `client` is of the storage protocol, without an event loop.
  explicit StorageClient(std::unique_ptr<Client> client);

  Result<ObjectInfo> put(const std::string& name, const Part& from, Deadline deadline);
  /// Fills `to` from byte `offset` of the object on; `version` 0 is the newest.
  Result<Got> get(const std::string& name, std::uint64_t offset, std::uint64_t version,
                  const Part& to, Deadline deadline);
  /// The next objects in name order, as many as `buffer` holds; `more` tells whether there are
  /// others.
  Result<std::vector<ListEntry>> list(const std::string& prefix, const std::string& after,
                                      const Part& buffer, bool& more, Deadline deadline);
  Result<ObjectInfo> stat(const std::string& name, Deadline deadline);
  Result<> remove(const std::string& name, Deadline deadline);
  Result<> rename(const std::string& from, const std::string& to, Deadline deadline);
  Result<std::uint64_t> remove_prefix(const std::string& prefix, Deadline deadline);
  Result<proto::storage::Info::Reply> info(Deadline deadline);

  /// The server gives up a region that it was lent. Nothing when it was not.
  Result<> take_back(Handle region, Deadline deadline);
  Client& client() { return *client_; }

 private:
  /// Shared with the client's callback, which may come while this object moves.
  struct Connection {
    std::map<Handle, std::uint32_t> lent;  ///< and their numbers at the server
    std::uint64_t lost = 0;                ///< connections that have ended
  };

  Result<std::uint32_t> lend(const Part& part, Deadline deadline);
  /// Calls `attempt` again whenever a connection ends under it.
  template <class Attempt>
  auto persist(Attempt attempt) -> decltype(attempt());
  /// The same for a change: attempt(its Operation).
  template <class Attempt>
  auto change(Attempt attempt) -> decltype(attempt(proto::storage::Operation{}));
  /// Calls M with a request that `make(number of the region)` makes.
  template <class M, class Make>
  Result<typename M::Reply> call_with(const Part& part, Deadline deadline, Make make);

  std::unique_ptr<Client> client_;
  std::uint64_t session_ = 0;   ///< of its changes; random, made with the first
  std::uint64_t sequence_ = 0;  ///< of the last change
  std::shared_ptr<Connection> connection_ = std::make_shared<Connection>();
};

}  // namespace aios
