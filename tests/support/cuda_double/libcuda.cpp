// The driver's binary interface over the pretended GPU. Only cuGetProcAddress is exported: AIOS
// looks everything else up through it.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <set>

#include "tests/support/cuda_double/checkpoint.hpp"
#include "tests/support/cuda_double/codes.hpp"
#include "tests/support/cuda_double/device.hpp"
#include "tests/support/cuda_double/host.hpp"
#include "tests/support/cuda_double/stream.hpp"

namespace cu = aios::gpu::cuda;
using cu::Code;
using namespace aios::cuda_double;

namespace aios::gpu::cuda {

struct ContextObject {};
struct ModuleObject {
  std::unique_ptr<aios::cuda_double::Module> parsed;
  std::map<std::string, std::unique_ptr<FunctionObject>> functions;
};
struct FunctionObject {
  const Kernel* kernel;
};
struct EventObject {
  // Shared with the streams that are still to record it.
  std::shared_ptr<HappeningState> state = std::make_shared<HappeningState>();
};

}  // namespace aios::gpu::cuda

namespace {

constexpr int version = 12080;
constexpr std::size_t granularity = 2u << 20;

PretendedGpu& gpu() {
  return PretendedGpu::instance();
}

/// What nearly every function answers first.
Code usable() {
  if (gpu().gone()) return Code::unknown;
  return gpu().initialized ? gpu().sticky() : Code::not_initialized;
}

bool is_device(cu::Device device) {
  return device >= 0 && device < gpu().orders.devices;
}

// ---- device ------------------------------------------------------------------------------------

Code init(unsigned flags) {
  if (flags != 0) return Code::invalid_value;
  if (const Code code = gpu().begin(); code != Code::success) return code;
  if (!host_serves()) return operating_system;
  if (gpu().orders.devices == 0 || gpu().gone()) return Code::no_device;
  gpu().initialized = true;
  return Code::success;
}

Code driver_version(int* out) {
  *out = version;
  return Code::success;
}

Code error_name(Code code, const char** name) {
  const CodeText* text = text_of(code);
  *name = text != nullptr ? text->name : nullptr;
  return text != nullptr ? Code::success : Code::invalid_value;
}

Code error_text(Code code, const char** out) {
  const CodeText* text = text_of(code);
  *out = text != nullptr ? text->text : nullptr;
  return text != nullptr ? Code::success : Code::invalid_value;
}

Code device_count(int* count) {
  if (const Code code = usable(); code != Code::success) return code;
  *count = gpu().orders.devices;
  return Code::success;
}

Code device_get(cu::Device* device, int index) {
  if (!is_device(index)) return Code::invalid_device;
  *device = index;
  return Code::success;
}

Code device_name(char* name, int bytes, cu::Device device) {
  if (!is_device(device)) return Code::invalid_device;
  std::snprintf(name, static_cast<std::size_t>(bytes), "AIOS CUDA emulator (no GPU)%s",
                gpu().orders.parts ? " MIG 1g.10gb" : "");
  return Code::success;
}

Code device_uuid(cu::Uuid* uuid, cu::Device device) {
  if (!is_device(device)) return Code::invalid_device;
  *uuid = {"AIOS emulator 0"};
  uuid->bytes[14] = static_cast<unsigned char>('0' + device);
  return Code::success;
}

Code device_memory(std::size_t* bytes, cu::Device device) {
  if (!is_device(device)) return Code::invalid_device;
  *bytes = gpu().orders.memory_bytes;
  return Code::success;
}

Code device_attribute(int* value, cu::Attribute attribute, cu::Device device) {
  if (!is_device(device)) return Code::invalid_device;
  switch (attribute) {
    case cu::Attribute::max_threads_per_block:
      *value = 1024;
      break;
    case cu::Attribute::multiprocessors:
      *value = 1;
      break;
    case cu::Attribute::compute_major:
      *value = 7;
      break;
    case cu::Attribute::kernel_timeout:
    case cu::Attribute::integrated:
    case cu::Attribute::compute_minor:
      *value = 0;
      break;
    case cu::Attribute::can_map_host_memory:
    case cu::Attribute::host_register:
    case cu::Attribute::virtual_memory:
    case cu::Attribute::posix_handles:
    case cu::Attribute::read_only_register:
    case cu::Attribute::memory_pools:
      *value = 1;
      break;
    default:
      return Code::invalid_value;
  }
  return Code::success;
}

Code device_bus(char* text, int bytes, cu::Device device) {
  if (!is_device(device)) return Code::invalid_device;
  std::snprintf(text, static_cast<std::size_t>(bytes), "0000:00:%02x.0", device);
  return Code::success;
}

Code device_peer(int* can, cu::Device device, cu::Device peer) {
  if (!is_device(device) || !is_device(peer)) return Code::invalid_device;
  *can = device != peer ? 1 : 0;
  return Code::success;
}

Code context_retain(cu::Context* context, cu::Device device) {
  if (const Code code = usable(); code != Code::success) return code;
  if (!is_device(device)) return Code::invalid_device;
  static cu::ContextObject primary;
  *context = &primary;
  return Code::success;
}

Code context_release(cu::Device device) {
  return is_device(device) ? Code::success : Code::invalid_device;
}

Code context_flags(cu::Device device, unsigned) {
  return is_device(device) ? Code::success : Code::invalid_device;
}

Code context_set(cu::Context) {
  return usable();
}

// ---- code --------------------------------------------------------------------------------------

Code module_load(cu::Module* module, const void* image, unsigned count, int* options,
                 void** values) {
  if (const Code code = usable(); code != Code::success) return code;
  auto parsed = parse_ptx(static_cast<const char*>(image));
  if (parsed) {
    *module = new cu::ModuleObject{std::move(*parsed), {}};
    ++gpu().live_modules;
    return Code::success;
  }
  char* log = nullptr;
  std::size_t log_bytes = 0;
  for (unsigned i = 0; i < count; ++i) {
    if (options[i] == cu::jit_error_log) log = static_cast<char*>(values[i]);
    if (options[i] == cu::jit_error_log_bytes)
      log_bytes = static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(values[i]));
  }
  if (log != nullptr)
    std::snprintf(log, log_bytes, "AIOS CUDA emulator: %s", parsed.error().message().c_str());
  return Code::invalid_ptx;
}

