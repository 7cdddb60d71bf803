#include "drivers/gpu/look/device_watch.hpp"

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "abi/runtime/log.hpp"
#include "drivers/gpu/open_gpu.hpp"

namespace aios::gpu {

namespace {

/// Until it is looked for again when a device is gone.
constexpr std::uint64_t again_ns = 10 * ns_per_s;
constexpr unsigned gauge_limit_ms = 2000;

/// Of an OpenCL device unique only among those of its library: "libpocl.so.2-CL-0-0-Portable...".
std::string uuid_of(const DeviceInfo& info) {
  if (info.library.empty()) return info.uuid;
  return (std::filesystem::path(info.library).filename().string() + "-" + info.uuid)
      .substr(0, sizeof(proto::driver::Device::Reply::uuid) - 1);
}

}  // namespace

Result<void> DeviceWatch::start(unsigned limit_s) {
  prober_ = TRY(Prober::start(
      loop_, limit_s, [this](std::optional<Findings> findings) { found(std::move(findings)); }));
  gauges_ = TRY(Gauges::start(loop_, gauge_limit_ms, [this] { tell_absent(); }));
  driver_.read_by([this](const device::DeviceDescription& of) { return gauges_->of(of.uuid); });
  driver_.when_doubted([this] { look_soon(); });
  prober_->look();
  return {};
}

/// What is doubted while a look is under way may have been seen before: one more is due.
void DeviceWatch::look_soon() {
  loop_.cancel(again_);
  if (!prober_->looking()) return prober_->look();
  again_ = loop_.after(ns_per_s / 10, [this] { look_soon(); });
}

void DeviceWatch::found(std::optional<Findings> findings) {
  if (!findings) {
    log_line("the process that looks for GPUs has ended; the driver ends, and starts anew");
    return loop_.stop();
  }
  log_line("devices found: " + std::to_string(findings->devices.size()));
  std::vector<device::DeviceDescription> devices;
  std::vector<GaugeSubject> subjects;
  for (const DeviceInfo& info : findings->devices) {
    devices.push_back(describe(info));
    // At the address of a part of a GPU the whole one is.
    if (info.backend == "cuda" && !info.pci_address.empty() && !info.uuid.starts_with("MIG-"))
      subjects.push_back({info.pci_address, info.uuid});
  }
  driver_.set_devices(std::move(devices));
  absent_ = std::move(findings->absent);
  tell_absent();
  gauges_->watch(std::move(subjects));
  if (!driver_.any_failed()) return;
  loop_.cancel(again_);
  again_ = loop_.after(again_ns, [this] { look_soon(); });
}

void DeviceWatch::tell_absent() {
  std::vector<device::Absence> absent = absent_;
  if (!gauges_->why_not().empty())
    absent.push_back({"cuda", "how busy and warm GPUs are is not known: " + gauges_->why_not(),
                      "NVIDIA's management library comes with its driver (Debian: libnvidia-ml1); "
                      "if it hangs, look at dmesg and restart the machine's driver"});
  for (const device::Absence& one : absent)
    if (std::ranges::find(told_, one) == told_.end()) log_line(one.backend + ": " + one.why);
  told_ = absent;
  driver_.set_absent(std::move(absent));
}

device::DeviceDescription DeviceWatch::describe(const DeviceInfo& info) const {
  const std::uint64_t memory_bytes = memory_limit_bytes_ == 0
                                         ? info.memory_bytes
                                         : std::min(info.memory_bytes, memory_limit_bytes_);
  device::DeviceDescription made{
      .kind = info.kind,
      .backend = info.backend,
      .uuid = uuid_of(info),
      .model = info.model,
      .cores = info.multiprocessors,
      .threads = 1,
      .queue_depth = queue_depth,
      .emulated = info.emulated,
      .own_memory = !info.shares_memory,
      .memory_bytes = memory_bytes,
      .pci_address = info.pci_address,
      .numa_node = info.numa_node,
      .peers = info.peers,
      .context_arguments = {"--backend", info.backend, "--uuid", info.uuid, "--memory",
                            std::to_string(memory_bytes)}};
  std::vector<std::string> environment;
  // Contexts ask no gauges, and have a limited number of arguments.
  std::ranges::copy_if(
      environment_, std::back_inserter(environment),
      [](const std::string& assignment) { return !assignment.starts_with("AIOS_NVML_"); });
  if (!info.library.empty())
    for (std::string& assignment : opencl_environment(info.library))
      environment.push_back(std::move(assignment));
  for (std::string& assignment : environment) {
    made.context_arguments.emplace_back("--environment");
    made.context_arguments.push_back(std::move(assignment));
  }
  if (info.exports_memory) {
    made.memory_arguments = made.context_arguments;
    made.memory_arguments.insert(made.memory_arguments.end(), {"--role", "memory"});
  }
  return made;
}

}  // namespace aios::gpu
