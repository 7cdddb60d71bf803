/* Stands before the installed loader of OpenCL drivers and says of every device that its memory is
 * its own, as that of most GPUs is: PoCL, which works in the host's, is then copied to and from.
 * All else is the loader's, on which this library depends. */
#define CL_TARGET_OPENCL_VERSION 120
#define _GNU_SOURCE
#include <CL/cl.h>
#include <dlfcn.h>

typedef cl_int (*device_info)(cl_device_id, cl_device_info, size_t, void*, size_t*);

__attribute__((visibility("default"))) cl_int clGetDeviceInfo(cl_device_id device,
                                                              cl_device_info what, size_t bytes,
                                                              void* value, size_t* needed) {
  void* const loader = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL);
  const device_info real = loader != NULL ? (device_info)dlsym(loader, "clGetDeviceInfo") : NULL;
  if (real == NULL) return CL_OUT_OF_HOST_MEMORY;
  const cl_int code = real(device, what, bytes, value, needed);
  if (code == CL_SUCCESS && what == CL_DEVICE_HOST_UNIFIED_MEMORY && value != NULL)
    *(cl_bool*)value = CL_FALSE;
  return code;
}
