// Changes that are asked for again are made once, whenever the server died under them.
#include <doctest/doctest.h>

#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

const Bytes small_bytes = pattern(700, 1);
const Bytes large_bytes = pattern(2 * chunk_bytes + 5, 2);
const Bytes others_bytes = pattern(300, 3);

Operation operation(std::uint64_t sequence, std::uint64_t age_ns, const TestStore& store,
                    std::uint64_t session = 77) {
  return {{session, sequence, sequence - 1, age_ns}, store.now().monotonic_ns};
}

/// A change, what it leaves behind, and what somebody else does after that.
struct Case {
  void (*prepare)(TestStore&);
  Result<std::uint64_t> (*change)(TestStore&, const Operation&);
  bool (*happened)(TestStore&);
  void (*interfere)(TestStore&);
  bool (*undisturbed)(TestStore&);
};

template <const Bytes& bytes>
Result<std::uint64_t> put_a(TestStore& store, const Operation& operation) {
  return TRY(store.put("a", bytes, operation)).version;
}

bool has(TestStore& store, const char* name) {
  return store.stat(name).has_value();
}

const Case put_small{
    [](TestStore&) {}, put_a<small_bytes>, [](TestStore& s) { return has(s, "a"); },
    [](TestStore& s) { REQUIRE(s.remove("a")); }, [](TestStore& s) { return !has(s, "a"); }};

const Case put_large{[](TestStore&) {}, put_a<large_bytes>,
                     [](TestStore& s) { return has(s, "a"); },
                     [](TestStore& s) { REQUIRE(s.put("a", others_bytes)); },
                     [](TestStore& s) { return *s.get("a") == others_bytes; }};

const Case remove_it{[](TestStore& s) { REQUIRE(s.put("a", large_bytes)); },
                     [](TestStore& s, const Operation& o) -> Result<std::uint64_t> {
                       TRY(s.remove("a", o));
                       return 0;
                     },
                     [](TestStore& s) { return !has(s, "a"); },
                     [](TestStore& s) { REQUIRE(s.put("a", others_bytes)); },
                     [](TestStore& s) { return has(s, "a"); }};

const Case rename_it{[](TestStore& s) { REQUIRE(s.put("a", small_bytes)); },
                     [](TestStore& s, const Operation& o) -> Result<std::uint64_t> {
                       TRY(s.rename("a", "b", o));
                       return 0;
                     },
                     [](TestStore& s) { return has(s, "b"); },
                     [](TestStore& s) { REQUIRE(s.put("a", others_bytes)); },
                     [](TestStore& s) { return has(s, "a") && *s.get("b") == small_bytes; }};

const Case remove_folder{[](TestStore& s) {
                           for (const char* name : {"f/1", "f/2", "f/3"})
                             REQUIRE(s.put(name, small_bytes));
                         },
                         [](TestStore& s, const Operation& o) { return s.remove_prefix("f/", o); },
                         [](TestStore& s) { return !has(s, "f/1"); },
                         [](TestStore& s) { REQUIRE(s.put("f/4", others_bytes)); },
                         [](TestStore& s) { return has(s, "f/4"); }};

/// False when the scenario was over before the machine stopped.
bool stop_and_repeat(const Case& change, std::uint64_t seed, std::uint64_t call) {
  CAPTURE(seed);
  CAPTURE(call);
  SimMachine machine(seed);
  std::optional<std::uint64_t> first;
  {
    TestStore store = *TestStore::open(machine);
    change.prepare(store);
    machine.stop_at_call(call);
    if (const auto answer = change.change(store, operation(1, 0, store))) first = *answer;
    if (!machine.stopped()) return false;
  }
  machine.restart();
  Result<TestStore> store = TestStore::open(machine);
  REQUIRE(store);
  const bool happened = change.happened(*store);
  if (first) REQUIRE(happened);
  if (happened) change.interfere(*store);
  for (int again = 0; again < 3; ++again) {
    const auto answer = change.change(*store, operation(1, 1'000'000, *store));
    REQUIRE(answer);
    if (first) CHECK(*answer == *first);
    if (happened) REQUIRE(change.undisturbed(*store));
    first = *answer;
  }
  // What the repeated put wrote for nothing is free again.
  REQUIRE(store->put("after", large_bytes));
  REQUIRE(*store->get("after") == large_bytes);
  return true;
}

void at_every_call(const Case& change) {
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    std::uint64_t call = 0;
    while (stop_and_repeat(change, seed, call)) ++call;
    REQUIRE(call > 5);
  }
}

}  // namespace

TEST_CASE("A put that is asked for again after a kill at any call happens once") {
  at_every_call(put_small);
  at_every_call(put_large);
}

TEST_CASE("A remove that is asked for again after a kill at any call happens once") {
  at_every_call(remove_it);
  at_every_call(remove_folder);
}

TEST_CASE("A rename that is asked for again after a kill at any call happens once") {
  at_every_call(rename_it);
}

