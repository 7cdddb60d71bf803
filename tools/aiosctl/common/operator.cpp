#include "tools/aiosctl/common/operator.hpp"

#include <cstdlib>

namespace aios::ctl {

Result<Operator> Operator::attach(const Session& session, const AttachOptions& options) {
  AttachOptions within = options;
  if (const char* job = std::getenv("AIOS_JOB"); job != nullptr && within.job_name.empty())
    within.job_name = job;
  return Operator(TRY(Kernel::attach(session.socket, within)));
}

Result<Handle> Operator::port(const std::string& label) const {
  const Result<StartupHandle> found = kernel_->startup(label);
  if (!found || found->type != ObjectType::port)
    return error(Code::service_down, "this instance has no server '" + label +
                                         "'; its manifest lists those it has (aiosctl status)");
  return found->handle;
}

Result<std::unique_ptr<Client>> Operator::client(const std::string& label,
                                                 std::uint64_t protocol_version) {
  return std::make_unique<Client>(*kernel_, nullptr, TRY(port(label)), protocol_version, label);
}

Result<std::unique_ptr<Client>> Operator::client(const std::string& label,
                                                 std::uint64_t protocol_version, EventLoop& loop) {
  return std::make_unique<Client>(*kernel_, &loop, TRY(port(label)), protocol_version, label);
}

Result<Handle> Operator::root() const {
  const Result<StartupHandle> found = kernel_->startup("root");
  if (!found || found->type != ObjectType::job)
    return error(Code::denied, "only the user who booted this instance may do that");
  return found->handle;
}

}  // namespace aios::ctl
