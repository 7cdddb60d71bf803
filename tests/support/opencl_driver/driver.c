/* An OpenCL driver that is broken, in one of the ways that drivers of vendors are; chosen by what
 * is defined when it is compiled: CRASHES       ends its process when it is loaded HANGS does not
 * come back when it is asked for platforms TALKS_GARBAGE says that it has platforms, and that they
 * lie where nothing is SHOWS_NOTHING has a device without name, memory or processors
 */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_icd.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

struct _cl_platform_id {
  const cl_icd_dispatch* dispatch;
};
struct _cl_device_id {
  const cl_icd_dispatch* dispatch;
};

static cl_int answer(const void* value, size_t bytes, size_t room, void* out, size_t* needed) {
  if (needed != NULL) *needed = bytes;
  if (out == NULL) return CL_SUCCESS;
  if (room < bytes) return CL_INVALID_VALUE;
  memcpy(out, value, bytes);
  return CL_SUCCESS;
}

static cl_int CL_API_CALL platform_info(cl_platform_id platform, cl_platform_info what, size_t room,
                                        void* out, size_t* needed) {
  (void)platform;
  const char* text = what == CL_PLATFORM_EXTENSIONS ? "cl_khr_icd" : "broken";
  return answer(text, strlen(text) + 1, room, out, needed);
}

static cl_int CL_API_CALL device_info(cl_device_id device, cl_device_info what, size_t room,
                                      void* out, size_t* needed) {
  (void)device;
  const cl_bool yes = CL_TRUE;
  const unsigned long long nothing = 0;
  const int is_answered = what == CL_DEVICE_AVAILABLE || what == CL_DEVICE_COMPILER_AVAILABLE;
  if (is_answered) return answer(&yes, sizeof yes, room, out, needed);
  return answer(&nothing, room < sizeof nothing ? room : sizeof nothing, room, out, needed);
}

static cl_int CL_API_CALL device_ids(cl_platform_id platform, cl_device_type type, cl_uint room,
                                     cl_device_id* out, cl_uint* count);

static const cl_icd_dispatch dispatch = {.clGetPlatformInfo = platform_info,
                                         .clGetDeviceIDs = device_ids,
                                         .clGetDeviceInfo = device_info};
__attribute__((unused)) static struct _cl_platform_id the_platform = {&dispatch};
static struct _cl_device_id the_device = {&dispatch};

static cl_int CL_API_CALL device_ids(cl_platform_id platform, cl_device_type type, cl_uint room,
                                     cl_device_id* out, cl_uint* count) {
  (void)platform;
  (void)type;
  if (count != NULL) *count = 1;
  if (out != NULL && room != 0) out[0] = &the_device;
  return CL_SUCCESS;
}

#ifdef CRASHES
__attribute__((constructor)) static void crash(void) {
  raise(SIGSEGV);
}
#endif

EXPORTED cl_int CL_API_CALL clIcdGetPlatformIDsKHR(cl_uint room, cl_platform_id* out,
                                                   cl_uint* count) {
#ifdef HANGS
  for (;;) pause();
#endif
  if (count != NULL) *count = 1;
  if (out == NULL || room == 0) return CL_SUCCESS;
#ifdef TALKS_GARBAGE
  out[0] = (cl_platform_id)0x1010101010101010;
#else
  out[0] = &the_platform;
#endif
  return CL_SUCCESS;
}

EXPORTED void* CL_API_CALL clGetExtensionFunctionAddress(const char* name) {
  if (strcmp(name, "clIcdGetPlatformIDsKHR") == 0) return (void*)clIcdGetPlatformIDsKHR;
  if (strcmp(name, "clGetPlatformInfo") == 0) return (void*)platform_info;
  return NULL;
}
