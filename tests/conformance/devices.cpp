#include "tests/conformance/devices.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>

#include "abi/proto/scheduler.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::conformance {

namespace {

const char* const manifest_head = R"(
[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu", "gpu"]
publish = true

[server.gpu]
binary = "aios-gpu"
spawner = { binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }
)";

/// The driver of real GPUs where there is one, else the double, which has more memory than it may
/// use, too.
std::string manifest() {
  std::string arguments = "\"--memory-mib\", \"" + std::to_string(most_memory_bytes >> 20) + "\"";
  if (std::getenv("AIOS_CONFORMANCE_REAL_GPU") == nullptr)
    arguments += std::string(", \"--environment\", \"AIOS_CUDA_LIBRARY=") + CUDA_DOUBLE +
                 "\", \"--environment\", \"AIOS_CUDA_DOUBLE=memory=512\"";
  if (const char* library = std::getenv("AIOS_CONFORMANCE_OPENCL_LIBRARY"))
    arguments += std::string(", \"--environment\", \"AIOS_OPENCL_LIBRARY=") + library + "\"";
  return manifest_head + ("arguments = [" + arguments + "]\n");
}

Result<std::vector<Device>> list_devices(test::TestInstance& instance) {
  namespace wire = proto::scheduler;
  auto scheduler = TRY(instance.visitor().client<wire::Protocol>());
  std::vector<Device> devices;
  const auto look = [&] {
    devices.clear();
    for (std::uint64_t index = 0;; ++index) {
      const auto next = scheduler->call<wire::DeviceNext>({index}, test::patience());
      if (!next) break;
      const auto& d = next->device;
      devices.push_back({static_cast<std::uint32_t>(index),
                         std::string(d.kind.view()) + std::to_string(index) + " " +
                             std::string(d.backend.view()) + (d.emulated != 0 ? " (emulated)" : ""),
                         std::string(d.backend.view()), d.memory_bytes, d.own_memory != 0});
      if (index + 1 >= next->device.count) break;
    }
    // The processor's, and at least one of the GPU driver's.
    return devices.size() > 1;
  };
  TRY(test::TestInstance::wait_until(look));
  return devices;
}

}  // namespace

struct System::Instance {
  std::vector<proto::kernel::ProcessRecord> processes() const {
    auto listed = running->processes();
    if (!listed) throw std::runtime_error(listed.error().to_string());
    return std::move(*listed);
  }
  std::unique_ptr<test::TestInstance> running;
};

bool has_opencl_driver() {
  std::error_code none;
  return !std::filesystem::is_empty("/etc/OpenCL/vendors", none) && !none;
}

System::System() : instance_(std::make_unique<Instance>()) {
  auto booted = test::TestInstance::boot_running(manifest());
  if (!booted) throw std::runtime_error(booted.error().to_string());
  instance_->running = std::move(*booted);
  auto devices = list_devices(*instance_->running);
  if (!devices) throw std::runtime_error(devices.error().to_string());
  devices_ = std::move(*devices);
  if (const char* backend = std::getenv("AIOS_CONFORMANCE_BACKEND"))
    std::erase_if(devices_, [&](const Device& device) { return device.backend != backend; });
}

System::~System() = default;

std::string System::socket_path() const {
  return instance_->running->socket_path();
}

std::set<std::uint64_t> System::contexts() const {
  std::set<std::uint64_t> found;
  for (const auto& process : instance_->processes())
    if (process.name.view().ends_with("-context")) found.insert(process.process_id);
  return found;
}

std::size_t System::kill_memory_owners() const {
  std::size_t count = 0;
  for (const auto& process : instance_->processes())
    if (process.name.view() == "device-memory" &&
        ::kill(static_cast<pid_t>(process.pid), SIGKILL) == 0)
      ++count;
  return count;
}

std::uint64_t System::learned_copies(const Device& device) const {
  namespace wire = proto::scheduler;
  const auto told = [&]() -> Result<std::uint64_t> {
    auto scheduler = TRY(instance_->running->visitor().client<wire::Protocol>());
    return TRY(scheduler->call<wire::DeviceNext>({device.index}, test::patience())).copies;
  }();
  if (!told) throw std::runtime_error(told.error().to_string());
  return *told;
}

std::uint64_t System::tasks_with_copies(const Device& device) const {
  namespace wire = proto::scheduler;
  const auto counted = [&]() -> Result<std::uint64_t> {
    auto scheduler = TRY(instance_->running->visitor().client<wire::Protocol>());
    std::uint64_t count = 0, after = 0;
    while (true) {
      const auto placed = TRY(scheduler->call<wire::PlacementNext>({after, 0}, test::patience()));
      if (placed.sequence == 0) return count;
      after = placed.sequence;
      if (placed.candidates[0].device == device.index && placed.transfer_ns > 0) ++count;
    }
  }();
  if (!counted) throw std::runtime_error(counted.error().to_string());
  return *counted;
}

void System::restart_gpu_driver() const {
  test::TestInstance& running = *instance_->running;
  const auto before = running.server("gpu");
  const auto restarted = [&]() -> Result<void> {
    TRY(before);
    TRY(running.crash("gpu", proto::supervisor::CrashHow::kill));
    TRY(running.wait_restarted("gpu", before->epoch));
    return {};
  }();
  if (!restarted) throw std::runtime_error(restarted.error().to_string());
}

}  // namespace aios::conformance
