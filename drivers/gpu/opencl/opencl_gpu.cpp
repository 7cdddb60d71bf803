#include "drivers/gpu/opencl/opencl_gpu.hpp"

#include <memory>
#include <mutex>
#include <type_traits>

#include "abi/runtime/time.hpp"
#include "drivers/gpu/device_clock.hpp"

namespace aios::gpu::opencl {

namespace {

/// `code` of a call that was to do `what`. A device that runs out of resources in the middle of a
/// kernel is how drivers report its fault.
Result<void> check(const char* what, cl_int code) {
  if (code == CL_SUCCESS) [[likely]]
    return {};
  const std::string message = std::string("cannot ") + what + ": " + describe(code);
  switch (code) {
    case CL_MEM_OBJECT_ALLOCATION_FAILURE:
    case CL_OUT_OF_HOST_MEMORY:
    case CL_INVALID_BUFFER_SIZE:
      return error(Code::no_memory, message);
    case CL_OUT_OF_RESOURCES:
    case CL_INVALID_COMMAND_QUEUE:
      return error(Code::crashed, message);
    case CL_DEVICE_NOT_AVAILABLE:
    case CL_DEVICE_NOT_FOUND:
      return error(Code::service_down, message);
    case CL_INVALID_KERNEL_NAME:
      return error(Code::not_found, message);
    default:
      return error(Code::invalid_argument, message);
  }
}

/// What a kernel that was handed over ended with. A device that has no memory for it, or is gone,
/// says so; all else is a fault, which each driver calls by a number of its own (NVIDIA's by
/// -9999).
Result<void> check_end(cl_int code) {
  auto ended = check("run the kernel", code);
  if (!ended && ended.error().code() == Code::invalid_argument)
    return error(Code::crashed, ended.error().message());
  return ended;
}

struct FoundDevice {
  cl_platform_id platform;
  cl_device_id device;
  DeviceInfo info;
};

class Discovery {
 public:
  explicit Discovery(const OpenclApi& api) : api_(api) {}
  Result<std::vector<FoundDevice>> run();

 private:
  std::string text(cl_device_id device, cl_device_info what) const;
  std::string text(cl_platform_id platform, cl_platform_info what) const;
  template <class T>
  T number(cl_device_id device, cl_device_info what) const {
    T value{};
    (void)api_.clGetDeviceInfo(device, what, sizeof value, &value, nullptr);
    return value;
  }
  void add_platform(cl_platform_id platform, std::uint32_t index);

