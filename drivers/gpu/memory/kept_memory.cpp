#include "drivers/gpu/memory/kept_memory.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "abi/runtime/log.hpp"
#include "abi/runtime/socket.hpp"
#include "abi/runtime/time.hpp"

namespace aios::gpu {

using proto::memory::AllocationCall;
using proto::memory::AllocationReply;
using proto::memory::AllocationRequest;

namespace {

/// The device may have to clear what it gives.
constexpr std::uint64_t answer_limit_ns = 5 * ns_per_s;

std::unexpected<Status> no_owner() {
  return error(Code::peer_closed, "the process that owns this tenant's device memory is not there");
}

Result<void> await_answer(int channel) {
  const Deadline deadline = Deadline::after(answer_limit_ns);
  pollfd polled{channel, POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&polled, 1, deadline.poll_timeout_ms());
  while (ready < 0 && errno == EINTR);
  if (ready > 0) return {};
  return error(Code::timed_out, "the process that owns device memory does not answer");
}

}  // namespace

Result<void> KeptMemory::connect(Fd channel) {
  const std::lock_guard lock(mutex_);
  channel_ = std::move(channel);
  ++connections_;
  auto ledger = fetch_ledger();
  if (!ledger) {
    channel_.reset();
    return std::unexpected(std::move(ledger).error());
  }
  ledger_ = std::make_shared<const Mapping>(std::move(*ledger));
  return {};
}

Result<Mapping> KeptMemory::fetch_ledger() {
  const Answered answered = TRY(ask(AllocationCall::ledger));
  if (answered.fds.size() != 1)
    return error(Code::protocol_error, "the owner of device memory sent no ledger");
  return Mapping::map(answered.fds.front(), sizeof(proto::memory::Ledger),
                      Mapping::Access::read_write);
}

void KeptMemory::disconnect() {
  const std::lock_guard lock(mutex_);
  channel_.reset();
}

Result<KeptMemory::Lent> KeptMemory::borrow(const MemoryKey& key) {
  const std::lock_guard lock(mutex_);
  Answered answered = TRY(ask(AllocationCall::take, 0, key));
  const AllocationReply& reply = answered.reply;
  if (answered.fds.size() != 1 || reply.slot >= proto::memory::max_allocations ||
      reply.bytes < key.length)
    return error(Code::protocol_error, "the owner of device memory answered with nonsense");
  return Lent{reply.bytes,
              reply.found != 0,
              std::move(answered.fds.front()),
              std::make_shared<ContentMark>(ledger_, ledger_of(*ledger_).contents[reply.slot]),
              reply.slot,
              connections_};
}

std::pair<std::shared_ptr<const Mapping>, std::uint64_t> KeptMemory::ledger() const {
  const std::lock_guard lock(mutex_);
  return {channel_.valid() ? ledger_ : nullptr, connections_};
}

void KeptMemory::give_back(const Lent& lent) {
  const std::lock_guard lock(mutex_);
  lent.mark->close();
  if (lent.connection == connections_) (void)ask(AllocationCall::drop, lent.slot);
}

bool KeptMemory::drop_unused() {
  const std::lock_guard lock(mutex_);
  return ask(AllocationCall::drop_unused).has_value();
}

Result<KeptMemory::Answered> KeptMemory::ask(AllocationCall call, std::uint32_t slot,
                                             const MemoryKey& key) {
  if (!channel_.valid()) return no_owner();
  auto answered = exchange({static_cast<std::uint32_t>(call), slot, key});
  if (!answered) {
    log_line("device memory will not outlive this context: " + answered.error().to_string());
    // An answer that comes late would be taken for that to the next question.
    channel_.reset();
    return answered;
  }
  if (answered->reply.status == 0) return answered;
  const std::uint32_t status = answered->reply.status;
  return error(is_code(status) ? static_cast<Code>(status) : Code::internal,
               std::string(answered->reply.why.view()));
}

Result<KeptMemory::Answered> KeptMemory::exchange(const AllocationRequest& request) {
  TRY(send_packet(channel_.get(), std::as_bytes(std::span(&request, 1)), {}, MSG_DONTWAIT));
  TRY(await_answer(channel_.get()));
  Answered answered;
  ReceivedPacket packet;
  TRY(receive_packet(channel_.get(), std::as_writable_bytes(std::span(&answered.reply, 1)),
                     MSG_DONTWAIT, packet));
  if (packet.truncated || packet.bytes != sizeof answered.reply)
    return error(Code::protocol_error, "the owner of device memory answered wrongly");
  answered.fds = std::move(packet.fds);
  return answered;
}

}  // namespace aios::gpu
