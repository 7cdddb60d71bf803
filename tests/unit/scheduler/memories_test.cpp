#include "services/scheduler/core/parts/memories.hpp"

#include <doctest/doctest.h>

namespace aios::scheduler {

TEST_CASE("Data that has a copy in a memory costs nothing there") {
  Memories memories;
  memories.add_device();
  memories.add_device();
  CHECK(memories.is_one());
  memories.set_memory(1, 1);
  CHECK_FALSE(memories.is_one());
  memories.set_transfer(0, 1, {100, 2});
  memories.set_transfer(1, 0, {200, 3});
  CHECK(memories.of(0) == host_memory);
  CHECK(memories.transfer_ns(only_in(0), 0, 1000) == 0);
  CHECK(memories.transfer_ns(only_in(0) | only_in(1), 1, 1000) == 0);
  CHECK(memories.transfer_ns(only_in(0), 1, 1000) == 2100);
  CHECK(memories.transfer_ns(only_in(1), 0, 1000) == 3200);
  CHECK(memories.transfer_ns(only_in(1), 0, 0) == 0);
  CHECK(memories.mean().of(1000) == 2650);
}

TEST_CASE("Data comes from the nearest of its copies") {
  Memories memories;
  for (MemoryId m = 0; m < 3; ++m) {
    memories.add_device();
    memories.set_memory(m, m);
  }
  memories.set_transfer(0, 2, {0, 5});
  memories.set_transfer(1, 2, {0, 1});
  CHECK(memories.transfer_ns(only_in(0), 2, 10) == 50);
  CHECK(memories.transfer_ns(only_in(0) | only_in(1), 2, 10) == 10);
}

}  // namespace aios::scheduler
