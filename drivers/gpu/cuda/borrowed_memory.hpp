// Device memory of the process that owns it, mapped in this context: what is large whole, what is
// small as a piece of a slab. The next context finds both.
#pragma once

#include <map>
#include <memory>

#include "drivers/gpu/cuda/cuda_memory.hpp"
#include "drivers/gpu/memory/kept_pieces.hpp"

namespace aios::gpu::cuda {

class BorrowedMemory;

/// One thread at a time. Everything that it is given outlives it, and it what it lends.
class Borrower {
 public:
  Borrower(const DriverApi& api, Device device, KeptMemory& kept, MemoryBudget& budget)
      : api_(api), device_(device), kept_(kept), budget_(budget) {}
  Borrower(const Borrower&) = delete;

  /// Memory for this key, of which its mark says what it holds, in the calling thread's context.
  /// quota: there are as many pieces as there can be; otherwise as KeptMemory::borrow.
  Result<std::unique_ptr<BorrowedMemory>> borrow(const MemoryKey& key);
  /// Gives back slabs in which nothing is in use. False: there was none.
  bool give_back_unused();

 private:
  friend BorrowedMemory;
  class Whole;
  /// What was borrowed of one owner in pieces.
  struct Shelf {
    explicit Shelf(std::shared_ptr<const Mapping> ledger) : pieces(std::move(ledger)) {}
    KeptPieces pieces;
    std::map<std::uint32_t, std::shared_ptr<Whole>> slabs;
  };

  Result<std::unique_ptr<BorrowedMemory>> borrow_piece(const MemoryKey& key);
  Result<std::optional<KeptPieces::Piece>> find_left(const MemoryKey& key);
  Result<bool> add_slab(std::uint32_t number);
  Result<KeptPieces::Piece> place(const MemoryKey& key);

  const DriverApi& api_;
  const Device device_;
  KeptMemory& kept_;
  MemoryBudget& budget_;
  std::shared_ptr<Shelf> shelf_;
  std::uint64_t connection_ = 0;  ///< to the owner of what is on the shelf
};

/// Given back at its end, when nothing on the device may use it any more.
class BorrowedMemory {
 public:
  explicit BorrowedMemory(std::shared_ptr<Borrower::Whole> whole);
  BorrowedMemory(std::shared_ptr<Borrower::Shelf> shelf, KeptPieces::Piece piece);
  BorrowedMemory(const BorrowedMemory&) = delete;
  ~BorrowedMemory();

  DevicePointer address() const;
  std::shared_ptr<ContentMark> mark() const;

 private:
  std::shared_ptr<Borrower::Whole> whole_;
  std::shared_ptr<Borrower::Shelf> shelf_;  ///< of a piece
  KeptPieces::Piece piece_;
};

}  // namespace aios::gpu::cuda
