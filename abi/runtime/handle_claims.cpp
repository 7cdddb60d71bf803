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

Result<HandleClaims::Claimed> HandleClaims::claim(Handle handle,
                                                  std::initializer_list<ObjectType> types,
                                                  std::uint32_t use, std::uint32_t grant) {
  if (claimed_.contains(handle))
    return error(Code::bad_handle, "the handle is in use already; send one for each request");
  const auto called = TRY(kernel_.call<proto::kernel::HandleInfo>({.handle = handle}));
  const auto type = static_cast<ObjectType>(called.reply.type);
  if (std::find(types.begin(), types.end(), type) == types.end())
    return error(Code::wrong_type, "the handle names an object of another type");
  if ((called.reply.use & use) != use || (called.reply.grant & grant) != grant)
    return error(Code::denied, "the handle was sent without a right that is needed here");
  claimed_.insert(handle);
  return Claimed{ClaimedHandle(this, handle), type, called.reply};
}

void HandleClaims::give_back(Handle handle) {
  claimed_.erase(handle);
  kernel_.close(handle);
}

}  // namespace aios