TEST_CASE(
    "Asked for twice at the same time a put happens once and frees what it wrote for nothing") {
  SimMachine machine(1);
  TestStore store = *TestStore::open(machine);
  std::vector<ObjectInfo> infos;
  for (std::uint64_t age : {0, 1})
    store.store->put(
        1, {"u1000", "a"}, large_bytes, nullptr, store.now(),
        [&](const Result<ObjectInfo>& info) { infos.push_back(info.value()); },
        operation(1, age, store));
  for (int i = 0; i < 1000 && infos.size() < 2; ++i) store.step();
  REQUIRE(infos.size() == 2);
  CHECK(infos[0].version == infos[1].version);
  CHECK(store.stat("a")->version == infos[0].version);
}

TEST_CASE("A remove that found nothing looks again when it is asked for again") {
  SimMachine machine(1);
  TestStore store = *TestStore::open(machine);
  CHECK(store.remove("a", operation(1, 0, store)).error().code() == Code::not_found);
  REQUIRE(store.put("a", small_bytes));
  CHECK(store.remove("a", operation(1, 1, store)));
  CHECK(store.remove("a", operation(1, 2, store)));
}

TEST_CASE("An id that was given to another kind of change is invalid_argument") {
  SimMachine machine(1);
  TestStore store = *TestStore::open(machine);
  REQUIRE(store.put("a", small_bytes, operation(1, 0, store)));
  CHECK(store.remove("a", operation(1, 1, store)).error().code() == Code::invalid_argument);
  CHECK(has(store, "a"));
}

TEST_CASE("Answers are kept until they are acknowledged") {
  SimMachine machine(1);
  {
    TestStore store = *TestStore::open(machine);
    for (std::uint64_t sequence = 1; sequence <= 50; ++sequence)
      REQUIRE(store.put("a", small_bytes, operation(sequence, 0, store)));
  }
  machine.restart();
  auto database = Database::open("meta.db", machine.vfs());
  REQUIRE(database);
  REQUIRE(database->execute("PRAGMA locking_mode=EXCLUSIVE"));
  auto count = database->prepare("SELECT count(*), max(sequence) FROM operations");
  REQUIRE(count);
  Query query(*count);
  REQUIRE(query.step().value());
  CHECK(query.number(0) == 1);
  CHECK(query.number(1) == 50);
}

TEST_CASE("What may have been forgotten is indeterminate, and what was not is made") {
  SimMachine machine(1);
  TestStore store = *TestStore::open(machine);
  REQUIRE(store.put("a", small_bytes, operation(1, 0, store, 1)));
  const std::uint64_t begin_ns = store.now().monotonic_ns;
  // The user's other programs come and go.
  for (std::uint64_t session = 2; session <= max_sessions_per_space + 1; ++session)
    REQUIRE(store.put("b", small_bytes, operation(1, 0, store, session)));
  const std::uint64_t age_ns = store.now().monotonic_ns - begin_ns + 1;
  REQUIRE(store.remove("a"));
  CHECK(store.put("a", small_bytes, operation(1, age_ns, store, 1)).error().code() ==
        Code::indeterminate);
  CHECK(!has(store, "a"));
  // Its next change is new, and is not thought to be older than it is.
  REQUIRE(store.put("a", small_bytes, operation(2, 0, store, 1)));
  CHECK(store.put("c", small_bytes, operation(3, 1, store, 1)));
  CHECK(store.put("a", small_bytes, operation(1, age_ns, store, 1)).error().code() ==
        Code::indeterminate);
}

TEST_CASE("That something was forgotten is still known after a restart") {
  SimMachine machine(1);
  std::uint64_t begin_ns = 0;
  {
    TestStore store = *TestStore::open(machine);
    begin_ns = store.now().monotonic_ns;
    for (std::uint64_t session = 1; session <= max_sessions_per_space + 1; ++session)
      REQUIRE(store.put("b", small_bytes, operation(1, 0, store, session)));
  }
  machine.restart();
  TestStore store = *TestStore::open(machine);
  while (store.now().monotonic_ns < begin_ns + 1'000'000'000) store.step();
  const std::uint64_t age_ns = store.now().monotonic_ns - begin_ns - 1;
  CHECK(store.put("b", others_bytes, operation(1, age_ns, store, 1)).error().code() ==
        Code::indeterminate);
  CHECK(*store.get("b") == small_bytes);
}

TEST_CASE("A database of the layout before operations is read and goes on") {
  SimMachine machine(1);
  { REQUIRE(TestStore::open(machine)->put("a", small_bytes)); }
  machine.restart();
  {
    auto database = Database::open("meta.db", machine.vfs());
    REQUIRE(database);
    REQUIRE(
        database->execute("PRAGMA locking_mode=EXCLUSIVE; DROP TABLE operations;"
                          "DROP TABLE forgotten; PRAGMA user_version = 1"));
  }
  TestStore store = *TestStore::open(machine);
  CHECK(*store.get("a") == small_bytes);
  REQUIRE(store.remove("a", operation(1, 0, store)));
  CHECK(store.remove("a", operation(1, 1, store)));
}
