#include "abi/runtime/ring.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "abi/runtime/time.hpp"

using namespace aios;

namespace {

/// Two halves in private memory, as the two sides of a link see them.
struct Pair {
  std::unique_ptr<std::byte[]> memory{new (std::align_val_t{4096})
                                          std::byte[2 * proto::half_bytes]{}};
  std::byte* left = memory.get();
  std::byte* right = memory.get() + proto::half_bytes;
  RingSender sender{left, right};
  RingReceiver receiver{right, left};

  ~Pair() { ::operator delete[](memory.release(), std::align_val_t{4096}); }
  proto::Slot& slot(std::size_t i) {
    return reinterpret_cast<proto::Slot*>(left + proto::page_bytes)[i];
  }
  proto::HalfHeader& receivers_header() { return *reinterpret_cast<proto::HalfHeader*>(right); }
};

/// A message with room behind it that a pop must not touch.
struct Guarded {
  Message message;
  std::array<std::byte, 65536> beyond{};
  bool untouched() const {
    return std::ranges::count(beyond, std::byte{0}) == static_cast<std::ptrdiff_t>(beyond.size());
  }
};

/// Every slot as if published, with bytes in it: only the header decides what is read.
void publish_all(Pair& pair) {
  for (std::uint64_t i = 0; i < proto::slot_count; ++i) {
    std::ranges::fill(pair.slot(i).payload, std::byte{0xaa});
    pair.slot(i).sequence = i + 1;
  }
}

void set_length(Pair& pair, std::uint16_t length) {
  __atomic_store_n(reinterpret_cast<std::uint16_t*>(pair.slot(0).payload + 2), length,
                   __ATOMIC_RELAXED);
}

std::vector<std::byte> pattern(std::size_t size, std::uint32_t seed) {
  std::vector<std::byte> bytes(size);
  std::mt19937 random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

RingResult push(Pair& pair, const std::vector<std::byte>& bytes, std::uint32_t id) {
  return pair.sender.push({7, static_cast<std::uint16_t>(bytes.size()), id}, bytes);
}

}  // namespace

TEST_CASE("Every payload size arrives unchanged") {
  Pair pair;
  Message message;
  for (std::size_t size = 0; size <= proto::max_payload_bytes; ++size) {
    const auto bytes = pattern(size, static_cast<std::uint32_t>(size));
    REQUIRE(push(pair, bytes, static_cast<std::uint32_t>(size)) == RingResult::done);
    REQUIRE(pair.receiver.ready());
    REQUIRE(pair.receiver.pop(message) == RingResult::done);
    CHECK(message.header.call_id == size);
    CHECK(message.header.length == size);
    CHECK(std::equal(bytes.begin(), bytes.end(), message.payload.begin()));
    CHECK_FALSE(pair.receiver.ready());
  }
}

TEST_CASE("An empty ring says would_block") {
  Pair pair;
  Message message;
  CHECK(pair.receiver.pop(message) == RingResult::would_block);
}

TEST_CASE("A full ring refuses whole messages and accepts them again after a pop") {
  Pair pair;
  const auto big = pattern(proto::max_payload_bytes, 1);
  std::uint32_t pushed = 0;
  while (push(pair, big, pushed) == RingResult::done) ++pushed;
  CHECK(pushed == proto::slot_count / proto::max_message_slots);
  Message message;
  REQUIRE(pair.receiver.pop(message) == RingResult::done);
  CHECK(message.header.call_id == 0);
  CHECK(push(pair, big, pushed) == RingResult::done);
  CHECK(push(pair, big, pushed) == RingResult::would_block);
}

TEST_CASE("A sender that waits for room is seen by the receiver") {
  Pair pair;
  CHECK_FALSE(pair.receiver.peer_stalled());
  pair.sender.set_stalled(true);
  CHECK(pair.receiver.peer_stalled());
  pair.sender.set_stalled(false);
  CHECK_FALSE(pair.receiver.peer_stalled());
}

TEST_CASE("A sequence that jumps ahead breaks the ring") {
  Pair pair;
  pair.slot(0).sequence = 2;
  Message message;
  CHECK(pair.receiver.pop(message) == RingResult::broken);
}

TEST_CASE("A length beyond the greatest payload breaks the ring, even with all slots there") {
  for (const std::size_t length :
       {proto::max_payload_bytes + 1, std::size_t{2000}, std::size_t{65535}}) {
    CAPTURE(length);
    Pair pair;
    publish_all(pair);
    set_length(pair, static_cast<std::uint16_t>(length));
    Guarded copy;
    CHECK(pair.receiver.pop(copy.message) == RingResult::broken);
    CHECK(copy.untouched());
  }
}

TEST_CASE("A message whose later slots were not published breaks the ring") {
  Pair pair;
  const proto::MessageHeader lie{1, 200, 1};
  std::memcpy(pair.slot(0).payload, &lie, sizeof lie);
  pair.slot(0).sequence = 1;
  Message message;
  CHECK(pair.receiver.pop(message) == RingResult::broken);
}

TEST_CASE("A receiver that claims more than was sent breaks the ring") {
  Pair pair;
  pair.receivers_header().consumed = 5;
  CHECK(pair.sender.room(proto::slot_count + 1) == RingResult::broken);
}

TEST_CASE("A receiver whose counter goes backwards breaks the ring") {
  Pair pair;
  Message message;
  REQUIRE(push(pair, {}, 1) == RingResult::done);
  REQUIRE(pair.receiver.pop(message) == RingResult::done);
  REQUIRE(pair.sender.room(proto::slot_count) == RingResult::done);
  pair.receivers_header().consumed = 0;
  CHECK(pair.sender.room(proto::slot_count + 1) == RingResult::broken);
}

TEST_CASE("Any bytes in the shared memory give a message, nothing or broken, never a fault") {
  std::mt19937 random(42);
  for (int round = 0; round < 2000; ++round) {
    Pair pair;
    for (std::size_t i = 0; i < 16; ++i) {
      pair.slot(i).sequence = random() % 3 == 0 ? random() : i + 1;
      for (std::byte& b : pair.slot(i).payload) b = static_cast<std::byte>(random());
      if (random() % 2 == 0) pair.slot(i).payload[3] = std::byte{0};
    }
    Message message;
    for (int i = 0; i < 20; ++i)
      if (pair.receiver.pop(message) != RingResult::done)
        break;
      else
        CHECK(message.header.length <= proto::max_payload_bytes);
  }
}

TEST_CASE("A header that changes while it is read is one header, and no more is copied") {
  Pair pair;
  publish_all(pair);
  constexpr std::uint16_t lengths[] = {16, proto::max_payload_bytes, 2000, 100, 0xffff};
  std::atomic<bool> stopping{false};
  std::thread mutator([&] {
    for (std::uint32_t i = 0; !stopping; ++i) set_length(pair, lengths[i % std::size(lengths)]);
  });
  Guarded copy;
  // One processor may be another's for long: a message is taken at least, whatever it takes.
  const Deadline end = Deadline::after(2 * ns_per_s);
  const Deadline last = Deadline::after(60 * ns_per_s);
  int taken = 0;
  bool kept = true;
  for (int i = 0; kept && (taken == 0 ? !last.passed() : i < 300'000 && !end.passed()); ++i) {
    RingReceiver receiver(pair.right, pair.left);
    const bool done = receiver.pop(copy.message) == RingResult::done;
    kept = copy.beyond.front() == std::byte{0};
    if (!done) continue;
    ++taken;
    kept = kept && copy.message.header.length <= proto::max_payload_bytes &&
           pair.receivers_header().consumed == slots_for(copy.message.header.length);
  }
  stopping = true;
  mutator.join();
  CHECK(kept);
  CHECK(copy.untouched());
  CHECK(taken > 0);
}

TEST_CASE("Two threads exchange a long seeded stream in order") {
  Pair pair;
  constexpr std::uint32_t count = 100'000;
  std::thread producer([&] {
    std::mt19937 random(7);
    for (std::uint32_t i = 0; i < count;) {
      const std::vector<std::byte> bytes(random() % proto::max_payload_bytes,
                                         static_cast<std::byte>(i));
      while (push(pair, bytes, i) == RingResult::would_block) std::this_thread::yield();
      ++i;
    }
  });
  std::mt19937 random(7);
  Message message;
  bool same = true;
  for (std::uint32_t i = 0; i < count && same; ++i) {
    RingResult result = pair.receiver.pop(message);
    while (result == RingResult::would_block) {
      std::this_thread::yield();
      result = pair.receiver.pop(message);
    }
    const std::size_t size = random() % proto::max_payload_bytes;
    same =
        result == RingResult::done && message.header.call_id == i && message.header.length == size;
    for (std::size_t b = 0; same && b < size; ++b)
      same = message.payload[b] == static_cast<std::byte>(i);
  }
  CHECK(same);
  producer.join();
}
