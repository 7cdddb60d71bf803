#include "tests/hostile/raw_link.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "abi/runtime/ring.hpp"
#include "abi/runtime/time.hpp"

namespace aios::hostile {

namespace {
/// Another core may answer within this many looks at its half.
constexpr std::uint32_t looks_before_sleep = 200;
}  // namespace

bool RawLink::adopt(std::vector<Fd>& fds) {
  if (fds.size() != 3) return false;
  half_ = std::move(fds[0]);
  bell_ = std::move(fds[1]);
  ringer_ = std::move(fds[2]);
  auto own = Mapping::map(half_, proto::half_bytes, Mapping::Access::read_write);
  if (!own) return false;
  own_ = std::move(*own);
  return true;
}

bool RawLink::adopt_peer(std::vector<Fd>& fds) {
  if (fds.size() != 2) return false;
  auto peer = Mapping::map(fds[0], proto::half_bytes, Mapping::Access::read);
  if (!peer) return false;
  peer_ = std::move(*peer);
  return true;
}

std::unique_ptr<RawLink> RawLink::begin(RawKernel& kernel, Handle port, std::uint64_t version) {
  auto connected = kernel.call<wire::PortConnect>({port, version});
  if (!connected.ok()) return nullptr;
  std::unique_ptr<RawLink> link(new RawLink(kernel));
  link->handle_ = connected.reply.link;
  link->index_ = connected.reply.index;
  return link->adopt(connected.fds) ? std::move(link) : nullptr;
}

Code RawLink::confirm() {
  auto ready = kernel_.call<wire::LinkReady>({handle_});
  if (ready.ok() && ready.reply.open == 1 && !adopt_peer(ready.fds)) return Code::internal;
  return ready.code;
}

bool RawLink::await_open() {
  const Deadline deadline = Deadline::after(patience_ms * ns_per_ms);
  while (!peer_.valid()) {
    if (deadline.passed()) breach("a connection is not accepted");
    if (confirm() != Code::ok) return false;
    if (!peer_.valid()) kernel_.wait_bell(5);
  }
  return true;
}

std::unique_ptr<RawLink> RawLink::connect(RawKernel& kernel, Handle port, std::uint64_t version) {
  auto link = begin(kernel, port, version);
  return link && link->await_open() ? std::move(link) : nullptr;
}

std::unique_ptr<RawLink> RawLink::accept(RawKernel& kernel, Handle port) {
  auto accepted = kernel.call<wire::PortAccept>({port});
  if (!accepted.ok()) return nullptr;
  std::unique_ptr<RawLink> link(new RawLink(kernel));
  link->handle_ = accepted.reply.link;
  link->index_ = accepted.reply.index;
  if (!link->adopt(accepted.fds) || link->confirm() != Code::ok || !link->peer_.valid())
    return nullptr;
  return link;
}

void RawLink::close() {
  if (handle_ != 0) kernel_.close(handle_);
  handle_ = 0;
}

bool RawLink::room(std::uint32_t slots) const {
  return tail + slots - consumed() <= proto::slot_count;
}

std::uint64_t RawLink::prepare(const proto::MessageHeader& message,
                               std::span<const std::byte> payload) {
  const std::uint32_t count = slots_for(payload.size());
  std::byte first[proto::slot_payload_bytes];
  std::memcpy(first, &message, sizeof message);
  const std::size_t n = std::min(payload.size(), sizeof first - sizeof message);
  std::copy_n(payload.begin(), n, first + sizeof message);
  std::copy_n(first, sizeof message + n, slot(tail).payload);
  payload = payload.subspan(n);
  for (std::uint32_t i = 1; i < count; ++i) {
    const std::size_t part = std::min(payload.size(), proto::slot_payload_bytes);
    std::copy_n(payload.begin(), part, slot(tail + i).payload);
    payload = payload.subspan(part);
    slot(tail + i).sequence.store(tail + i + 1, std::memory_order_relaxed);
  }
  return tail + count;
}

void RawLink::publish(const proto::MessageHeader& message, std::span<const std::byte> payload) {
  const std::uint64_t next = prepare(message, payload);
  slot(tail).sequence.store(tail + 1, std::memory_order_release);
  tail = next;
}

void RawLink::ring() const {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  (void)!::write(ringer_.get(), "", 1);
}

std::size_t RawLink::drain_ringer() const {
  char rings[4096];
  std::size_t taken = 0;
  for (ssize_t n = 0; (n = ::read(ringer_.get(), rings, sizeof rings)) > 0;)
    taken += static_cast<std::size_t>(n);
  return taken;
}

std::size_t RawLink::fill_ringer() const {
  // As much as the pipe holds, in one write; who is being drained meanwhile would never be done.
  const char rings[proto::page_bytes]{};
  (void)!::write(ringer_.get(), rings, sizeof rings);
  return unheard();
}

std::size_t RawLink::unheard() const {
  int bytes = 0;
  return ::ioctl(ringer_.get(), FIONREAD, &bytes) == 0 ? static_cast<std::size_t>(bytes) : 0;
}

bool RawLink::fill_own_bell() const {
  const std::string path = "/proc/self/fd/" + std::to_string(bell_.get());
  const Fd writer(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!writer.valid()) return false;
  const char rings[256]{};
  while (::write(writer.get(), rings, sizeof rings) > 0) {
  }
  while (::write(writer.get(), rings, 1) > 0) {
  }
  return true;
}

bool RawLink::take_one(proto::MessageHeader& message, std::span<std::byte> payload) {
  const auto* slots = reinterpret_cast<const proto::Slot*>(peer_.data() + proto::page_bytes);
  const auto at = [&](std::uint64_t position) -> const proto::Slot& {
    return slots[position % proto::slot_count];
  };
  if (at(head).sequence.load(std::memory_order_acquire) != head + 1) return false;
  std::memcpy(&message, at(head).payload, sizeof message);
  if (message.length > proto::max_payload_bytes) breach("a message longer than any may be");
  const std::uint32_t count = slots_for(message.length);
  std::byte bytes[proto::max_message_slots * proto::slot_payload_bytes];
  for (std::uint32_t i = 0; i < count; ++i)
    std::memcpy(bytes + i * proto::slot_payload_bytes, at(head + i).payload,
                proto::slot_payload_bytes);
  std::copy_n(bytes + sizeof message, std::min<std::size_t>(payload.size(), message.length),
              payload.begin());
  head += count;
  header().consumed.store(head, std::memory_order_release);
  return true;
}

std::uint32_t RawLink::take() {
  std::uint32_t taken = 0;
  proto::MessageHeader message{};
  while (take_one(message, {})) ++taken;
  // It may have stopped for want of the room that this made.
  if (taken != 0 && parked()) ring();
  return taken;
}

void RawLink::wait(int timeout_ms) {
  kernel_.sleep_again();
  pollfd event{bell_.get(), POLLIN, 0};
  (void)::poll(&event, 1, timeout_ms);
  char rings[256];
  while (::read(bell_.get(), rings, sizeof rings) > 0) {
  }
}

Outcome RawLink::await(bool reading, int timeout_ms) {
  const Deadline deadline = Deadline::after(static_cast<std::uint64_t>(timeout_ms) * ns_per_ms);
  ring();
  for (std::uint32_t looks = 0;; ++looks) {
    if (reading) take();
    if (consumed() >= tail) return Outcome::consumed;
    if (closed()) return Outcome::closed;
    if (!reading && parked()) return Outcome::parked;
    if (deadline.passed()) return Outcome::silent;
    if (looks >= looks_before_sleep) wait(1);
  }
}

Code RawLink::ask(std::uint16_t opcode, std::span<const std::byte> request,
                  std::span<std::byte> reply) {
  const std::uint32_t id = 0x80000000u | ++call_id_;
  publish({opcode, static_cast<std::uint16_t>(request.size()), id}, request);
  ring();
  const Deadline deadline = Deadline::after(patience_ms * ns_per_ms);
  proto::MessageHeader message{};
  std::byte payload[proto::max_payload_bytes];
  for (std::uint32_t looks = 0;; ++looks) {
    while (take_one(message, payload)) {
      if (message.call_id != id) continue;
      proto::ReplyHeader head_of_reply{};
      std::memcpy(&head_of_reply, payload, sizeof head_of_reply);
      std::copy_n(payload + sizeof head_of_reply,
                  std::min(reply.size(), sizeof payload - sizeof head_of_reply), reply.begin());
      return static_cast<Code>(head_of_reply.status);
    }
    if (closed()) return Code::peer_closed;
    if (deadline.passed()) breach("a call is not answered");
    if (looks >= looks_before_sleep) wait(1);
  }
}

bool RawLink::await_closed(bool reading) {
  const Deadline deadline = Deadline::after(patience_ms * ns_per_ms);
  ring();
  while (!closed()) {
    if (deadline.passed()) return false;
    if (reading) take();
    wait(1);
  }
  return true;
}

}  // namespace aios::hostile
