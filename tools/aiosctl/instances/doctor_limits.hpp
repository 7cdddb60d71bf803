// What Linux holds jobs to on this host, for the doctor.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/aiosctl/common/operator.hpp"

namespace aios::ctl {

struct JobLimit {
  std::string_view name;     ///< as the option of `aiosctl run`
  std::string_view gives;    ///< what a job with a quota has by it
  std::string_view without;  ///< what it means that it is missing
  bool enforced = false;
  std::string reason;  ///< why it is not; empty where it is
};
inline constexpr std::string_view enable_limits =
    "run AIOS as root, as a service with Delegate=yes, or by systemd-run --user --scope -p "
    "Delegate=yes aiosctl boot";

/// What the instance `running` makes of a job with quotas; null: what one would that this process
/// booted.
Result<std::vector<JobLimit>> job_limits(const Session* running);

}  // namespace aios::ctl
