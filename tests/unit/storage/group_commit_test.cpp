#include "services/storage/group_commit.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

struct Fixture {
  SimMachine machine{3};
  TestStore store = *TestStore::open(machine);

  /// Starts a put; its answer is recorded among the machine's events.
  void start_put(const std::string& name, const Bytes& bytes) {
    store.store->put(1, {"u1000", name}, bytes, nullptr, store.now(),
                     [this](const Result<ObjectInfo>& info) {
                       machine.events.emplace_back(info ? "answer" : "error");
                     });
  }
  std::ptrdiff_t answers() const {
    return std::count(machine.events.begin(), machine.events.end(), "answer");
  }
};

}  // namespace

TEST_CASE("An answer never comes before the flush of its blocks and the sync of its metadata") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    SimMachine machine(seed);
    TestStore store = *TestStore::open(machine);
    const Bytes bytes = pattern(300'000, seed);
    machine.events.clear();
    std::size_t answers = 0;
    for (int i = 0; i < 5; ++i)
      store.store->put(1, {"u1000", std::to_string(i)}, bytes, nullptr, store.now(),
                       [&](const Result<ObjectInfo>& info) {
                         REQUIRE(info);
                         ++answers;
                         machine.events.emplace_back("answer");
                       });
    while (answers != 5) store.step();
    // Between its last write and the first answer after it lie a flush and then a sync.
    std::size_t stage = 0;  // 0: written, 1: flushed, 2: synced
    for (const std::string& event : machine.events) {
      if (event == "flush") stage = 1;
      if (event == "sync" && stage == 1) stage = 2;
      if (event == "answer") REQUIRE(stage == 2);
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "An answered object survives a loss of power right after its answer") {
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Bytes bytes = pattern(i % 2 == 0 ? 900 : 300'000, i);
    REQUIRE(store.put("object", bytes));
    store.store.reset();
    machine.lose_power();
    store = *TestStore::open(machine);
    CHECK(*store.get("object") == bytes);
  }
}

TEST_CASE_FIXTURE(Fixture, "Puts that arrive together share flushes") {
  const Bytes bytes = pattern(100'000, 1);
  for (int i = 0; i < 256; ++i) start_put(std::to_string(i), bytes);
  while (answers() != 256) store.step();
  CHECK(store.info().flushes <= 20);
  CHECK(store.info().flushes >= 256 / max_batch_changes);
}

TEST_CASE_FIXTURE(Fixture, "A lone put does not wait for others to share its flush") {
  start_put("a", pattern(100, 1));
  const std::uint64_t begin_ns = store.now().monotonic_ns;
  while (answers() != 1) store.step();
  CHECK(store.now().monotonic_ns - begin_ns < max_batch_wait_ns);
}

TEST_CASE_FIXTURE(Fixture, "A small put waits no longer than the batch window for a large one") {
  const Bytes big = pattern(200 * chunk_bytes, 1);
  const Bytes small = pattern(100, 2);
  start_put("big", big);
  store.step();
  start_put("small", small);
  CHECK(store.store->deadline_ns() <= store.now().monotonic_ns + max_batch_wait_ns);
  while (answers() == 0) store.step();
  CHECK(store.stat("small"));
  while (answers() != 2) store.step();
}

TEST_CASE_FIXTURE(Fixture, "After a failed write or flush the object is stored elsewhere") {
  const Bytes bytes = pattern(300'000, 1);
  for (const char* event : {"write", "flush"}) {
    CAPTURE(event);
    machine.fail_next(event, EIO);
    REQUIRE(store.put("object", bytes));
    store.store.reset();
    machine.lose_power();
    store = *TestStore::open(machine);
    CHECK(*store.get("object") == bytes);
  }
}

TEST_CASE_FIXTURE(Fixture, "A flush that fails twice returns io_error, and the old object stays") {
  const Bytes old_bytes = pattern(300'000, 1);
  REQUIRE(store.put("object", old_bytes));
  const Bytes new_bytes = pattern(300'000, 2);
  start_put("object", new_bytes);
  for (int i = 0; i < 2; ++i) {
    machine.fail_next("flush", EIO);
    const std::ptrdiff_t flushes =
        std::count(machine.events.begin(), machine.events.end(), "flush");
    while (std::count(machine.events.begin(), machine.events.end(), "flush") == flushes)
      store.step();
  }
  store.settle();
  CHECK(machine.events.back() == "error");
  CHECK(*store.get("object") == old_bytes);
  CHECK(store.put("object", new_bytes));
}

TEST_CASE_FIXTURE(Fixture, "A failed flush also concerns what other puts have written by then") {
  const Bytes early = pattern(100'000, 1);
  const Bytes late = pattern(100 * chunk_bytes, 2);
  machine.fail_next("flush", EIO);
  start_put("early", early);
  start_put("late", late);
  while (answers() != 2) store.step();
  store.store.reset();
  machine.lose_power();
  store = *TestStore::open(machine);
  CHECK(*store.get("early") == early);
  CHECK(*store.get("late", 0, late.size()) == late);
}

TEST_CASE_FIXTURE(Fixture, "A source that differs at the second attempt returns source_changed") {
  Bytes bytes = pattern(60 * chunk_bytes, 1);
  std::optional<Code> code;
  store.store->put(1, {"u1000", "object"}, bytes, nullptr, store.now(),
                   [&](const Result<ObjectInfo>& r) { code = r ? Code::ok : r.error().code(); });
  machine.fail_next("flush", EIO);
  while (std::count(machine.events.begin(), machine.events.end(), "flush") == 0) {
    REQUIRE_FALSE(code);
    store.step();
  }
  // The second attempt may have begun within that step, but cannot have reached the last block.
  bytes.back() ^= std::byte{1};
  while (!code) store.step();
  CHECK(code == Code::source_changed);
}

TEST_CASE_FIXTURE(Fixture, "A failed metadata transaction is fatal, and nothing is answered") {
  const Bytes bytes = pattern(100, 1);
  REQUIRE(store.put("a", bytes));
  machine.fail_call(0, EIO);
  start_put("b", bytes);
  store.settle();
  REQUIRE(store.store->fatal());
  CHECK(store.store->fatal()->code() == Code::io_error);
  CHECK(std::count(machine.events.begin(), machine.events.end(), "error") == 0);
  CHECK(answers() == 0);
  CHECK_FALSE(store.store->deadline_ns());
}

TEST_CASE_FIXTURE(Fixture, "When the metadata finds no room, puts fail and removals go on") {
  const Bytes bytes = pattern(100, 1);
  REQUIRE(store.put("a", bytes));
  machine.fail_call(0, ENOSPC);
  start_put("b", bytes);
  bool removed = false;
  store.store->remove({"u1000", "a"}, store.now(),
                      [&](const Result<>& result) { removed = result.has_value(); });
  store.settle();
  CHECK(removed);
  CHECK(machine.events.back() != "answer");
  CHECK(std::count(machine.events.begin(), machine.events.end(), "error") == 1);
  CHECK_FALSE(store.store->fatal());
  CHECK(store.put("b", bytes));
}
