// Fails, and stops, the simulated machine at every single call of a scenario, and checks what a new
// process finds against an oracle: everything that was acknowledged, and nothing that never was.
#include <doctest/doctest.h>

#include <map>
#include <set>

#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

/// What may stand under each name: bytes, or nothing.
class Oracle {
 public:
  using State = std::optional<Bytes>;

  void begin(const std::string& name, State next) { possible_[name].insert(std::move(next)); }
  void acknowledged(const std::string& name, State now) { possible_[name] = {std::move(now)}; }

  void check(TestStore& store) {
    for (const auto& [name, states] : possible_) {
      CAPTURE(name);
      const Result<Bytes> got = store.get(name);
      if (!got) REQUIRE(got.error().code() == Code::not_found);
      const State state = got ? State(*got) : State();
      REQUIRE(states.contains(state));
    }
    std::size_t unknown = 0;
    const Result<Listing> listing = store.list("");
    REQUIRE(listing);
    for (const ListedObject& object : listing->objects)
      unknown += possible_.contains(object.name) ? 0 : 1;
    CHECK(unknown == 0);
  }

 private:
  std::map<std::string, std::set<State>> possible_;
};

const Bytes small_bytes = pattern(700, 1);
const Bytes block_and_more = pattern(block_bytes + 900, 2);
const Bytes several_chunks = pattern(2 * chunk_bytes + 5, 3);

/// Puts several objects at once and waits for all answers, or for the machine to stop.
void put_all(TestStore& store, Oracle& oracle,
             const std::vector<std::pair<std::string, const Bytes*>>& puts) {
  std::size_t answers = 0;
  for (const auto& [name, bytes] : puts) {
    oracle.begin(name, std::nullopt);
    oracle.begin(name, *bytes);
    store.store->put(1, {"u1000", name}, *bytes, nullptr, store.now(),
                     [&, name = name, bytes = bytes](const Result<ObjectInfo>& info) {
                       ++answers;
                       if (info) oracle.acknowledged(name, *bytes);
                     });
  }
  for (int i = 0; i < 10'000 && answers != puts.size() && !store.store->fatal(); ++i) store.step();
}

void scenario(TestStore& store, Oracle& oracle) {
  put_all(store, oracle,
          {{"a", &small_bytes},
           {"b", &several_chunks},
           {"c/1", &block_and_more},
           {"c/2", &small_bytes}});
  oracle.begin("a", several_chunks);
  if (store.put("a", several_chunks)) oracle.acknowledged("a", several_chunks);
  oracle.begin("b", std::nullopt);
  oracle.begin("d", std::nullopt);
  oracle.begin("d", several_chunks);
  if (const Result<> renamed = store.rename("b", "d"); renamed) {
    oracle.acknowledged("b", std::nullopt);
    oracle.acknowledged("d", several_chunks);
  }
  oracle.begin("a", std::nullopt);
  if (store.remove("a")) oracle.acknowledged("a", std::nullopt);
  oracle.begin("c/1", std::nullopt);
  oracle.begin("c/2", std::nullopt);
  if (store.remove_prefix("c/")) {
    oracle.acknowledged("c/1", std::nullopt);
    oracle.acknowledged("c/2", std::nullopt);
  }
  put_all(store, oracle, {{"e", &block_and_more}, {"f", &small_bytes}});
}

/// The machine works again: all blocks that no object owns are free, and a put goes through.
void check_serves_again(TestStore& store) {
  REQUIRE(store.put("after", several_chunks));
  REQUIRE(*store.get("after") == several_chunks);
}

std::uint64_t calls_of_scenario(std::uint64_t seed) {
  SimMachine machine(seed);
  TestStore store = *TestStore::open(machine);
  const std::uint64_t before = machine.calls();
  Oracle oracle;
  scenario(store, oracle);
  oracle.check(store);
  return machine.calls() - before;
}

enum class After { kill, power_loss };

void stop_at(std::uint64_t seed, std::uint64_t call, After after) {
  CAPTURE(seed);
  CAPTURE(call);
  SimMachine machine(seed);
  Oracle oracle;
  {
    TestStore store = *TestStore::open(machine);
    machine.stop_at_call(call);
    scenario(store, oracle);
  }
  if (after == After::power_loss) machine.lose_power();
  machine.restart();
  Result<TestStore> store = TestStore::open(machine);
  REQUIRE(store);
  oracle.check(*store);
  check_serves_again(*store);
}

}  // namespace

TEST_CASE("A kill at any call loses nothing acknowledged") {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    const std::uint64_t calls = calls_of_scenario(seed);
    REQUIRE(calls > 50);
    for (std::uint64_t call = 0; call <= calls; ++call) stop_at(seed, call, After::kill);
  }
}

TEST_CASE("A loss of power at any call loses nothing acknowledged") {
  for (std::uint64_t seed = 11; seed <= 16; ++seed) {
    const std::uint64_t calls = calls_of_scenario(seed);
    for (std::uint64_t call = 0; call <= calls; ++call) stop_at(seed, call, After::power_loss);
  }
}

TEST_CASE("An error of the disk at any call fails cleanly, or is worked around") {
  for (const int error_number : {EIO, ENOSPC})
    for (std::uint64_t seed = 21; seed <= 23; ++seed) {
      const std::uint64_t calls = calls_of_scenario(seed);
      for (std::uint64_t call = 0; call <= calls; ++call) {
        CAPTURE(error_number);
        CAPTURE(seed);
        CAPTURE(call);
        SimMachine machine(seed);
        Oracle oracle;
        TestStore store = *TestStore::open(machine);
        machine.fail_call(call, error_number);
        scenario(store, oracle);
        machine.restart();
        if (!store.store->fatal()) {
          oracle.check(store);
          check_serves_again(store);
        }
        store.store.reset();
        machine.lose_power();
        Result<TestStore> again = TestStore::open(machine);
        REQUIRE(again);
        if (again->get("after")) REQUIRE(again->remove("after"));
        oracle.check(*again);
        check_serves_again(*again);
      }
    }
}

TEST_CASE("A kill at any call of the recovery loses nothing") {
  SimMachine machine(5);
  Oracle oracle;
  {
    TestStore store = *TestStore::open(machine);
    scenario(store, oracle);
  }
  for (std::uint64_t call = 0; call < 40; ++call) {
    machine.stop_at_call(call);
    (void)TestStore::open(machine);
    machine.lose_power();
    machine.restart();
  }
  Result<TestStore> store = TestStore::open(machine);
  REQUIRE(store);
  oracle.check(*store);
}
