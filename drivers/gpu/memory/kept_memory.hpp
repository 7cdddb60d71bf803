// A context's side of device memory that outlives it: borrows it from the process that owns it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

/// Of such a mapping.
inline proto::memory::Ledger& ledger_of(const Mapping& mapping) {
  return *reinterpret_cast<proto::memory::Ledger*>(mapping.data());
}

/// Thread-safe. Each call waits for the owner, at most 5 s.
class KeptMemory {
 public:
  struct Lent {
    std::uint64_t bytes = 0;  ///< of the memory, at least the key's length
    bool found = false;       ///< a context before has left it
    Fd descriptor;            ///< to be imported
    std::shared_ptr<ContentMark> mark;
    std::uint32_t slot = 0;
    std::uint64_t connection = 0;
  };

  /// From now on asks at `channel` (proto::memory::Attach). What was lent before is not given back
  /// any more: whoever lent it has ended.
  Result<void> connect(Fd channel);
  /// The owner has ended: until it is back nothing is lent.
  void disconnect();

  /// peer_closed: there is no owner. Others as proto::memory::AllocationCall::take.
  Result<Lent> borrow(const MemoryKey& key);
  /// No change of the memory may be on its way.
  void give_back(const Lent& lent);
  /// Shared with the owner of now, and the number of the connection to it; null: there is none.
  std::pair<std::shared_ptr<const Mapping>, std::uint64_t> ledger() const;
  /// Frees what contexts before have left and this one has not borrowed. False: there was no owner.
  bool drop_unused();

 private:
  struct Answered {
    proto::memory::AllocationReply reply{};
    std::vector<Fd> fds;
  };
  Result<Mapping> fetch_ledger();
  Result<Answered> ask(proto::memory::AllocationCall call, std::uint32_t slot = 0,
                       const MemoryKey& key = {});
  Result<Answered> exchange(const proto::memory::AllocationRequest& request);

  mutable std::mutex mutex_;
  Fd channel_;
  std::shared_ptr<const Mapping> ledger_;
  std::uint64_t connections_ = 0;
};

}  // namespace aios::gpu
