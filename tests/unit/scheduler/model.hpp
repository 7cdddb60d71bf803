// The scheduler's rules once more, as plainly as they can be written: everything is a list, every
// question is answered by walking it. One device; what the core does is compared with this.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "services/scheduler/core/core.hpp"

namespace aios::scheduler {

class Model {
 public:
  struct ModelTask {
    TenantId tenant;
    std::uint64_t tag;
    std::int32_t priority;
    bool idempotent;
    std::vector<std::uint64_t> needs;  ///< tags not finished
    bool running = false;
    bool begun = false;
    bool suspect = false;
    int ends = 0;
    int lone_faults = 0;
    std::uint32_t gang = 0;  ///< 0: none
  };
  struct ModelGang {
    std::uint32_t size = 0;
    std::uint32_t came = 0;
    bool failed = false;
  };
  struct ModelTenant {
    JobId job;
    std::uint32_t user;
    bool closing = false;
    std::uint64_t turn = 0;
    std::map<std::uint64_t, Code> finished;              ///< by tag, how
    std::vector<std::pair<std::uint64_t, Code>> unread;  ///< completions, sorted by tag
    std::map<std::uint32_t, ModelGang> gangs;            ///< also those that have ended
  };
  enum class Door { shut, opening, open, stalled, lost, closing };

  explicit Model(std::uint32_t slots) : slots_(slots) {}

  void open_tenant(TenantId id, JobId job, std::uint32_t user) { tenants[id] = {job, user}; }
  void submit(TenantId tenant, const proto::scheduler::TaskRecord& record);
  void cancel(TenantId tenant, std::uint64_t tag) { finish(find(tenant, tag), Code::cancelled); }
  void answer(std::uint64_t number, Code code);
  void begin(std::uint64_t number) { tasks.at(number).begun = true; }
  void lose(JobId job) { doors[job] = Door::lost; }
  void end(JobId job, proto::driver::ContextEnd how);
  void refuse(JobId job, Code code);
  void close_tenant(TenantId id);
  /// The numbers of the tasks that start now, in order; and which jobs want a context.
  std::vector<std::uint64_t> decide(std::set<JobId>& opens);
  std::uint32_t slots_used() const;

  std::map<std::uint64_t, ModelTask> tasks;  ///< unfinished, by number
  std::map<TenantId, ModelTenant> tenants;
  std::map<JobId, Door> doors;
  std::set<JobId> limit_answered;
  std::set<JobId> refused;

 private:
  std::uint64_t find(TenantId tenant, std::uint64_t tag) const;
  void finish(std::uint64_t number, Code code);
  void again(std::uint64_t number);
  std::vector<std::uint64_t> in_context(JobId job) const;
  bool holds_slot(const ModelTask& task) const;
  using Numbers = std::vector<std::uint64_t>;
  /// What waits in the tenant's queue, each with what starts with it, the first by rank first.
  std::vector<Numbers> queue(TenantId id) const;
  Numbers mates(const ModelTask& task) const;
  bool could_start(const ModelTask& task) const;
  bool comes_before(std::uint64_t a, std::uint64_t b) const;
  bool can_start(const Numbers& together) const;
  bool may_pass(const ModelTenant& tenant, bool user_idle) const;
  /// The first of the tenant's queue that can start; empty: none.
  Numbers next(TenantId id) const;
  void reserve();
  std::uint32_t kept(std::uint64_t before) const;

  std::uint32_t slots_;
  std::uint64_t last_number_ = 0;
  std::uint64_t last_turn_ = 0;
  std::map<std::uint32_t, std::uint64_t> user_turn_;
  struct Reservation {
    std::uint64_t leader;
    std::uint32_t slots;  ///< 0: those before it have them
  };
  std::vector<Reservation> reservations_;
};

}  // namespace aios::scheduler