Code module_function(cu::Function* function, cu::Module module, const char* name) {
  if (const Code code = usable(); code != Code::success) return code;
  const auto kernel = module->parsed->kernels.find(std::string_view(name));
  if (kernel == module->parsed->kernels.end()) return Code::not_found;
  auto& made = module->functions[kernel->first];
  if (made == nullptr) made.reset(new cu::FunctionObject{&kernel->second});
  *function = made.get();
  return Code::success;
}

Code module_unload(cu::Module module) {
  delete module;
  --gpu().live_modules;
  return Code::success;
}

Code function_attribute(int* value, int attribute, cu::Function function) {
  if (attribute == cu::function_max_threads)
    *value = static_cast<int>(function->kernel->max_threads);
  else if (attribute == cu::function_shared_bytes)
    *value = static_cast<int>(function->kernel->shared_bytes);
  else
    return Code::invalid_value;
  return Code::success;
}

Code launch(cu::Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
            unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
            cu::Stream stream, void** parameters, void** extra) {
  if (const Code code = usable(); code != Code::success) return code;
  const std::uint64_t threads = std::uint64_t{block_x} * block_y * block_z;
  if (stream == nullptr || extra != nullptr || shared_bytes != 0) return Code::not_supported;
  if (std::uint64_t{grid_x} * grid_y * grid_z == 0 || threads == 0) return Code::invalid_value;
  if (grid_x > INT_MAX || grid_y > 65535 || grid_z > 65535) return Code::invalid_value;
  if (block_x > 1024 || block_y > 1024 || block_z > 64) return Code::invalid_value;
  if (threads > function->kernel->max_threads) return Code::launch_out_of_resources;
  Launch made{function->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, {}};
  made.parameters.resize(function->kernel->parameter_bytes);
  for (std::size_t i = 0; i < function->kernel->parameters.size(); ++i) {
    const Parameter& parameter = function->kernel->parameters[i];
    std::memcpy(made.parameters.data() + parameter.offset, parameters[i], parameter.bytes);
  }
  stream->work.add([made = std::move(made)] { return gpu().execute(made); });
  return Code::success;
}

