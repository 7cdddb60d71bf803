#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <semaphore>
#include <stdexcept>

#include "abi/runtime/time.hpp"
#include "drivers/cpu/cpu_backend.hpp"
#include "drivers/device/executor.hpp"
#include "drivers/gpu/gpu_backend.hpp"
#include "drivers/gpu/open_gpu.hpp"
#include "tools/bench/devices.hpp"
#include "tools/bench/need.hpp"

namespace aios::bench {

namespace {

device::Buffer make_buffer(const Workload::Buffer& buffer) {
  const Fd memory(::memfd_create("bench", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid() || ::ftruncate(memory.get(), static_cast<off_t>(buffer.bytes)) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0)
    throw std::runtime_error("there is no memory for a buffer");
  Mapping write = need(Mapping::map(memory, buffer.bytes, Mapping::Access::read_write));
  const std::span floats(reinterpret_cast<float*>(write.data()), buffer.bytes / sizeof(float));
  std::ranges::fill(floats, first_number);
  return need(
      device::Buffer::memory(need(Mapping::map(memory, buffer.bytes, Mapping::Access::read)),
                             std::move(write), 0, buffer.bytes));
}

/// The backend and threads that a context on the device would have.
class Direct final : public Way {
 public:
  Direct(std::string codelets, const BenchDevice& device);
  std::unique_ptr<Prepared> prepare(const Workload& workload) override;
  /// Does `count` works, one after the other or all in the queue.
  void run(const std::vector<std::shared_ptr<device::Work>>& works, bool at_once);
  device::Backend& backend() { return *backend_; }

 private:
  void submit(device::Work& work);
  void wait(std::size_t count);

  std::string codelets_;
  std::unique_ptr<device::Backend> backend_;
  std::counting_semaphore<> bell_{0};
  std::unique_ptr<device::Executor> executor_;  // last: its threads ring the bell
};

class DirectPrepared final : public Prepared {
 public:
  DirectPrepared(Direct& way, const Workload& workload, std::uint32_t codelet);
  std::uint64_t run(std::size_t count, bool at_once) override;

 private:
  Direct& way_;
  device::BufferTable buffers_;
  proto::context::Run::Request request_{};
};

/// The name of an OpenCL device in this process, where all drivers are loaded at once: AIOS's own
/// says which driver it is of, and counts only that one's platforms.
std::string own_uuid(const BenchDevice& device) {
  if (device.backend != "opencl") return device.uuid;
  for (const gpu::DeviceInfo& info : need(gpu::discover_opencl()))
    if (info.model == device.model) return info.uuid;
  return device.uuid;
}

std::unique_ptr<device::Backend> open_backend(const BenchDevice& device, std::size_t threads) {
  if (device.backend == "cpu") {
    need(cpu::preload_libraries());
    return std::make_unique<cpu::CpuBackend>("", static_cast<std::uint32_t>(threads));
  }
  return std::make_unique<gpu::GpuBackend>(
      need(gpu::open(need(gpu::load(device.backend)), own_uuid(device), device.memory_bytes)));
}

Direct::Direct(std::string codelets, const BenchDevice& device) : codelets_(std::move(codelets)) {
  const auto notify = [this] { bell_.release(); };
  std::vector<int> cpus = device::usable_cpus();
  cpus.resize(std::min<std::size_t>(cpus.size(), device.threads));
  backend_ = open_backend(device, cpus.size());
  executor_ = need(device.backend == "cpu"
                       ? device::Executor::create(cpus, notify)
                       : device::Executor::create_queue(gpu::launches_in_flight, notify));
}

std::unique_ptr<Prepared> Direct::prepare(const Workload& workload) {
  std::ifstream file(codelets_ + "/" + workload.module + ".so", std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  // On a thread of the executor: the device's library belongs to it.
  Result<std::uint32_t> number = error(Code::internal, "nothing was loaded");
  need(executor_->submit({.id = 0, .block_count = 1, .limit_ns = 0, .run_block = [&](auto) {
                            number =
                                backend_->load(std::as_bytes(std::span(text)), workload.codelet);
                            return Result<>();
                          }}));
  wait(1);
  return std::make_unique<DirectPrepared>(*this, workload, need(std::move(number)));
}

DirectPrepared::DirectPrepared(Direct& way, const Workload& workload, std::uint32_t codelet)
    : way_(way) {
  request_.codelet = codelet;
  request_.buffer_count = static_cast<std::uint32_t>(workload.buffers.size());
  request_.argument_bytes = static_cast<std::uint32_t>(workload.arguments.size());
  std::copy(workload.grid.begin(), workload.grid.end(), request_.grid);
  std::memcpy(request_.arguments, workload.arguments.data(), workload.arguments.size());
  for (std::uint32_t i = 0; i < request_.buffer_count; ++i) {
    need(buffers_.bind(i, make_buffer(workload.buffers[i]), [] {}));
    request_.buffers[i] = {.id = static_cast<std::uint16_t>(i),
                           .mode = static_cast<std::uint16_t>(workload.buffers[i].mode),
                           .content = 0};
  }
}

std::uint64_t DirectPrepared::run(std::size_t count, bool at_once) {
  const std::uint64_t begin = now_ns();
  std::vector<std::shared_ptr<device::Work>> works;
  for (std::size_t i = 0; i < count; ++i)
    works.push_back(need(way_.backend().prepare(request_, buffers_)));
  way_.run(works, at_once);
  return now_ns() - begin;
}

void Direct::run(const std::vector<std::shared_ptr<device::Work>>& works, bool at_once) {
  for (const auto& work : works) {
    submit(*work);
    if (!at_once) wait(1);
  }
  if (at_once) wait(works.size());
}

void Direct::submit(device::Work& work) {
  device::Executor::Job job{.block_count = work.block_count(),
                            .run_block = [&work](auto block) { return work.run_block(block); },
                            .begin = [&work] { return work.begin(); }};
  if (work.tells_end()) job.has_ended = [&work] { return work.has_ended(); };
  need(executor_->submit(std::move(job)));
}

void Direct::wait(std::size_t count) {
  executor_->kick();
  while (count > 0) {
    bell_.acquire();
    for (const auto& finished : executor_->take_finished()) {
      need(finished.outcome);
      --count;
    }
  }
}

}  // namespace

std::unique_ptr<Way> direct(const std::string& codelets, const BenchDevice& device) {
  return std::make_unique<Direct>(codelets, device);
}

}  // namespace aios::bench
