#include "services/scheduler/simulator/core_tasks.hpp"

#include <algorithm>
#include <cmath>

namespace aios::scheduler::sim {

using proto::scheduler::max_dependencies;
using proto::scheduler::TaskRecord;

namespace {

constexpr std::uint32_t user = 1000;
constexpr JobId job = 1;

/// The label of a listing is 63 bytes; the end of a long name tells more than its beginning.
proto::Text<64> label_of(const std::string& name) {
  return proto::Text<64>::from(name.size() < 64 ? name : name.substr(name.size() - 63));
}

class Writer {
 public:
  explicit Writer(std::uint32_t first_join) : next_tag_(first_join) {}

  void depend(TaskRecord& task, std::vector<std::uint32_t> on) {
    while (on.size() > max_dependencies) {
      std::vector<std::uint32_t> joins;
      for (std::size_t i = 0; i < on.size(); i += max_dependencies) {
        TaskRecord join{};
        join.tag = next_tag_++;
        join.flags = proto::scheduler::task_flag::join;
        join.grid[0] = join.grid[1] = join.grid[2] = 1;
        for (std::size_t k = i; k < std::min(on.size(), i + max_dependencies); ++k)
          join.dependencies[join.dependency_count++] = on[k];
        joins.push_back(static_cast<std::uint32_t>(join.tag));
        records.push_back(join);
      }
      on = std::move(joins);
    }
    for (const std::uint32_t tag : on) task.dependencies[task.dependency_count++] = tag;
  }

  std::vector<TaskRecord> records;

 private:
  std::uint32_t next_tag_;
};

}  // namespace

void add_platform(Core& core, const Realisation& run) {
  const Platform& platform = run.platform();
  for (DeviceId d = 0; d < platform.devices.size(); ++d) {
    const SimDevice& device = platform.devices[d];
    core.set_device(d, device.slots, true, device.name, device.backend);
    core.set_queue_depth(d, device.queue_depth);
    core.set_memory(d, device.memory);
    core.set_open_time(d, whole_ns(device.opening_s * 1e9));
  }
  for (MemoryId from = 0; from < platform.memories; ++from)
    for (MemoryId to = 0; to < platform.memories; ++to)
      if (from != to) core.set_transfer(from, to, run.bus());
  core.all_devices_known();
}

Result<Tenancy> open_tenancy(Core& core, const Realisation& run) {
  Tenancy tenancy;
  tenancy.tenant = TRY(core.open_tenant(job, "simulated", user));
  for (std::uint32_t type = 0; type < run.graph().types.size(); ++type)
    TRY(core.add_codelet(tenancy.tenant, label_of(run.graph().types[type].name),
                         run.platform().backends_of(type)));
  for (const std::uint64_t bytes : run.graph().data_bytes)
    tenancy.buffers.push_back(TRY(core.add_buffer(tenancy.tenant, true, bytes)));
  return tenancy;
}

std::vector<TaskRecord> records_of(const Realisation& run, const Tenancy& tenancy,
                                   const RunOptions& options) {
  const std::vector<SimTask>& tasks = run.graph().tasks;
  Writer writer(static_cast<std::uint32_t>(tasks.size()));
  for (std::uint32_t t = 0; t < tasks.size(); ++t) {
    TaskRecord record{};
    record.tag = t;
    record.codelet = tasks[t].type;
    record.flags = proto::scheduler::task_flag::idempotent;
    record.grid[0] = std::max(tasks[t].threads, 1u);
    record.grid[1] = record.grid[2] = 1;
    if (run.platform().is_recorded && tasks[t].pinned) record.device = tasks[t].device + 1;
    if (!options.deadlines_ns.empty())
      record.deadline_ns =
          begin_ns + static_cast<std::uint64_t>(std::max(options.deadlines_ns[t], 1.0));
    for (const Access& access : tasks[t].accesses)
      record.buffers[record.buffer_count++] = tenancy.buffers[access.data] | access.mode << 28;
    writer.depend(record, tasks[t].parents);
    writer.records.push_back(record);
  }
  return std::move(writer.records);
}

Result<void> submit_all(Core& core, TenantId tenant, const std::vector<TaskRecord>& records) {
  using proto::scheduler::max_batch;
  for (std::size_t i = 0; i < records.size(); i += max_batch) {
    const std::size_t count = std::min<std::size_t>(records.size() - i, max_batch);
    TRY(core.submit(tenant, std::span(records).subspan(i, count), begin_ns));
  }
  return {};
}

}  // namespace aios::scheduler::sim
