#include "drivers/device/tombstone.hpp"

#include <cstring>

#include "abi/proto/device.hpp"

namespace aios::device {

using proto::context::Bind;
using proto::context::Load;

Tombstone::Tombstone(Kernel& kernel, EventLoop& loop)
    : ServerBase(kernel, loop, proto::context::Protocol::version), kernel_(kernel) {}

void Tombstone::dispatch(ClientId client, Peer&, const Message& message) {
  static_assert(offsetof(Load::Request, region) == 0 && offsetof(Bind::Request, object) == 0);
  const bool carries_handle =
      message.header.opcode == Load::opcode || message.header.opcode == Bind::opcode;
  if (Handle sent = 0; carries_handle && message.header.length >= sizeof sent) {
    std::memcpy(&sent, message.payload.data(), sizeof sent);
    // Of this driver's own handles none is a region or a file.
    const auto info = kernel_.call<proto::kernel::HandleInfo>({.handle = sent});
    if (info && (info->reply.type == static_cast<std::uint32_t>(ObjectType::region) ||
                 info->reply.type == static_cast<std::uint32_t>(ObjectType::file)))
      kernel_.close(sent);
  }
  close_client(client, {});
}

}  // namespace aios::device
