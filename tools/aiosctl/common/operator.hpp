// What every subcommand that talks to a running instance begins with: an attachment to its kernel
// and, by label, clients of its servers.
#pragma once

#include <memory>
#include <string>

#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"
#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

/// How long a listing waits for a server, a restarting one included.
inline constexpr std::uint64_t call_timeout_ns = 10 * ns_per_s;

class Operator {
 public:
  /// Attaches to the instance at `session.socket`, and to the job that `options` name or, below
  /// `aiosctl run`, $AIOS_JOB. unreachable when none answers there.
  static Result<Operator> attach(const Session& session, const AttachOptions& options = {});

  Kernel& kernel() { return *kernel_; }

  /// A blocking client of the server published as `label`, such as "scheduler". It connects at its
  /// first call. service_down when the instance publishes no such port. Must not outlive this
  /// object.
  Result<std::unique_ptr<Client>> client(const std::string& label, std::uint64_t protocol_version);

  /// The same inside an event loop; see Client.
  Result<std::unique_ptr<Client>> client(const std::string& label, std::uint64_t protocol_version,
                                         EventLoop& loop);

  /// The connect handle of the port published as `label`. service_down without one.
  Result<Handle> port(const std::string& label) const;

  /// The root job, with manage. denied for users other than the instance's own.
  Result<Handle> root() const;

 private:
  explicit Operator(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}

  std::unique_ptr<Kernel> kernel_;
};

/// Runs `body`, which returns Result<int> (an exit code), and reports its error.
template <class Body>
int run_command(Body&& body) {
  const Result<int> result = body();
  return result ? *result : report(result.error());
}

}  // namespace aios::ctl
