// What tenants registered, as handles: their jobs, modules and buffers. The scheduler holds them to
// pass them on and never maps them.
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "abi/runtime/handle_claims.hpp"
#include "services/scheduler/core/parts/tenant.hpp"

namespace aios::scheduler {

struct CodeletSource {
  ClaimedHandle region;
  std::uint64_t offset;
  std::uint64_t length;
  proto::Text<64> function;
};

struct BufferSource {
  ClaimedHandle object;
  ObjectType type;
  std::uint64_t offset;
  std::uint64_t length;
  bool writable;
  TenantId owner;
  std::uint64_t serial;  ///< tells it from the next buffer of the same number
};

class Resources {
 public:
  /// The first handle of a job stays; later ones are closed.
  void add_job(JobId job, ClaimedHandle handle) { jobs_.try_emplace(job, std::move(handle)); }
  void drop_job(JobId job) { jobs_.erase(job), buffers_.erase(job); }
  /// 0 when it is not there.
  Handle job(JobId job) const {
    const auto at = jobs_.find(job);
    return at == jobs_.end() ? 0 : at->second.get();
  }

  void add_codelet(TenantId tenant, CodeletSource source) {
    codelets_[tenant].push_back(std::move(source));
  }
  const CodeletSource& codelet(TenantId tenant, std::uint32_t codelet) const {
    return codelets_.at(tenant).at(codelet);
  }

  void add_buffer(JobId job, std::uint32_t buffer, BufferSource source) {
    source.serial = ++last_serial_;
    buffers_[job].insert_or_assign(buffer, std::move(source));
  }
  const BufferSource& buffer(JobId job, std::uint32_t buffer) const {
    return buffers_.at(job).at(buffer);
  }
  void drop_buffer(JobId job, std::uint32_t buffer) { buffers_[job].erase(buffer); }

  /// Forgets what the tenant registered; returns the numbers of its buffers.
  std::vector<std::uint32_t> drop_tenant(JobId job, TenantId tenant);

 private:
  std::unordered_map<JobId, ClaimedHandle> jobs_;
  std::unordered_map<TenantId, std::vector<CodeletSource>> codelets_;
  std::unordered_map<JobId, std::map<std::uint32_t, BufferSource>> buffers_;
  std::uint64_t last_serial_ = 0;
};

}  // namespace aios::scheduler
