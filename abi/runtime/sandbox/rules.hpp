// What each profile may still do: the one table that root, Landlock, limits and system call filter
// are made from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "abi/runtime/sandbox/sandbox.hpp"

namespace aios::sandbox {

struct Rules {
  std::vector<Folder> folders{};    ///< of the host's, at the same path inside
  std::string private_folder{};     ///< made inside, in memory; its contents go with the process
  bool files = false;               ///< opens, makes and removes files by path
  bool code = false;                ///< maps memory executable
  bool programs = false;            ///< forks and executes
  bool devices = false;             ///< has what GPUs' libraries need; asks them by ioctl
  bool sockets = false;             ///< connects to Unix sockets, in a root of its own
  bool ring = false;                ///< uses the io_uring that it has; it cannot make another
  std::uint64_t file_bytes = 0;     ///< greatest size of a file; 0: any
  std::uint64_t descriptors = 0;    ///< 0: as many as the host allows
  std::uint64_t threads = 0;        ///< and processes
  std::string_view oom_score = "";  ///< how much sooner than others it ends when memory runs out
};

Rules rules_of(const Plan& plan);

}  // namespace aios::sandbox
