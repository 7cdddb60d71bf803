// Spilled runs in storage. When storage dies the connection is made anew, regions are attached
// again, and what was in flight is tried a second time: putting the same bytes under the same name
// and getting them are harmless to repeat. What was not sent yet waits for the new connection with
// a region's old number, which nobody has there: it is made once more.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "abi/proto/storage.hpp"
#include "abi/runtime/client.hpp"

namespace aios::mapreduce {

/// A segment as storage knows it.
struct StoredRegion {
  Handle handle = 0;  ///< send to use, map_read and map_write to grant; somebody else's
  std::uint64_t connection = 0;
  std::uint32_t id = 0;
  std::vector<std::move_only_function<void(Result<std::uint32_t>)>> attaching;
};
using StoredRegionPointer = std::shared_ptr<StoredRegion>;

class SpillStore {
 public:
  using Put = proto::storage::Put;
  using Get = proto::storage::Get;

  SpillStore(Kernel& kernel, EventLoop& loop, Handle port);

  /// `request.region` is filled in. Errors are storage's.
  void put(StoredRegionPointer region, const Put::Request& request,
           std::move_only_function<void(Result<Put::Reply>)> done) {
    transfer<Put>(std::move(region), request, std::move(done), 1);
  }
  void get(StoredRegionPointer region, const Get::Request& request,
           std::move_only_function<void(Result<Get::Reply>)> done) {
    transfer<Get>(std::move(region), request, std::move(done), 1);
  }
  /// Removes all objects whose names begin with `prefix`; a failure only goes to the log, since the
  /// service does it again when it starts.
  void remove_all(const std::string& prefix) { remove_all(prefix, 1); }
  void detach(const StoredRegion& region);

 private:
  template <class M>
  void transfer(StoredRegionPointer region, const typename M::Request& request,
                std::move_only_function<void(Result<typename M::Reply>)> done,
                std::uint32_t retries);
  void attach(StoredRegionPointer region,
              std::move_only_function<void(Result<std::uint32_t>)> done);
  void remove_all(const std::string& prefix, std::uint32_t retries);

  std::uint64_t connection_ = 1;  ///< grows with each one that is lost
  Client client_;
};

}  // namespace aios::mapreduce
