// A context's side of memory that outlives it, with a thread that answers as its owner would.
#include "drivers/gpu/memory/kept_memory.hpp"

#include <doctest/doctest.h>

#include "tests/unit/device/test_support.hpp"
#include "tests/unit/gpu/fake_owner.hpp"

using namespace aios;
using namespace aios::gpu;
using aios::gpu::test::FakeOwner;
using proto::memory::AllocationCall;
using proto::memory::AllocationReply;
using proto::memory::AllocationRequest;

namespace {

constexpr MemoryKey key{7, 1, 0, 4096};

struct Fixture {
  Fixture()
      : Fixture([this](const AllocationRequest& r, AllocationReply& a) { return lend(r, a); }) {}
  explicit Fixture(FakeOwner::Answer take) {
    auto [mine, theirs] = *make_socket_pair();
    owner.emplace(std::move(theirs), [this, take](const AllocationRequest& r, AllocationReply& a) {
      if (static_cast<AllocationCall>(r.call) == AllocationCall::ledger)
        return std::optional(ledger.duplicate().value());
      return take(r, a);
    });
    REQUIRE(memory.connect(std::move(mine)));
  }
  ~Fixture() { memory.disconnect(); }

  std::optional<Fd> lend(const AllocationRequest& request, AllocationReply& reply) {
    if (static_cast<AllocationCall>(request.call) != AllocationCall::take) {
      ++dropped;
      return Fd();
    }
    reply.slot = 5;
    reply.bytes = request.key.length;
    return ledger.duplicate().value();
  }
  std::uint32_t word(std::uint32_t slot) const {
    const auto seen = Mapping::map(ledger, sizeof(proto::memory::Ledger), Mapping::Access::read);
    return ledger_of(*seen).contents[slot];
  }

  Fd ledger = device::test::make_memory(sizeof(proto::memory::Ledger));
  std::atomic<int> dropped = 0;
  std::optional<FakeOwner> owner;
  KeptMemory memory;
};

Code failure_of(FakeOwner::Answer take) {
  Fixture f(std::move(take));
  return f.memory.borrow(key).error().code();
}

}  // namespace

TEST_CASE("A mark says what memory holds, and nothing while that changes") {
  Fixture f;
  const auto lent = f.memory.borrow(key);
  REQUIRE(lent);
  CHECK(lent->mark->content() == 0);
  const std::uint64_t first = lent->mark->begin_change();
  lent->mark->end_change(first, 8);
  CHECK(f.word(5) == 8);
  const std::uint64_t second = lent->mark->begin_change();
  CHECK(f.word(5) == 0);
  // Of a launch before the last: its bytes are about to change again.
  const std::uint64_t third = lent->mark->begin_change();
  lent->mark->end_change(second, 9);
  CHECK(f.word(5) == 0);
  lent->mark->end_change(third, 10);
  CHECK(f.word(5) == 10);
}

TEST_CASE("Memory that was given back is noted no more") {
  Fixture f;
  const auto lent = f.memory.borrow(key);
  REQUIRE(lent);
  const std::uint64_t change = lent->mark->begin_change();
  f.memory.give_back(*lent);
  lent->mark->end_change(change, 8);
  CHECK(f.word(5) == 0);
  CHECK(f.dropped == 1);
}

TEST_CASE("Without an owner nothing is lent") {
  KeptMemory memory;
  CHECK(memory.borrow(key).error().code() == Code::peer_closed);
  CHECK(!memory.drop_unused());
}

TEST_CASE("An owner that ends in the middle of a question is peer_closed") {
  CHECK(failure_of([](const auto&, auto&) { return std::nullopt; }) == Code::peer_closed);
}

TEST_CASE("An owner's refusal is told") {
  CHECK(failure_of([](const auto&, AllocationReply& reply) {
          reply.status = static_cast<std::uint32_t>(Code::no_memory);
          return std::optional(Fd());
        }) == Code::no_memory);
}

TEST_CASE("An answer that makes no sense is protocol_error") {
  CHECK(failure_of([](const auto&, auto&) { return std::optional(Fd()); }) == Code::protocol_error);
  CHECK(failure_of([](const auto& request, AllocationReply& reply) {
          reply.slot = proto::memory::max_allocations;
          reply.bytes = request.key.length;
          return std::optional(device::test::make_memory(4096));
        }) == Code::protocol_error);
  CHECK(failure_of([](const auto& request, AllocationReply& reply) {
          reply.bytes = request.key.length - 1;
          return std::optional(device::test::make_memory(4096));
        }) == Code::protocol_error);
}

TEST_CASE("What an owner lent before it died is not given back to the next") {
  Fixture f;
  const auto lent = f.memory.borrow(key);
  REQUIRE(lent);
  auto [mine, theirs] = *make_socket_pair();
  const FakeOwner next(std::move(theirs), [&](const AllocationRequest& r, AllocationReply& a) {
    if (static_cast<AllocationCall>(r.call) == AllocationCall::ledger)
      return std::optional(f.ledger.duplicate().value());
    return f.lend(r, a);
  });
  REQUIRE(f.memory.connect(std::move(mine)));
  f.memory.give_back(*lent);
  CHECK(f.dropped == 0);
  f.memory.disconnect();
}
