// Huge pages and NUMA nodes, as this machine has them.
#include "abi/runtime/host_memory.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <string>

#include "abi/runtime/fd.hpp"

namespace aios {
namespace {

constexpr std::size_t page_bytes = 4096;

Fd memory_file(std::size_t size_bytes) {
  Fd file(::memfd_create("host-memory-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(file.get(), static_cast<off_t>(size_bytes)) == 0);
  REQUIRE(::fallocate(file.get(), 0, 0, static_cast<off_t>(size_bytes)) == 0);
  REQUIRE(::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  return file;
}

Mapping map(const Fd& file, std::size_t size_bytes,
            Mapping::Access access = Mapping::Access::read_write) {
  auto mapping = Mapping::map(file, size_bytes, access);
  REQUIRE(mapping);
  return *std::move(mapping);
}

/// What Linux says of the mapping: how much of it its page table has in huge pages.
std::size_t huge_bytes_of(const Mapping& mapping) {
  std::ifstream smaps("/proc/self/smaps");
  char begin[32];
  std::snprintf(begin, sizeof begin, "%lx-", reinterpret_cast<unsigned long>(mapping.data()));
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with(begin)) here = true;
    if (here && line.starts_with("ShmemPmdMapped:")) return std::stoul(line.substr(15)) * 1024;
  }
  FAIL("the mapping is not listed");
  return 0;
}

/// Mappings of this process that nobody can use.
std::size_t reserved_places() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);)
    if (line.find(" ---p ") != std::string::npos) ++count;
  return count;
}

int policy_mode() {
  int mode = -1;
  (void)::syscall(SYS_get_mempolicy, &mode, nullptr, 0, nullptr, 0);
  return mode;
}

}  // namespace

TEST_CASE("Large files are mapped where huge pages can be entered, small ones anywhere") {
  for (const std::size_t size : {page_bytes, huge_page_bytes - page_bytes, huge_page_bytes,
                                 huge_page_bytes + page_bytes, 5 * huge_page_bytes}) {
    const Fd file = memory_file(size);
    const std::size_t reserved = reserved_places();
    const Mapping mapping = map(file, size);
    CHECK(mapping.size() == size);
    if (size >= huge_page_bytes)
      CHECK(reinterpret_cast<std::uintptr_t>(mapping.data()) % huge_page_bytes == 0);
    mapping.data()[0] = std::byte{1};
    mapping.data()[size - 1] = std::byte{2};
    CHECK(map(file, size, Mapping::Access::read).data()[size - 1] == std::byte{2});
    // Nothing of the room around it is left behind.
    CHECK(reserved_places() == reserved);
  }
}

TEST_CASE("Memory put into huge pages is so for all who map it, and keeps its bytes") {
  constexpr std::size_t size = 3 * huge_page_bytes + page_bytes;
  const Fd file = memory_file(size);
  const Mapping mapping = map(file, size);
  std::memset(mapping.data(), 7, size);
  const auto put = use_huge_pages(mapping.bytes());
  if (!put) {
    MESSAGE("this host: " << put.error().message());
    CHECK((put.error().code() == Code::not_supported || put.error().code() == Code::no_memory));
  } else {
    CHECK(huge_bytes_of(mapping) == 3 * huge_page_bytes);
    const Mapping other = map(file, size, Mapping::Access::read);
    for (std::size_t at = 0; at < size; at += page_bytes) REQUIRE(other.data()[at] == std::byte{7});
    CHECK(huge_bytes_of(other) == 3 * huge_page_bytes);
  }
  for (std::size_t at = 0; at < size; ++at) REQUIRE(mapping.data()[at] == std::byte{7});
}

TEST_CASE("Memory without a whole huge page in it is left as it is") {
  const Fd file = memory_file(page_bytes);
  const Mapping mapping = map(file, page_bytes);
  if (use_huge_pages(mapping.bytes())) CHECK(huge_bytes_of(mapping) == 0);
}

TEST_CASE("A preference for NUMA nodes holds while it lives, and names nodes that are there") {
  const NumaNodes there = numa_nodes();
  CHECK_FALSE(NumaPreference::take(0)->taken());
  const int before = policy_mode();
  for (const NumaNodes nodes : {there, all_numa_nodes, NumaNodes{1}}) {
    if (there != 0 && (nodes & there) == 0) continue;
    const auto preference = NumaPreference::take(nodes);
    REQUIRE(preference);
    // With one node there is nothing to prefer.
    CHECK((std::popcount(there) > 1 || !preference->taken()));
    if (preference->taken())
      CHECK(policy_mode() == (std::has_single_bit(nodes) ? MPOL_PREFERRED : MPOL_INTERLEAVE));
  }
  CHECK(policy_mode() == before);
  if (there == 0 || there == all_numa_nodes) return;
  const auto refused = NumaPreference::take(~there);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code() == Code::invalid_argument);
}

TEST_CASE("The node of the processor here is one") {
  CHECK(std::popcount(numa_node_here()) <= 1);
  CHECK(numa_node_here() != 0);
}

}  // namespace aios
