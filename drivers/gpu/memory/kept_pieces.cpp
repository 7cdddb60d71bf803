#include "drivers/gpu/memory/kept_pieces.hpp"

#include <algorithm>
#include <atomic>

namespace aios::gpu {

using proto::memory::max_pieces;
using proto::memory::max_slabs;
using proto::memory::slab_bytes;

namespace {

constexpr std::uint32_t alignment = 256;

std::uint32_t rounded(std::uint64_t length) {
  return static_cast<std::uint32_t>((length + alignment - 1) / alignment * alignment);
}

/// The record's other words count while it is 1.
std::atomic_ref<std::uint32_t> used(proto::memory::Piece& piece) {
  return std::atomic_ref(piece.used);
}

}  // namespace

KeptPieces::KeptPieces(std::shared_ptr<const Mapping> ledger) : ledger_(std::move(ledger)) {
  for (std::uint32_t number = max_pieces; number-- > 0;)
    if (!add_left(number)) clear(number);
}

bool KeptPieces::add_left(std::uint32_t number) {
  if (used(record(number)).load(std::memory_order_acquire) != 1) return false;
  // Others may write it still: what is checked is what is used.
  const proto::memory::Piece piece = record(number);
  std::atomic_signal_fence(std::memory_order_acq_rel);
  const std::uint64_t length = piece.key.length;
  if (piece.slab >= max_slabs || length == 0 || length > slab_bytes || piece.offset > slab_bytes ||
      piece.offset % alignment != 0 || rounded(length) > slab_bytes - piece.offset)
    return false;
  Slab& slab = slabs_[piece.slab];
  const auto after = slab.lower_bound(piece.offset);
  if (after != slab.end() && after->first < piece.offset + rounded(length)) return false;
  if (after != slab.begin()) {
    const auto& [offset, before] = *std::prev(after);
    if (offset + before.bytes > piece.offset) return false;
  }
  slab.emplace(piece.offset, Place{rounded(length), number, true});
  ++left_;
  return true;
}

void KeptPieces::clear(std::uint32_t number) {
  used(record(number)).store(0, std::memory_order_release);
  free_records_.push_back(number);
}

KeptPieces::Piece KeptPieces::made(std::uint32_t slab, std::uint32_t offset,
                                   std::uint32_t number) const {
  return {slab, offset, number, std::make_shared<ContentMark>(ledger_, record(number).content)};
}

std::optional<KeptPieces::Piece> KeptPieces::find(const MemoryKey& key) {
  if (left_ == 0) return std::nullopt;
  const std::uint32_t bytes = rounded(key.length);
  for (std::uint32_t slab = 0; slab < max_slabs; ++slab)
    for (auto& [offset, place] : slabs_[slab]) {
      // It has as much room as when it was added, whatever its record says since.
      if (!place.left || place.bytes != bytes || record(place.record).key != key) continue;
      place.left = false;
      --left_;
      return made(slab, offset, place.record);
    }
  return std::nullopt;
}

std::optional<KeptPieces::Piece> KeptPieces::place(const MemoryKey& key, std::uint32_t slab) {
  const std::uint32_t bytes = rounded(key.length);
  std::uint32_t offset = 0;
  for (const auto& [begin, place] : slabs_[slab]) {
    if (begin - offset >= bytes) break;
    offset = begin + place.bytes;
  }
  if (free_records_.empty() || slab_bytes - offset < bytes) return std::nullopt;
  const std::uint32_t number = free_records_.back();
  free_records_.pop_back();
  proto::memory::Piece& piece = record(number);
  piece.key = key;
  piece.slab = slab;
  piece.offset = offset;
  piece.content = 0;
  used(piece).store(1, std::memory_order_release);
  slabs_[slab].emplace(offset, Place{bytes, number, false});
  return made(slab, offset, number);
}

void KeptPieces::give_back(const Piece& piece) {
  piece.mark->close();
  slabs_[piece.slab].erase(piece.offset);
  clear(piece.record);
}

void KeptPieces::forget_left(std::uint32_t slab) {
  for (const auto& [offset, place] : slabs_[slab])
    if (place.left) clear(place.record);
  left_ -= std::erase_if(slabs_[slab], [](const auto& entry) { return entry.second.left; });
}

bool KeptPieces::is_used(std::uint32_t slab) const {
  return std::ranges::any_of(slabs_[slab], [](const auto& entry) { return !entry.second.left; });
}

}  // namespace aios::gpu