  const OpenclApi& api_;
  std::vector<FoundDevice> found_;
};

std::string Discovery::text(cl_device_id device, cl_device_info what) const {
  char value[256] = {};
  (void)api_.clGetDeviceInfo(device, what, sizeof value - 1, value, nullptr);
  return value;
}

std::string Discovery::text(cl_platform_id platform, cl_platform_info what) const {
  char value[256] = {};
  (void)api_.clGetPlatformInfo(platform, what, sizeof value - 1, value, nullptr);
  return value;
}

void Discovery::add_platform(cl_platform_id platform, std::uint32_t index) {
  cl_device_id devices[16];
  cl_uint count = 0;
  if (api_.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, std::size(devices), devices, &count) !=
      CL_SUCCESS)
    return;
  count = std::min<cl_uint>(count, std::size(devices));
  for (cl_uint i = 0; i < count; ++i) {
    if (number<cl_bool>(devices[i], CL_DEVICE_AVAILABLE) != CL_TRUE ||
        number<cl_bool>(devices[i], CL_DEVICE_COMPILER_AVAILABLE) != CL_TRUE)
      continue;
    DeviceInfo info;
    info.backend = "opencl";
    if ((number<cl_device_type>(devices[i], CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0)
      info.kind = "cpu";
    // OpenCL 1.2 knows no uuid: the place in the order of platforms and devices stands for it.
    info.uuid = "CL-" + std::to_string(index) + "-" + std::to_string(i) + "-" +
                text(platform, CL_PLATFORM_NAME);
    info.model = text(devices[i], CL_DEVICE_NAME) + " (" + text(platform, CL_PLATFORM_NAME) + ")";
    info.multiprocessors = number<cl_uint>(devices[i], CL_DEVICE_MAX_COMPUTE_UNITS);
    info.memory_bytes = number<cl_ulong>(devices[i], CL_DEVICE_GLOBAL_MEM_SIZE);
    info.shares_memory = number<cl_bool>(devices[i], CL_DEVICE_HOST_UNIFIED_MEMORY) == CL_TRUE;
    info.uuid.resize(std::min<std::size_t>(info.uuid.size(), 63));
    found_.push_back({platform, devices[i], std::move(info)});
  }
}

Result<std::vector<FoundDevice>> Discovery::run() {
  cl_platform_id platforms[16];
  cl_uint count = 0;
  const cl_int code = api_.clGetPlatformIDs(std::size(platforms), platforms, &count);
  if (code != CL_SUCCESS || count == 0)
    return error(Code::not_found, "it has no platform (" + describe(code) + ")");
  count = std::min<cl_uint>(count, std::size(platforms));
  for (cl_uint i = 0; i < count; ++i) add_platform(platforms[i], i);
  if (found_.empty()) return error(Code::not_found, "it has no device that can be used");
  return std::move(found_);
}

class OpenclGpu;

/// An object of the driver's and what gives it back.
template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cl_int (*)(T)>;

/// Keeps its program, too: the driver counts that.
struct OpenclKernel final : Kernel {
  OpenclKernel(KernelInfo of, Owned<cl_kernel> with)
      : Kernel(std::move(of)), kernel(std::move(with)) {}
  Owned<cl_kernel> kernel;
};

/// The host's memory itself where the device shares it: it is mapped, and so the host's, except
/// while a kernel runs. Elsewhere a copy.
class OpenclBuffer final : public DeviceBuffer {
 public:
  OpenclBuffer(OpenclGpu& gpu, std::span<std::byte> memory) : gpu_(gpu), memory_(memory) {}
  OpenclBuffer(const OpenclBuffer&) = delete;
  ~OpenclBuffer() override;
  Result<void> create(bool writable);
  /// Both do nothing to memory that is there already: a launch may use a buffer twice. `copied`, if
  /// it is given, tells when a copy was made: left null where there is none.
  Result<void> to_device(bool copy, cl_event* copied = nullptr);
  Result<void> to_host(bool copy, cl_event* copied = nullptr);

  cl_mem object() const { return object_; }
  std::size_t size() const { return memory_.size(); }

 private:
  OpenclGpu& gpu_;
  std::span<std::byte> memory_;
  cl_mem object_ = nullptr;
  void* mapped_ = nullptr;
  cl_map_flags map_flags_ = CL_MAP_READ;
};

/// The kernel, and everything that was to be done for it.
struct OpenclFlight final : Flight {
  explicit OpenclFlight(const OpenclApi& with) : api(with) {}
  OpenclFlight(const OpenclFlight&) = delete;
  ~OpenclFlight() override {
    for (const cl_event event : {kernel, done})
      if (event != nullptr) (void)api.clReleaseEvent(event);
    for (const Copy& copy : copies) (void)api.clReleaseEvent(copy.event);
  }
  struct Copy {
    cl_event event;
    bool in;
    std::uint64_t bytes;
  };
  const OpenclApi& api;
  cl_event kernel = nullptr;
  cl_event done = nullptr;
  std::vector<Copy> copies;
};

class OpenclGpu final : public Gpu {
 public:
  OpenclGpu(std::unique_ptr<const OpenclApi> with, FoundDevice found, std::uint64_t limit_bytes)
      : budget(limit_bytes), api_(std::move(with)), found_(std::move(found)) {}
  OpenclGpu(const OpenclGpu&) = delete;
  /// Nothing of the driver is undone: its process ends.
  ~OpenclGpu() override = default;
  Result<void> start();

  const DeviceInfo& info() const override { return found_.info; }
  Result<std::vector<std::unique_ptr<Kernel>>> compile(const KernelModule& module) override;
  Result<std::unique_ptr<DeviceBuffer>> attach(std::span<std::byte> memory, bool writable,
                                               const MemoryKey&) override;
  Result<std::unique_ptr<Flight>> start(const Launch& launch) override;
  Result<Times> wait(std::unique_ptr<Flight> flight) override;
  std::uint64_t peak_memory_bytes() const override { return budget.peak_bytes(); }

  const OpenclApi& api() const { return *api_; }
  cl_context context() const { return context_; }
  cl_command_queue queue() const { return queue_; }

  MemoryBudget budget;

 private:
  std::string build_log(cl_program program) const;
  Result<void> set_arguments(const Launch& launch);
  Result<void> start_kernel(const Launch& launch, OpenclFlight& flight);
  struct Span {
    std::uint64_t begin_ns = 0;  ///< by the device's clock
    std::uint64_t end_ns = 0;
  };
  Span times_of(cl_event event) const;

  std::unique_ptr<const OpenclApi> api_;
  FoundDevice found_;
  std::mutex clock_mutex_;
  DeviceClock clock_;
  cl_context context_ = nullptr;
  cl_command_queue queue_ = nullptr;
};

Result<void> OpenclBuffer::create(bool writable) {
  const bool shares = gpu_.info().shares_memory;
  cl_mem_flags flags = writable ? CL_MEM_READ_WRITE : CL_MEM_READ_ONLY;
  if (shares)
    flags |= CL_MEM_USE_HOST_PTR;
  else
    TRY(gpu_.budget.take(memory_.size()));
  cl_int code = CL_SUCCESS;
  object_ = gpu_.api().clCreateBuffer(gpu_.context(), flags, memory_.size(),
                                      shares ? memory_.data() : nullptr, &code);
  if (code != CL_SUCCESS) {
    object_ = nullptr;
    if (!shares) gpu_.budget.give_back(memory_.size());
    return check("make a buffer of the device", code);
  }
  if (writable) map_flags_ |= CL_MAP_WRITE;
  return shares ? to_host(false) : Result<void>{};
}

OpenclBuffer::~OpenclBuffer() {
  if (object_ == nullptr) return;
  (void)to_device(false);
  (void)gpu_.api().clFinish(gpu_.queue());
  (void)gpu_.api().clReleaseMemObject(object_);
  if (!gpu_.info().shares_memory) gpu_.budget.give_back(memory_.size());
}

Result<void> OpenclBuffer::to_device(bool copy, cl_event* copied) {
  if (gpu_.info().shares_memory) {
    if (mapped_ == nullptr) return {};
    return check("give memory to the device",
                 gpu_.api().clEnqueueUnmapMemObject(
                     gpu_.queue(), object_, std::exchange(mapped_, nullptr), 0, nullptr, nullptr));
  }
  if (!copy) return {};
  return check("copy to the device",
               gpu_.api().clEnqueueWriteBuffer(gpu_.queue(), object_, CL_FALSE, 0, memory_.size(),
                                               memory_.data(), 0, nullptr, copied));
}

Result<void> OpenclBuffer::to_host(bool copy, cl_event* copied) {
  cl_int code = CL_SUCCESS;
  if (gpu_.info().shares_memory) {
    if (mapped_ != nullptr) return {};
    mapped_ = gpu_.api().clEnqueueMapBuffer(gpu_.queue(), object_, CL_FALSE, map_flags_, 0,
                                            memory_.size(), 0, nullptr, nullptr, &code);
    return check("take memory back from the device", code);
  }
  if (!copy) return {};
  return check("copy from the device",
               gpu_.api().clEnqueueReadBuffer(gpu_.queue(), object_, CL_FALSE, 0, memory_.size(),
                                              memory_.data(), 0, nullptr, copied));
}

Result<void> OpenclGpu::start() {
  const cl_context_properties properties[] = {
      CL_CONTEXT_PLATFORM, reinterpret_cast<cl_context_properties>(found_.platform), 0};
  cl_int code = CL_SUCCESS;
  context_ = api_->clCreateContext(properties, 1, &found_.device, nullptr, nullptr, &code);
  TRY(check("open the device", code));
  queue_ = api_->clCreateCommandQueue(context_, found_.device, CL_QUEUE_PROFILING_ENABLE, &code);
  return check("make a queue", code);
}

std::string OpenclGpu::build_log(cl_program program) const {
  std::size_t bytes = 0;
  constexpr std::size_t most = 64u << 10;
  (void)api_->clGetProgramBuildInfo(program, found_.device, CL_PROGRAM_BUILD_LOG, 0, nullptr,
                                    &bytes);
  std::string log(std::min(bytes, most), '\0');
  if (bytes > most) return "its words are too long";
  (void)api_->clGetProgramBuildInfo(program, found_.device, CL_PROGRAM_BUILD_LOG, log.size(),
                                    log.data(), nullptr);
  return log.c_str();
}

Result<std::vector<std::unique_ptr<Kernel>>> OpenclGpu::compile(const KernelModule& module) {
  if (module.opencl.empty())
    return error(Code::invalid_argument, "the module has no OpenCL C; compile it with aios-kc");
  const char* text = module.opencl.data();
  const std::size_t bytes = module.opencl.size();
  cl_int code = CL_SUCCESS;
  const Owned<cl_program> program(
      api_->clCreateProgramWithSource(context_, 1, &text, &bytes, &code), api_->clReleaseProgram);
  TRY(check("read the module", code));
  code = api_->clBuildProgram(program.get(), 1, &found_.device, "-cl-std=CL1.2", nullptr, nullptr);
  if (code != CL_SUCCESS)
    return error(Code::invalid_argument,
                 "the device's driver does not compile the module: " + build_log(program.get()));
  std::vector<std::unique_ptr<Kernel>> kernels;
  for (const KernelInfo& info : module.kernels) {
    Owned<cl_kernel> kernel(api_->clCreateKernel(program.get(), info.name.c_str(), &code),
                            api_->clReleaseKernel);
    TRY(check(("find kernel " + info.name).c_str(), code));
    kernels.push_back(std::make_unique<OpenclKernel>(info, std::move(kernel)));
  }
  return kernels;
}

Result<std::unique_ptr<DeviceBuffer>> OpenclGpu::attach(std::span<std::byte> memory, bool writable,
                                                        const MemoryKey&) {
  auto buffer = std::make_unique<OpenclBuffer>(*this, memory);
  TRY(buffer->create(writable));
  return buffer;
}

Result<void> OpenclGpu::set_arguments(const Launch& launch) {
  cl_kernel kernel = static_cast<const OpenclKernel&>(*launch.kernel).kernel.get();
  TRY(check("pass the arguments",
            api_->clSetKernelArg(kernel, 0, launch.arguments.size(), launch.arguments.data())));
  cl_uint index = 1;
  for (const BufferUse& use : launch.buffers) {
    cl_mem object = static_cast<const OpenclBuffer&>(*use.buffer).object();
    TRY(check("pass a buffer", api_->clSetKernelArg(kernel, index++, sizeof object, &object)));
  }
  return {};
}

Result<void> OpenclGpu::start_kernel(const Launch& launch, OpenclFlight& flight) {
  TRY(set_arguments(launch));
  for (const BufferUse& use : launch.buffers) {
    auto& buffer = static_cast<OpenclBuffer&>(*use.buffer);
    cl_event copied = nullptr;
    TRY(buffer.to_device(use.copy_in, &copied));
    if (copied != nullptr) flight.copies.push_back({copied, true, buffer.size()});
  }
  std::size_t threads[3];
  std::size_t block[3];
  for (std::size_t i = 0; i < 3; ++i) {
    block[i] = launch.kernel->info.block[i];
    threads[i] = launch.grid[i] * block[i];
  }
  const std::string& name = launch.kernel->info.name;
  const cl_int code = api_->clEnqueueNDRangeKernel(
      queue_, static_cast<const OpenclKernel&>(*launch.kernel).kernel.get(), 3, nullptr, threads,
      block, 0, nullptr, &flight.kernel);
  // Here it is no fault yet. A device that an earlier one left faulty says so when that is waited
  // for.
  if (code == CL_OUT_OF_RESOURCES)
    return error(Code::invalid_argument,
                 "the device has too few registers or too little memory of "
                 "a block's own for " +
                     name);
  return check(("launch " + name).c_str(), code);
}

Result<std::unique_ptr<Flight>> OpenclGpu::start(const Launch& launch) {
  auto flight = std::make_unique<OpenclFlight>(*api_);
  const Result<void> started = start_kernel(launch, *flight);
  // Also after a failure: the memory is the host's again when this launch is over.
  Result<void> returned;
  for (const BufferUse& use : launch.buffers) {
    auto& buffer = static_cast<OpenclBuffer&>(*use.buffer);
    cl_event copied = nullptr;
    if (auto back = buffer.to_host(started && use.copy_out, &copied); !back)
      returned = std::move(back);
    if (copied != nullptr) flight->copies.push_back({copied, false, buffer.size()});
  }
  if (started && returned)
    returned = check("mark the end of a launch",
                     api_->clEnqueueMarkerWithWaitList(queue_, 0, nullptr, &flight->done));
  if (started && returned) {
    TRY(check("hand a launch to the device", api_->clFlush(queue_)));
    return flight;
  }
  TRY(check("run the kernel", api_->clFinish(queue_)));
  return std::unexpected(started ? returned.error() : started.error());
}

OpenclGpu::Span OpenclGpu::times_of(cl_event event) const {
  cl_ulong begin = 0;
  cl_ulong end = 0;
  (void)api_->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof begin, &begin,
                                      nullptr);
  (void)api_->clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, nullptr);
  return {begin, std::max(begin, end)};
}

Result<Times> OpenclGpu::wait(std::unique_ptr<Flight> waited) {
  const auto& flight = static_cast<const OpenclFlight&>(*waited);
  const cl_int waiting = api_->clWaitForEvents(1, &flight.done);
  const std::uint64_t now = now_ns();
  // A kernel that failed tells why.
  cl_int status = CL_COMPLETE;
  (void)api_->clGetEventInfo(flight.kernel, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status,
                             &status, nullptr);
  TRY(check_end(status < 0 ? status : waiting));
  const Span ran = times_of(flight.kernel);
  Times times{now, now};
  if (ran.end_ns == 0) return times;  // its driver does not tell
  std::uint64_t last_ns = ran.end_ns;
  for (const OpenclFlight::Copy& copy : flight.copies) {
    const Span took = times_of(copy.event);
    Copied& sum = copy.in ? times.in : times.out;
    ++sum.count;
    sum.bytes += copy.bytes;
    sum.ns += took.end_ns - took.begin_ns;
    last_ns = std::max(last_ns, took.end_ns);
  }
  const std::lock_guard lock(clock_mutex_);
  (void)clock_.saw(last_ns, now);
  times.start_ns = clock_.to_host(ran.begin_ns);
  times.end_ns = clock_.to_host(ran.end_ns);
  return times;
}

}  // namespace

Result<std::vector<DeviceInfo>> discover(const OpenclApi& api) {
  std::vector<DeviceInfo> infos;
  for (FoundDevice& found : TRY(Discovery(api).run())) infos.push_back(std::move(found.info));
  return infos;
}

Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const OpenclApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes) {
  for (FoundDevice& found : TRY(Discovery(*api).run())) {
    if (found.info.uuid != uuid) continue;
    auto gpu = std::make_unique<OpenclGpu>(std::move(api), std::move(found), memory_limit_bytes);
    TRY(gpu->start());
    return gpu;
  }
  return error(Code::not_found, "the device " + uuid + " is gone");
}

}  // namespace aios::gpu::opencl
