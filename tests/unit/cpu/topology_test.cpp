#include "drivers/cpu/topology.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace aios::cpu;

namespace {

Topology discover(const char* synthetic, const std::string& machine = "m1") {
  ::setenv("HWLOC_SYNTHETIC", synthetic, 1);
  const auto topology = discover_topology(machine);
  ::unsetenv("HWLOC_SYNTHETIC");
  REQUIRE(topology);
  return *topology;
}

}  // namespace

TEST_CASE("Cores, threads and nodes are counted over the whole machine") {
  const Topology topology = discover("node:2 core:4 pu:2");
  CHECK(topology.numa_nodes == 2);
  CHECK(topology.cores == 8);
  CHECK(topology.threads == 16);
  CHECK(topology.memory_bytes > 0);
  CHECK(topology.model == "unknown processor");
}

TEST_CASE("The last level cache is one of the outermost") {
  const Topology topology = discover("node:1 l3:2(size=8388608) l2:2(size=1048576) pu:1");
  CHECK(topology.cache_bytes == 8388608);
}

TEST_CASE("The uuid is the same for the same machine and another for another") {
  const std::string uuid = discover("core:4 pu:2").uuid;
  CHECK(uuid.size() == 36);
  CHECK(uuid == discover("core:4 pu:2").uuid);
  CHECK(uuid != discover("core:8 pu:2").uuid);
  CHECK(uuid != discover("core:4 pu:2", "m2").uuid);
}

TEST_CASE("This machine has at least one thread and some memory") {
  const auto topology = discover_topology(read_machine_id());
  REQUIRE(topology);
  CHECK(topology->threads >= 1);
  CHECK(topology->memory_bytes > 0);
  CHECK(!topology->model.empty());
}
