// Reading a module from its file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios {

/// The whole file. Errors name it: not_found, denied; invalid_argument: no regular file, empty or
/// above max_module_bytes; source_changed: it became shorter meanwhile.
Result<std::vector<std::byte>> read_module_file(const std::string& path);

/// Bits of proto::driver::backend: what a module has code for. Its own table of codelets is for the
/// processor; aios-kc adds code for GPUs.
std::uint32_t backends_of(std::span<const std::byte> module);

/// By which the scheduler knows a module again; never 0.
std::uint64_t module_hash_of(std::span<const std::byte> module);

}  // namespace aios