// ---- streams and events ------------------------------------------------------------------------

Code stream_create(cu::Stream* stream, unsigned, int) {
  if (const Code code = usable(); code != Code::success) return code;
  *stream = new cu::StreamObject;
  return Code::success;
}

Code stream_destroy(cu::Stream stream) {
  delete stream;
  return Code::success;
}

Code stream_query(cu::Stream stream) {
  const bool idle = stream->work.idle();
  if (const Code code = usable(); code != Code::success) return code;
  return idle ? Code::success : Code::not_ready;
}

Code stream_synchronize(cu::Stream stream) {
  stream->work.wait_idle();
  return usable();
}

Code stream_wait(cu::Stream stream, cu::Event event, unsigned) {
  // For what was recorded until now: the event may be recorded again before the stream comes here.
  stream->work.add([state = event->state, awaited = event->state->recorded()] {
    state->wait(awaited);
    return Code::success;
  });
  return usable();
}

Code event_create(cu::Event* event, unsigned) {
  if (const Code code = usable(); code != Code::success) return code;
  if (gpu().event_fails()) return Code::out_of_memory;
  *event = new cu::EventObject;
  ++gpu().live_events;
  return Code::success;
}

Code event_destroy(cu::Event event) {
  delete event;
  --gpu().live_events;
  return Code::success;
}

Code event_record(cu::Event event, cu::Stream stream) {
  if (const Code code = usable(); code != Code::success) return code;
  event->state->pend();
  stream->work.add([state = event->state] {
    state->happen();
    return Code::success;
  });
  return Code::success;
}

Code event_query(cu::Event event) {
  const bool pending = event->state->pending();
  if (const Code code = usable(); code != Code::success) return code;
  return pending ? Code::not_ready : Code::success;
}

Code event_synchronize(cu::Event event) {
  event->state->wait(event->state->recorded());
  return usable();
}

Code event_elapsed(float* ms, cu::Event begin, cu::Event end) {
  if (const Code code = usable(); code != Code::success) return code;
  const auto from = begin->state->time_ms();
  const auto to = end->state->time_ms();
  if (!from || !to) return Code::not_ready;
  *ms = static_cast<float>(*to - *from);
  return Code::success;
}

// ---- memory ------------------------------------------------------------------------------------

std::mutex sizes_mutex;
std::map<std::uint64_t, std::size_t> sizes;       // of allocations
std::map<std::uint64_t, std::size_t> registered;  // host memory

std::uint64_t number_of(void* memory) {
  return reinterpret_cast<std::uint64_t>(memory);
}
void* pointer_to(std::uint64_t address) {
  return reinterpret_cast<void*>(address);
}

Code memory_info(std::size_t* free, std::size_t* total) {
  if (const Code code = usable(); code != Code::success) return code;
  *free = gpu().free_bytes();
  *total = gpu().orders.memory_bytes;
  return Code::success;
}

Code memory_allocate(cu::DevicePointer* address, std::size_t bytes, cu::Stream) {
  if (const Code code = usable(); code != Code::success) return code;
  if (bytes == 0) return Code::invalid_value;
  if (!gpu().take(bytes)) return Code::out_of_memory;
  void* const memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    gpu().give_back(bytes);
    return Code::out_of_memory;
  }
  *address = number_of(memory);
  gpu().memory.add(*address, bytes);
  const std::lock_guard lock(sizes_mutex);
  sizes[*address] = bytes;
  return Code::success;
}

Code memory_free(cu::DevicePointer address, cu::Stream stream) {
  if (const Code code = usable(); code != Code::success) return code;
  const std::lock_guard lock(sizes_mutex);
  const auto found = sizes.find(address);
  if (found == sizes.end()) return Code::invalid_value;
  const std::size_t bytes = found->second;
  sizes.erase(found);
  stream->work.add([address, bytes] {
    gpu().memory.remove(address);
    ::munmap(pointer_to(address), bytes);
    gpu().give_back(bytes);
    return Code::success;
  });
  return Code::success;
}

