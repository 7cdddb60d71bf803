#include "drivers/gpu/cuda/cuda_gpu.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>

#include "abi/runtime/log.hpp"
#include "abi/runtime/time.hpp"
#include "drivers/gpu/cuda/borrowed_memory.hpp"
#include "drivers/gpu/cuda/cublas.hpp"
#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/device_clock.hpp"

namespace aios::gpu::cuda {

namespace {

class CudaGpu;

struct CudaKernel final : Kernel {
  CudaKernel(KernelInfo of, Function with) : Kernel(std::move(of)), function(with) {}
  Function function;
};

/// What is at least as large comes to the device in a stream of its own, while kernels of tasks
/// before it run; for less it costs more to have one stream wait for another.
constexpr std::uint64_t least_ahead_bytes = 256u << 10;

/// The last launch that used a buffer, by its number; 0: none did.
struct LastUse {
  std::uint64_t launch = 0;
  Event end = nullptr;  ///< recorded for others, too, once it has been waited for
};

/// A copy on the device. The host's memory is registered where possible, so that copies run at bus
/// speed.
class CudaBuffer final : public DeviceBuffer {
 public:
  CudaBuffer(CudaGpu& gpu, std::span<std::byte> memory) : gpu_(gpu), memory_(memory) {}
  CudaBuffer(const CudaBuffer&) = delete;
  ~CudaBuffer() override;
  Result<void> allocate(const MemoryKey& key);
  void register_host(bool writable);

  std::shared_ptr<ContentMark> mark() const override {
    return borrowed_ ? borrowed_->mark() : nullptr;
  }
  DevicePointer address() const { return borrowed_ ? borrowed_->address() : own_; }
  std::span<std::byte> memory() const { return memory_; }
  /// Whether it is made, filled and freed in the stream of what comes ahead.
  bool comes_ahead() const { return memory_.size() >= least_ahead_bytes; }
  Stream stream() const;
  /// Kernels have to wait until it is made; asked once.
  bool is_new() { return std::exchange(is_new_, false); }
  void source_changes() override { source_changes_ = true; }
  /// Asked once.
  bool source_has_changed() { return std::exchange(source_changes_, false); }
  LastUse last_use;

 private:
  Result<void> try_to_allocate(const MemoryKey& key);
  Result<void> allocate_own();

  CudaGpu& gpu_;
  std::span<std::byte> memory_;
  DevicePointer own_ = 0;
  std::unique_ptr<BorrowedMemory> borrowed_;
  bool registered_ = false;
  bool is_new_ = false;
  bool source_changes_ = false;
};

/// What a launch leaves in the streams: before the copies to the device if there are any, when what
/// comes ahead is there, before and after the kernel, and after the copies back.
struct Events {
  Event fetching = nullptr;
  Event arrived = nullptr;
  Event begin = nullptr;
  Event end = nullptr;
  Event copied = nullptr;
};

struct CudaFlight final : Flight {
  CudaFlight(const Events& with, std::uint64_t number) : events(with), launch(number) {}
  Events events;
  const std::uint64_t launch;
  Copied in, out;
  bool ahead = false;  ///< something of it comes in the other stream
};

class CudaGpu final : public Gpu {
 public:
  CudaGpu(std::unique_ptr<const DriverApi> api, Found found, std::uint64_t limit_bytes,
          KeptMemory* kept)
      : api_(std::move(api)),
        info_(std::move(found.info)),
        device_(found.device),
        kept_(info_.exports_memory ? kept : nullptr),
        budget(limit_bytes) {
    if (kept_ != nullptr) borrower = std::make_unique<Borrower>(*api_, device_, *kept_, budget);
  }
  CudaGpu(const CudaGpu&) = delete;
  /// Nothing of the driver is undone: its process ends.
  ~CudaGpu() override = default;
  Result<void> start();

