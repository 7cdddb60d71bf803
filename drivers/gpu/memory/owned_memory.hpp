// The device memory of one tenant: which allocations there are, what they are copies of, and which
// of them the context of now has borrowed. Knows neither links nor descriptors of others.
#pragma once

#include <array>
#include <memory>
#include <optional>

#include "abi/proto/device.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

/// Makes device memory that other processes can import, without using the device itself.
class MemoryMaker {
 public:
  using Number = std::uint64_t;
  virtual ~MemoryMaker() = default;
  /// Sizes are multiples of it.
  virtual std::uint64_t granularity() const = 0;
  /// no_memory: the device has not as much. service_down: it is gone.
  virtual Result<Number> make(std::uint64_t bytes) = 0;
  /// A descriptor of it, for one process.
  virtual Result<Fd> share(Number made) = 0;
  /// It is freed when nobody maps it any more.
  virtual void release(Number made) = 0;
};

class OwnedMemory {
 public:
  using Key = proto::memory::AllocationKey;
  struct Taken {
    std::uint32_t slot;
    std::uint64_t bytes;
    bool found;
    Fd descriptor;
  };

  /// `ledger` has a word for each slot; both outlive this object. At most `limit_bytes` at once.
  OwnedMemory(MemoryMaker& maker, std::span<std::uint32_t> ledger, std::uint64_t limit_bytes)
      : maker_(maker), ledger_(ledger), budget_(limit_bytes) {}
  OwnedMemory(const OwnedMemory&) = delete;

  /// Another context: none of it is in use.
  void begin_use();
  /// The allocation of this key that is not in use, or a new one, which holds nothing (so says the
  /// ledger). What is not in use makes room for it, the oldest first. invalid_argument: a length of
  /// zero; no_memory, quota, service_down.
  Result<Taken> take(const Key& key);
  /// not_found: nothing in use is there.
  Result<void> drop(std::uint32_t slot);
  void drop_unused();

  std::uint64_t count() const;
  std::uint64_t bytes() const;

 private:
  struct Allocation {
    Key key;
    std::uint64_t bytes;
    MemoryMaker::Number made;
    bool in_use;
    std::uint64_t used;  ///< the higher the later it was taken
  };
  using Slot = std::optional<Allocation>;

  Result<std::uint64_t> rounded(std::uint64_t length) const;
  Result<std::uint32_t> free_slot();
  Result<MemoryMaker::Number> make(std::uint64_t bytes);
  bool drop_oldest_unused();
  void free(std::uint32_t slot);

  MemoryMaker& maker_;
  const std::span<std::uint32_t> ledger_;
  MemoryBudget budget_;
  std::array<Slot, proto::memory::max_allocations> slots_;
  std::uint64_t uses_ = 0;
};

}  // namespace aios::gpu
