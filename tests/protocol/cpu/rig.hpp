// A real kernel, a real driver and real contexts; the test plays supervisor, scheduler and tenant.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"
#include "tests/protocol/kernel/harness.hpp"

namespace aios::cpu::test {

/// No call of these tests takes nearly as long; only a failing one waits for it.
inline Deadline soon() {
  return Deadline::after(20 * ns_per_s);
}

class Rig {
 public:
  Rig();

  Kernel& kernel() { return *kernel_; }
  Handle root() const { return root_; }
  Client& driver() { return *driver_; }
  /// Kills the driver, waits for its end and starts another in its job.
  void restart_driver();

  /// A tenant: a job of its own. The handle has every right.
  Handle make_tenant(const std::string& name);
  Result<proto::driver::OpenContext::Reply> open_context(Handle tenant);
  std::unique_ptr<Client> connect(Handle context_port);
  /// A context that no driver knows, and its port (in `port`).
  std::uint64_t spawn_unknown_context(const std::vector<std::string>& arguments, Handle& port);

  std::uint64_t job_id(Handle job);
  void kill_process(std::uint64_t process_id);
  /// Until the kernel says that it has ended.
  bool has_ended(std::uint64_t process_id);
  void await_exit(std::uint64_t process_id);
  std::string context_log() const { return machine_.log("cpu-context"); }

 private:
  void start_driver();

  aios::test::Machine machine_{"serve"};
  std::unique_ptr<Kernel> kernel_;
  Handle root_ = 0;
  Handle spawner_ = 0;
  Handle port_ = 0;
  Handle driver_job_ = 0;
  std::uint64_t driver_process_ = 0;
  std::unique_ptr<Client> driver_;
};

/// A context's link, with short forms of its calls.
class ContextLink {
 public:
  ContextLink(Rig& rig, Handle tenant);

  Result<std::uint32_t> load(const std::string& module, const std::string& codelet,
                             Deadline deadline = soon());
  /// Sends a new region that holds `text`, as buffer `id`.
  Result<proto::Empty> bind_text(std::uint32_t id, const std::string& text);
  Result<proto::Empty> bind(const proto::context::Bind::Request& request, HandleToSend object);
  Result<proto::Empty> unbind(std::uint64_t id);
  Result<proto::context::Run::Reply> run(std::uint32_t codelet, std::uint64_t limit_ns = 0,
                                         std::vector<proto::context::BufferUse> buffers = {});

  Client& client() { return *client_; }
  const proto::driver::OpenContext::Reply& opened() const { return opened_; }

 private:
  Rig& rig_;
  proto::driver::OpenContext::Reply opened_{};
  std::unique_ptr<Client> client_;
};

}  // namespace aios::cpu::test
