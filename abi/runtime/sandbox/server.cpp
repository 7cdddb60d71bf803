#include "abi/runtime/sandbox/server.hpp"

#include <cstdlib>

#include "abi/runtime/log.hpp"

namespace aios::sandbox {

Result<Report> lock_in(Kernel& kernel, std::string_view require, const std::string& folder,
                       bool gpu) {
  const std::uint32_t required = TRY(parse_protections(require));
  const char* name = std::getenv("AIOS_PROFILE");
  const auto profile = proto::sandbox::profile_of(name != nullptr ? name : "");
  if (!profile) return error(Code::internal, "AIOS_PROFILE names no profile");
  Report report = TRY(lock_in({.profile = *profile, .folder = folder, .gpu = gpu}));
  log_in_background();
  for (const Missing& missing : report.missing) log_line(describe(missing));
  if (!report.hindrance.empty()) log_line(report.hindrance);
  if (const std::uint32_t lacking = required & ~report.confined.enforced; lacking != 0)
    return error(Code::denied, "the manifest requires " + protection_list(lacking) +
                                   ", which this host does not give; see `aiosctl doctor`");
  kernel.status_page().sandbox.store(report.confined.word());
  return report;
}

}  // namespace aios::sandbox
