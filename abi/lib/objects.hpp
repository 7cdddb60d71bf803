// The objects behind the opaque types of aios.h that more than one part of libaios knows.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "abi/include/aios/aios.h"
#include "abi/lib/core.hpp"
#include "abi/lib/known_methods.hpp"

struct aios_service final : aios::lib::ClientEndpoint {
  aios_service(std::shared_ptr<aios::lib::Core> of, aios::Handle port, std::uint64_t version,
               const char* name);
  const std::string name;
  /// Whether a call is made again by itself when its server dies under it.
  const aios::lib::IsIdempotent is_idempotent;
  std::unique_ptr<aios::Client> owned;
  bool had_connection = false;  ///< one that was open is gone
  /// The caller's share, which aios_service_close gives up; its calls have theirs.
  std::shared_ptr<aios_service> self;
};

struct aios_call {
  /// Shared with the client's callback, which may come after the call was freed.
  struct State {
    std::atomic<bool> done = false;
    aios::Result<void> result = {};
    /// In place: to keep it needs no memory.
    std::array<std::byte, aios::proto::max_payload_bytes> reply;
    std::size_t reply_bytes = 0;
  };
  std::shared_ptr<aios_service> service;
  std::shared_ptr<State> state;
};

struct aios_region {
  aios_region(std::shared_ptr<aios::lib::Core> of, aios::Region mapped, bool may_write)
      : core(std::move(of)), region(std::move(mapped)), writable(may_write) {}
  aios_region(const aios_region&) = delete;
  ~aios_region() {
    if (claimed != 0) core->unclaim(claimed);
  }
  std::shared_ptr<aios::lib::Core> core;
  aios::Region region;
  bool writable;
  aios::Handle claimed = 0;  ///< the handle that a peer sent
  /// Expires with the region: for those who lent it on.
  std::shared_ptr<char> life = std::make_shared<char>();
};

namespace aios::lib {

/// The rights that AIOS_GRANT_* stand for, to use and to pass on. invalid_argument for others.
Result<std::uint32_t> rights_of(std::uint32_t access);

/// Maps a region that the process `sender` sent under the number `handle`.
Result<aios_region*> receive_region(const std::shared_ptr<Core>& core, Handle handle,
                                    std::uint64_t sender, std::uint32_t access);

/// What LinkSend needs to give a region with `access`. denied when it cannot.
Result<proto::kernel::LinkSend::Entry> grant_entry(const aios_region& region, std::uint32_t access);

/// The number that sending such an entry came to; a quota says what to do.
Result<Handle> granted(Result<std::vector<Handle>> sent);

/// A label that a job may keep something under.
Result<void> check_label(const Core& core, const char* label);

/// Leaves `handle`, with these rights, in the job.
Result<void> keep(Core& core, Handle handle, std::uint32_t use, std::uint32_t grant,
                  const char* label);
Result<void> forget(Core& core, const char* label);

}  // namespace aios::lib
