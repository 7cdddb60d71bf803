#include "services/storage/object_store.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

struct Fixture {
  SimMachine machine{7};
  TestStore store = *TestStore::open(machine);
  void reopen() {
    store.store.reset();
    machine.restart();
    store = *TestStore::open(machine);
  }
};

constexpr std::size_t large = 5 * block_bytes + 123;

}  // namespace

TEST_CASE_FIXTURE(Fixture, "What was put is got back, at every size around the limits") {
  std::uint64_t seed = 0;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{max_inline_bytes},
        std::size_t{max_inline_bytes + 1}, std::size_t{block_bytes}, std::size_t{block_bytes + 1},
        large, chunk_bytes, 3 * chunk_bytes + 7}) {
    const Bytes bytes = pattern(size, ++seed);
    const auto info = store.put("object", bytes);
    REQUIRE(info);
    CHECK(info->size_bytes == size);
    CHECK(*store.get("object") == bytes);
    reopen();
    CHECK(*store.get("object") == bytes);
    CHECK(store.stat("object")->checksum == info->checksum);
  }
}

TEST_CASE_FIXTURE(Fixture, "A ranged get returns exactly the bytes of the range") {
  for (const std::size_t size : {std::size_t{5000}, large}) {
    const Bytes bytes = pattern(size, size);
    REQUIRE(store.put("object", bytes));
    for (const std::size_t offset :
         {std::size_t{0}, std::size_t{1}, size / 2, size - 1, size, size + 9})
      for (const std::size_t length :
           {std::size_t{0}, std::size_t{1}, std::size_t{block_bytes}, size}) {
        const std::size_t from = std::min(offset, size);
        const std::size_t end = std::min(from + length, size);
        const Bytes expected(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                             bytes.begin() + static_cast<std::ptrdiff_t>(end));
        CHECK(*store.get("object", offset, length) == expected);
      }
  }
}

TEST_CASE_FIXTURE(Fixture, "Versions grow with every put, also after a remove and a restart") {
  const std::uint64_t first = store.put("a", pattern(10, 1))->version;
  const std::uint64_t second = store.put("b", pattern(large, 2))->version;
  CHECK(second > first);
  REQUIRE(store.remove("b"));
  reopen();
  CHECK(store.put("c", pattern(10, 3))->version > second);
}

TEST_CASE_FIXTURE(Fixture, "Getting a version that was replaced returns source_changed") {
  const std::uint64_t version = store.put("a", pattern(10, 1))->version;
  CHECK(store.get("a", 0, 100, version));
  REQUIRE(store.put("a", pattern(10, 2)));
  CHECK(store.get("a", 0, 100, version).error().code() == Code::source_changed);
}

TEST_CASE_FIXTURE(Fixture, "Objects that do not exist return not_found everywhere") {
  CHECK(store.get("a").error().code() == Code::not_found);
  CHECK(store.stat("a").error().code() == Code::not_found);
  CHECK(store.remove("a").error().code() == Code::not_found);
  CHECK(store.rename("a", "b").error().code() == Code::not_found);
  CHECK(*store.remove_prefix("a/") == 0);
}

TEST_CASE_FIXTURE(Fixture, "A rename replaces the object of the new name") {
  const Bytes bytes = pattern(large, 1);
  REQUIRE(store.put("from", bytes));
  REQUIRE(store.put("to", pattern(large, 2)));
  REQUIRE(store.rename("from", "to"));
  CHECK(*store.get("to") == bytes);
  CHECK(store.stat("from").error().code() == Code::not_found);
  REQUIRE(store.rename("to", "to"));
  CHECK(*store.get("to") == bytes);
  CHECK(store.info().objects == 1);
}

TEST_CASE_FIXTURE(Fixture,
                  "A list is sorted, begins after the given name and says when more is there") {
  for (const char* name : {"b/2", "a", "b/1", "b/3", "c", "b"}) REQUIRE(store.put(name, {}));
  const auto names = [](const Listing& listing) {
    std::string out;
    for (const ListedObject& object : listing.objects) out += object.name + " ";
    return out;
  };
  CHECK(names(*store.list("")) == "a b b/1 b/2 b/3 c ");
  CHECK(names(*store.list("b/")) == "b/1 b/2 b/3 ");
  CHECK(names(*store.list("b/", "b/1")) == "b/2 b/3 ");
  CHECK(names(*store.list("b/", "a")) == "b/1 b/2 b/3 ");
  CHECK(names(*store.list("", "b", 2)) == "b/1 b/2 ");
  CHECK(store.list("", "b", 2)->more);
  CHECK_FALSE(store.list("", "b/2", 2)->more);
  CHECK(names(*store.list("b/", "c")).empty());
}

