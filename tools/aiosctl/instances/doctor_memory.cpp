#include "tools/aiosctl/instances/doctor_memory.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/host_memory.hpp"

namespace aios::ctl {

namespace {

/// With memory of the same kind as a region's.
Result<void> try_huge_page() {
  const Fd file(::memfd_create("aios-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid() || ::ftruncate(file.get(), huge_page_bytes) != 0 ||
      ::fallocate(file.get(), 0, 0, huge_page_bytes) != 0 ||
      ::fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0)
    return errno_error("make a memory file", errno);
  const Mapping mapping = TRY(Mapping::map(file, huge_page_bytes, Mapping::Access::read_write));
  return use_huge_pages(mapping.bytes());
}

MemoryFeature huge_pages() {
  MemoryFeature feature{
      .name = "huge-pages",
      .gives = "a region made for huge pages lies in pages of 2 MiB",
      .without =
          "every region lies in pages of 4 KiB, and one that wants only huge ones is refused",
      .enable =
          "Linux 6.1 or newer with transparent huge pages, and anything but \"deny\" in "
          "/sys/kernel/mm/transparent_hugepage/shmem_enabled"};
  const auto tried = try_huge_page();
  feature.given = tried.has_value();
  if (!tried) feature.reason = tried.error().message();
  return feature;
}

MemoryFeature numa_placement() {
  MemoryFeature feature{
      .name = "numa-placement",
      .without = "regions lie wherever Linux puts what the kernel process fills",
      .enable =
          "in a container, allow get_mempolicy and set_mempolicy (Docker: --cap-add "
          "SYS_NICE); else a Linux built with NUMA"};
  const NumaNodes nodes = numa_nodes();
  if (nodes == 0) {
    feature.reason = "this host knows no NUMA nodes, or forbids to ask for them";
    return feature;
  }
  if (std::has_single_bit(nodes)) {
    feature.given = true;
    feature.gives = "this machine has one NUMA node, so all memory is equally near";
    return feature;
  }
  const auto tried = NumaPreference::take(nodes);
  feature.given = tried && tried->taken();
  feature.gives =
      fmt::format("a region lies on the NUMA node of its creator, or where it wants, of {}",
                  std::popcount(nodes));
  if (!feature.given) feature.reason = "set_mempolicy is forbidden here";
  return feature;
}

}  // namespace

std::vector<MemoryFeature> memory_features() {
  return {huge_pages(), numa_placement()};
}

}  // namespace aios::ctl
