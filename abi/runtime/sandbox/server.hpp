// Locking in of a process that the kernel of AIOS started.
#pragma once

#include <string>

#include "abi/runtime/kernel.hpp"
#include "abi/runtime/sandbox/sandbox.hpp"

namespace aios::sandbox {

/// Under the profile that the process was spawned with, keeping `folder` where that profile has
/// one. `require` is a list of protections. Writes each protection that is missing to the log, and
/// what there is to the status page, where the kernel and all peers read it. denied when one of
/// those required is missing; internal: either way the process must end.
/// `gpu`: it opens a GPU, under the profile jit.
Result<Report> lock_in(Kernel& kernel, std::string_view require, const std::string& folder = {},
                       bool gpu = false);

}  // namespace aios::sandbox
