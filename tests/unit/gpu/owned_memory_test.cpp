// What the owner of a tenant's device memory has and gives: over a device that only counts.
#include "drivers/gpu/memory/owned_memory.hpp"

#include <doctest/doctest.h>

#include <sys/mman.h>

#include <map>

using namespace aios;
using namespace aios::gpu;

namespace {

constexpr std::uint64_t unit = 1000;

class Counter final : public MemoryMaker {
 public:
  std::uint64_t granularity() const override { return unit; }
  Result<Number> make(std::uint64_t bytes) override {
    if (used() + bytes > room) return error(Code::no_memory, "the device is full");
    made[++last] = bytes;
    return last;
  }
  Result<Fd> share(Number number) override {
    if (!can_share || !made.contains(number)) return error(Code::io_error, "cannot be shared");
    return Fd(::memfd_create("shared", MFD_CLOEXEC));
  }
  void release(Number number) override { CHECK(made.erase(number) == 1); }
  std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const auto& [number, bytes] : made) sum += bytes;
    return sum;
  }

  std::uint64_t room = 100 * unit;
  bool can_share = true;
  std::map<Number, std::uint64_t> made;
  Number last = 0;
};

struct Fixture {
  Counter device;
  std::vector<std::uint32_t> ledger = std::vector<std::uint32_t>(proto::memory::max_allocations);
  OwnedMemory memory{device, ledger, 10 * unit};

  static OwnedMemory::Key key(std::uint64_t serial, std::uint64_t length = unit) {
    return {7, serial, 0, length};
  }
  /// Its slot.
  std::uint32_t take(std::uint64_t serial, std::uint64_t length = unit) {
    const auto taken = memory.take(key(serial, length));
    REQUIRE_MESSAGE(taken, taken.error().message());
    CHECK(taken->descriptor.valid());
    return taken->slot;
  }
};

}  // namespace

TEST_CASE("Memory is rounded up, and counted as it is") {
  Fixture f;
  const auto taken = f.memory.take(Fixture::key(1, unit + 1));
  REQUIRE(taken);
  CHECK(taken->bytes == 2 * unit);
  CHECK(!taken->found);
  CHECK(f.memory.bytes() == 2 * unit);
  CHECK(f.device.used() == 2 * unit);
}

TEST_CASE("A new context finds what the one before had, and what it holds") {
  Fixture f;
  const std::uint32_t slot = f.take(1);
  f.ledger[slot] = 42;
  f.memory.begin_use();
  const auto again = f.memory.take(Fixture::key(1));
  REQUIRE(again);
  CHECK(again->found);
  CHECK(again->slot == slot);
  CHECK(f.ledger[slot] == 42);
  CHECK(f.memory.count() == 1);
}

TEST_CASE("One context does not get the same memory twice") {
  Fixture f;
  const std::uint32_t slot = f.take(1);
  const auto second = f.memory.take(Fixture::key(1));
  REQUIRE(second);
  CHECK(!second->found);
  CHECK(second->slot != slot);
}

TEST_CASE("Memory of another key is another's, and holds nothing") {
  Fixture f;
  f.ledger[0] = 42;
  CHECK(f.take(1) == 0);
  CHECK(f.ledger[0] == 0);
  f.memory.begin_use();
  const auto other = f.memory.take(Fixture::key(2));
  REQUIRE(other);
  CHECK(!other->found);
  CHECK(f.memory.count() == 2);
}

TEST_CASE("More than the tenant may have is no_memory, with the figures") {
  Fixture f;
  (void)f.take(1, 6 * unit);
  const auto more = f.memory.take(Fixture::key(2, 5 * unit));
  CHECK(more.error().code() == Code::no_memory);
  CHECK(more.error().message().find("6000 of 10000") != std::string::npos);
  CHECK(f.memory.take(Fixture::key(3, UINT64_MAX)).error().code() == Code::no_memory);
  CHECK(f.memory.take(Fixture::key(3, 0)).error().code() == Code::invalid_argument);
  CHECK(f.take(4, 4 * unit) == 1);
}

TEST_CASE("What a dead context left makes room, the oldest first") {
  Fixture f;
  (void)f.take(1, 4 * unit);
  (void)f.take(2, 4 * unit);
  f.memory.begin_use();
  (void)f.take(3, 5 * unit);
  CHECK(f.memory.bytes() == 9 * unit);
  CHECK(f.memory.take(Fixture::key(2, 4 * unit))->found);
  // Both are in use: neither goes.
  CHECK(f.memory.take(Fixture::key(4, 2 * unit)).error().code() == Code::no_memory);
}

TEST_CASE("A device that is full gets room in the same way") {
  Fixture f;
  f.device.room = 5 * unit;
  (void)f.take(1, 3 * unit);
  CHECK(f.memory.take(Fixture::key(2, 3 * unit)).error().code() == Code::no_memory);
  CHECK(f.memory.bytes() == 3 * unit);
  f.memory.begin_use();
  (void)f.take(2, 3 * unit);
  CHECK(f.memory.bytes() == 3 * unit);
}

TEST_CASE("Memory that cannot be handed on is not kept") {
  Fixture f;
  f.device.can_share = false;
  CHECK(f.memory.take(Fixture::key(1)).error().code() == Code::io_error);
  CHECK(f.device.used() == 0);
  CHECK(f.memory.bytes() == 0);
}

TEST_CASE("Only what is in use can be dropped") {
  Fixture f;
  const std::uint32_t slot = f.take(1);
  CHECK(f.memory.drop(slot + 1).error().code() == Code::not_found);
  CHECK(f.memory.drop(UINT32_MAX).error().code() == Code::not_found);
  CHECK(f.memory.drop(slot));
  CHECK(f.memory.drop(slot).error().code() == Code::not_found);
  CHECK(f.device.used() == 0);
  const std::uint32_t left = f.take(2);
  f.memory.begin_use();
  CHECK(f.memory.drop(left).error().code() == Code::not_found);
  f.memory.drop_unused();
  CHECK(f.device.used() == 0);
}

TEST_CASE("A tenant has a limited number of pieces") {
  Fixture f;
  f.device.room = UINT64_MAX;
  OwnedMemory memory(f.device, f.ledger, UINT64_MAX);
  for (std::uint32_t i = 0; i < proto::memory::max_allocations; ++i)
    REQUIRE(memory.take(Fixture::key(i + 1)));
  CHECK(memory.take(Fixture::key(1000)).error().code() == Code::quota);
  memory.begin_use();
  CHECK(memory.take(Fixture::key(1000)));
}
