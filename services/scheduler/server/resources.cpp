#include "services/scheduler/server/resources.hpp"

namespace aios::scheduler {

std::vector<std::uint32_t> Resources::drop_tenant(JobId job, TenantId tenant) {
  codelets_.erase(tenant);
  std::vector<std::uint32_t> dropped;
  std::erase_if(buffers_[job], [&](const auto& entry) {
    if (entry.second.owner != tenant) return false;
    dropped.push_back(entry.first);
    return true;
  });
  return dropped;
}

}  // namespace aios::scheduler
