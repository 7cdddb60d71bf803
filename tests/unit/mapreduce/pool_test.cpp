#include <doctest/doctest.h>

#include <random>

#include "services/mapreduce/pool.hpp"

using aios::mapreduce::Pool;
using aios::mapreduce::Slice;

TEST_CASE("Slices never overlap and everything freed can be had again") {
  Pool pool;
  pool.add_segment(1u << 20);
  pool.add_segment(512u << 10);
  std::mt19937_64 random(1);
  std::vector<Slice> held;
  for (int i = 0; i < 20000; ++i) {
    if (random() % 2 == 0 || held.empty()) {
      const auto slice = pool.allocate(1 + random() % 60000);
      if (!slice) continue;
      for (const Slice& other : held)
        REQUIRE((other.segment != slice->segment || other.offset + other.bytes <= slice->offset ||
                 slice->offset + slice->bytes <= other.offset));
      held.push_back(*slice);
    } else {
      const std::size_t chosen = random() % held.size();
      if (random() % 2 == 0) pool.shrink(held[chosen], 1 + random() % held[chosen].bytes);
      pool.free(held[chosen]);
      held[chosen] = held.back();
      held.pop_back();
    }
  }
  for (Slice& slice : held) pool.free(slice);
  CHECK(pool.free_bytes() == pool.capacity_bytes());
  CHECK(pool.allocate(1u << 20).has_value());
  CHECK(pool.allocate(512u << 10).has_value());
  CHECK_FALSE(pool.allocate(1).has_value());
}

TEST_CASE("A slice that shrinks gives its end back") {
  Pool pool;
  pool.add_segment(64u << 10);
  auto slice = pool.allocate(60000);
  REQUIRE(slice);
  CHECK_FALSE(pool.allocate(8192));
  pool.shrink(*slice, 4097);
  CHECK(slice->bytes == 8192);
  CHECK(pool.allocate(56u << 10).has_value());
}
