#include "abi/runtime/ring.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace aios {
namespace {

proto::Slot* slots_of(std::byte* half) {
  return reinterpret_cast<proto::Slot*>(half + proto::page_bytes);
}

/// What a slot holds at most, without the call that a length unknown to the compiler would cost:
/// most messages are of one slot, and a tenth of what one takes was such calls.
inline void copy_short(std::byte* to, const std::byte* from, std::size_t bytes) {
  for (; bytes >= 16; bytes -= 16, to += 16, from += 16) std::memcpy(to, from, 16);
  if ((bytes & 8) != 0) std::memcpy(to, from, 8), to += 8, from += 8;
  if ((bytes & 4) != 0) std::memcpy(to, from, 4), to += 4, from += 4;
  for (bytes &= 3; bytes != 0; --bytes) *to++ = *from++;
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
  const std::size_t in_first = std::min(payload.size(), proto::slot_payload_bytes - sizeof header);
  std::size_t done = in_first;
  for (std::uint32_t i = 1; i < needed; ++i) {
    proto::Slot& slot = slots_[(tail_ + i) % proto::slot_count];
    const std::size_t n = std::min(payload.size() - done, proto::slot_payload_bytes);
    copy_short(slot.payload, payload.data() + done, n);
    done += n;
    slot.sequence.store(tail_ + i + 1, std::memory_order_relaxed);
  }
  proto::Slot& slot = slots_[tail_ % proto::slot_count];
  std::memcpy(slot.payload, &header, sizeof header);
  copy_short(slot.payload + sizeof header, payload.data(), in_first);
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
  copy_short(to, first.payload + sizeof message.header, n);
  for (std::uint32_t i = 1; i < count; ++i) {
    to += n;
    left -= n;
    const proto::Slot& slot = slots_[(head_ + i) % proto::slot_count];
    if (slot.sequence.load(std::memory_order_relaxed) != head_ + i + 1) return RingResult::broken;
    n = std::min(left, proto::slot_payload_bytes);
    copy_short(to, slot.payload, n);
  }
  compiler_barrier();
  head_ += count;
  own_->consumed.store(head_, std::memory_order_release);
  return RingResult::done;
}

}  // namespace aios
