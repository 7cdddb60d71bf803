#include "drivers/gpu/gpu_backend.hpp"

#include <xxhash.h>

#include <algorithm>

namespace aios::gpu {

namespace {

class GpuWork final : public device::Work {
 public:
  static Result<std::shared_ptr<GpuWork>> create(GpuBackend& backend, Kernel& kernel,
                                                 const proto::context::Run::Request& request,
                                                 const device::BufferTable& buffers);

  std::uint32_t block_count() const override { return 1; }
  Result<> begin() override {
    flight_ =
        TRY(backend_.start({&kernel_,
                            grid_,
                            std::as_bytes(std::span(arguments_)).first(kernel_.info.argument_bytes),
                            {}},
                           uses_));
    return {};
  }
  bool tells_end() const override { return backend_.tells_end(); }
  bool has_ended() const override { return backend_.has_ended(*flight_); }
  Result<> run_block(std::uint32_t) override {
    const auto times = TRY(backend_.wait(std::move(flight_)));
    times_ = {times.start_ns, times.end_ns};
    transfer_ns_ = times.in.ns + times.out.ns;
    if (times.ahead) ahead_ns_ = times.in.ns;
    return {};
  }
  const std::array<std::uint64_t, AIOS_RESULT_WORDS>& result() const override { return result_; }
  std::optional<device::DeviceTimes> times() const override { return times_; }
  std::uint64_t transfer_ns() const override { return transfer_ns_; }
  std::uint64_t ahead_ns() const override { return ahead_ns_; }

 private:
  GpuWork(GpuBackend& backend, Kernel& kernel) : backend_(backend), kernel_(kernel) {}

  GpuBackend& backend_;
  Kernel& kernel_;
  std::array<std::uint32_t, 3> grid_{};
  std::vector<std::shared_ptr<const device::Buffer>> in_use_;
  std::vector<MemoryUse> uses_;
  std::unique_ptr<Flight> flight_;
  alignas(16) std::array<std::uint8_t, proto::context::max_argument_bytes> arguments_{};
  std::array<std::uint64_t, AIOS_RESULT_WORDS> result_{};
  std::optional<device::DeviceTimes> times_;
  std::uint64_t transfer_ns_ = 0;
  std::uint64_t ahead_ns_ = 0;
};

Result<std::shared_ptr<GpuWork>> GpuWork::create(GpuBackend& backend, Kernel& kernel,
                                                 const proto::context::Run::Request& request,
                                                 const device::BufferTable& buffers) {
  const KernelInfo& info = kernel.info;
  TRY(device::check_counts(request));
  TRY(device::count_blocks(request.grid));
  if (request.buffer_count != info.modes.size())
    return error(Code::invalid_argument, info.name + " takes " + std::to_string(info.modes.size()) +
                                             " buffers, not " +
                                             std::to_string(request.buffer_count));
  if (request.argument_bytes != info.argument_bytes)
    return error(Code::invalid_argument,
                 info.name + " takes " + std::to_string(info.argument_bytes) +
                     " bytes of arguments, not " + std::to_string(request.argument_bytes));
  std::shared_ptr<GpuWork> work(new GpuWork(backend, kernel));
  std::copy_n(request.grid, 3, work->grid_.begin());
  std::copy_n(request.arguments, request.argument_bytes, work->arguments_.begin());
  for (std::uint32_t i = 0; i < request.buffer_count; ++i) {
    const std::uint32_t mode = request.buffers[i].mode;
    auto buffer = TRY(buffers.use(request.buffers[i].id));
    // Checks that it may be used so.
    TRY(buffer->view(mode));
    if (buffer->shared_memory() == nullptr)
      return error(Code::invalid_argument, "a kernel reads memory, not lent files");
    if ((mode & info.modes[i]) != info.modes[i])
      return error(Code::invalid_argument,
                   "buffer " + std::to_string(i) + " of " + info.name + " has the wrong mode");
    work->uses_.push_back({buffer->shared_memory(), mode, request.buffers[i].content});
    work->in_use_.push_back(std::move(buffer));
  }
  return work;
}

}  // namespace

Result<std::vector<std::unique_ptr<Kernel>>> GpuBackend::compile(std::span<const std::byte> image) {
  const KernelModule module = TRY(read_kernel_module(image));
  for (const KernelInfo& kernel : module.kernels)
    if (kernel.argument_bytes > proto::context::max_argument_bytes)
      return error(Code::invalid_argument, kernel.name + " takes over 64 bytes of arguments");
  return gpu_->compile(module);
}

GpuBackend::Loaded& GpuBackend::find_or_load(std::span<const std::byte> image) {
  const XXH128_hash_t digest = XXH3_128bits(image.data(), image.size());
  const auto known = std::ranges::find_if(modules_, [&](const Loaded& module) {
    return module.low == digest.low64 && module.high == digest.high64 &&
           module.bytes == image.size();
  });
  if (known != modules_.end()) return *known;
  return modules_.emplace_back(Loaded{digest.low64, digest.high64, image.size(), compile(image)});
}

Result<std::uint32_t> GpuBackend::load(std::span<const std::byte> image, std::string_view codelet) {
  const std::lock_guard device_lock(device_mutex_);
  if (modules_.size() >= proto::context::max_modules)
    return error(Code::quota, "a context loads at most 64 modules");
  const Loaded& module = find_or_load(image);
  if (!module.kernels) {
    note(module.kernels.error());
    return std::unexpected(module.kernels.error());
  }
  const auto kernel = std::ranges::find_if(
      *module.kernels, [&](const auto& one) { return one->info.name == codelet; });
  if (kernel == module.kernels->end())
    return error(Code::not_found, "the module has no kernel '" + std::string(codelet) + "'");
  const std::lock_guard lock(mutex_);
  const auto number = std::ranges::find(kernels_, kernel->get());
  if (number != kernels_.end()) return static_cast<std::uint32_t>(number - kernels_.begin());
  kernels_.push_back(kernel->get());
  return static_cast<std::uint32_t>(kernels_.size() - 1);
}

Result<std::shared_ptr<device::Work>> GpuBackend::prepare(
    const proto::context::Run::Request& request, const device::BufferTable& buffers) {
  Kernel* kernel = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (request.codelet >= kernels_.size())
      return error(Code::invalid_argument, "no such codelet was loaded");
    kernel = kernels_[request.codelet];
  }
  return TRY(GpuWork::create(*this, *kernel, request, buffers));
}

