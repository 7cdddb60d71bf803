// Handles that others sent. A message names a number in this process's handle table, and anybody
// can name any number: a handle is taken into use once only, by the first message that names it,
// and never one that this process had from the start.
#pragma once

#include <initializer_list>
#include <unordered_set>
#include <utility>

#include "abi/runtime/kernel.hpp"

namespace aios {

/// For `sender`, where the number comes from a peer that is trusted with it.
inline constexpr std::uint64_t any_sender = ~0ull;

/// What the kernel says of a handle that a message named. bad_handle: there is no such handle, or
/// it was not `sender` (a process id, as in PeerInfo) who sent it. wrong_type: it is of none of
/// `types`; it is then closed, for nobody could ever use it. Only for handles that nothing else in
/// this process uses.
Result<proto::kernel::HandleInfo::Reply> received_handle(Kernel& kernel, Handle handle,
                                                         std::uint64_t sender,
                                                         std::initializer_list<ObjectType> types);

class HandleClaims;

/// Owns a claimed handle; closes it once.
class ClaimedHandle {
 public:
  ClaimedHandle() = default;
  ClaimedHandle(ClaimedHandle&& other) noexcept
      : claims_(std::exchange(other.claims_, nullptr)), handle_(std::exchange(other.handle_, 0)) {}
  ClaimedHandle& operator=(ClaimedHandle&& other) noexcept;
  ~ClaimedHandle() { reset(); }

  Handle get() const { return handle_; }
  void reset();

 private:
  friend class HandleClaims;
  ClaimedHandle(HandleClaims* claims, Handle handle) : claims_(claims), handle_(handle) {}
  HandleClaims* claims_ = nullptr;
  Handle handle_ = 0;
};

class HandleClaims {
 public:
  using Info = proto::kernel::HandleInfo::Reply;
  struct Claimed {
    ClaimedHandle handle;
    ObjectType type;
    Info info;
  };

  explicit HandleClaims(Kernel& kernel);
  HandleClaims(const HandleClaims&) = delete;

  /// As received_handle; also bad_handle when it is in use already, and denied when it lacks a
  /// right of `use` or `grant`. What the sender sent in vain, of the wrong type or without a right,
  /// is closed; with any other error the handle is left alone.
  Result<Claimed> claim(Handle handle, std::uint64_t sender,
                        std::initializer_list<ObjectType> types, std::uint32_t use,
                        std::uint32_t grant);

 private:
  friend class ClaimedHandle;
  void give_back(Handle handle);

  Kernel& kernel_;
  std::unordered_set<Handle> claimed_;
};

}  // namespace aios
