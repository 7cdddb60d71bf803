#include "abi/runtime/call_table.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace aios;

namespace {
CallTable::Callback nothing() {
  return [](Result<std::span<const std::byte>>) {};
}
}  // namespace

TEST_CASE("A call is found by its id, once") {
  CallTable table;
  const std::uint32_t a = table.add(1, Deadline::never(), nothing());
  const std::uint32_t b = table.add(2, Deadline::never(), nothing());
  CHECK(table.size() == 2);
  const auto taken = table.take(b);
  REQUIRE(taken);
  CHECK(taken->opcode == 2);
  CHECK_FALSE(table.take(b));
  CHECK(table.take(a)->opcode == 1);
  CHECK(table.size() == 0);
}

TEST_CASE("The id of an ended call finds neither it nor its successor") {
  CallTable table;
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 5000; ++i) {
    const std::uint32_t id = table.add(1, Deadline::never(), nothing());
    CHECK(seen.insert(id).second);
    CHECK(id != 0);
    REQUIRE(table.take(id));
    const std::uint32_t next = table.add(1, Deadline::never(), nothing());
    CHECK_FALSE(table.take(id));
    REQUIRE(table.take(next));
    seen.insert(next);
  }
}

TEST_CASE("Ids that nobody gave find nothing") {
  CallTable table;
  table.add(1, Deadline::never(), nothing());
  for (const std::uint32_t id : {0u, 1u, 1023u, 2u * CallTable::max_calls, 0xffffffffu})
    CHECK_FALSE(table.take(id));
}

TEST_CASE("A full table says so, and one ended call makes room") {
  CallTable table;
  std::uint32_t id = 0;
  while (!table.full()) id = table.add(1, Deadline::never(), nothing());
  CHECK(table.size() == CallTable::max_calls);
  REQUIRE(table.take(id));
  CHECK_FALSE(table.full());
}

TEST_CASE("Late calls are taken, and the earliest of the others is told") {
  CallTable table;
  const std::uint32_t on_time = table.add(1, Deadline{200}, nothing());
  table.add(2, Deadline{100}, nothing());
  const std::uint32_t moved = table.add(3, Deadline::never(), nothing());
  table.set_deadline(moved, Deadline{50});
  Deadline next = Deadline::never();
  const auto late = table.take_late(100, next);
  CHECK(late.size() == 2);
  CHECK(next.at_ns == 200);
  CHECK(table.take(on_time));
}

TEST_CASE("Taking all leaves none") {
  CallTable table;
  for (int i = 0; i < 10; ++i) table.add(1, Deadline::never(), nothing());
  CHECK(table.take_all().size() == 10);
  CHECK(table.size() == 0);
  CHECK(table.take_all().empty());
}

TEST_CASE("No call has id 0, however often its place is used") {
  CallTable table;
  bool good = true;
  for (std::uint64_t used = 0; good && used * CallTable::max_calls <= 1ull << 32; ++used) {
    const std::uint32_t id = table.add(1, Deadline::never(), nothing());
    good = id != 0 && table.take(id).has_value();
  }
  CHECK(good);
}
