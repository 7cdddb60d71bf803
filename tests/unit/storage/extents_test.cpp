#include "services/storage/extents.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

using namespace aios;
using namespace aios::storage;

namespace {

std::uint64_t total(const std::vector<Extent>& extents) {
  std::uint64_t blocks = 0;
  for (const Extent& extent : extents) blocks += extent.blocks;
  return blocks;
}

void mark(std::vector<bool>& used, const Extent& extent, bool to) {
  for (std::uint64_t i = extent.start; i < extent.start + extent.blocks; ++i) {
    REQUIRE(i < used.size());
    REQUIRE(used[i] != to);
    used[i] = to;
  }
}

}  // namespace

TEST_CASE("An allocation takes the smallest run that fits") {
  ExtentAllocator allocator;
  allocator.grow_to(100);
  REQUIRE(allocator.reserve({10, 1}));
  REQUIRE(allocator.reserve({20, 1}));
  const auto extents = allocator.allocate(9);
  REQUIRE(extents);
  CHECK(*extents == std::vector<Extent>{{11, 9}});
}

TEST_CASE("An object larger than any free run gets several extents") {
  ExtentAllocator allocator;
  allocator.grow_to(10);
  REQUIRE(allocator.reserve({4, 2}));
  const auto extents = allocator.allocate(8);
  REQUIRE(extents);
  CHECK(extents->size() == 2);
  CHECK(total(*extents) == 8);
  CHECK(allocator.free_blocks() == 0);
}

TEST_CASE("Allocating more blocks than are free returns no_space and changes nothing") {
  ExtentAllocator allocator;
  allocator.grow_to(4);
  const auto extents = allocator.allocate(5);
  REQUIRE_FALSE(extents);
  CHECK(extents.error().code() == Code::no_space);
  CHECK(allocator.free_blocks() == 4);
}

TEST_CASE("Reserving blocks twice or beyond the capacity returns corrupt") {
  ExtentAllocator allocator;
  allocator.grow_to(10);
  REQUIRE(allocator.reserve({2, 4}));
  for (const Extent bad :
       {Extent{5, 1}, Extent{0, 3}, Extent{4, 20}, Extent{10, 1}, Extent{7, 0}, Extent{8, ~0ull}}) {
    const Result<> reserved = allocator.reserve(bad);
    REQUIRE_FALSE(reserved);
    CHECK(reserved.error().code() == Code::corrupt);
  }
  CHECK(allocator.free_blocks() == 6);
}

TEST_CASE("Random allocations and releases never overlap and never lose a block") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    ExtentAllocator allocator;
    std::vector<bool> used;
    std::vector<std::vector<Extent>> live;
    for (int step = 0; step < 500; ++step) {
      const std::uint64_t choice = random() % 8;
      if (choice == 0) {
        used.resize(used.size() + random() % 200, false);
        allocator.grow_to(used.size());
      } else if (choice < 5) {
        const std::uint64_t wanted = 1 + random() % 60;
        const bool fits = wanted <= allocator.free_blocks();
        auto extents = allocator.allocate(wanted);
        REQUIRE(extents.has_value() == fits);
        if (!fits) continue;
        REQUIRE(total(*extents) == wanted);
        for (const Extent& extent : *extents) mark(used, extent, true);
        live.push_back(*std::move(extents));
      } else if (!live.empty()) {
        std::swap(live[random() % live.size()], live.back());
        for (const Extent& extent : live.back()) {
          mark(used, extent, false);
          allocator.release(extent);
        }
        live.pop_back();
      }
      const auto taken = static_cast<std::uint64_t>(std::count(used.begin(), used.end(), true));
      REQUIRE(allocator.free_blocks() == used.size() - taken);
    }
    for (const auto& extents : live)
      for (const Extent& extent : extents) allocator.release(extent);
    if (used.size() < 2 || used.size() > max_extent_blocks) continue;
    // All runs have merged: one extent holds everything.
    CHECK(allocator.allocate(used.size())->size() == 1);
  }
}
