// One process at a time works in a folder.
#pragma once

#include <filesystem>

#include "abi/runtime/fd.hpp"

namespace aios {

/// Locks `folder`/lock for as long as the descriptor, or a copy of it, is open; already_exists,
/// naming the holder, when another instance uses the folder.
Result<Fd> lock_folder(const std::filesystem::path& folder);

}  // namespace aios
