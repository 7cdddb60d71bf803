// Whether a file's bytes are a module that this machine may load, decided before the loader sees
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace aios::cpu {

/// Every library that a module may need everywhere: those a context has loaded before it shuts
/// itself off.
std::span<const std::string_view> allowed_libraries();

/// Only where a machine has it, and this process has loaded it.
inline constexpr std::string_view blas_library = "libopenblas.so.0";
/// From now on modules may need it. Before the first check.
void allow_blas();

/// Reads the program headers and the dynamic section as the loader will see them, with every bound
/// checked; `image` must not change meanwhile.
/// invalid_argument: not a 64-bit shared object for this machine, or malformed; the text says what.
/// denied: it needs a library that is not allowed, or names places to search for libraries (RPATH,
/// RUNPATH, AUDIT, FILTER…); the text names it.
Result<> check_module_image(std::span<const std::byte> image);

}  // namespace aios::cpu
