// The OpenCL functions that AIOS uses, looked up in the installed loader of drivers: nothing is
// linked, and a machine without OpenCL runs AIOS as well.
#pragma once

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <memory>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::gpu::opencl {

#define AIOS_OPENCL_FUNCTIONS(F) \
  F(clGetPlatformIDs)            \
  F(clGetPlatformInfo)           \
  F(clGetDeviceIDs)              \
  F(clGetDeviceInfo)             \
  F(clCreateContext)             \
  F(clCreateCommandQueue)        \
  F(clCreateProgramWithSource)   \
  F(clBuildProgram)              \
  F(clGetProgramBuildInfo)       \
  F(clCreateKernel)              \
  F(clReleaseKernel)             \
  F(clReleaseProgram)            \
  F(clSetKernelArg)              \
  F(clCreateBuffer)              \
  F(clReleaseMemObject)          \
  F(clEnqueueNDRangeKernel)      \
  F(clEnqueueReadBuffer)         \
  F(clEnqueueWriteBuffer)        \
  F(clEnqueueMapBuffer)          \
  F(clEnqueueUnmapMemObject)     \
  F(clFinish)                    \
  F(clFlush)                     \
  F(clEnqueueMarkerWithWaitList) \
  F(clWaitForEvents)             \
  F(clGetEventInfo)              \
  F(clGetEventProfilingInfo)     \
  F(clReleaseEvent)

struct OpenclApi {
#define AIOS_OPENCL_MEMBER(name) decltype(&::name) name = nullptr;
  AIOS_OPENCL_FUNCTIONS(AIOS_OPENCL_MEMBER)
#undef AIOS_OPENCL_MEMBER

  /// `library`: mostly "libOpenCL.so.1". not_found: no such library, or a function is missing.
  static Result<std::unique_ptr<const OpenclApi>> load(const std::string& library);
};

/// "CL_OUT_OF_RESOURCES (-5)".
std::string describe(cl_int code);

}  // namespace aios::gpu::opencl
