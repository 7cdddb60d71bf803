// Small memory that outlives its context: which pieces of slabs are whose, from one context to the
// next.
#include "drivers/gpu/memory/kept_pieces.hpp"

#include <doctest/doctest.h>

#include "tests/unit/device/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using proto::memory::max_pieces;
using proto::memory::slab_bytes;

namespace {

MemoryKey key(std::uint64_t serial, std::uint64_t length = 1000) {
  return {7, serial, 0, length};
}

/// A ledger, and contexts that follow one another.
struct Fixture {
  proto::memory::Piece& record(std::uint32_t number) const {
    return ledger_of(*ledger).pieces[number];
  }
  std::shared_ptr<const Mapping> ledger = std::make_shared<const Mapping>(
      *Mapping::map(device::test::make_memory(sizeof(proto::memory::Ledger)),
                    sizeof(proto::memory::Ledger), Mapping::Access::read_write));
};

void fill(KeptPieces::Piece& piece, std::uint32_t content) {
  piece.mark->end_change(piece.mark->begin_change(), content);
}

}  // namespace

TEST_CASE("A piece is found by the next context, with what it holds, and once") {
  const Fixture f;
  KeptPieces before(f.ledger);
  (void)before.place(key(1), 3);
  auto piece = before.place(key(2), 3);
  REQUIRE(piece);
  fill(*piece, 9);
  KeptPieces after(f.ledger);
  const auto found = after.find(key(2));
  REQUIRE(found);
  CHECK(found->slab == 3);
  CHECK(found->offset == piece->offset);
  CHECK(found->mark->content() == 9);
  CHECK(!after.find(key(2)));
  CHECK(!after.find(key(3)));
}

TEST_CASE("What is in use is not found, and a new piece holds nothing") {
  const Fixture f;
  KeptPieces pieces(f.ledger);
  auto first = pieces.place(key(1), 0);
  fill(*first, 4);
  CHECK(!pieces.find(key(1)));
  pieces.give_back(*first);
  const auto second = pieces.place(key(1), 0);
  CHECK(second->offset == first->offset);
  CHECK(second->mark->content() == 0);
}

TEST_CASE("Pieces do not overlap, fill a slab, and leave room when they are given back") {
  const Fixture f;
  KeptPieces pieces(f.ledger);
  const auto half = slab_bytes / 2;
  const auto first = pieces.place(key(1, half), 0);
  const auto second = pieces.place(key(2, half - 256), 0);
  REQUIRE((first && second));
  CHECK(second->offset == half);
  const auto third = pieces.place(key(3, 256), 0);
  REQUIRE(third);
  CHECK(third->offset == slab_bytes - 256);
  CHECK(!pieces.place(key(4, 1), 0));
  pieces.give_back(*second);
  CHECK(pieces.place(key(4, half - 256), 0)->offset == half);
  CHECK(pieces.place(key(5, slab_bytes), 1)->offset == 0);
}

TEST_CASE("There are so many pieces and no more") {
  const Fixture f;
  KeptPieces pieces(f.ledger);
  for (std::uint32_t i = 0; i < max_pieces; ++i) REQUIRE(pieces.place(key(i, 1), i % 60));
  CHECK(!pieces.place(key(1, 1), 63));
}

TEST_CASE("What was left in a slab can be forgotten; what is in use there stays") {
  const Fixture f;
  KeptPieces before(f.ledger);
  (void)before.place(key(1), 0);
  (void)before.place(key(2), 0);
  KeptPieces after(f.ledger);
  const auto used = after.find(key(2));
  CHECK(after.is_used(0));
  after.forget_left(0);
  CHECK(!after.find(key(1)));
  CHECK(after.has_pieces(0));
  CHECK(after.place(key(3), 0)->offset == 0);
  after.give_back(*used);
  KeptPieces last(f.ledger);
  CHECK(!last.find(key(1)));
  CHECK(!last.find(key(2)));
  CHECK(last.find(key(3)));
}

TEST_CASE("Records that make no sense are none") {
  const Fixture f;
  const auto write = [&](std::uint32_t number, proto::memory::Piece piece) {
    f.record(number) = piece;
  };
  write(0, {key(1), 64, 0, 5, 1});                // no such slab
  write(1, {key(2), 0, slab_bytes, 5, 1});        // beyond it
  write(2, {key(3, slab_bytes), 0, 256, 5, 1});   // reaches beyond it
  write(3, {key(4, UINT64_MAX), 0, 0, 5, 1});     // so does this
  write(4, {key(5, 0), 0, 0, 5, 1});              // nothing
  write(5, {key(6), 0, 100, 5, 1});               // misaligned
  write(6, {key(7, 100), 1, 0xffffff00u, 5, 1});  // far beyond it
  write(7, {key(8, 2000), 2, 1024, 5, 1});        // they are read from the last on
  write(8, {key(9), 2, 0, 5, 1});                 // overlaps the next
  write(9, {key(10, 300), 2, 512, 5, 1});
  KeptPieces pieces(f.ledger);
  for (std::uint64_t serial = 1; serial <= 7; ++serial) CHECK(!pieces.find(key(serial)));
  CHECK(!pieces.find(key(9)));
  CHECK(pieces.find(key(10, 300))->offset == 512);
  CHECK(pieces.find(key(8, 2000))->offset == 1024);
  for (std::uint32_t number = 0; number < 7; ++number) CHECK(f.record(number).used == 0);
}

TEST_CASE("A record that changes once it was read makes no piece larger") {
  const Fixture f;
  KeptPieces before(f.ledger);
  const auto piece = before.place(key(1, 256), 0);
  REQUIRE(piece);
  (void)before.place(key(2, 256), 0);
  KeptPieces after(f.ledger);
  f.record(piece->record).key = key(1, 1024);
  CHECK(!after.find(key(1, 1024)));
  CHECK(!after.find(key(1, 256)));
  CHECK(after.find(key(2, 256)));
}
