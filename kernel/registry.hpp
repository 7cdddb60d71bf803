// What the kernel can enumerate: every process, region and link by id, and the memory that waits
// to be given back.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "abi/runtime/fd.hpp"

namespace aios::kernel {

class Link;
class Process;
class Region;

/// Memory of an ended region: given back in slices by the event loop, since the last close of a
/// large file takes long.
struct ReleasedMemory {
  Fd file;
  std::uint64_t size_bytes = 0;
};

struct Registry {
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, std::shared_ptr<Process>> processes;  ///< living ones
  std::map<std::uint64_t, Region*> regions;                     ///< entered and left by themselves
  std::map<std::uint64_t, Link*> links;                         ///< entered and left by themselves
  std::deque<ReleasedMemory> released;
  std::deque<Fd> released_channels;  ///< of lent files: closed by a child, since it may block
};

}  // namespace aios::kernel
