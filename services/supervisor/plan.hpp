// The order in which servers start, from what they depend on. Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "services/supervisor/manifest.hpp"

namespace aios::supervisor {

struct PlannedServer {
  ServerSpec spec;
  /// Indices into Plan::servers, all smaller than its own: its routes (but for the supervisor) and
  /// what else it depends on.
  std::vector<std::size_t> needs;
};

struct Plan {
  Timing timing;
  std::uint32_t require = 0;  ///< protections, of the supervisor too
  proto::kernel::Quota user_quota{};
  std::vector<PlannedServer> servers;  ///< in start order
};

/// Every server after all it needs, otherwise in the order of the file. invalid_argument for a
/// cycle, with a message of one line that names its servers.
Result<Plan> make_plan(const Manifest& manifest);

}  // namespace aios::supervisor