namespace {

constexpr std::size_t most_written_regions = 4096;

/// Bytes that never change are the same for whoever binds them; others are what their binder says.
MemoryKey key_of(const device::BufferMemory& memory) {
  const device::MemoryOrigin& origin = memory.origin;
  if (origin.constant && origin.region != 0)
    return {0, origin.region, memory.offset, memory.length};
  if (origin.serial != 0) return {origin.binder, origin.serial, memory.offset, memory.length};
  return {};
}

}  // namespace

Result<GpuBackend::Attached*> GpuBackend::attach(
    const std::shared_ptr<const device::BufferMemory>& memory) {
  Attached& known = attached_[memory.get()];
  known.last_use = launches_;
  if (known.buffer != nullptr) return &known;
  const auto make = [&] {
    return gpu_->attach(memory->bytes(), memory->write.valid(), key_of(*memory));
  };
  auto made = make();
  while (!made && made.error().code() == Code::no_memory && evict_oldest()) made = make();
  if (!made) {
    attached_.erase(memory.get());
    return std::unexpected(std::move(made).error());
  }
  known.memory = memory;
  known.buffer = std::move(*made);
  known.content = content_left(*memory, *known.buffer);
  if (may_have_written(*memory)) known.buffer->source_changes();
  return &known;
}

/// What the context before has left there; not where this one may since have made it stale: it has
/// not told a buffer that it did not know.
std::uint32_t GpuBackend::content_left(const device::BufferMemory& memory,
                                       const DeviceBuffer& buffer) {
  const auto mark = buffer.mark();
  if (mark == nullptr) return 0;
  if (memory.origin.constant) return mark->content();
  if (may_have_written(memory)) {
    (void)mark->begin_change();
    return 0;
  }
  return mark->content();
}

bool GpuBackend::may_have_written(const device::BufferMemory& memory) const {
  return wrote_many_regions_ || written_regions_.contains(memory.origin.region);
}

void GpuBackend::note_written(std::uint64_t region) {
  if (wrote_many_regions_) return;
  written_regions_.insert(region);
  wrote_many_regions_ = written_regions_.size() > most_written_regions;
  if (wrote_many_regions_) written_regions_.clear();
}

/// Makes room: what is there is no more than a copy. Not of what this launch uses.
bool GpuBackend::evict_oldest() {
  auto oldest = attached_.end();
  for (auto entry = attached_.begin(); entry != attached_.end(); ++entry)
    if (entry->second.buffer != nullptr && entry->second.last_use != launches_ &&
        (oldest == attached_.end() || entry->second.last_use < oldest->second.last_use))
      oldest = entry;
  if (oldest == attached_.end()) return false;
  oldest->second.buffer.reset();
  attached_.erase(oldest);
  return true;
}

Result<std::vector<GpuBackend::Attached*>> GpuBackend::attach_all(std::span<const MemoryUse> uses) {
  ++launches_;
  std::vector<Attached*> all;
  for (const MemoryUse& use : uses) {
    const auto one = attach(use.memory);
    if (!one) {
      note(one.error());
      return std::unexpected(one.error());
    }
    all.push_back(*one);
  }
  return all;
}

namespace {

bool writes(const MemoryUse& use) {
  return (use.mode & (AIOS_MODE_WRITE | AIOS_MODE_SCRATCH)) != 0;
}

bool overlap(const device::BufferMemory& a, const device::BufferMemory& b) {
  return a.origin.region != 0 && a.origin.region == b.origin.region &&
         a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}

/// By which number the device knows bytes that never change.
constexpr std::uint32_t constant_content = 1;

std::uint32_t content_before(const MemoryUse& use) {
  return use.memory->origin.constant ? constant_content : use.content;
}

}  // namespace

