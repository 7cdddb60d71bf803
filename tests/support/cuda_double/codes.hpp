// Names and words of the driver's codes.
#pragma once

#include "drivers/gpu/cuda/driver_api.hpp"

namespace aios::cuda_double {

using gpu::cuda::Code;

/// Linux refused something.
inline constexpr Code operating_system{304};

struct CodeText {
  Code code;
  const char* name;
  const char* text;
};
inline constexpr CodeText code_texts[] = {
    {Code::success, "CUDA_SUCCESS", "no error"},
    {Code::invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {Code::out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {Code::not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {Code::no_device, "CUDA_ERROR_NO_DEVICE", "no device"},
    {Code::invalid_device, "CUDA_ERROR_INVALID_DEVICE", "no such device"},
    {Code::invalid_ptx, "CUDA_ERROR_INVALID_PTX", "a PTX compilation failed"},
    {operating_system, "CUDA_ERROR_OPERATING_SYSTEM", "a call to the system failed"},
    {Code::illegal_state, "CUDA_ERROR_ILLEGAL_STATE", "not in the state for it"},
    {Code::not_found, "CUDA_ERROR_NOT_FOUND", "no such symbol"},
    {Code::not_ready, "CUDA_ERROR_NOT_READY", "not ready"},
    {Code::illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal address was accessed"},
    {Code::launch_out_of_resources, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "too many resources"},
    {Code::launch_timeout, "CUDA_ERROR_LAUNCH_TIMEOUT", "the launch timed out"},
    {Code::launch_failed, "CUDA_ERROR_LAUNCH_FAILED", "the kernel failed"},
    {Code::not_supported, "CUDA_ERROR_NOT_SUPPORTED", "not supported"},
};

inline const CodeText* text_of(Code code) {
  for (const CodeText& known : code_texts)
    if (known.code == code) return &known;
  return nullptr;
}

}  // namespace aios::cuda_double
