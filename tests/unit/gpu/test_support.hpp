// What several of this folder's tests need.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "drivers/gpu/gpu.hpp"
#include "tests/conformance/cases.hpp"

namespace aios::gpu::test {

/// The bytes of a standard module, by its name without suffix.
std::vector<std::byte> module_image(const std::string& name);

/// The first device of the double of the CUDA driver.
Result<std::unique_ptr<Gpu>> open_double(std::uint64_t limit_bytes = 1u << 30);

/// What a function of the double that is there for tests says: how much of something there is.
std::uint64_t ask_double(const char* function);

/// 0 when `result` failed with this code and these words.
template <class T>
int failed_with(const Result<T>& result, Code code, const char* words) {
  if (result) return 2;
  if (result.error().code() == code && result.error().message().find(words) != std::string::npos)
    return 0;
  std::fprintf(stderr, "%s\n", result.error().to_string().c_str());
  return 3;
}

inline constexpr std::size_t copied_bytes = 4u << 20;
/// Runs a kernel on three buffers of so many bytes, of which two are to be brought to the device
/// and one back.
Result<Times> copy_both_ways(Gpu& gpu);

/// Runs a case; empty when everything is as expected, else what is not.
std::string run_case(Gpu& gpu, const conformance::Case& c);

/// Runs `body` in a child, whose faults and environment are its own. Its exit code; 128 plus the
/// signal when one ended it.
int in_child(const std::function<int()>& body);

/// PTX of kernels that fault on purpose, each with one buffer: `beyond` stores past it, `trap`
/// traps, `forever` never ends.
extern const char* const faulty_ptx;
/// The module of it.
KernelModule faulty_module();

}  // namespace aios::gpu::test
