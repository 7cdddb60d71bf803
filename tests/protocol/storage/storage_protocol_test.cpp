#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <random>
#include <thread>

#include "tests/protocol/storage/instance.hpp"

using namespace aios;
using namespace aios::storage::test;

namespace {

constexpr std::uint64_t region_bytes = 1u << 20;

wire::ObjectName name_of(std::string_view text) {
  return wire::ObjectName::from(text);
}

struct Fixture {
  Instance instance;
  Connection storage{instance};
  Region memory = *Region::create(storage.kernel(), region_bytes, "test");
  std::uint32_t region = *storage.attach(memory, true);

  void fill(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (std::size_t at = 0; at < memory.size(); at += sizeof(std::uint64_t)) {
      const std::uint64_t word = random();
      std::memcpy(memory.data() + at, &word, sizeof word);
    }
  }
  auto put(std::string_view name, std::uint64_t offset, std::uint64_t length) {
    return storage.call<wire::Put>({offset, length, region, 0, name_of(name)});
  }
  auto get(std::string_view name, std::uint64_t offset, std::uint64_t length,
           std::uint64_t object_offset = 0) {
    return storage.call<wire::Get>({offset, length, object_offset, 0, region, 0, name_of(name)});
  }
};

template <class T>
Code code_of(const Result<T>& result) {
  return result ? Code::ok : result.error().code();
}

/// For how long the main thread of the process has had a core.
std::uint64_t on_core_ns(pid_t process) {
  std::uint64_t ns = 0;
  std::ifstream("/proc/" + std::to_string(process) + "/schedstat") >> ns;
  return ns;
}

}  // namespace

TEST_CASE_FIXTURE(Fixture, "A server that has nothing to do sleeps, however much it has done") {
  for (int round = 0; round < 8; ++round) {
    for (int i = 0; i < 40; ++i) {
      REQUIRE(put("object", 0, 4096));
      REQUIRE(get("object", 0, 4096));
    }
    const pid_t process = instance.storage_pid(storage.kernel());
    const std::uint64_t before = on_core_ns(process);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    CHECK(on_core_ns(process) - before < 10 * ns_per_ms);
  }
}

