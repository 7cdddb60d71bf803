// An AIOS instance in a folder of its own below $TMPDIR, for tests with real processes. It ends,
// and its folder goes, with the object; so does its kernel if the test itself is killed.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "abi/proto/supervisor.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios::test {

inline constexpr std::uint64_t patience_ns = 20 * ns_per_s;  ///< greatest wait for anything
inline Deadline patience() {
  return Deadline::after(patience_ns);
}

/// A connection to an instance as an outside program has it, and clients over it.
class Visitor {
 public:
  explicit Visitor(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}
  Kernel& kernel() { return *kernel_; }
  /// A blocking client of a published port. not_found when there is none of that name.
  Result<std::unique_ptr<Client>> client(const std::string& service, std::uint64_t version);
  /// The same, of the protocol's own version: client<proto::echo::Protocol>("echo").
  template <class Protocol>
  Result<std::unique_ptr<Client>> client(const std::string& service = Protocol::name) {
    return client(service, Protocol::version);
  }

 private:
  std::unique_ptr<Kernel> kernel_;
};

class TestInstance {
 public:
  /// Starts a kernel with this manifest and waits until the supervisor can be called; servers may
  /// still be starting. On failure the message has the kernel's and the supervisor's log.
  static Result<std::unique_ptr<TestInstance>> boot(const std::string& manifest);
  /// boot(), then wait_running().
  static Result<std::unique_ptr<TestInstance>> boot_running(const std::string& manifest);
  /// Starts a kernel that is expected to end by itself: its exit code.
  static Result<int> boot_failing(const std::string& manifest, std::string& logs);
  TestInstance(const TestInstance&) = delete;
  ~TestInstance();

  Result<std::unique_ptr<Visitor>> attach(const AttachOptions& options = {});
  /// The operator's own connection.
  Visitor& visitor() { return *operator_; }

  Result<void> wait_running();
  /// The supervisor's record of a server. Waits for a supervisor that is being restarted.
  Result<proto::supervisor::Server::Reply> server(const std::string& name);
  Result<void> crash(const std::string& name, proto::supervisor::CrashHow how);
  /// As an operator wishes it: the new pid.
  Result<std::uint64_t> restart(const std::string& name);
  /// Waits until the server runs in a later epoch.
  Result<proto::supervisor::Server::Reply> wait_restarted(const std::string& name,
                                                          std::uint64_t epoch);
  /// Looks again and again until `condition` holds. timed_out after `patience_ns`.
  static Result<void> wait_until(const std::function<bool()>& condition);

  Result<proto::kernel::InstanceInfo::Reply> info();
  /// Every living process of the instance.
  Result<std::vector<proto::kernel::ProcessRecord>> processes();
  /// Every link of the instance.
  Result<std::vector<proto::kernel::LinkNext::Reply>> links();

  /// Asks for the shutdown and waits for it: the kernel's exit code.
  Result<int> shutdown();

  pid_t kernel_pid() const { return kernel_pid_; }
  const std::filesystem::path& state() const { return state_; }
  std::string socket_path() const { return (state_ / "aios.sock").string(); }
  /// Everything that was written to the logs, for messages.
  std::string logs() const;

 private:
  TestInstance() = default;
  Result<void> prepare(const std::string& manifest);
  Result<void> start_kernel();
  Result<void> greet();
  bool kernel_ended();
  Result<int> wait_kernel();
  template <class M>
  Result<typename M::Reply> ask_supervisor(const typename M::Request& request);

  std::filesystem::path folder_;
  std::filesystem::path state_;
  pid_t kernel_pid_ = 0;
  Fd kernel_pidfd_;
  std::unique_ptr<Visitor> operator_;
  std::unique_ptr<Client> supervisor_;
};

/// True when no process has this pid any more.
bool process_gone(pid_t pid);

}  // namespace aios::test
