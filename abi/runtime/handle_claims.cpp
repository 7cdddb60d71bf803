#include "abi/runtime/handle_claims.hpp"

#include <algorithm>

namespace aios {

ClaimedHandle& ClaimedHandle::operator=(ClaimedHandle&& other) noexcept {
  if (this == &other) return *this;
  reset();
  claims_ = std::exchange(other.claims_, nullptr);
  handle_ = std::exchange(other.handle_, 0);
  return *this;
}

void ClaimedHandle::reset() {
  if (handle_ != 0) claims_->give_back(handle_);
  handle_ = 0;
  claims_ = nullptr;
}

HandleClaims::HandleClaims(Kernel& kernel) : kernel_(kernel) {
  claimed_.insert(kernel.job());
  for (const StartupHandle& handle : kernel.startup()) claimed_.insert(handle.handle);
}

Result<proto::kernel::HandleInfo::Reply> received_handle(Kernel& kernel, Handle handle,
                                                         std::uint64_t sender,
                                                         std::initializer_list<ObjectType> types) {
  const auto info = TRY(kernel.call<proto::kernel::HandleInfo>({.handle = handle})).reply;
  if (sender != any_sender && info.sender_process_id != sender)
    return error(Code::bad_handle, "the handle was not sent by this client");
  if (std::find(types.begin(), types.end(), static_cast<ObjectType>(info.type)) == types.end()) {
    if (sender != any_sender) kernel.close(handle);
    return error(Code::wrong_type, "the handle names an object of another type");
  }
  return info;
}

Result<HandleClaims::Claimed> HandleClaims::claim(Handle handle, std::uint64_t sender,
                                                  std::initializer_list<ObjectType> types,
                                                  std::uint32_t use, std::uint32_t grant) {
  if (claimed_.contains(handle))
    return error(Code::bad_handle, "the handle is in use already; send one for each request");
  const auto info = TRY(received_handle(kernel_, handle, sender, types));
  if ((info.use & use) != use || (info.grant & grant) != grant) {
    if (sender != any_sender) kernel_.close(handle);
    return error(Code::denied, "the handle was sent without a right that is needed here");
  }
  claimed_.insert(handle);
  return Claimed{ClaimedHandle(this, handle), static_cast<ObjectType>(info.type), info};
}

void HandleClaims::give_back(Handle handle) {
  claimed_.erase(handle);
  kernel_.close(handle);
}

}  // namespace aios
