// What a hostile peer did, by kind. An action is injected when it was done, and consumed when the
// other side took it or provably reacted: its counter passed the message, it closed the link, it
// answered, it drained the bell.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace aios::hostile {

enum class Kind : std::size_t {
  // Rings.
  sequence_forward,
  sequence_backward,
  sequence_lap,
  sequence_wrap,
  middle_slot_missing,
  length_beyond_ring,
  length_of_other_method,
  consumed_ahead,
  consumed_back,
  stalled_lie,
  full_ring,
  stopped_reader,
  held_replies,
  // Messages.
  unknown_opcode,
  reply_as_request,
  reserved_bits,
  random_fields,
  flood,
  // Handles and regions.
  guessed_handle,
  foreign_handle,
  stale_handle,
  wrong_type_handle,
  unnamed_handle,
  range_wraps,
  region_too_small,
  // Contents that change while they are read.
  changing_header,
  changing_slots,
  changing_records,
  changing_region,
  // Doorbells.
  bell_drained,
  bell_filled,
  own_bell_filled,
  bell_flood,
  // The kernel's socket and pages.
  kernel_malformed,
  kernel_random,
  kernel_reserved,
  kernel_pipelined,
  kernel_descriptors,
  page_seals,
  // Exit and kill at a step.
  death,
  // The other direction: what a hostile server does to its clients.
  server_reply_sequence,
  server_reply_length,
  server_reply_torn,
  server_reply_call,
  server_reply_opcode,
  server_reply_status,
  server_consumed_lie,
  server_silent,
  server_closes,
  count,
};
inline constexpr std::size_t kind_count = static_cast<std::size_t>(Kind::count);

inline constexpr std::array<std::string_view, kind_count> kind_names = {
    "sequence_forward",
    "sequence_backward",
    "sequence_lap",
    "sequence_wrap",
    "middle_slot_missing",
    "length_beyond_ring",
    "length_of_other_method",
    "consumed_ahead",
    "consumed_back",
    "stalled_lie",
    "full_ring",
    "stopped_reader",
    "held_replies",
    "unknown_opcode",
    "reply_as_request",
    "reserved_bits",
    "random_fields",
    "flood",
    "guessed_handle",
    "foreign_handle",
    "stale_handle",
    "wrong_type_handle",
    "unnamed_handle",
    "range_wraps",
    "region_too_small",
    "changing_header",
    "changing_slots",
    "changing_records",
    "changing_region",
    "bell_drained",
    "bell_filled",
    "own_bell_filled",
    "bell_flood",
    "kernel_malformed",
    "kernel_random",
    "kernel_reserved",
    "kernel_pipelined",
    "kernel_descriptors",
    "page_seals",
    "death",
    "server_reply_sequence",
    "server_reply_length",
    "server_reply_torn",
    "server_reply_call",
    "server_reply_opcode",
    "server_reply_status",
    "server_consumed_lie",
    "server_silent",
    "server_closes",
};

/// Not shared between threads: each has its own, added up at the end.
class Counts {
 public:
  void injected(Kind kind, std::uint64_t n = 1) { injected_[index(kind)] += n; }
  void consumed(Kind kind, std::uint64_t n = 1) { consumed_[index(kind)] += n; }
  /// Both, when the other side is known to have reacted.
  void done(Kind kind, bool reacted, std::uint64_t n = 1) {
    injected(kind, n);
    if (reacted) consumed(kind, n);
  }
  void add(std::size_t kind, std::uint64_t injected, std::uint64_t consumed) {
    injected_[kind] += injected;
    consumed_[kind] += consumed;
  }
  void add(const Counts& other) {
    for (std::size_t i = 0; i < kind_count; ++i) add(i, other.injected_[i], other.consumed_[i]);
  }
  std::uint64_t injected_of(std::size_t kind) const { return injected_[kind]; }
  std::uint64_t consumed_of(std::size_t kind) const { return consumed_[kind]; }
  std::uint64_t total_injected() const { return sum(injected_); }
  std::uint64_t total_consumed() const { return sum(consumed_); }
  /// One line a kind: NAME INJECTED CONSUMED.
  void print(std::FILE* out) const {
    for (std::size_t i = 0; i < kind_count; ++i)
      std::fprintf(out, "%-24.*s %10llu %10llu\n", static_cast<int>(kind_names[i].size()),
                   kind_names[i].data(), static_cast<unsigned long long>(injected_[i]),
                   static_cast<unsigned long long>(consumed_[i]));
  }

 private:
  using Array = std::array<std::uint64_t, kind_count>;
  static std::size_t index(Kind kind) { return static_cast<std::size_t>(kind); }
  static std::uint64_t sum(const Array& values) {
    std::uint64_t total = 0;
    for (const std::uint64_t value : values) total += value;
    return total;
  }
  Array injected_{};
  Array consumed_{};
};

}  // namespace aios::hostile
