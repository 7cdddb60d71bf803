// The device part of a module that aios-kc made: what its kernels take, and their code as text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/status.hpp"

namespace aios::gpu {

/// Of matrices that a kernel multiplies.
enum class GemmElement : std::uint32_t { none = 0, f32 = 1, f16 = 2, bf16 = 3 };

struct KernelInfo {
  std::string name;
  std::array<std::uint32_t, 3> block{};  ///< threads
  std::uint32_t argument_bytes = 0;
  std::vector<std::uint32_t> modes;      ///< AIOS_MODE_* of each buffer
  GemmElement gemm = GemmElement::none;  ///< that it computes what aios/kernel.h's AIOS_GEMM says
  std::uint32_t gemm_tile = 0;
};

/// Its arguments.
struct GemmArguments {
  std::uint32_t m, n, k;
  float alpha, beta;
};

struct KernelModule {
  std::vector<KernelInfo> kernels;
  std::string ptx;     ///< empty: it was left out
  std::string opencl;  ///< OpenCL C

  /// not_found, listing those there are.
  Result<const KernelInfo*> kernel(std::string_view name) const;
};

inline constexpr std::size_t max_kernels = 64;

/// Reads the sections of an ELF file; nothing in it is executed. `image` is a private copy of bytes
/// that may be anything. invalid_argument says what is wrong, or that the module has no kernels.
Result<KernelModule> read_kernel_module(std::span<const std::byte> image);

}  // namespace aios::gpu