  const DeviceInfo& info() const override { return info_; }
  Result<std::vector<std::unique_ptr<Kernel>>> compile(const KernelModule& module) override;
  Result<std::unique_ptr<DeviceBuffer>> attach(std::span<std::byte> memory, bool writable,
                                               const MemoryKey& key) override;
  Result<std::unique_ptr<Flight>> start(const Launch& launch) override;
  bool tells_end() const override { return true; }
  bool has_ended(const Flight& flight) const override;
  Result<Times> wait(std::unique_ptr<Flight> flight) override;
  std::uint64_t peak_memory_bytes() const override { return budget.peak_bytes(); }

  const DriverApi& api() const { return *api_; }
  Stream stream() const { return stream_; }
  Stream ahead_stream() const { return ahead_stream_; }
  /// Whether a launch, and with it all before, has been waited for.
  bool was_waited_for(std::uint64_t launch) const { return launch <= ended_; }
  /// In the buffer's stream, after everything that uses it.
  void free_memory(DevicePointer memory, Stream stream);
  void wait_for_freed() override;
  // When an allocation has failed. False: there is nothing that could be done.
  /// Waits until what was freed really is.
  bool wait_for_more();
  bool give_back_unused() { return borrower != nullptr && borrower->give_back_unused(); }
  /// What contexts before have left.
  bool drop_left() { return kept_ != nullptr && kept_->drop_unused(); }
  bool can_register(bool writable) const {
    return can_register_ && (writable || can_register_read_only_);
  }
  Result<void> use_context() const;

 private:
  Result<Events> take_events();
  void put_back(const Events& events);
  Result<std::vector<std::unique_ptr<Kernel>>> find_kernels(const KernelModule& module,
                                                            Module loaded);
  Result<void> queue(const Launch& launch, CudaFlight& flight);
  Result<void> bring(const Launch& launch, CudaFlight& flight);
  Result<void> make_way_ahead(const Launch& launch, CudaFlight& flight);
  Result<Copied> copy_in(const Launch& launch, Stream stream, Event begin);
  Result<Copied> copy_out(const Launch& launch);
  Result<std::uint64_t> elapsed_ns(Event from, Event to) const;
  Result<std::uint64_t> on_device_ns(Event& event);
  Result<Times> times_of(CudaFlight& flight, std::uint64_t now);
  void load_cublas();
  Result<void> give_workspace(Cublas& cublas);
  bool queue_gemm(const Launch& launch) const;

  std::unique_ptr<const DriverApi> api_;
  DeviceInfo info_;
  const Device device_;
  KeptMemory* const kept_;
  Context context_ = nullptr;
  Stream stream_ = nullptr;
  Stream ahead_stream_ = nullptr;
  std::unique_ptr<Cublas> cublas_;
  bool looked_for_cublas_ = false;
  /// Of a stream: how many were freed in it, and of how many it is known that they really are.
  struct Freed {
    std::atomic<std::uint64_t> all = 0;
    std::atomic<std::uint64_t> done = 0;
  };
  Freed freed_;
  Freed freed_ahead_;
  std::uint64_t freed_at_failure_ = 0;  ///< how many were, in both, when an allocation failed last
  std::uint64_t launches_ = 0;
  LastUse last_queued_;
  std::atomic<std::uint64_t> ended_ = 0;  ///< the last launch that was waited for
  std::mutex events_mutex_;               ///< of what follows
  std::vector<Events> unused_events_;
  DeviceClock clock_;
  Event origin_ = nullptr;      ///< from which events are timed
  std::int64_t origin_ns_ = 0;  ///< when that was, since the stream was made
  bool can_register_ = false;
  bool can_register_read_only_ = false;

