#include <stdexcept>
#include <thread>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"
#include "tools/bench/devices.hpp"

namespace aios::bench {

namespace {

constexpr auto between_questions = std::chrono::milliseconds(100);
/// Drivers look for GPUs for 20 s at most.
constexpr std::uint64_t discovery_ns = 30 * ns_per_s;

/// Asks until a driver no longer says that it is looking.
template <class Method>
Result<typename Method::Reply> ask(Client& client, std::uint64_t index, Deadline deadline) {
  for (;;) {
    auto reply = client.call<Method>({index}, deadline);
    const bool looking =
        !reply && (reply.error().code() == Code::busy || reply.error().code() == Code::not_found);
    if (!looking || deadline.passed()) return reply;
    std::this_thread::sleep_for(between_questions);
  }
}

Result<std::vector<BenchDevice>> list(const std::string& socket) {
  namespace wire = proto::scheduler;
  const auto kernel = TRY(Kernel::attach(socket, {}));
  const Deadline deadline = Deadline::after(discovery_ns);
  Client gpu(*kernel, nullptr, TRY(kernel->startup("gpu")).handle, proto::driver::Protocol::version,
             "gpu");
  const auto first = ask<proto::driver::Device>(gpu, 0, deadline);
  const std::uint64_t gpus = first ? first->count : 0;
  Client scheduler(*kernel, nullptr, TRY(kernel->startup("scheduler")).handle,
                   wire::Protocol::version, "scheduler");
  std::vector<BenchDevice> devices;
  for (std::uint64_t index = 0; index < gpus + 1; ++index) {
    const auto next = TRY(ask<wire::DeviceNext>(scheduler, index, deadline));
    const auto& d = next.device;
    devices.push_back({static_cast<std::uint32_t>(index), std::string(d.kind.view()),
                       std::string(d.backend.view()), std::string(d.model.view()),
                       std::string(d.uuid.view()), d.threads, d.memory_bytes, d.emulated != 0});
  }
  return devices;
}

Result<std::map<std::uint64_t, int>> contexts(const std::string& socket) {
  const auto kernel = TRY(Kernel::attach(socket, {}));
  const Handle root = TRY(kernel->startup("root")).handle;
  std::map<std::uint64_t, int> found;
  for (std::uint64_t after = 0;;) {
    const auto next = TRY(kernel->call<proto::kernel::ProcessNext>({root, after})).reply;
    if (next.process_id == 0) return found;
    after = next.process_id;
    if (next.name.view() == "gpu-context") found[after] = static_cast<int>(next.pid);
  }
}

}  // namespace

std::map<std::uint64_t, int> list_contexts(const std::string& socket) {
  auto found = contexts(socket);
  if (!found) throw std::runtime_error(found.error().to_string());
  return *std::move(found);
}

std::vector<BenchDevice> list_devices(const std::string& socket) {
  auto devices = list(socket);
  if (!devices) throw std::runtime_error(devices.error().to_string());
  return *std::move(devices);
}

}  // namespace aios::bench
