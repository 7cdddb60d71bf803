// Reading a module from its file.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios {

/// The whole file. Errors name it: not_found, denied; invalid_argument: no regular file, empty or
/// above max_module_bytes; source_changed: it became shorter meanwhile.
Result<std::vector<std::byte>> read_module_file(const std::string& path);

}  // namespace aios
