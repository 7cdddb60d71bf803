// The part of the CUDA Driver API that AIOS uses, declared from its documented binary interface, so
// that no toolkit is needed to build. Nothing is linked: the functions are looked up in the library
// of the installed driver.
//
// Every function returns a Code; calls on a stream only queue. `Status` of other functions may be
// what an earlier, asynchronous one came to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "abi/runtime/status.hpp"

namespace aios::gpu::cuda {

/// CUresult; those that are told apart.
enum class Code : int {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  deinitialized = 4,
  stub_library = 34,
  device_unavailable = 46,
  no_device = 100,
  invalid_device = 101,
  invalid_image = 200,
  invalid_context = 201,
  no_binary_for_gpu = 209,
  ecc_uncorrectable = 214,
  invalid_ptx = 218,
  illegal_state = 401,
  not_found = 500,
  not_ready = 600,
  illegal_address = 700,
  launch_out_of_resources = 701,
  launch_timeout = 702,
  launch_failed = 719,
  not_supported = 801,
  unknown = 999,
};

/// After one of these the context, and with it the process, is of no more use.
bool is_fatal(Code code);
/// Said of a device that is gone, or does not answer any more.
bool is_gone(Code code);

using Device = int;
using DevicePointer = std::uint64_t;
using Context = struct ContextObject*;
using Module = struct ModuleObject*;
using Function = struct FunctionObject*;
using Stream = struct StreamObject*;
using Event = struct EventObject*;
using Allocation = std::uint64_t;  ///< CUmemGenericAllocationHandle

struct Uuid {
  unsigned char bytes[16];
};

/// CUdevice_attribute.
enum class Attribute : int {
  max_threads_per_block = 1,
  multiprocessors = 16,
  kernel_timeout = 17,
  integrated = 18,
  can_map_host_memory = 19,
  compute_major = 75,
  compute_minor = 76,
  host_register = 99,
  virtual_memory = 102,
  posix_handles = 103,
  read_only_register = 113,
  memory_pools = 115,
};

/// CUmemAllocationProp.
struct AllocationProperties {
  int type;          ///< pinned
  int handle_types;  ///< posix_descriptor
  struct {
    int type;  ///< device
    int id;
  } location;
  void* win32_metadata;
  struct {
    unsigned char compression;
    unsigned char rdma;
    unsigned short usage;
    unsigned char reserved[4];
  } flags;

  static constexpr int pinned = 1;
  static constexpr int posix_descriptor = 1;
  static constexpr int device = 1;
};
static_assert(sizeof(AllocationProperties) == 32);

/// CUmemAccessDesc.
struct AccessDescription {
  struct {
    int type;
    int id;
  } location;
  int access;

