// The regions that clients have lent to storage, mapped.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>

#include "abi/proto/storage.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios::storage {

class AttachedRegions {
 public:
  /// Shared with the requests that use it: it stays mapped until the last of them ended.
  struct Attached {
    Region region;
    bool writable;
  };
  /// A part of an attached region.
  struct Range {
    std::span<std::byte> bytes;
    std::shared_ptr<const Attached> keep;
  };

  explicit AttachedRegions(Kernel& kernel);

  /// Maps a region whose handle a client names; the number is the client's word. On success the
  /// handle is this object's; on failure it is closed if it was a region of nobody else's. quota;
  /// bad_handle; wrong_type; denied.
  Result<std::uint32_t> attach(std::uint64_t client, Handle handle, std::uint64_t sender,
                               bool writable);
  /// not_found; busy while a request uses it.
  Result<> detach(std::uint64_t client, std::uint64_t number);
  /// What requests still use is unmapped when they end.
  void forget(std::uint64_t client) { clients_.erase(client); }

  /// not_found; denied when it is to be written and is not writable; invalid_argument when the
  /// range lies outside.
  Result<Range> range(std::uint64_t client, std::uint32_t number, std::uint64_t offset,
                      std::uint64_t length, bool to_write) const;

 private:
  using Table = std::map<std::uint32_t, std::shared_ptr<Attached>>;

  Kernel& kernel_;
  std::uint32_t last_number_;
  std::map<std::uint64_t, Table> clients_;
  /// Handles that are attached or still used by a request: nobody can attach one again.
  std::shared_ptr<std::set<Handle>> in_use_ = std::make_shared<std::set<Handle>>();
};

}  // namespace aios::storage
