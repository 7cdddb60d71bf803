#include "drivers/gpu/cuda/cuda_gpu.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <mutex>

#include "abi/runtime/time.hpp"

namespace aios::gpu::cuda {

namespace {

constexpr const char* emulator_word = "emulator";

/// `status` of a call that was to do `what`: a fatal one is `crashed`, that of a device that is
/// gone `service_down`.
Result<void> check(const DriverApi& api, const char* what, Code code) {
  if (code == Code::success) [[likely]]
    return {};
  if (is_fatal(code)) return error(aios::Code::crashed, api.describe(code));
  if (is_gone(code))
    return error(aios::Code::service_down,
                 std::string("cannot ") + what + ", the GPU is gone: " + api.describe(code));
  return api.failed(what, code);
}

std::string text_of(const Uuid& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", uuid.bytes[i]);
    text += two;
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

Result<int> attribute(const DriverApi& api, Device device, Attribute which) {
  int value = 0;
  TRY(check(api, "ask a GPU's attribute", api.device_attribute(&value, which, device)));
  return value;
}

/// As Linux knows it; -1: it does not say.
std::int32_t numa_node_of(const std::string& pci_address) {
  std::ifstream file("/sys/bus/pci/devices/" + pci_address + "/numa_node");
  std::int32_t node = -1;
  file >> node;
  return file ? node : -1;
}

/// Where it is in the machine; what the driver does not say stays unknown.
void add_topology(const DriverApi& api, Device device, int count, DeviceInfo& info) {
  char address[32] = {};
  if (api.device_bus(address, sizeof address, device) == Code::success) {
    info.pci_address = address;
    // Linux writes it in small letters.
    std::ranges::transform(info.pci_address, info.pci_address.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    info.numa_node = numa_node_of(info.pci_address);
  }
  for (Device peer = 0; peer < std::min(count, 32); ++peer) {
    int can = 0;
    if (peer != device && api.device_peer(&can, device, peer) == Code::success && can != 0)
      info.peers |= 1u << peer;
  }
}

Result<DeviceInfo> describe(const DriverApi& api, Device device) {
  char name[128] = {};
  Uuid uuid{};
  std::size_t bytes = 0;
  TRY(check(api, "ask a GPU's name", api.device_name(name, sizeof name, device)));
  TRY(check(api, "ask a GPU's uuid", api.device_uuid(&uuid, device)));
  TRY(check(api, "ask a GPU's memory", api.device_memory(&bytes, device)));
  DeviceInfo info;
  info.backend = "cuda";
  info.uuid = text_of(uuid);
  info.model = name;
  info.multiprocessors =
      static_cast<std::uint32_t>(TRY(attribute(api, device, Attribute::multiprocessors)));
  info.memory_bytes = bytes;
  info.shares_memory = TRY(attribute(api, device, Attribute::integrated)) != 0;
  info.emulated = info.model.find(emulator_word) != std::string::npos;
  return info;
}

Result<int> count_devices(const DriverApi& api) {
  const Code code = api.init(0);
  if (code == Code::no_device || code == Code::stub_library)
    return error(aios::Code::not_found, "no NVIDIA GPU: " + api.describe(code));
  TRY(check(api, "initialise the NVIDIA driver", code));
  int count = 0;
  TRY(check(api, "count GPUs", api.device_count(&count)));
  return count;
}

class CudaGpu;

struct CudaKernel final : Kernel {
  CudaKernel(KernelInfo of, Function with) : Kernel(std::move(of)), function(with) {}
  Function function;
};

/// A copy on the device. The host's memory is registered where possible, so that copies run at bus
/// speed.
class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(CudaGpu& gpu, std::span<std::byte> memory) : gpu_(gpu), memory_(memory) {}
  CudaBuffer(const CudaBuffer&) = delete;
  ~CudaBuffer() override;
  Result<void> allocate(bool writable, bool can_register_read_only);

  DevicePointer address() const { return address_; }
  std::span<std::byte> memory() const { return memory_; }

 private:
  CudaGpu& gpu_;
  std::span<std::byte> memory_;
  DevicePointer address_ = 0;
  bool registered_ = false;
};

/// What a launch leaves in the stream: before and after the kernel, and after the copies.
struct Events {
  Event begin = nullptr;
  Event end = nullptr;
  Event copied = nullptr;
};

struct CudaFlight final : Flight {
  explicit CudaFlight(const Events& with) : events(with) {}
  const Events events;
};

class CudaGpu final : public Gpu {
 public:
  CudaGpu(std::unique_ptr<const DriverApi> api, DeviceInfo info, std::uint64_t limit_bytes)
      : api_(std::move(api)), info_(std::move(info)), budget(limit_bytes) {}
  CudaGpu(const CudaGpu&) = delete;
  /// Nothing of the driver is undone: its process ends.
  ~CudaGpu() override = default;
  Result<void> start(Device device);

  const DeviceInfo& info() const override { return info_; }
  Result<std::vector<std::unique_ptr<Kernel>>> compile(const KernelModule& module) override;
  Result<std::unique_ptr<DeviceBuffer>> attach(std::span<std::byte> memory, bool writable) override;
  Result<std::unique_ptr<Flight>> start(const Launch& launch) override;
  Result<Times> wait(std::unique_ptr<Flight> flight) override;
  std::uint64_t peak_memory_bytes() const override { return budget.peak_bytes(); }

  const DriverApi& api() const { return *api_; }
  Stream stream() const { return stream_; }

 private:
  Result<Events> take_events();
  Result<void> use_context() const;
  Result<void> queue(const Launch& launch, const Events& events);
  Result<void> copy(const Launch& launch, bool in);

  std::unique_ptr<const DriverApi> api_;
  DeviceInfo info_;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  std::mutex events_mutex_;
  std::vector<Events> unused_events_;
  bool can_register_ = false;
  bool can_register_read_only_ = false;

 public:
  MemoryBudget budget;
};

Result<void> CudaBuffer::allocate(bool writable, bool can_register_read_only) {
  const DriverApi& api = gpu_.api();
  TRY(gpu_.budget.take(memory_.size()));
  const Code code = api.memory_allocate(&address_, memory_.size(), gpu_.stream());
  if (code != Code::success) {
    address_ = 0;
    gpu_.budget.give_back(memory_.size());
    return check(api, "allocate memory of the GPU", code);
  }
  // Where it cannot be registered the driver copies through memory of its own.
  const unsigned read_only = writable ? 0 : host_register_read_only;
  if (writable || can_register_read_only)
    registered_ = api.host_register(memory_.data(), memory_.size(),
                                    host_register_portable | read_only) == Code::success;
  return {};
}

CudaBuffer::~CudaBuffer() {
  const DriverApi& api = gpu_.api();
  if (registered_) {
    // Copies may still be on their way.
    (void)api.stream_synchronize(gpu_.stream());
    (void)api.host_unregister(memory_.data());
  }
  if (address_ == 0) return;
  (void)api.memory_free(address_, gpu_.stream());
  gpu_.budget.give_back(memory_.size());
}

Result<void> CudaGpu::start(Device device) {
  // The waiting thread leaves the core to others.
  TRY(check(*api_, "set up the GPU", api_->context_flags(device, context_blocking_sync)));
  TRY(check(*api_, "open the GPU", api_->context_retain(&context_, device)));
  TRY(use_context());
  TRY(check(*api_, "make a stream", api_->stream_create(&stream_, stream_non_blocking, 0)));
  can_register_ = TRY(attribute(*api_, device, Attribute::host_register)) != 0;
  can_register_read_only_ = TRY(attribute(*api_, device, Attribute::read_only_register)) != 0;
  return {};
}

/// Of the calling thread, which any of a context's may be.
Result<void> CudaGpu::use_context() const {
  thread_local const CudaGpu* using_it = nullptr;
  if (using_it == this) return {};
  TRY(check(*api_, "use the GPU", api_->context_set(context_)));
  using_it = this;
  return {};
}

Result<Events> CudaGpu::take_events() {
  {
    const std::lock_guard lock(events_mutex_);
    if (!unused_events_.empty()) {
      const Events events = unused_events_.back();
      unused_events_.pop_back();
      return events;
    }
  }
  Events events;
  for (Event* event : {&events.begin, &events.end, &events.copied})
    TRY(check(*api_, "make an event", api_->event_create(event, event_blocking_sync)));
  return events;
}

Result<std::vector<std::unique_ptr<Kernel>>> CudaGpu::compile(const KernelModule& module) {
  TRY(use_context());
  if (module.ptx.empty())
    return error(aios::Code::invalid_argument, "the module has no PTX; compile it with aios-kc");
  char log[2048] = {};
  int options[] = {jit_error_log, jit_error_log_bytes};
  void* values[] = {log, reinterpret_cast<void*>(sizeof log)};
  Module loaded = nullptr;
  const Code code = api_->module_load(&loaded, module.ptx.c_str(), 2, options, values);
  if (code != Code::success && !is_fatal(code) && log[0] != '\0')
    return error(aios::Code::invalid_argument,
                 "the GPU's driver does not compile the module: " + std::string(log));
  TRY(check(*api_, "load the module", code));
  std::vector<std::unique_ptr<Kernel>> kernels;
  for (const KernelInfo& info : module.kernels) {
    Function function = nullptr;
    TRY(check(*api_, ("find kernel " + info.name).c_str(),
              api_->module_function(&function, loaded, info.name.c_str())));
    kernels.push_back(std::make_unique<CudaKernel>(info, function));
  }
  return kernels;
}

Result<std::unique_ptr<DeviceBuffer>> CudaGpu::attach(std::span<std::byte> memory, bool writable) {
  TRY(use_context());
  auto buffer = std::make_unique<CudaBuffer>(*this, memory);
  TRY(buffer->allocate(writable, can_register_ && can_register_read_only_));
  return buffer;
}

Result<void> CudaGpu::copy(const Launch& launch, bool in) {
  for (const BufferUse& use : launch.buffers) {
    if (!(in ? use.copy_in : use.copy_out)) continue;
    const auto& buffer = static_cast<const CudaBuffer&>(*use.buffer);
    const auto memory = buffer.memory();
    TRY(in ? check(*api_, "copy to the GPU",
                   api_->copy_to_device(buffer.address(), memory.data(), memory.size(), stream_))
           : check(*api_, "copy from the GPU",
                   api_->copy_to_host(memory.data(), buffer.address(), memory.size(), stream_)));
  }
  return {};
}

Result<void> CudaGpu::queue(const Launch& launch, const Events& events) {
  std::vector<DevicePointer> addresses;
  addresses.reserve(launch.buffers.size());
  std::vector<void*> parameters;
  // The structure of arguments is a kernel's first parameter.
  parameters.push_back(const_cast<std::byte*>(launch.arguments.data()));
  for (const BufferUse& use : launch.buffers) {
    addresses.push_back(static_cast<const CudaBuffer&>(*use.buffer).address());
    parameters.push_back(&addresses.back());
  }
  const auto& kernel = static_cast<const CudaKernel&>(*launch.kernel);
  const auto& grid = launch.grid;
  const auto& block = kernel.info.block;
  TRY(copy(launch, true));
  TRY(check(*api_, "mark the begin", api_->event_record(events.begin, stream_)));
  TRY(check(*api_, ("launch " + kernel.info.name).c_str(),
            api_->launch(kernel.function, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                         0, stream_, parameters.data(), nullptr)));
  TRY(check(*api_, "mark the end", api_->event_record(events.end, stream_)));
  TRY(copy(launch, false));
  return check(*api_, "mark the end of the copies", api_->event_record(events.copied, stream_));
}

Result<std::unique_ptr<Flight>> CudaGpu::start(const Launch& launch) {
  TRY(use_context());
  const Events events = TRY(take_events());
  const Result<void> queued = queue(launch, events);
  if (queued) return std::make_unique<CudaFlight>(events);
  // The buffers must not be in use when this returns.
  TRY(check(*api_, "run the kernel", api_->stream_synchronize(stream_)));
  return std::unexpected(queued.error());
}

Result<Times> CudaGpu::wait(std::unique_ptr<Flight> flight) {
  TRY(use_context());
  const Events events = static_cast<const CudaFlight&>(*flight).events;
  TRY(check(*api_, "run the kernel", api_->event_synchronize(events.copied)));
  const std::uint64_t now = now_ns();
  const auto elapsed_ns = [this](Event from, Event to) -> Result<std::uint64_t> {
    float ms = 0;
    TRY(check(*api_, "time the kernel", api_->event_elapsed(&ms, from, to)));
    return static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6);
  };
  const std::uint64_t end = now - TRY(elapsed_ns(events.end, events.copied));
  const Times times{end - TRY(elapsed_ns(events.begin, events.end)), end};
  const std::lock_guard lock(events_mutex_);
  unused_events_.push_back(events);
  return times;
}

}  // namespace

Result<std::vector<DeviceInfo>> discover(const DriverApi& api) {
  const int count = TRY(count_devices(api));
  std::vector<DeviceInfo> found;
  for (Device device = 0; device < count; ++device) {
    found.push_back(TRY(describe(api, device)));
    add_topology(api, device, count, found.back());
  }
  return found;
}

Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const DriverApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes) {
  const int count = TRY(count_devices(*api));
  for (Device device = 0; device < count; ++device) {
    DeviceInfo info = TRY(describe(*api, device));
    if (info.uuid != uuid) continue;
    auto gpu = std::make_unique<CudaGpu>(std::move(api), std::move(info), memory_limit_bytes);
    TRY(gpu->start(device));
    return gpu;
  }
  return error(aios::Code::not_found, "the GPU " + uuid + " is gone");
}

}  // namespace aios::gpu::cuda
