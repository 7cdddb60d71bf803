#include "abi/runtime/host_memory.hpp"

#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>

namespace aios {
namespace {

// Newer than the headers of Debian 12.
constexpr int madv_collapse = 25;

}  // namespace

NumaNodes numa_nodes() {
  constexpr std::size_t most = 4096;
  std::array<std::uint64_t, most / 64> nodes{};
  if (::syscall(SYS_get_mempolicy, nullptr, nodes.data(), most + 1, nullptr, MPOL_F_MEMS_ALLOWED) !=
      0)
    return 0;
  return nodes.front();
}

NumaNodes numa_node_here() {
  unsigned cpu = 0;
  unsigned node = 0;
  if (::getcpu(&cpu, &node) != 0 || node >= max_numa_nodes) return 0;
  return NumaNodes{1} << node;
}

Result<NumaPreference> NumaPreference::take(NumaNodes nodes) {
  NumaPreference made;
  const NumaNodes there = nodes == 0 ? 0 : numa_nodes();
  if (there == 0) return made;
  const NumaNodes chosen = nodes & there;
  if (chosen == 0)
    return error(Code::invalid_argument, "the machine has none of the NUMA nodes asked for");
  if (std::has_single_bit(there)) return made;
  // Never bound to them: Linux would sooner kill something than take memory of another node.
  const int mode = std::has_single_bit(chosen) ? MPOL_PREFERRED : MPOL_INTERLEAVE;
  Policy& before = made.before_;
  made.taken_ = ::syscall(SYS_get_mempolicy, &before.mode, before.nodes.data(),
                          Policy::most_nodes + 1, nullptr, 0) == 0 &&
                ::syscall(SYS_set_mempolicy, mode, &chosen, max_numa_nodes + 1) == 0;
  return made;
}

NumaPreference::~NumaPreference() {
  if (taken_)
    ::syscall(SYS_set_mempolicy, before_.mode, before_.nodes.data(), Policy::most_nodes + 1);
}

Result<void> use_huge_pages(std::span<std::byte> mapping) {
  constexpr long small_page_bytes = 4096;
  if (::sysconf(_SC_PAGESIZE) != small_page_bytes)
    return error(Code::not_supported, "this machine's pages are not of 4 KiB and 2 MiB");
  // Not at once where Linux itself still holds some of the pages, which it has just filled.
  constexpr int attempts = 5;
  int failed = 0;
  for (int i = 0; i < attempts; ++i) {
    if (::madvise(mapping.data(), mapping.size(), madv_collapse) == 0) return {};
    failed = errno;
    if (failed != EAGAIN && failed != EBUSY) break;
  }
  if (failed == EINVAL)
    return error(Code::not_supported, "this host gives shared memory no huge pages");
  return error(Code::no_memory, "the machine has not so many huge pages left");
}

}  // namespace aios