TEST_CASE_FIXTURE(Fixture, "Objects travel between a client's region and storage") {
  fill(1);
  const std::uint64_t length = 300'000;
  const auto stored = put("folder/object", 4096, length);
  REQUIRE(stored);
  CHECK(stored->size_bytes == length);
  const std::vector<std::byte> before(memory.data() + 4096, memory.data() + 4096 + length);
  std::memset(memory.data(), 0, memory.size());
  const auto got = get("folder/object", 8192, region_bytes - 8192);
  REQUIRE(got);
  CHECK(got->length == length);
  CHECK(std::equal(before.begin(), before.end(), memory.data() + 8192));
  const auto part = get("folder/object", 0, 1000, 70'000);
  REQUIRE(part);
  CHECK(part->length == 1000);
  CHECK(std::equal(memory.data(), memory.data() + 1000, before.begin() + 70'000));
  const auto info = storage.call<wire::Info>({});
  REQUIRE(info);
  CHECK(info->objects == 1);
  CHECK(info->stored_bytes == length);
}

TEST_CASE_FIXTURE(Fixture, "Listing, renaming and removing work by name") {
  for (const char* name : {"a/1", "a/2", "b"}) REQUIRE(put(name, 0, 10));
  REQUIRE(storage.call<wire::Rename>({name_of("b"), name_of("a/3")}));
  const auto listed =
      storage.call<wire::List>({0, region_bytes, region, 0, name_of("a/"), name_of("a/1")});
  REQUIRE(listed);
  CHECK(listed->count == 2);
  CHECK(listed->more == 0);
  wire::ListEntry entry{};
  std::memcpy(&entry, memory.data() + sizeof entry, sizeof entry);
  CHECK(entry.object.view() == "a/3");
  REQUIRE(storage.call<wire::Remove>({name_of("a/1")}));
  CHECK(code_of(storage.call<wire::Stat>({name_of("a/1")})) == Code::not_found);
  CHECK(storage.call<wire::RemovePrefix>({name_of("a/")})->count == 2);
}

TEST_CASE_FIXTURE(Fixture, "Ranges outside the region return invalid_argument") {
  constexpr std::uint64_t huge = ~0ull;
  REQUIRE(put("object", 0, region_bytes));
  for (const auto& [offset, length] : {std::pair{region_bytes, std::uint64_t{1}},
                                       {std::uint64_t{1}, region_bytes},
                                       {huge, std::uint64_t{2}},
                                       {std::uint64_t{0}, region_bytes + 1},
                                       {huge - 1, huge}}) {
    if (length <= wire::max_object_bytes)
      CHECK(code_of(put("x", offset, length)) == Code::invalid_argument);
    CHECK(code_of(get("object", offset, length)) == Code::invalid_argument);
    CHECK(code_of(storage.call<wire::List>({offset, length, region, 0, {}, {}})) ==
          Code::invalid_argument);
  }
  CHECK(code_of(put("x", 0, huge)) == Code::too_large);
  CHECK(code_of(storage.call<wire::List>({0, 8, region, 0, {}, {}})) == Code::invalid_argument);
  CHECK(get("object", 0, 10, huge)->length == 0);
}

TEST_CASE_FIXTURE(Fixture, "Names that break the rules return invalid_argument") {
  for (const char* name : {"", "/a", "a//b", "a/../b", "a\nb"}) {
    CHECK(code_of(put(name, 0, 10)) == Code::invalid_argument);
    CHECK(code_of(get(name, 0, 10)) == Code::invalid_argument);
    CHECK(code_of(storage.call<wire::Stat>({name_of(name)})) == Code::invalid_argument);
    CHECK(code_of(storage.call<wire::Remove>({name_of(name)})) == Code::invalid_argument);
    CHECK(code_of(storage.call<wire::Rename>({name_of("a"), name_of(name)})) ==
          Code::invalid_argument);
  }
  wire::ObjectName unterminated{};
  std::memset(unterminated.bytes, 'x', sizeof unterminated.bytes);
  CHECK(code_of(storage.call<wire::Stat>({unterminated})) == Code::invalid_argument);
  wire::ObjectName trailing = name_of("a");
  trailing.bytes[100] = 'x';
  CHECK(code_of(storage.call<wire::Stat>({trailing})) == Code::invalid_argument);
  CHECK(code_of(storage.call<wire::RemovePrefix>({name_of("a")})) == Code::invalid_argument);
  CHECK(code_of(storage.call<wire::Put>({0, 1, region, 7, name_of("a")})) ==
        Code::invalid_argument);
}

TEST_CASE_FIXTURE(Fixture, "Regions that are not attached return not_found") {
  CHECK(code_of(storage.call<wire::DetachRegion>({63})) == Code::not_found);
  CHECK(code_of(storage.call<wire::DetachRegion>({~0ull})) == Code::not_found);
  REQUIRE(storage.call<wire::DetachRegion>({region}));
  CHECK(code_of(put("a", 0, 10)) == Code::not_found);
  Connection other(instance);
  const auto stolen = other.call<wire::Put>({0, 10, region, 0, name_of("a")});
  CHECK(code_of(stolen) == Code::not_found);
}

TEST_CASE_FIXTURE(Fixture, "Handles that were never sent return bad_handle") {
  for (const Handle handle : {Handle{0}, Handle{99'999}, ~Handle{0}})
    CHECK(code_of(storage.call<wire::AttachRegion>({handle, 1})) == Code::bad_handle);
  CHECK(code_of(storage.call<wire::AttachRegion>({0, 2})) == Code::invalid_argument);
}

TEST_CASE_FIXTURE(Fixture, "A region lent for reading is neither written nor attached writable") {
  CHECK(code_of(storage.attach(memory, true, rights::map_read)) == Code::denied);
  const auto number = storage.attach(memory, false, rights::map_read);
  REQUIRE(number);
  REQUIRE(storage.call<wire::Put>({0, 10, *number, 0, name_of("a")}));
  CHECK(code_of(storage.call<wire::Get>({0, 10, 0, 0, *number, 0, name_of("a")})) == Code::denied);
  CHECK(code_of(storage.call<wire::List>({0, 1000, *number, 0, {}, {}})) == Code::denied);
}

TEST_CASE_FIXTURE(Fixture, "More attached regions than the limit return quota") {
  std::uint32_t last = region;
  for (std::uint32_t i = 1; i < wire::max_attached_regions; ++i) {
    const auto next = storage.attach(memory, true);
    REQUIRE(next);
    last = *next;
  }
  CHECK(code_of(storage.attach(memory, true)) == Code::quota);
  REQUIRE(storage.call<wire::DetachRegion>({last}));
  const auto again = storage.attach(memory, true);
  REQUIRE(again);
  // Who still names the region that is gone must not meet another one.
  CHECK(*again != last);
  CHECK(code_of(storage.call<wire::DetachRegion>({last})) == Code::not_found);
}

TEST_CASE_FIXTURE(Fixture, "Detaching a region that a request uses returns busy") {
  bool stored = false;
  // Both requests are in the ring before storage looks at either.
  storage.client().start<wire::Put>({0, region_bytes, region, 0, name_of("a")},
                                    Deadline::after(patience_ns),
                                    [&](const Result<wire::ObjectInfo>& info) {
                                      stored = info.has_value();
                                      storage.end_turn();
                                    });
  Code detached = Code::ok;
  storage.client().start<wire::DetachRegion>(
      {region}, Deadline::after(patience_ns),
      [&](const Result<proto::Empty>& reply) { detached = code_of(reply); });
  while (!stored) storage.turn();
  // A server that was quick enough has nothing left to refuse.
  const bool as_documented = detached == Code::busy || detached == Code::ok;
  CHECK(as_documented);
}

TEST_CASE_FIXTURE(Fixture, "A request of wrong length closes the link, and others are served") {
  Connection hostile(instance);
  Code code = Code::ok;
  const std::byte bytes[3] = {};
  hostile.client().start_raw(wire::Stat::opcode, bytes, {}, {}, Deadline::after(patience_ns),
                             [&](const Result<std::span<const std::byte>>& r) {
                               code = code_of(r);
                               hostile.end_turn();
                             });
  while (code == Code::ok) hostile.turn();
  const bool refused = code == Code::protocol_error || code == Code::peer_closed;
  CHECK(refused);
  CHECK(put("a", 0, 10));
}

TEST_CASE_FIXTURE(Fixture, "A client that changes its bytes during a put damages nothing") {
  std::atomic<bool> stop = false;
  std::thread scribbler([&] {
    for (std::uint64_t i = 0; !stop; ++i)
      reinterpret_cast<std::atomic<std::uint64_t>*>(
          memory.data())[(i * 8191) % (region_bytes / 8)] = i;
  });
  for (int i = 0; i < 20; ++i) CHECK(put("object", 0, region_bytes));
  stop = true;
  scribbler.join();
  CHECK(get("object", 0, region_bytes));
}

TEST_CASE_FIXTURE(Fixture, "A client that goes away during its puts leaves a store that serves") {
  {
    Connection other(instance);
    const Region region_of_other = *Region::create(other.kernel(), 8 * region_bytes, "other");
    const std::uint32_t number = *other.attach(region_of_other, true);
    for (int i = 0; i < 8; ++i)
      other.client().start<wire::Put>({0, 8 * region_bytes, number, 0, name_of("big")},
                                      Deadline::after(patience_ns), [](const auto&) {});
    REQUIRE(other.loop().turn(Deadline::after(0)));
  }
  REQUIRE(put("a", 0, region_bytes));
  CHECK(get("a", 0, region_bytes));
}

TEST_CASE("The thread backend serves the same protocol and says what it is") {
  Instance instance(R"("--backend", "threads")");
  Connection storage(instance);
  const Region memory = *Region::create(storage.kernel(), region_bytes, "test");
  const std::uint32_t region = *storage.attach(memory, true);
  REQUIRE(storage.call<wire::Put>({0, region_bytes, region, 0, name_of("a")}));
  REQUIRE(storage.call<wire::Get>({0, region_bytes, 0, 0, region, 0, name_of("a")}));
  CHECK(storage.call<wire::Info>({})->backend.view() == "threads");
}
