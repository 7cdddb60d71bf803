#include "abi/runtime/ring.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace aios {
namespace {

proto::Slot* slots_of(std::byte* half) {
  return reinterpret_cast<proto::Slot*>(half + proto::page_bytes);
}

/// Keeps the compiler from reading peer memory again after it has been copied.
void compiler_barrier() {
  __asm__ volatile("" ::: "memory");
}

}  // namespace

RingSender::RingSender(std::byte* own_half, const std::byte* peer_half)
    : slots_(slots_of(own_half)),
      own_(reinterpret_cast<proto::HalfHeader*>(own_half)),
      peer_(reinterpret_cast<const proto::HalfHeader*>(peer_half)) {}

RingResult RingSender::room(std::uint32_t slots) {
  if (tail_ - consumed_ + slots <= proto::slot_count) return RingResult::done;
  const std::uint64_t seen = peer_->consumed.load(std::memory_order_acquire);
  if (seen < consumed_ || seen > tail_) return RingResult::broken;
  consumed_ = seen;
  return tail_ - consumed_ + slots <= proto::slot_count ? RingResult::done
                                                        : RingResult::would_block;
}

void RingSender::set_stalled(bool stalled) {
  own_->stalled.store(stalled ? 1 : 0, std::memory_order_relaxed);
  if (stalled) std::atomic_thread_fence(std::memory_order_seq_cst);
}

RingResult RingSender::push(const proto::MessageHeader& header,
                            std::span<const std::byte> payload) {
  assert(payload.size() == header.length && payload.size() <= proto::max_payload_bytes);
  const std::uint32_t needed = slots_for(payload.size());
  if (const RingResult found = room(needed); found != RingResult::done) return found;
  std::byte first[proto::slot_payload_bytes];
  std::memcpy(first, &header, sizeof header);
  const std::size_t in_first = std::min(payload.size(), sizeof first - sizeof header);
  // std::copy, unlike memcpy, may be given an empty payload without an address.
  std::copy_n(payload.begin(), in_first, first + sizeof header);
  payload = payload.subspan(in_first);
  for (std::uint32_t i = 1; i < needed; ++i) {
    proto::Slot& slot = slots_[(tail_ + i) % proto::slot_count];
    const std::size_t n = std::min(payload.size(), proto::slot_payload_bytes);
    std::copy_n(payload.begin(), n, slot.payload);
    payload = payload.subspan(n);
    slot.sequence.store(tail_ + i + 1, std::memory_order_relaxed);
  }
  proto::Slot& slot = slots_[tail_ % proto::slot_count];
  std::memcpy(slot.payload, first, sizeof header + in_first);
  slot.sequence.store(tail_ + 1, std::memory_order_release);
  tail_ += needed;
  return RingResult::done;
}

RingReceiver::RingReceiver(std::byte* own_half, const std::byte* peer_half)
    : slots_(slots_of(const_cast<std::byte*>(peer_half))),
      own_(reinterpret_cast<proto::HalfHeader*>(own_half)),
      peer_(reinterpret_cast<const proto::HalfHeader*>(peer_half)) {}

RingResult RingReceiver::pop(Message& message) {
  const proto::Slot& first = slots_[head_ % proto::slot_count];
  const std::uint64_t sequence = first.sequence.load(std::memory_order_acquire);
  if (sequence == untouched()) return RingResult::would_block;
  if (sequence != head_ + 1) return RingResult::broken;
  std::memcpy(&message.header, first.payload, sizeof message.header);
  compiler_barrier();
  if (message.header.length > proto::max_payload_bytes) return RingResult::broken;
  const std::uint32_t count = slots_for(message.header.length);
  std::size_t left = message.header.length;
  std::byte* to = message.payload.data();
  std::size_t n = std::min(left, proto::slot_payload_bytes - sizeof message.header);
  std::memcpy(to, first.payload + sizeof message.header, n);
  for (std::uint32_t i = 1; i < count; ++i) {
    to += n;
    left -= n;
    const proto::Slot& slot = slots_[(head_ + i) % proto::slot_count];
    if (slot.sequence.load(std::memory_order_relaxed) != head_ + i + 1) return RingResult::broken;
    n = std::min(left, proto::slot_payload_bytes);
    std::memcpy(to, slot.payload, n);
  }
  compiler_barrier();
  head_ += count;
  own_->consumed.store(head_, std::memory_order_release);
  return RingResult::done;
}

}  // namespace aios