 public:
  MemoryBudget budget;
  std::unique_ptr<Borrower> borrower;  ///< null: memory here ends with its context
};

/// When it finds no room, what nobody uses makes some.
Result<void> CudaBuffer::allocate(const MemoryKey& key) {
  Result<void> made = try_to_allocate(key);
  for (const auto make_room :
       {&CudaGpu::wait_for_more, &CudaGpu::give_back_unused, &CudaGpu::drop_left})
    if (!made && made.error().code() == aios::Code::no_memory && (gpu_.*make_room)())
      made = try_to_allocate(key);
  return made;
}

/// Of the process that owns memory for this context if there is one, else of this context's own.
Result<void> CudaBuffer::try_to_allocate(const MemoryKey& key) {
  if (gpu_.borrower == nullptr || key == MemoryKey{}) return allocate_own();
  auto borrowed = gpu_.borrower->borrow(key);
  if (borrowed) {
    borrowed_ = std::move(*borrowed);
    return {};
  }
  switch (borrowed.error().code()) {
    case aios::Code::no_memory:
      // There may still be room for it where there is none for a slab.
      if (key.length < proto::memory::slab_bytes) return allocate_own();
      [[fallthrough]];
    case aios::Code::crashed:
    case aios::Code::service_down:
      return std::unexpected(std::move(borrowed).error());
    default:
      return allocate_own();
  }
}

Result<void> CudaBuffer::allocate_own() {
  const DriverApi& api = gpu_.api();
  TRY(gpu_.budget.take(memory_.size()));
  const Code code = api.memory_allocate(&own_, memory_.size(), stream());
  if (code == Code::success) {
    is_new_ = comes_ahead();
    return {};
  }
  own_ = 0;
  gpu_.budget.give_back(memory_.size());
  return check(api, "allocate memory of the GPU", code);
}

/// Where it cannot be registered the driver copies through memory of its own.
void CudaBuffer::register_host(bool writable) {
  const unsigned read_only = writable ? 0 : host_register_read_only;
  if (gpu_.can_register(writable))
    registered_ = gpu_.api().host_register(memory_.data(), memory_.size(),
                                           host_register_portable | read_only) == Code::success;
}

CudaBuffer::~CudaBuffer() {
  const DriverApi& api = gpu_.api();
  (void)gpu_.use_context();
  // A launch may still be on its way, which its copies are a part of.
  const bool in_use = !gpu_.was_waited_for(last_use.launch);
  if (in_use && (registered_ || borrowed_)) (void)api.event_synchronize(last_use.end);
  if (registered_) (void)api.host_unregister(memory_.data());
  if (own_ != 0) {
    if (in_use && comes_ahead()) (void)api.stream_wait(stream(), last_use.end, 0);
    gpu_.free_memory(own_, stream());
    gpu_.budget.give_back(memory_.size());
  }
}

Stream CudaBuffer::stream() const {
  return comes_ahead() ? gpu_.ahead_stream() : gpu_.stream();
}

void CudaGpu::free_memory(DevicePointer memory, Stream stream) {
  (void)api_->memory_free(memory, stream);
  ++(stream == ahead_stream_ ? freed_ahead_ : freed_).all;
}

/// A stream in which nothing was freed may go on.
void CudaGpu::wait_for_freed() {
  if (!use_context()) return;
  const auto wait = [this](Freed& freed, Stream stream) {
    const std::uint64_t all = freed.all;
    if (freed.done < all && api_->stream_synchronize(stream) == Code::success) freed.done = all;
  };
  wait(freed_ahead_, ahead_stream_);
  wait(freed_, stream_);
}

/// Another thread may have waited for it since the allocation failed.
bool CudaGpu::wait_for_more() {
  const std::uint64_t all = freed_.all + freed_ahead_.all;
  wait_for_freed();
  return std::exchange(freed_at_failure_, all) != all;
}

Result<void> CudaGpu::start() {
  // The waiting thread leaves the core to others.
  TRY(check(*api_, "set up the GPU", api_->context_flags(device_, context_blocking_sync)));
  TRY(check(*api_, "open the GPU", api_->context_retain(&context_, device_)));
  TRY(use_context());
  for (Stream* stream : {&stream_, &ahead_stream_})
    TRY(check(*api_, "make a stream", api_->stream_create(stream, stream_non_blocking, 0)));
  TRY(check(*api_, "make an event", api_->event_create(&origin_, event_blocking_sync)));
  TRY(check(*api_, "mark the begin of time", api_->event_record(origin_, stream_)));
  can_register_ = TRY(attribute(*api_, device_, Attribute::host_register)) != 0;
  can_register_read_only_ = TRY(attribute(*api_, device_, Attribute::read_only_register)) != 0;
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
  Event* const all[] = {&events.fetching, &events.arrived, &events.begin, &events.end,
                        &events.copied};
  Code code = Code::success;
  for (Event* event : all)
    if (code == Code::success) code = api_->event_create(event, event_blocking_sync);
  if (code == Code::success) return events;
  for (const Event* event : all)
    if (*event != nullptr) (void)api_->event_destroy(*event);
  return std::unexpected(check(*api_, "make an event", code).error());
}

void CudaGpu::put_back(const Events& events) {
  const std::lock_guard lock(events_mutex_);
  unused_events_.push_back(events);
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
  auto kernels = find_kernels(module, loaded);
  if (!kernels) (void)api_->module_unload(loaded);
  return kernels;
}

Result<std::vector<std::unique_ptr<Kernel>>> CudaGpu::find_kernels(const KernelModule& module,
                                                                   Module loaded) {
  std::vector<std::unique_ptr<Kernel>> kernels;
  for (const KernelInfo& info : module.kernels) {
    Function function = nullptr;
    TRY(check(*api_, ("find kernel " + info.name).c_str(),
              api_->module_function(&function, loaded, info.name.c_str())));
    kernels.push_back(std::make_unique<CudaKernel>(info, function));
  }
  for (const KernelInfo& info : module.kernels)
    if (info.gemm != GemmElement::none) {
      load_cublas();
      if (cublas_ != nullptr) cublas_->warm_up(info.gemm);
    }
  return kernels;
}

/// With the first module that multiplies matrices, since it takes long and much memory.
void CudaGpu::load_cublas() {
  if (std::exchange(looked_for_cublas_, true)) return;
  // The real one knows nothing of the double of a driver.
  if (info_.emulated && std::getenv(cublas_variable) == nullptr) return;
  auto loaded = Cublas::load(stream_);
  if (loaded)
    if (const auto given = give_workspace(**loaded); !given)
      loaded = std::unexpected(given.error());
  if (loaded)
    cublas_ = std::move(*loaded);
  else
    log_line("products of matrices are done without cuBLAS: " + loaded.error().message());
}

/// Of the tenant's memory, as much as NVIDIA recommends: else it would take as much by itself,
/// without anyone's counting it. Versions that cannot be given any are left to do so.
Result<void> CudaGpu::give_workspace(Cublas& cublas) {
  if (!cublas.takes_workspace()) return {};
  const bool is_large = TRY(attribute(*api_, device_, Attribute::compute_major)) >= 9;
  const std::uint64_t bytes = (is_large ? 32u : 4u) << 20;
  TRY(budget.take(bytes));
  DevicePointer workspace = 0;
  Result<void> given =
      check(*api_, "allocate memory for cuBLAS", api_->memory_allocate(&workspace, bytes, stream_));
  if (given) given = cublas.use_workspace(workspace, bytes);
  if (given) return {};
  if (workspace != 0) free_memory(workspace, stream_);
  budget.give_back(bytes);
  return given;
}

/// False: the kernel has to do it. So it does what would reach beyond the buffers.
bool CudaGpu::queue_gemm(const Launch& launch) const {
  const KernelInfo& info = launch.kernel->info;
  if (info.gemm == GemmElement::none || cublas_ == nullptr) return false;
  GemmArguments a{};
  std::memcpy(&a, launch.arguments.data(), sizeof a);
  const auto buffer = [&](std::size_t i) -> const CudaBuffer& {
    return static_cast<const CudaBuffer&>(*launch.buffers[i].buffer);
  };
  const auto holds = [&](std::size_t i, std::uint64_t rows, std::uint64_t columns) {
    const std::uint64_t width = info.gemm == GemmElement::f32 ? 4 : 2;
    return columns == 0 || rows <= buffer(i).memory().size() / width / columns;
  };
  const bool whole = std::uint64_t{launch.grid[0]} * info.gemm_tile >= a.n &&
                     std::uint64_t{launch.grid[1]} * info.gemm_tile >= a.m;
  if (!whole || !holds(0, a.m, a.k) || !holds(1, a.k, a.n) || !holds(2, a.m, a.n)) return false;
  return cublas_->queue({info.gemm, a.m, a.n, a.k, a.alpha, a.beta, buffer(0).address(),
                         buffer(1).address(), buffer(2).address()});
}

Result<std::unique_ptr<DeviceBuffer>> CudaGpu::attach(std::span<std::byte> memory, bool writable,
                                                      const MemoryKey& key) {
  TRY(use_context());
  auto buffer = std::make_unique<CudaBuffer>(*this, memory);
  TRY(buffer->allocate(key));
  buffer->register_host(writable);
  return buffer;
}

/// The copies in one of the two streams, after `begin`, which marks where they begin, if it is one.
Result<Copied> CudaGpu::copy_in(const Launch& launch, Stream stream, Event begin) {
  Copied copied;
  for (const BufferUse& use : launch.buffers) {
    const auto& buffer = static_cast<const CudaBuffer&>(*use.buffer);
    if (!use.copy_in || buffer.stream() != stream) continue;
    if (copied.count == 0 && begin != nullptr)
      TRY(check(*api_, "mark the copies", api_->event_record(begin, stream)));
    const auto memory = buffer.memory();
    TRY(check(*api_, "copy to the GPU",
              api_->copy_to_device(buffer.address(), memory.data(), memory.size(), stream)));
    ++copied.count;
    copied.bytes += memory.size();
  }
  return copied;
}

/// Has the other stream wait for launches before this one that use what is to be overwritten there,
/// or bring back through another buffer what is to be fetched. Waits only ever are for what was
/// queued before, so the streams never wait for one another.
Result<void> CudaGpu::make_way_ahead(const Launch& launch, CudaFlight& flight) {
  for (const BufferUse& use : launch.buffers) {
    auto& buffer = static_cast<CudaBuffer&>(*use.buffer);
    if (!buffer.comes_ahead()) continue;
    flight.ahead = buffer.is_new() || flight.ahead || use.copy_in;
    if (!use.copy_in) continue;
    const LastUse& before = buffer.source_has_changed() ? last_queued_ : buffer.last_use;
    if (was_waited_for(before.launch)) continue;
    TRY(check(*api_, "wait for a launch", api_->stream_wait(ahead_stream_, before.end, 0)));
  }
  return {};
}

/// What is large in the other stream, the rest in the kernel's own, which then waits for the other.
/// Only one of both is timed: small copies beside large ones tell nothing new.
Result<void> CudaGpu::bring(const Launch& launch, CudaFlight& flight) {
  const Events& events = flight.events;
  TRY(make_way_ahead(launch, flight));
  if (!flight.ahead) {
    flight.in = TRY(copy_in(launch, stream_, events.fetching));
    return {};
  }
  flight.in = TRY(copy_in(launch, ahead_stream_, events.fetching));
  TRY(check(*api_, "mark the arrival", api_->event_record(events.arrived, ahead_stream_)));
  TRY(copy_in(launch, stream_, nullptr));
  return check(*api_, "wait for copies", api_->stream_wait(stream_, events.arrived, 0));
}

Result<Copied> CudaGpu::copy_out(const Launch& launch) {
  Copied copied;
  for (const BufferUse& use : launch.buffers) {
    if (!use.copy_out) continue;
    const auto& buffer = static_cast<const CudaBuffer&>(*use.buffer);
    const auto memory = buffer.memory();
    TRY(check(*api_, "copy from the GPU",
              api_->copy_to_host(memory.data(), buffer.address(), memory.size(), stream_)));
    ++copied.count;
    copied.bytes += memory.size();
  }
  return copied;
}

Result<void> CudaGpu::queue(const Launch& launch, CudaFlight& flight) {
  const Events& events = flight.events;
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
  TRY(bring(launch, flight));
  TRY(check(*api_, "mark the begin", api_->event_record(events.begin, stream_)));
  if (!queue_gemm(launch)) {
    TRY(check_shape(kernel.info, grid));
    TRY(check(*api_, ("launch " + kernel.info.name).c_str(),
              api_->launch(kernel.function, grid[0], grid[1], grid[2], block[0], block[1], block[2],
                           0, stream_, parameters.data(), nullptr)));
  }
  TRY(check(*api_, "mark the end", api_->event_record(events.end, stream_)));
  flight.out = TRY(copy_out(launch));
  TRY(check(*api_, "mark the end of the copies", api_->event_record(events.copied, stream_)));
  last_queued_ = {flight.launch, events.copied};
  for (const BufferUse& use : launch.buffers)
    static_cast<CudaBuffer&>(*use.buffer).last_use = last_queued_;
  return {};
}

Result<std::unique_ptr<Flight>> CudaGpu::start(const Launch& launch) {
  TRY(use_context());
  auto flight = std::make_unique<CudaFlight>(TRY(take_events()), ++launches_);
  const Result<void> queued = queue(launch, *flight);
  if (queued) return flight;
  // The buffers must not be in use when this returns.
  TRY(check(*api_, "copy to the GPU", api_->stream_synchronize(ahead_stream_)));
  TRY(check(*api_, "run the kernel", api_->stream_synchronize(stream_)));
  put_back(flight->events);
  return std::unexpected(queued.error());
}

Result<std::uint64_t> CudaGpu::elapsed_ns(Event from, Event to) const {
  float ms = 0;
  TRY(check(*api_, "time the kernel", api_->event_elapsed(&ms, from, to)));
  return static_cast<std::uint64_t>(static_cast<double>(std::max(ms, 0.0f)) * 1e6);
}

/// Since the stream was made. The further two events are apart the less exact is CUDA about it; so
/// now and then a younger one becomes that from which others are timed.
Result<std::uint64_t> CudaGpu::on_device_ns(Event& event) {
  constexpr float far_ms = 4000;
  float ms = 0;
  TRY(check(*api_, "time the kernel", api_->event_elapsed(&ms, origin_, event)));
  const std::int64_t at_ns = origin_ns_ + static_cast<std::int64_t>(static_cast<double>(ms) * 1e6);
  if (ms > far_ms) {
    origin_ns_ = at_ns;
    std::swap(origin_, event);
  }
  return static_cast<std::uint64_t>(at_ns);
}

Result<Times> CudaGpu::times_of(CudaFlight& flight, std::uint64_t now) {
  Events& events = flight.events;
  const std::uint64_t ran_ns = TRY(elapsed_ns(events.begin, events.end));
  const std::uint64_t back_ns = TRY(elapsed_ns(events.end, events.copied));
  if (flight.in.count > 0)
    flight.in.ns = TRY(elapsed_ns(events.fetching, flight.ahead ? events.arrived : events.begin));
  if (flight.out.count > 0) flight.out.ns = back_ns;
  const std::lock_guard lock(events_mutex_);
  const std::uint64_t end = clock_.saw(TRY(on_device_ns(events.copied)), now) - back_ns;
  return Times{end - ran_ns, end, flight.in, flight.out, flight.ahead};
}

bool CudaGpu::has_ended(const Flight& flight) const {
  return !use_context() ||
         api_->event_query(static_cast<const CudaFlight&>(flight).events.copied) != Code::not_ready;
}

Result<Times> CudaGpu::wait(std::unique_ptr<Flight> waited) {
  TRY(use_context());
  auto& flight = static_cast<CudaFlight&>(*waited);
  TRY(check(*api_, "run the kernel", api_->event_synchronize(flight.events.copied)));
  const std::uint64_t now = now_ns();
  for (std::uint64_t last = ended_; last < flight.launch;)
    if (ended_.compare_exchange_weak(last, flight.launch)) break;
  auto times = times_of(flight, now);
  put_back(flight.events);
  return times;
}

}  // namespace

Result<std::unique_ptr<Gpu>> open(std::unique_ptr<const DriverApi> api, const std::string& uuid,
                                  std::uint64_t memory_limit_bytes, KeptMemory* kept) {
  Found found = TRY(find_device(*api, uuid));
  auto gpu = std::make_unique<CudaGpu>(std::move(api), std::move(found), memory_limit_bytes, kept);
  TRY(gpu->start());
  return gpu;
}

}  // namespace aios::gpu::cuda