TEST_CASE_FIXTURE(Fixture, "Removing a prefix removes more objects than one slice holds") {
  std::size_t answered = 0;
  const std::size_t count = remove_slice + 10;
  for (std::size_t i = 0; i < count; ++i)
    store.store->put(1, {"u1000", "x/" + std::to_string(i)}, {}, nullptr, store.now(),
                     [&](Result<ObjectInfo> info) { answered += info ? 1 : 0; });
  while (answered != count) store.step();
  REQUIRE(store.put("xy", {}));
  CHECK(*store.remove_prefix("x/") == count);
  CHECK(store.info().objects == 1);
}

TEST_CASE_FIXTURE(Fixture, "Namespaces do not see one another") {
  REQUIRE(store.put("a", pattern(10, 1)));
  std::optional<Code> code;
  store.store->stat({"u1001", "a"},
                    [&](Result<ObjectInfo> r) { code = r ? Code::ok : r.error().code(); });
  CHECK(code == Code::not_found);
}

TEST_CASE_FIXTURE(Fixture, "A flipped bit in any block returns corrupt and names the block") {
  REQUIRE(store.put("object", pattern(large, 1)));
  for (std::size_t block = 0; block < blocks_for(large); ++block) {
    std::byte& victim = machine.data_file().current[block * block_bytes + 17];
    victim ^= std::byte{4};
    const auto got = store.get("object");
    REQUIRE_FALSE(got);
    CHECK(got.error().code() == Code::corrupt);
    CHECK(got.error().message().find("block " + std::to_string(block)) != std::string::npos);
    victim ^= std::byte{4};
  }
  CHECK(store.get("object"));
}

TEST_CASE_FIXTURE(Fixture, "Bytes of a corrupt block never reach the client's memory") {
  const Bytes bytes = pattern(2 * block_bytes, 1);
  REQUIRE(store.put("object", bytes));
  machine.data_file().current[block_bytes] ^= std::byte{1};
  Bytes memory(2 * block_bytes, std::byte{0xee});
  bool answered = false;
  store.store->get(1, {"u1000", "object"}, 0, 0, memory, nullptr,
                   [&](const Result<GetResult>& result) { answered = !result; });
  store.settle();
  CHECK(answered);
  CHECK(std::all_of(memory.begin() + block_bytes, memory.end(),
                    [](std::byte b) { return b == std::byte{0xee}; }));
}

TEST_CASE_FIXTURE(Fixture, "Two blocks that changed places return corrupt") {
  REQUIRE(store.put("object", pattern(2 * block_bytes, 1)));
  std::byte* blocks = machine.data_file().current.data();
  std::swap_ranges(blocks, blocks + block_bytes, blocks + block_bytes);
  CHECK(store.get("object").error().code() == Code::corrupt);
}

TEST_CASE_FIXTURE(Fixture, "A data file that was cut short returns corrupt for what it lost") {
  const Bytes bytes = pattern(large, 1);
  REQUIRE(store.put("kept", bytes));
  REQUIRE(store.put("lost", bytes));
  store.store.reset();
  machine.data_file().preallocated = 0;
  machine.data_file().current.resize(blocks_for(large) * block_bytes);
  reopen();
  CHECK(*store.get("kept") == bytes);
  CHECK(store.get("lost").error().code() == Code::corrupt);
}

TEST_CASE_FIXTURE(Fixture,
                  "A source that changes during its put is stored with a matching checksum") {
  Bytes bytes = pattern(20 * chunk_bytes, 1);
  std::optional<Result<ObjectInfo>> answer;
  store.store->put(1, {"u1000", "object"}, bytes, nullptr, store.now(),
                   [&](Result<ObjectInfo> info) { answer = std::move(info); });
  for (std::size_t i = 0; !answer; ++i) {
    bytes[(i * 7919 * 64) % bytes.size()] ^= std::byte{255};
    store.step();
  }
  REQUIRE(*answer);
  CHECK(store.get("object", 0, bytes.size()));
}