  static constexpr int read_write = 3;
};
static_assert(sizeof(AccessDescription) == 12);

inline constexpr unsigned host_register_portable = 1;
inline constexpr unsigned host_register_mapped = 2;
inline constexpr unsigned host_register_read_only = 8;
inline constexpr unsigned stream_non_blocking = 1;
/// A thread that waits for the event leaves the core to others.
inline constexpr unsigned event_blocking_sync = 1;
inline constexpr unsigned context_blocking_sync = 4;
inline constexpr int jit_error_log = 5;
inline constexpr int jit_error_log_bytes = 6;
/// Of a kernel; CUfunction_attribute.
inline constexpr int function_max_threads = 0;
inline constexpr int function_shared_bytes = 1;

/// Name in `DriverApi`, symbol, parameters.
#define AIOS_CUDA_FUNCTIONS(F)                                                                    \
  F(init, "cuInit", (unsigned flags))                                                             \
  F(driver_version, "cuDriverGetVersion", (int* version))                                         \
  F(error_name, "cuGetErrorName", (Code code, const char** name))                                 \
  F(error_text, "cuGetErrorString", (Code code, const char** text))                               \
  F(device_count, "cuDeviceGetCount", (int* count))                                               \
  F(device_get, "cuDeviceGet", (Device * device, int index))                                      \
  F(device_name, "cuDeviceGetName", (char* name, int bytes, Device device))                       \
  F(device_uuid, "cuDeviceGetUuid", (Uuid * uuid, Device device))                                 \
  F(device_memory, "cuDeviceTotalMem", (std::size_t * bytes, Device device))                      \
  F(device_attribute, "cuDeviceGetAttribute", (int* value, Attribute attribute, Device device))   \
  F(device_bus, "cuDeviceGetPCIBusId", (char* text, int bytes, Device device))                    \
  F(device_peer, "cuDeviceCanAccessPeer", (int* can, Device device, Device peer))                 \
  F(context_retain, "cuDevicePrimaryCtxRetain", (Context * context, Device device))               \
  F(context_release, "cuDevicePrimaryCtxRelease", (Device device))                                \
  F(context_flags, "cuDevicePrimaryCtxSetFlags", (Device device, unsigned flags))                 \
  F(context_set, "cuCtxSetCurrent", (Context context))                                            \
  F(module_load, "cuModuleLoadDataEx",                                                            \
    (Module * module, const void* image, unsigned count, int* options, void** values))            \
  F(module_function, "cuModuleGetFunction",                                                       \
    (Function * function, Module module, const char* name))                                       \
  F(module_unload, "cuModuleUnload", (Module module))                                             \
  F(function_attribute, "cuFuncGetAttribute", (int* value, int attribute, Function function))     \
  F(launch, "cuLaunchKernel",                                                                     \
    (Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,      \
     unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** parameters, \
     void** extra))                                                                               \
  F(stream_create, "cuStreamCreateWithPriority", (Stream * stream, unsigned flags, int priority)) \
  F(stream_destroy, "cuStreamDestroy", (Stream stream))                                           \
  F(stream_query, "cuStreamQuery", (Stream stream))                                               \
  F(stream_synchronize, "cuStreamSynchronize", (Stream stream))                                   \
  F(stream_wait, "cuStreamWaitEvent", (Stream stream, Event event, unsigned flags))               \
  F(event_create, "cuEventCreate", (Event * event, unsigned flags))                               \
  F(event_destroy, "cuEventDestroy", (Event event))                                               \
  F(event_record, "cuEventRecord", (Event event, Stream stream))                                  \
  F(event_query, "cuEventQuery", (Event event))                                                   \
  F(event_synchronize, "cuEventSynchronize", (Event event))                                       \
  F(event_elapsed, "cuEventElapsedTime", (float* ms, Event begin, Event end))                     \
  F(memory_info, "cuMemGetInfo", (std::size_t * free, std::size_t * total))                       \
  F(memory_allocate, "cuMemAllocAsync",                                                           \
    (DevicePointer * address, std::size_t bytes, Stream stream))                                  \
  F(memory_free, "cuMemFreeAsync", (DevicePointer address, Stream stream))                        \
  F(copy_to_device, "cuMemcpyHtoDAsync",                                                          \
    (DevicePointer to, const void* from, std::size_t bytes, Stream stream))                       \
  F(copy_to_host, "cuMemcpyDtoHAsync",                                                            \
    (void* to, DevicePointer from, std::size_t bytes, Stream stream))                             \
  F(copy_on_device, "cuMemcpyDtoDAsync",                                                          \
    (DevicePointer to, DevicePointer from, std::size_t bytes, Stream stream))                     \
  F(fill, "cuMemsetD8Async",                                                                      \
    (DevicePointer at, unsigned char byte, std::size_t bytes, Stream stream))                     \
  F(host_register, "cuMemHostRegister", (void* memory, std::size_t bytes, unsigned flags))        \
  F(host_pointer, "cuMemHostGetDevicePointer",                                                    \
    (DevicePointer * address, void* memory, unsigned flags))                                      \
  F(host_unregister, "cuMemHostUnregister", (void* memory))                                       \
  F(allocation_granularity, "cuMemGetAllocationGranularity",                                      \
    (std::size_t * bytes, const AllocationProperties* properties, int option))                    \
  F(allocation_create, "cuMemCreate",                                                             \
    (Allocation * allocation, std::size_t bytes, const AllocationProperties* properties,          \
     unsigned long long flags))                                                                   \
  F(allocation_export, "cuMemExportToShareableHandle",                                            \
    (void* descriptor, Allocation allocation, int type, unsigned long long flags))                \
  F(allocation_import, "cuMemImportFromShareableHandle",                                          \
    (Allocation * allocation, void* descriptor, int type))                                        \
  F(allocation_release, "cuMemRelease", (Allocation allocation))                                  \
  F(address_reserve, "cuMemAddressReserve",                                                       \
    (DevicePointer * address, std::size_t bytes, std::size_t alignment, DevicePointer at,         \
     unsigned long long flags))                                                                   \
  F(address_free, "cuMemAddressFree", (DevicePointer address, std::size_t bytes))                 \
  F(map, "cuMemMap",                                                                              \
    (DevicePointer address, std::size_t bytes, std::size_t offset, Allocation allocation,         \
     unsigned long long flags))                                                                   \
  F(unmap, "cuMemUnmap", (DevicePointer address, std::size_t bytes))                              \
  F(set_access, "cuMemSetAccess",                                                                 \
    (DevicePointer address, std::size_t bytes, const AccessDescription* accesses,                 \
     std::size_t count))

/// CUcheckpointLockArgs.
struct CheckpointLock {
  unsigned timeout_ms;  ///< 0: none
  unsigned reserved;
  std::uint64_t reserved_too[7];
};
static_assert(sizeof(CheckpointLock) == 64);

/// The same, of functions that drivers have since CUDA 12.8 (570). The process is another one,
/// whose work on the GPU stands still from lock to unlock; between checkpoint and restore its
/// memory there is the host's.
#define AIOS_CUDA_NEWER_FUNCTIONS(F)                                                 \
  F(checkpoint_lock, "cuCheckpointProcessLock", (int process, CheckpointLock* with)) \
  F(checkpoint_save, "cuCheckpointProcessCheckpoint", (int process, void* with))     \
  F(checkpoint_restore, "cuCheckpointProcessRestore", (int process, void* with))     \
  F(checkpoint_unlock, "cuCheckpointProcessUnlock", (int process, void* with))

struct DriverApi {
#define AIOS_CUDA_MEMBER(name, symbol, parameters) Code(*name) parameters = nullptr;
  AIOS_CUDA_FUNCTIONS(AIOS_CUDA_MEMBER)
  AIOS_CUDA_NEWER_FUNCTIONS(AIOS_CUDA_MEMBER)
#undef AIOS_CUDA_MEMBER
  /// Whether it has all of the newer functions; those that it lacks are null.
  bool can_checkpoint() const {
    return checkpoint_lock != nullptr && checkpoint_save != nullptr &&
           checkpoint_restore != nullptr && checkpoint_unlock != nullptr;
  }

  /// Loads `library` ("libcuda.so.1", or the file that AIOS_CUDA_LIBRARY names) and looks up every
  /// function, each in the form of CUDA 11.4. It stays loaded: the driver cannot be unloaded.
  /// not_found: there is no such library, or a function is missing, which is named.
  static Result<std::unique_ptr<const DriverApi>> load(const std::string& library);

  /// "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered (700)"
  std::string describe(Code code) const;
  /// The same as an error: no_memory for out_of_memory, device otherwise; `what` was tried.
  std::unexpected<Status> failed(const char* what, Code code) const;
};

/// `status` of a call that was to do `what`: a fatal one is `crashed`, that of a device that is
/// gone `service_down`, others as DriverApi::failed.
Result<void> check(const DriverApi& api, const char* what, Code code);

}  // namespace aios::gpu::cuda
