// What an instance holds and has done as OpenMetrics text 1.0
// (https://prometheus.io/docs/specs/om/open_metrics_spec/), which Prometheus and others collect.
// Names begin with aios_ and end with their unit; counters begin anew with the server, or the job,
// that counts.
#pragma once

#include <string>

#include "tools/aiosctl/watch/job_use.hpp"

namespace aios::ctl {

inline constexpr const char* open_metrics_type =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// ASCII: other bytes of names are '?'. Families of which nothing is known are left out.
std::string to_open_metrics(const Snapshot& snapshot);

}  // namespace aios::ctl
