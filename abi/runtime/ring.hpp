// One direction of a link: a single-producer, single-consumer ring of 64-byte slots between two
// processes that do not trust each other. The layout and the publication rule are in
// abi/proto/link.hpp. Everything the peer wrote is loaded once, into private memory, and then
// checked.
//
// Neither class blocks, makes a system call or owns the memory it is given. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "abi/proto/link.hpp"

namespace aios {

enum class RingResult {
  done,
  would_block,  ///< full for the sender, empty for the receiver
  broken,       ///< the peer's counters or slots make no sense: close the link
};

/// A message as received: a private copy.
struct Message {
  proto::MessageHeader header;
  std::array<std::byte, proto::max_payload_bytes> payload;
  std::span<const std::byte> bytes() const { return std::span(payload).first(header.length); }
};

/// Slots that a payload of this many bytes takes.
constexpr std::uint32_t slots_for(std::size_t payload_bytes) {
  return static_cast<std::uint32_t>(
      (payload_bytes + sizeof(proto::MessageHeader) + proto::slot_payload_bytes - 1) /
      proto::slot_payload_bytes);
}
/// The greatest payload that so many slots hold.
constexpr std::size_t payload_for(std::uint32_t slots) {
  return slots * proto::slot_payload_bytes - sizeof(proto::MessageHeader);
}
static_assert(payload_for(proto::max_message_slots) == proto::max_payload_bytes);
static_assert(slots_for(proto::max_payload_bytes) == proto::max_message_slots);

class RingSender {
 public:
  RingSender() = default;
  /// `own_half` is written, `peer_half` only read; both are half_bytes long and outlive this.
  RingSender(std::byte* own_half, const std::byte* peer_half);

  /// Publishes a message of at most max_payload_bytes, or leaves the ring as it was.
  RingResult push(const proto::MessageHeader& header, std::span<const std::byte> payload);
  /// Is there room for `slots`? The peer's counter is read only when what it said last is not
  /// enough. `broken` when the peer claims to have consumed what was not sent.
  RingResult room(std::uint32_t slots);
  /// Tells the peer whether to ring when it consumes. After setting it, ask for room once more
  /// before sleeping.
  void set_stalled(bool stalled);

 private:
  proto::Slot* slots_ = nullptr;
  proto::HalfHeader* own_ = nullptr;
  const proto::HalfHeader* peer_ = nullptr;
  std::uint64_t tail_ = 0;
  std::uint64_t consumed_ = 0;  ///< the peer's counter as last seen
};

class RingReceiver {
 public:
  RingReceiver() = default;
  RingReceiver(std::byte* own_half, const std::byte* peer_half);

  /// Copies the next message out, then frees its slots for the peer.
  RingResult pop(Message& message);
  /// True when pop would not say would_block.
  bool ready() const {
    return slots_[head_ % proto::slot_count].sequence.load(std::memory_order_acquire) !=
           untouched();
  }
  /// Does the sender wait for room? To be asked after pops and a seq_cst fence.
  bool peer_stalled() const { return peer_->stalled.load(std::memory_order_relaxed) != 0; }

 private:
  /// The next slot holds 0 or its previous lap's number until it is published for this one.
  std::uint64_t untouched() const {
    return head_ < proto::slot_count ? 0 : head_ + 1 - proto::slot_count;
  }

  const proto::Slot* slots_ = nullptr;
  proto::HalfHeader* own_ = nullptr;
  const proto::HalfHeader* peer_ = nullptr;
  std::uint64_t head_ = 0;
};

}  // namespace aios
