#include "drivers/gpu/memory/memory_owner.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "abi/runtime/handle_claims.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/socket.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/owned_handle.hpp"

namespace aios::gpu {

using proto::memory::AllocationCall;
using proto::memory::AllocationReply;
using proto::memory::AllocationRequest;
using proto::memory::Attach;

Result<std::unique_ptr<MemoryOwner>> MemoryOwner::create(aios::Kernel& kernel, EventLoop& loop,
                                                         MemoryMaker& maker,
                                                         std::uint64_t limit_bytes) {
  Region ledger = TRY(Region::create(kernel, sizeof(proto::memory::Ledger), "memory-ledger"));
  return std::unique_ptr<MemoryOwner>(
      new MemoryOwner(kernel, loop, std::move(ledger), maker, limit_bytes));
}

MemoryOwner::~MemoryOwner() {
  part();
  loop_.cancel(unused_timer_);
}

void MemoryOwner::end_when_unused(std::uint64_t after_ns) {
  unused_ns_ = after_ns;
  watch_use();
}

void MemoryOwner::watch_use() {
  loop_.cancel(unused_timer_);
  if (unused_ns_ == 0) return;
  unused_timer_ = loop_.after(unused_ns_, [this] {
    if (channel_.valid()) return memory_.drop_unused();
    log_line("no context uses this memory: it is freed");
    end_process(device::exit_in_order);
  });
}

Answer<Attach::Reply> MemoryOwner::handle(Attach, const Attach::Request& request,
                                          CallContext& call) {
  TRY(received_handle(kernel_, request.channel, call.peer().process_id, {ObjectType::file}));
  const device::OwnedHandle handle(kernel_, request.channel);
  auto opened = TRY(kernel_.call<proto::kernel::FileOpen>({.file = handle.get()}));
  if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left for a context");
  part();
  channel_ = std::move(opened.fds.front());
  TRY(loop_.watch(channel_.get(), EPOLLIN | EPOLLRDHUP, [this](std::uint32_t) { serve(); }));
  memory_.begin_use();
  watch_use();
  return Attach::Reply{memory_.count(), memory_.bytes()};
}

/// From the context, or from none.
void MemoryOwner::part() {
  if (!channel_.valid()) return;
  loop_.unwatch(channel_.get());
  channel_.reset();
}

/// One that does not take its answers, or asks wrongly, is parted from.
void MemoryOwner::serve() {
  AllocationRequest request{};
  ReceivedPacket packet;
  const auto received = receive_packet(
      channel_.get(), std::as_writable_bytes(std::span(&request, 1)), MSG_DONTWAIT, packet);
  if (!received && received.error().code() == Code::busy) return;
  if (!received || packet.truncated || packet.bytes != sizeof request) {
    part();
    return watch_use();
  }
  AllocationReply reply{};
  const Result<Fd> shared = answer(request, reply);
  if (!shared) {
    reply.status = static_cast<std::uint32_t>(shared.error().code());
    reply.why = decltype(reply.why)::from(shared.error().message());
  }
  const int descriptor = shared ? shared->get() : -1;
  const auto sent = send_packet(channel_.get(), std::as_bytes(std::span(&reply, 1)),
                                {&descriptor, descriptor >= 0 ? 1u : 0u}, MSG_DONTWAIT);
  if (!sent) part();
  if (shared || shared.error().code() != Code::service_down) return;
  log_line("the device is gone, and its memory with it");
  end_process(device::exit_device_gone);
}

/// The descriptor that goes with the reply, if one does.
Result<Fd> MemoryOwner::answer(const AllocationRequest& request, AllocationReply& reply) {
  switch (static_cast<AllocationCall>(request.call)) {
    case AllocationCall::ledger:
      return share_ledger();
    case AllocationCall::take: {
      OwnedMemory::Taken taken = TRY(memory_.take(request.key));
      reply.slot = taken.slot;
      reply.bytes = taken.bytes;
      reply.found = taken.found ? 1 : 0;
      return std::move(taken.descriptor);
    }
    case AllocationCall::drop:
      TRY(memory_.drop(request.slot));
      return Fd();
    case AllocationCall::drop_unused:
      memory_.drop_unused();
      return Fd();
  }
  return error(Code::not_supported, "no such call: " + std::to_string(request.call));
}

Result<Fd> MemoryOwner::share_ledger() {
  auto opened = TRY(kernel_.call<proto::kernel::RegionMap>(
      {.region = ledger_.handle(), .writable = 1, .reserved = 0}));
  if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left for the ledger");
  return std::move(opened.fds.front());
}

}  // namespace aios::gpu
