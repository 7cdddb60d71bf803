// The shared memory of a link: two halves, one written by each side, and two pages of counters.
//
// A half is a control region of `half_bytes`: one header page, then `slot_count` slots. Its owner
// maps it read-write, its peer read-only. A message takes 1 to `max_message_slots` consecutive
// slots, the position of a slot being its number since the link was made. Slot `p` lies at index
// `p % slot_count` and is published by storing `p + 1` into its sequence; a message's first slot is
// published last, so whoever sees it may copy them all. A slot that is neither published for this
// lap nor untouched since the last one is a protocol error and closes the link.
//
// Sleeping: a process that is about to block on its doorbells adds `sleep_begins` to
// `StatusPage::sleep`, fences (seq_cst), looks at its rings once more, and blocks; awake again, it
// subtracts `sleep_ends` and then looks. A sender publishes, fences (seq_cst), reads the peer's
// `sleep` and rings the peer's doorbell when anybody sleeps, but not twice for the same word: who
// was rung looks after it awoke, and who goes to sleep after that changes the word. Both fences are
// needed: with less, sender and sleeper can each miss the other's store.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "abi/proto/wire.hpp"

namespace aios::proto {

inline constexpr std::uint32_t slot_count = 512;
inline constexpr std::size_t slot_payload_bytes = 56;
inline constexpr std::uint32_t max_message_slots = 8;
inline constexpr std::size_t page_bytes = 4096;

/// First eight payload bytes of a message's first slot.
struct MessageHeader {
  std::uint16_t opcode;   ///< the method; in a reply the request's opcode | reply_flag
  std::uint16_t length;   ///< payload bytes that follow this header, over all its slots
  std::uint32_t call_id;  ///< chosen by the client; a reply repeats it
  AIOS_FIELDS(MessageHeader, opcode, length, call_id)
};
static_assert(sizeof(MessageHeader) == 8);
inline constexpr std::uint16_t reply_flag = 0x8000;

/// A reply's payload begins with this. `ok` is followed by the method's Reply struct, as far as it
/// is sent (Trimmed, wire.hpp), anything else by `text_bytes` bytes of explanation.
struct ReplyHeader {
  std::uint32_t status;      ///< aios::Code
  std::uint32_t text_bytes;  ///< 0 when status is ok
  AIOS_FIELDS(ReplyHeader, status, text_bytes)
};

struct alignas(64) Slot {
  std::atomic<std::uint64_t> sequence;
  std::byte payload[slot_payload_bytes];
};
static_assert(sizeof(Slot) == 64);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

/// Page 0 of a half.
struct HalfHeader {
  /// How many slots of the other half this side has consumed: frees them for their sender.
  alignas(128) std::atomic<std::uint64_t> consumed;
  /// Not zero: this side waits for room in its own half. Its peer, after it has consumed, fences
  /// (seq_cst) and rings if this side also sleeps. Apart from `consumed`, which changes with every
  /// message.
  alignas(128) std::atomic<std::uint64_t> stalled;
};
static_assert(sizeof(HalfHeader) <= page_bytes);
inline constexpr std::size_t half_bytes = page_bytes + slot_count * sizeof(Slot);

/// One per process, written by it, readable by its peers.
struct StatusPage {
  /// Low half: threads that sleep now. High half: how often one has gone to sleep; it wraps.
  alignas(128) std::atomic<std::uint64_t> sleep;
  /// One more than the number of the core on which it last began to wait; 0 before. A hint: what a
  /// peer that shares the core awaits can only come when it has given the core away.
  std::atomic<std::uint64_t> core;
  /// How its owner has locked itself in: sandbox::Confined, in abi/proto/sandbox.hpp.
  alignas(128) std::atomic<std::uint64_t> sandbox;
};
static_assert(sizeof(StatusPage) <= page_bytes);
inline constexpr std::uint64_t sleep_begins = (std::uint64_t{1} << 32) + 1;
inline constexpr std::uint64_t sleep_ends = 1;
constexpr std::uint32_t sleepers_of(std::uint64_t sleep) {
  return static_cast<std::uint32_t>(sleep);
}

inline constexpr std::uint32_t max_links_per_process = 1024;

/// One per process, written by the kernel alone. Link `i` of the process is closed when bit `i %
/// 64` of `closed[i / 64]` is set; the link's index comes with its handle.
struct KernelPage {
  /// Grows with every signal raised on one of the process's handles.
  alignas(128) std::atomic<std::uint64_t> signals;
  alignas(128) std::atomic<std::uint64_t> closed[max_links_per_process / 64];
};
static_assert(sizeof(KernelPage) <= page_bytes);

}  // namespace aios::proto
