// A core with a processor in the host's memory and a device with 1,000 bytes of its own, ten times
// as fast; what lies there, and what contexts have been told to let go of.
#pragma once

#include <algorithm>
#include <set>

#include "services/scheduler/core/parts/record_check.hpp"
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {

namespace memory_rig {

inline constexpr DeviceId cpu = 0;
inline constexpr DeviceId gpu = 1;
inline constexpr std::uint32_t both = proto::driver::backend::cpu | proto::driver::backend::opencl;
inline constexpr std::uint32_t only_gpu = proto::driver::backend::opencl;

class Rig : public ToldCore {
 public:
  using ToldCore::tell;

  static constexpr std::uint64_t room = 1000;

  explicit Rig(std::string_view policy) : ToldCore(*make_policy(policy)) {
    add_device(cpu, 2);
    core.set_device(gpu, 2, true, "gpu1", proto::driver::backend::opencl);
    core.set_open_time(gpu, 0);
    core.set_own_memory(gpu);
    core.set_memory_size(gpu, room);
    core.all_devices_known();
  }
  TenantId tenant(JobId job, std::uint32_t backends, const std::string& codelet = "work") {
    const TenantId id = *core.open_tenant(job, "job", 1000);
    tell(codelet, cpu, 100 * ms);
    tell(codelet, gpu, 10 * ms);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from(codelet), backends));
    job_of_[id] = job;
    return id;
  }
  std::uint32_t buffer(TenantId tenant, std::uint64_t size) {
    const std::uint32_t id = *core.add_buffer(tenant, true, size);
    sizes_[{job_of_[tenant], id}] = size;
    return id;
  }
  static TaskRecord use(std::uint64_t tag, std::initializer_list<std::uint32_t> buffers) {
    TaskRecord record = task(tag);
    for (const std::uint32_t id : buffers)
      record.buffers[record.buffer_count++] = id | AIOS_MODE_READ_WRITE << 28;
    return record;
  }
  Result<void> submit(TenantId tenant, const std::vector<TaskRecord>& records) {
    auto taken = core.submit(tenant, records, now);
    run();
    return taken;
  }
  /// Like ToldCore's, but notes what has to leave; it has left when `let_go` says so.
  void run() {
    while (true) {
      core.decide(now);
      const std::vector<Action> actions = core.take_actions();
      if (actions.empty()) return;
      for (const Action& action : actions) carry_out(action);
    }
  }
  void end(std::uint64_t tag, std::uint64_t after_ns = 10 * ms, std::uint64_t peak = 0) {
    REQUIRE(running.contains(tag));
    Core::RunReply reply{};
    reply.start_ns = now;
    reply.end_ns = now += after_ns;
    reply.peak_memory_bytes = peak;
    core.task_answered(running.at(tag), reply);
    running.erase(tag);
    run();
  }
  /// All contexts that go on have done what they were told.
  void let_go() {
    evicted.clear();
    for (const Departure& one : std::exchange(departing_, {})) {
      if (stalled.contains(one.job)) {
        departing_.push_back(one);
        continue;
      }
      if (one.released) core.buffer_gone(one.job, gpu, one.buffer);
      if (one.evicted) core.buffer_evicted(one.job, gpu, one.buffer);
    }
    run();
  }
  bool release(TenantId tenant, std::uint32_t id) {
    if (!core.release_buffer(tenant, id)) return false;
    leave(job_of_[tenant], id).released = true;
    return true;
  }
  void stall(JobId job) {
    stalled.insert(job);
    core.context_stalled(job, gpu);
    run();
  }
  void resume(JobId job) {
    stalled.erase(job);
    core.context_resumed(job, gpu);
    run();
  }
  /// With all that it had; the next one, if there is to be one, is there at once.
  void end_context(JobId job, bool has_successor = true) {
    stalled.erase(job);
    std::erase_if(there_, [&](const auto& one) { return one.first.first == job; });
    std::erase_if(departing_, [&](const Departure& one) { return one.job == job; });
    std::erase_if(running, [&](const auto& one) {
      return core.find(one.second)->tenant->job->id == job && on[one.first] == gpu;
    });
    core.context_lost(job, gpu);
    core.context_ended(job, gpu, {How::exited, "", has_successor});
    if (has_successor) core.context_ready(job, gpu);
    run();
  }
  /// What lies in the device's memory.
  std::uint64_t used() const {
    std::uint64_t sum = 0;
    for (const auto& [key, size] : there_) sum += size;
    for (const Departure& one : departing_) sum += one.bytes;
    return sum;
  }
  std::uint64_t resident() const { return core.devices()[gpu].resident_bytes; }
  Reason reason(std::uint64_t tag) const { return core.find(running.at(tag))->placed_because; }

  std::vector<Action> evicted;
  std::set<JobId> stalled;

 private:
  /// What a context was told to let go of, and has not.
  struct Departure {
    JobId job;
    std::uint32_t buffer;
    std::uint64_t bytes;
    bool evicted = false;
    bool released = false;
  };
  Departure& leave(JobId job, std::uint32_t buffer) {
    const auto at = there_.find({job, buffer});
    const std::uint64_t size = at == there_.end() ? 0 : at->second;
    if (at != there_.end()) there_.erase(at);
    return departing_.emplace_back(Departure{job, buffer, size});
  }
  /// Before it begins its context has let go of what it was told to before, in the same link; no
  /// other has.
  void bring(const Task& started) {
    const JobId job = started.tenant->job->id;
    for (std::uint32_t i = 0; i < started.record.buffer_count; ++i) {
      const std::uint32_t id = buffer_id(started.record.buffers[i]);
      for (Departure& one : departing_)
        if (one.job == job && one.buffer == id && std::exchange(one.evicted, false)) one.bytes = 0;
      there_[{job, id}] = sizes_.at({job, id});
    }
    for (Departure& one : departing_)
      if (one.job == job) one.bytes = 0;
    REQUIRE(used() <= room);
  }
  void carry_out(const Action& action) {
    if (action.kind == Action::Kind::open_context) core.context_ready(action.job, action.device);
    if (action.kind == Action::Kind::evict) {
      evicted.push_back(action);
      leave(action.job, action.buffer).evicted = true;
    }
    if (action.kind != Action::Kind::start) return;
    if (action.device == gpu) bring(*core.find(action.task));
    const std::uint64_t tag = core.find(action.task)->record.tag;
    running[tag] = action.task;
    on[tag] = action.device;
  }

  std::map<TenantId, JobId> job_of_;
  std::map<std::pair<JobId, std::uint32_t>, std::uint64_t> sizes_, there_;
  std::vector<Departure> departing_;  ///< in order
};

}  // namespace memory_rig

}  // namespace aios::scheduler
