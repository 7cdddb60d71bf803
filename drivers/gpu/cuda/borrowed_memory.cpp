#include "drivers/gpu/cuda/borrowed_memory.hpp"

#include <utility>

namespace aios::gpu::cuda {

using proto::memory::max_slabs;
using proto::memory::slab_bytes;

/// One allocation of the owner's, mapped and counted.
class Borrower::Whole {
 public:
  static Result<std::shared_ptr<Whole>> take(Borrower& borrower, const MemoryKey& key) {
    KeptMemory::Lent lent = TRY(borrower.kept_.borrow(key));
    std::shared_ptr<Whole> whole(new Whole(borrower, std::move(lent)));
    TRY(whole->map());
    return whole;
  }
  Whole(const Whole&) = delete;
  ~Whole() {
    mapped_.reset();
    borrower_.kept_.give_back(lent_);
    borrower_.budget_.give_back(counted_bytes_);
  }
  DevicePointer address() const { return mapped_.address(); }
  const KeptMemory::Lent& lent() const { return lent_; }

 private:
  Whole(Borrower& borrower, KeptMemory::Lent lent) : borrower_(borrower), lent_(std::move(lent)) {}
  Result<void> map() {
    TRY(borrower_.budget_.take(lent_.bytes));
    counted_bytes_ = lent_.bytes;
    mapped_ =
        TRY(MappedMemory::map(borrower_.api_, borrower_.device_, lent_.descriptor, lent_.bytes));
    lent_.descriptor.reset();
    return {};
  }

  Borrower& borrower_;
  KeptMemory::Lent lent_;
  MappedMemory mapped_;
  std::uint64_t counted_bytes_ = 0;
};

Result<std::unique_ptr<BorrowedMemory>> Borrower::borrow(const MemoryKey& key) {
  if (key.length >= slab_bytes)
    return std::make_unique<BorrowedMemory>(TRY(Whole::take(*this, key)));
  return borrow_piece(key);
}

Result<std::unique_ptr<BorrowedMemory>> Borrower::borrow_piece(const MemoryKey& key) {
  auto [ledger, connection] = kept_.ledger();
  if (ledger == nullptr) return error(aios::Code::peer_closed, "nobody owns device memory now");
  // What is of another owner ends with what is still used of it.
  if (shelf_ == nullptr || connection_ != connection)
    shelf_ = std::make_shared<Shelf>(std::move(ledger));
  connection_ = connection;
  auto piece = TRY(find_left(key));
  if (!piece) piece = TRY(place(key));
  return std::make_unique<BorrowedMemory>(shelf_, std::move(*piece));
}

Result<std::optional<KeptPieces::Piece>> Borrower::find_left(const MemoryKey& key) {
  auto piece = shelf_->pieces.find(key);
  if (!piece || shelf_->slabs.contains(piece->slab)) return piece;
  const auto added = add_slab(piece->slab);
  if (added && *added) return piece;
  // With its slab it is gone, or cannot be had.
  shelf_->pieces.give_back(*piece);
  if (!added) return std::unexpected(added.error());
  return std::nullopt;
}

/// False: it is a new one.
Result<bool> Borrower::add_slab(std::uint32_t number) {
  auto slab = TRY(Whole::take(*this, {0, 0, number, slab_bytes}));
  const bool found = slab->lent().found;
  if (!found) shelf_->pieces.forget_left(number);
  shelf_->slabs.emplace(number, std::move(slab));
  return found;
}

/// In a slab that is here, else in another one; in place of what was left only where there is no
/// other.
Result<KeptPieces::Piece> Borrower::place(const MemoryKey& key) {
  const auto in_slabs = [&]() -> std::optional<KeptPieces::Piece> {
    for (const auto& [number, slab] : shelf_->slabs)
      if (auto piece = shelf_->pieces.place(key, number)) return piece;
    return std::nullopt;
  };
  if (auto piece = in_slabs()) return *std::move(piece);
  Result<bool> added = error(aios::Code::quota, "a context has all slabs that it may");
  for (std::uint32_t number = 0; number < max_slabs; ++number)
    if (!shelf_->slabs.contains(number) && !shelf_->pieces.has_pieces(number)) {
      added = add_slab(number);
      break;
    }
  if (!added)
    for (const auto& [number, slab] : shelf_->slabs) shelf_->pieces.forget_left(number);
  if (auto piece = in_slabs()) return *std::move(piece);
  if (!added) return std::unexpected(std::move(added).error());
  return error(aios::Code::quota, "there are as many pieces of device memory as there can be");
}

bool Borrower::give_back_unused() {
  if (shelf_ == nullptr) return false;
  return std::erase_if(shelf_->slabs, [this](const auto& slab) {
           if (shelf_->pieces.is_used(slab.first)) return false;
           shelf_->pieces.forget_left(slab.first);
           return true;
         }) > 0;
}

BorrowedMemory::BorrowedMemory(std::shared_ptr<Borrower::Whole> whole) : whole_(std::move(whole)) {}

BorrowedMemory::BorrowedMemory(std::shared_ptr<Borrower::Shelf> shelf, KeptPieces::Piece piece)
    : whole_(shelf->slabs.at(piece.slab)), shelf_(std::move(shelf)), piece_(std::move(piece)) {}

/// One slab stays, for what comes next.
BorrowedMemory::~BorrowedMemory() {
  if (shelf_ == nullptr) return;
  shelf_->pieces.give_back(piece_);
  if (!shelf_->pieces.has_pieces(piece_.slab) && shelf_->slabs.size() > 1)
    shelf_->slabs.erase(piece_.slab);
}

DevicePointer BorrowedMemory::address() const {
  return whole_->address() + piece_.offset;
}

std::shared_ptr<ContentMark> BorrowedMemory::mark() const {
  return shelf_ != nullptr ? piece_.mark : whole_->lent().mark;
}

}  // namespace aios::gpu::cuda
