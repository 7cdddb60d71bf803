// A real kernel, scheduler, CPU driver and contexts; the test plays supervisor and tenants.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "abi/lib/task_client.hpp"
#include "tests/protocol/kernel/harness.hpp"

namespace aios::scheduler::test {

/// No call of these tests takes nearly as long; only a failing one waits for it.
inline Deadline soon() {
  return Deadline::after(20 * ns_per_s);
}

class Rig {
 public:
  enum class With { driver, no_driver };
  explicit Rig(With with = With::driver);

  Kernel& kernel() { return *kernel_; }
  /// This program's connection to the scheduler.
  TaskLink& link() { return *link_; }
  Client& client() { return link_->client(); }
  Handle scheduler_port() const { return scheduler_port_; }

  void start_driver();
  /// SIGKILL, and waits for the end.
  void kill_driver() { kill(driver_); }
  /// As its supervisor does after too many deaths; or takes back.
  void give_driver_up(bool down = true);
  void restart_scheduler();
  /// The contexts that are alive.
  std::vector<std::uint64_t> contexts();
  /// Waits until there are `count`.
  void await_contexts(std::size_t count);
  void kill(std::uint64_t process_id);
  void signal(std::uint64_t process_id, int signal_number);
  /// A job of its own below the root; the handle has every right.
  Handle make_job(const std::string& name);

 private:
  std::uint64_t spawn(const std::string& name, const char* binary,
                      std::vector<proto::kernel::SpawnHandle> handles);
  void start_scheduler();

  aios::test::Machine machine_{"serve"};
  std::unique_ptr<Kernel> kernel_;
  Handle root_ = 0;
  Handle spawner_ = 0;
  Handle driver_port_ = 0;
  Handle scheduler_port_ = 0;
  Handle driver_job_ = 0;
  Handle scheduler_job_ = 0;
  std::uint64_t driver_ = 0;
  std::uint64_t scheduler_ = 0;
  std::unique_ptr<TaskLink> link_;
};

/// A tenant with short forms of its calls.
class Tenant {
 public:
  Tenant(Rig& rig, const std::string& job_name);

  std::uint32_t codelet(const std::string& module, const std::string& function);
  std::uint32_t buffer(const Region& region, bool writable);
  Result<void> submit(const std::vector<proto::scheduler::TaskRecord>& records);
  /// The next `count` completions, in order of tags.
  std::vector<proto::scheduler::Completion> complete(std::size_t count);
  proto::scheduler::Completion run(const proto::scheduler::TaskRecord& record);
  std::string failure(std::uint64_t tag);
  Result<void> close();
  Result<void> reopen();
  Handle job() const { return job_; }

  TaskTenant& operator*() { return tenant_; }
  TaskTenant* operator->() { return &tenant_; }

 private:
  Rig& rig_;
  Handle job_;
  TaskTenant tenant_;
};

/// The bytes of a test module in a region.
Region load_module(Rig& rig, const std::string& name);
Code code(const proto::scheduler::Completion& completion);

}  // namespace aios::scheduler::test
