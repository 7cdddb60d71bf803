#include "abi/runtime/call_table.hpp"

#include <doctest/doctest.h>

#include <set>

using namespace aios;

namespace {
CallTable::Callback nothing() {
  return [](Result<std::span<const std::byte>>) {};
}
std::uint32_t add(CallTable& table, std::uint16_t opcode, Deadline deadline = Deadline::never()) {
  const std::uint32_t id = table.reserve(opcode);
  table.fill(id, deadline, nothing());
  return id;
}
}  // namespace

TEST_CASE("A call is found by its id, once") {
  CallTable table;
  const std::uint32_t a = add(table, 1);
  const std::uint32_t b = add(table, 2);
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
    const std::uint32_t id = add(table, 1);
    CHECK(seen.insert(id).second);
    CHECK(id != 0);
    REQUIRE(table.take(id));
    const std::uint32_t next = add(table, 1);
    CHECK_FALSE(table.take(id));
    REQUIRE(table.take(next));
    seen.insert(next);
  }
}

TEST_CASE("Ids that nobody gave find nothing") {
  CallTable table;
  add(table, 1);
  for (const std::uint32_t id : {0u, 1u, 1023u, 2u * CallTable::max_calls, 0xffffffffu})
    CHECK_FALSE(table.take(id));
}

TEST_CASE("A full table says so, and one ended call makes room") {
  CallTable table;
  std::uint32_t id = 0;
  while (!table.full()) id = add(table, 1);
  CHECK(table.size() == CallTable::max_calls);
  REQUIRE(table.take(id));
  CHECK_FALSE(table.full());
}

TEST_CASE("Late calls are taken, and the earliest of the others is told") {
  CallTable table;
  const std::uint32_t on_time = add(table, 1, Deadline{200});
  add(table, 2, Deadline{100});
  add(table, 3, Deadline{50});
  Deadline next = Deadline::never();
  std::uint32_t place = 0;
  CHECK(table.take_late(100, place, next)->opcode == 2);
  CHECK(table.take_late(100, place, next)->opcode == 3);
  CHECK_FALSE(table.take_late(100, place, next));
  CHECK(next.at_ns == 200);
  CHECK(table.take(on_time));
}

TEST_CASE("A place that is only reserved counts, and nothing finds it until it is filled") {
  CallTable table;
  const std::uint32_t id = table.reserve(7);
  CHECK(table.size() == 1);
  CHECK_FALSE(table.take(id));
  Deadline next = Deadline::never();
  std::uint32_t place = 0;
  CHECK_FALSE(table.take_late(1000, place, next));
  place = 0;
  CHECK_FALSE(table.take_next(place));
  const std::byte again[] = {std::byte{1}, std::byte{2}};
  table.fill(id, Deadline{50}, nothing(), {again, again + 2}, 3);
  const auto taken = table.take(id);
  REQUIRE(taken);
  CHECK(taken->opcode == 7);
  CHECK(taken->deadline.at_ns == 50);
  CHECK(taken->request.size() == 2);
  CHECK(taken->replays == 3);
}

TEST_CASE("A place that was given back is used again under another id") {
  CallTable table;
  const std::uint32_t id = table.reserve(1);
  table.release(id);
  CHECK(table.size() == 0);
  const std::uint32_t next = add(table, 2);
  CHECK(next != id);
  CHECK_FALSE(table.take(id));
  CHECK(table.take(next)->opcode == 2);
}

TEST_CASE("Taking one after the other leaves none, and comes to an end when others begin") {
  CallTable table;
  for (int i = 0; i < 10; ++i) add(table, 1);
  std::uint32_t place = 0;
  int taken = 0;
  for (; table.take_next(place); ++taken) add(table, 2);
  // Each began in the place that was just passed.
  CHECK(taken == 10);
  CHECK(table.size() == 10);
  place = 0;
  while (const auto call = table.take_next(place)) CHECK(call->opcode == 2);
  CHECK(table.size() == 0);
}

TEST_CASE("No call has id 0, however often its place is used") {
  CallTable table;
  bool good = true;
  for (std::uint64_t used = 0; good && used * CallTable::max_calls <= 1ull << 32; ++used) {
    const std::uint32_t id = add(table, 1);
    good = id != 0 && table.take(id).has_value();
  }
  CHECK(good);
}