/// Copies between places of which the device's are checked when the stream comes to them.
Code add_copy(cu::Stream stream, void* to, const void* from, std::size_t bytes, bool to_device,
              bool from_device) {
  if (const Code code = usable(); code != Code::success) return code;
  const auto known = [bytes](const void* at) {
    return gpu().memory.contains(reinterpret_cast<std::uint64_t>(at), bytes);
  };
  if ((to_device && !known(to)) || (from_device && !known(from))) return Code::invalid_value;
  if (gpu().copy_fails()) return Code::invalid_value;
  stream->work.add([=] {
    std::memmove(to, from, bytes);
    return Code::success;
  });
  return Code::success;
}

Code copy_to_device(cu::DevicePointer to, const void* from, std::size_t bytes, cu::Stream stream) {
  return add_copy(stream, pointer_to(to), from, bytes, true, false);
}

Code copy_to_host(void* to, cu::DevicePointer from, std::size_t bytes, cu::Stream stream) {
  return add_copy(stream, to, pointer_to(from), bytes, false, true);
}

Code copy_on_device(cu::DevicePointer to, cu::DevicePointer from, std::size_t bytes,
                    cu::Stream stream) {
  return add_copy(stream, pointer_to(to), pointer_to(from), bytes, true, true);
}

Code fill(cu::DevicePointer at, unsigned char byte, std::size_t bytes, cu::Stream stream) {
  if (const Code code = usable(); code != Code::success) return code;
  if (!gpu().memory.contains(at, bytes)) return Code::invalid_value;
  stream->work.add([=] {
    std::memset(pointer_to(at), byte, bytes);
    return Code::success;
  });
  return Code::success;
}

Code host_register(void* memory, std::size_t bytes, unsigned) {
  constexpr Code already_registered{712};
  if (const Code code = usable(); code != Code::success) return code;
  const std::uint64_t address = number_of(memory);
  if (bytes == 0 || memory == nullptr) return Code::invalid_value;
  const std::lock_guard lock(sizes_mutex);
  for (const auto& [other, size] : registered)
    if (address < other + size && other < address + bytes) return already_registered;
  registered[address] = bytes;
  gpu().memory.add(address, bytes);
  return Code::success;
}

Code host_pointer(cu::DevicePointer* address, void* memory, unsigned) {
  if (const Code code = usable(); code != Code::success) return code;
  if (!gpu().memory.contains(number_of(memory), 1)) return Code::invalid_value;
  *address = number_of(memory);
  return Code::success;
}

Code host_unregister(void* memory) {
  constexpr Code not_registered{713};
  if (const Code code = usable(); code != Code::success) return code;
  const std::lock_guard lock(sizes_mutex);
  if (registered.erase(number_of(memory)) == 0) return not_registered;
  gpu().memory.remove(number_of(memory));
  return Code::success;
}

// ---- memory that outlives its process: a file in memory stands for it --------------------------

struct Shared {
  int fd;
  std::size_t bytes;
  bool own;  ///< made here, and so counted here
};
std::map<cu::Allocation, Shared> shared;
cu::Allocation next_allocation = 1;

Code allocation_granularity(std::size_t* bytes, const cu::AllocationProperties*, int) {
  *bytes = granularity;
  return Code::success;
}