/// What the device holds when everything handed to it so far is done.
void GpuBackend::remember(const MemoryUse& use, Attached& attached) {
  const std::uint32_t before = content_before(use);
  if (!writes(use)) {
    attached.content = before;
    return;
  }
  note_written(use.memory->origin.region);
  for (auto& [memory, other] : attached_)
    if (overlap(*memory, *use.memory)) {
      other.content = 0;
      if (&other != &attached) other.buffer->source_changes();
      if (const auto mark = other.buffer->mark()) (void)mark->begin_change();
    }
  attached.content = before == 0 ? 0 : before + 1;
}

/// Notes in their marks that these buffers are about to change, and returns what they will hold.
std::vector<Settlement> GpuBackend::begin_changes(const Launch& launch,
                                                  std::span<const MemoryUse> uses,
                                                  std::span<Attached* const> attached) {
  std::vector<Settlement> changes;
  for (std::size_t i = 0; i < uses.size(); ++i)
    if (auto mark = attached[i]->buffer->mark();
        mark != nullptr && (launch.buffers[i].copy_in || writes(uses[i])))
      changes.push_back({mark, mark->begin_change(), attached[i]->content});
  return changes;
}

Result<std::unique_ptr<Flight>> GpuBackend::start(Launch launch, std::span<const MemoryUse> uses) {
  const std::lock_guard lock(device_mutex_);
  const std::vector<Attached*> attached = TRY(attach_all(uses));
  for (std::size_t i = 0; i < uses.size(); ++i) {
    const std::uint32_t content = content_before(uses[i]);
    const bool is_there = content != 0 && attached[i]->content == content;
    launch.buffers.push_back({attached[i]->buffer.get(),
                              (uses[i].mode & AIOS_MODE_READ) != 0 && !is_there,
                              (uses[i].mode & AIOS_MODE_WRITE) != 0});
  }
  peak_memory_bytes_ = gpu_->peak_memory_bytes();
  // First what is read, for a buffer that is used in two ways.
  for (const bool written : {false, true})
    for (std::size_t i = 0; i < uses.size(); ++i)
      if (writes(uses[i]) == written) remember(uses[i], *attached[i]);
  std::vector<Settlement> changes = begin_changes(launch, uses, attached);
  auto flight = gpu_->start(launch);
  if (flight) {
    (*flight)->to_settle = std::move(changes);
    return flight;
  }
  for (Attached* one : attached) one->content = 0;
  note(flight.error());
  return flight;
}

Result<Times> GpuBackend::wait(std::unique_ptr<Flight> flight) {
  const std::vector<Settlement> changes = std::move(flight->to_settle);
  auto times = gpu_->wait(std::move(flight));
  if (!times) {
    note(times.error());
    forget_contents();
    return times;
  }
  for (const Settlement& one : changes) one.mark->end_change(one.change, one.content);
  count_copies(*times);
  return times;
}

/// After something that was on its way has failed: nobody knows what was done of it.
void GpuBackend::forget_contents() {
  if (loss_ != device::Loss::none) return;
  const std::lock_guard lock(device_mutex_);
  for (auto& [memory, attached] : attached_) attached.content = 0;
}

void GpuBackend::count_copies(const Times& times) {
  using Copies = proto::context::Copies;
  const auto add = [](const Copied& copied, Copies::Sum(&sums)[2]) {
    if (copied.count == 0) return;
    Copies::Sum& sum = sums[copied.bytes >= copied.count * Copies::large_bytes ? 1 : 0];
    sum.count += copied.count;
    sum.bytes += copied.bytes;
    sum.ns += copied.ns;
  };
  if (times.in.count == 0 && times.out.count == 0) return;
  const std::lock_guard lock(mutex_);
  add(times.in, copies_.to_device);
  add(times.out, copies_.to_host);
}

proto::context::Copies::Reply GpuBackend::copies() const {
  const std::lock_guard lock(mutex_);
  return copies_;
}

void GpuBackend::release_unbound() {
  {
    const std::lock_guard lock(device_mutex_);
    for (auto entry = attached_.begin(); entry != attached_.end();) {
      if (entry->second.memory.use_count() > 1) {
        ++entry;
        continue;
      }
      // Before its memory is unmapped.
      entry->second.buffer.reset();
      entry = attached_.erase(entry);
    }
  }
  // Others wait for the room. Launches go on meanwhile.
  gpu_->wait_for_freed();
}

/// The first says how it was lost; after that everything fails, in one way or another.
void GpuBackend::note(const Status& status) {
  device::Loss before = device::Loss::none;
  if (status.code() == Code::crashed)
    loss_.compare_exchange_strong(before, device::Loss::fault);
  else if (status.code() == Code::service_down)
    loss_.compare_exchange_strong(before, device::Loss::gone);
}

}  // namespace aios::gpu