TEST_CASE_FIXTURE(Fixture, "A replace does not reuse blocks that a running get reads") {
  const Bytes old_bytes = pattern(large, 1);
  REQUIRE(store.put("object", old_bytes));
  Bytes memory(large);
  std::optional<Result<GetResult>> answer;
  store.store->get(1, {"u1000", "object"}, 0, 0, memory, nullptr,
                   [&](Result<GetResult> result) { answer = std::move(result); });
  // The get has its blocks, and its disk requests wait until the store advances.
  std::size_t puts = 0;
  for (int i = 0; i < 3; ++i)
    store.store->put(1, {"u1000", "object"}, old_bytes, nullptr, store.now(),
                     [&](const Result<ObjectInfo>& info) { puts += info ? 1 : 0; });
  while (!answer || puts != 3) store.step();
  REQUIRE(*answer);
  CHECK(memory == old_bytes);
}

TEST_CASE_FIXTURE(Fixture, "Blocks of removed and replaced objects are used again") {
  for (int i = 0; i < 300; ++i)
    REQUIRE(store.put("a", pattern(large, static_cast<std::uint64_t>(i))));
  REQUIRE(store.remove("a"));
  CHECK(machine.data_file().size() == growth_bytes);
}

TEST_CASE_FIXTURE(Fixture,
                  "A full disk returns no_space, removing works, and then there is room again") {
  machine.total_bytes = 1ull << 30;
  machine.free_bytes = (1ull << 30) / 100 * reserve_percent + growth_bytes + block_bytes;
  std::size_t stored = 0;
  const Bytes bytes = pattern(chunk_bytes, 1);
  Result<ObjectInfo> last = ObjectInfo{};
  while ((last = store.put(std::to_string(stored), bytes))) ++stored;
  CHECK(last.error().code() == Code::no_space);
  CHECK(stored == growth_bytes / chunk_bytes);
  CHECK(store.put("again", bytes).error().code() == Code::no_space);
  REQUIRE(store.remove("0"));
  CHECK(store.put("again", bytes));
  CHECK(store.put("more", bytes).error().code() == Code::no_space);
  machine.free_bytes += growth_bytes;
  CHECK(store.put("more", bytes));
}

TEST_CASE_FIXTURE(Fixture, "Small values leave a reserve on a full disk, so that removing works") {
  REQUIRE(store.put("small", pattern(100, 1)));
  machine.free_bytes = 0;
  CHECK(store.put("other", pattern(100, 2)).error().code() == Code::no_space);
  CHECK(store.remove("small"));
}

TEST_CASE_FIXTURE(Fixture, "A cancelled put leaves neither an object nor used blocks") {
  REQUIRE(store.put("first", pattern(large, 1)));
  const Bytes bytes = pattern(40 * chunk_bytes, 2);
  std::optional<Code> code;
  store.store->put(9, {"u1000", "big"}, bytes, nullptr, store.now(),
                   [&](const Result<ObjectInfo>& r) { code = r ? Code::ok : r.error().code(); });
  store.step();
  REQUIRE_FALSE(code);
  store.store->cancel(9);
  store.settle();
  CHECK(code == Code::cancelled);
  CHECK(store.stat("big").error().code() == Code::not_found);
  for (int i = 0; i < 20; ++i) REQUIRE(store.put("big", bytes));
  CHECK(machine.data_file().size() == growth_bytes);
}

TEST_CASE_FIXTURE(Fixture, "Too many requests under way return busy") {
  std::size_t busy = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < max_store_requests + 3; ++i)
    store.store->remove({"u1000", "x"}, store.now(), [&](const Result<>& result) {
      ++(result.error().code() == Code::busy ? busy : done);
    });
  CHECK(busy == 3);
  while (done != max_store_requests) store.step();
  CHECK(store.put("x", {}));
}

TEST_CASE_FIXTURE(Fixture,
                  "The totals follow puts, replaces, renames and removes, also over a restart") {
  REQUIRE(store.put("a", pattern(100, 1)));
  REQUIRE(store.put("b", pattern(large, 2)));
  REQUIRE(store.put("a", pattern(50, 3)));
  CHECK(store.info().objects == 2);
  CHECK(store.info().stored_bytes == large + 50);
  CHECK(store.info().puts == 3);
  REQUIRE(store.rename("a", "b"));
  reopen();
  CHECK(store.info().objects == 1);
  CHECK(store.info().stored_bytes == 50);
  CHECK(store.info().puts == 0);
}
