// Small device memory that outlives its context: pieces of slabs, noted in the ledger so that the
// next context finds them. Knows the slabs as numbers: whoever uses it borrows them.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "drivers/gpu/memory/kept_memory.hpp"

namespace aios::gpu {

/// One thread at a time, but for the marks.
class KeptPieces {
 public:
  struct Piece {
    std::uint32_t slab = 0;
    std::uint32_t offset = 0;
    std::uint32_t record = 0;
    std::shared_ptr<ContentMark> mark;
  };

  /// Reads what contexts before have noted; what makes no sense is taken for free.
  explicit KeptPieces(std::shared_ptr<const Mapping> ledger);
  KeptPieces(const KeptPieces&) = delete;

  /// What a context before has left of this key; it is in use from now on.
  std::optional<Piece> find(const MemoryKey& key);
  /// A free place in this slab, as aligned as any allocation, which holds nothing yet. Nothing: it
  /// has none that is large enough, or there are max_pieces.
  std::optional<Piece> place(const MemoryKey& key, std::uint32_t slab);
  /// No change of it may be on its way.
  void give_back(const Piece& piece);
  /// The slab is new, or nobody will ask for what was left there.
  void forget_left(std::uint32_t slab);
  /// Whether there is a piece in it that is in use, or was left.
  bool has_pieces(std::uint32_t slab) const { return !slabs_[slab].empty(); }
  bool is_used(std::uint32_t slab) const;

 private:
  struct Place {
    std::uint32_t bytes;
    std::uint32_t record;
    bool left;  ///< by a context before
  };
  using Slab = std::map<std::uint32_t, Place>;  // by offset
  proto::memory::Piece& record(std::uint32_t number) const {
    return ledger_of(*ledger_).pieces[number];
  }
  bool add_left(std::uint32_t number);
  void clear(std::uint32_t number);
  Piece made(std::uint32_t slab, std::uint32_t offset, std::uint32_t number) const;

  const std::shared_ptr<const Mapping> ledger_;
  std::vector<Slab> slabs_{proto::memory::max_slabs};
  std::vector<std::uint32_t> free_records_;
  std::size_t left_ = 0;
};

}  // namespace aios::gpu
