#include "services/storage/metadata.hpp"

#include <doctest/doctest.h>

#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

void run_sql(SimMachine& machine, const char* sql) {
  auto database = Database::open("meta.db", machine.vfs());
  REQUIRE(database);
  REQUIRE(database->execute("PRAGMA locking_mode=EXCLUSIVE"));
  REQUIRE(database->execute(sql));
}

}  // namespace

TEST_CASE("Metadata of another layout returns version_mismatch") {
  SimMachine machine(1);
  run_sql(machine, "PRAGMA user_version = 99");
  const auto store = TestStore::open(machine);
  REQUIRE_FALSE(store);
  CHECK(store.error().code() == Code::version_mismatch);
}

TEST_CASE("A file that is no database returns corrupt") {
  SimMachine machine(1);
  machine.files()["meta.db"].current = pattern(8192, 1);
  const auto store = TestStore::open(machine);
  REQUIRE_FALSE(store);
  CHECK(store.error().code() == Code::corrupt);
}

TEST_CASE("Two objects that claim the same block return corrupt at start") {
  SimMachine machine(1);
  {
    TestStore store = *TestStore::open(machine);
    REQUIRE(store.put("a", pattern(100'000, 1)));
    REQUIRE(store.put("b", pattern(100'000, 2)));
  }
  run_sql(machine, "UPDATE contents SET extents = (SELECT max(extents) FROM contents)");
  const auto store = TestStore::open(machine);
  REQUIRE_FALSE(store);
  CHECK(store.error().code() == Code::corrupt);
}

TEST_CASE("Lists of blocks that do not add up return corrupt when the object is read") {
  SimMachine machine(1);
  {
    TestStore store = *TestStore::open(machine);
    REQUIRE(store.put("large", pattern(100'000, 1)));
    REQUIRE(store.put("small", pattern(100, 2)));
  }
  run_sql(machine,
          "UPDATE contents SET checksums = substr(checksums, 1, 8) WHERE length(bytes) = 0;"
          "UPDATE contents SET bytes = substr(bytes, 1, 50) WHERE length(bytes) > 0");
  TestStore store = *TestStore::open(machine);
  CHECK(store.get("large").error().code() == Code::corrupt);
  CHECK(store.get("small").error().code() == Code::corrupt);
}

TEST_CASE("A small value that changed in the database returns corrupt") {
  SimMachine machine(1);
  {
    TestStore store = *TestStore::open(machine);
    REQUIRE(store.put("small", pattern(100, 2)));
  }
  run_sql(machine, "UPDATE contents SET bytes = zeroblob(length(bytes))");
  TestStore store = *TestStore::open(machine);
  CHECK(store.get("small").error().code() == Code::corrupt);
}