Code allocation_create(cu::Allocation* allocation, std::size_t bytes,
                       const cu::AllocationProperties* properties, unsigned long long) {
  if (!gpu().initialized) return Code::not_initialized;
  if (bytes == 0 || bytes % granularity != 0 || !is_device(properties->location.id))
    return Code::invalid_value;
  if (!gpu().take(bytes)) return Code::out_of_memory;
  const int fd = ::memfd_create("gpu memory of the emulator", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return Code::out_of_memory;
  const std::lock_guard lock(sizes_mutex);
  *allocation = next_allocation++;
  shared[*allocation] = {fd, bytes, true};
  return Code::success;
}

Code allocation_export(void* descriptor, cu::Allocation allocation, int type, unsigned long long) {
  const std::lock_guard lock(sizes_mutex);
  const auto found = shared.find(allocation);
  if (found == shared.end() || type != cu::AllocationProperties::posix_descriptor)
    return Code::invalid_value;
  const int copy = ::dup(found->second.fd);
  std::memcpy(descriptor, &copy, sizeof copy);
  return copy >= 0 ? Code::success : Code::unknown;
}

Code allocation_import(cu::Allocation* allocation, void* descriptor, int type) {
  if (const Code code = usable(); code != Code::success) return code;
  const int fd = ::dup(static_cast<int>(reinterpret_cast<std::intptr_t>(descriptor)));
  const off_t bytes = fd >= 0 ? ::lseek(fd, 0, SEEK_END) : -1;
  if (bytes <= 0 || type != cu::AllocationProperties::posix_descriptor) return Code::invalid_value;
  const std::lock_guard lock(sizes_mutex);
  *allocation = next_allocation++;
  shared[*allocation] = {fd, static_cast<std::size_t>(bytes), false};
  return Code::success;
}

Code allocation_release(cu::Allocation allocation) {
  const std::lock_guard lock(sizes_mutex);
  const auto found = shared.find(allocation);
  if (found == shared.end()) return Code::invalid_value;
  ::close(found->second.fd);
  if (found->second.own) gpu().give_back(found->second.bytes);
  shared.erase(found);
  return Code::success;
}

Code address_reserve(cu::DevicePointer* address, std::size_t bytes, std::size_t, cu::DevicePointer,
                     unsigned long long) {
  if (const Code code = usable(); code != Code::success) return code;
  void* const memory = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Code::out_of_memory;
  *address = number_of(memory);
  return Code::success;
}

Code address_free(cu::DevicePointer address, std::size_t bytes) {
  return ::munmap(pointer_to(address), bytes) == 0 ? Code::success : Code::invalid_value;
}

Code map(cu::DevicePointer address, std::size_t bytes, std::size_t offset,
         cu::Allocation allocation, unsigned long long) {
  if (const Code code = usable(); code != Code::success) return code;
  const std::lock_guard lock(sizes_mutex);
  const auto found = shared.find(allocation);
  if (found == shared.end() || offset + bytes > found->second.bytes) return Code::invalid_value;
  void* const mapped = ::mmap(pointer_to(address), bytes, PROT_NONE, MAP_SHARED | MAP_FIXED,
                              found->second.fd, static_cast<off_t>(offset));
  return mapped != MAP_FAILED ? Code::success : Code::invalid_value;
}

Code unmap(cu::DevicePointer address, std::size_t bytes) {
  gpu().memory.remove(address);
  void* const mapped =
      ::mmap(pointer_to(address), bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return mapped != MAP_FAILED ? Code::success : Code::invalid_value;
}

Code set_access(cu::DevicePointer address, std::size_t bytes, const cu::AccessDescription*,
                std::size_t) {
  if (const Code code = usable(); code != Code::success) return code;
  if (::mprotect(pointer_to(address), bytes, PROT_READ | PROT_WRITE) != 0)
    return Code::invalid_value;
  gpu().memory.add(address, bytes);
  return Code::success;
}

struct Entry {
  const char* symbol;
  void* function;
  int since;
};
constexpr int checkpoints_since = 12080;
const Entry entries[] = {
#define AIOS_CUDA_ENTRY(name, symbol, parameters) {symbol, reinterpret_cast<void*>(&name), 0},
    AIOS_CUDA_FUNCTIONS(AIOS_CUDA_ENTRY)
#undef AIOS_CUDA_ENTRY
#define AIOS_CUDA_ENTRY(name, symbol, parameters) \
  {symbol, reinterpret_cast<void*>(&name), checkpoints_since},
        AIOS_CUDA_NEWER_FUNCTIONS(AIOS_CUDA_ENTRY)
#undef AIOS_CUDA_ENTRY
};

}  // namespace

extern "C" __attribute__((visibility("default"))) Code cuGetProcAddress_v2(
    const char* symbol, void** function, int cuda_version, std::uint64_t, int* status) {
  *function = nullptr;
  for (const Entry& entry : entries)
    if (cuda_version <= version && cuda_version >= entry.since &&
        std::strcmp(entry.symbol, symbol) == 0)
      *function = entry.function;
  if (status != nullptr) *status = *function != nullptr ? 0 : 1;
  return *function != nullptr ? Code::success : Code::not_found;
}
