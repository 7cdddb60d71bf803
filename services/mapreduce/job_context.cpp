#include "services/mapreduce/job_context.hpp"

#include <algorithm>
#include <utility>

namespace aios::mapreduce {

namespace {

constexpr std::uint64_t kib = 1u << 10;
constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t least_table_bytes = mib;
constexpr std::uint64_t most_table_bytes = 64 * mib;
constexpr std::uint64_t least_segment_bytes = 8 * mib;
constexpr std::uint64_t least_run_bytes = 256 * kib;
constexpr std::uint64_t most_run_bytes = 32 * mib;

std::uint64_t round_up(std::uint64_t bytes, std::uint64_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

MemoryPlan plan_memory(const JobSettings& settings) {
  const std::uint64_t memory = settings.memory_bytes;
  MemoryPlan plan{};
  plan.map_tasks = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(memory / 2 / least_table_bytes, 1, settings.threads));
  plan.table_bytes = std::clamp(memory / 2 / plan.map_tasks, least_table_bytes, most_table_bytes);
  plan.map_pool_bytes = memory - plan.table_bytes * plan.map_tasks;
  plan.pool_bytes = memory;
  // Twelve of the fifteen segments make up the pool: some may have to be larger than planned.
  plan.segment_bytes = std::max(round_up(plan.pool_bytes / 12, mib),
                                std::min(least_segment_bytes, plan.pool_bytes / 2));
  plan.run_bytes =
      std::clamp(plan.map_pool_bytes / (2 * plan.map_tasks + 2), least_run_bytes, most_run_bytes);
  plan.range_bytes = std::clamp(memory / 32, 256 * kib, 4 * mib);
  return plan;
}

JobContext::JobContext(const JobSettings& job_settings)
    : settings(job_settings), plan(plan_memory(job_settings)), pool_limit_(plan.map_pool_bytes) {}

std::optional<Slice> JobContext::allocate(std::uint64_t bytes) {
  if (const auto slice = pool.allocate(bytes)) return slice;
  const std::uint64_t left = pool_limit_ - std::min(pool_limit_, pool.capacity_bytes());
  const std::uint64_t wanted = std::max(std::min(plan.segment_bytes, left), round_to_units(bytes));
  if (segment_wanted_ == 0 && wanted <= left && segments_.size() < max_segments) {
    segment_wanted_ = wanted;
    events.push_back({proto::mapreduce::EventKind::add_segment, 0, 0, wanted});
  }
  return std::nullopt;
}

Result<void> JobContext::add_segment(std::span<std::byte> memory) {
  if (segment_wanted_ == 0 || memory.size() < segment_wanted_)
    return error(Code::invalid_argument, "no segment of this size was asked for");
  segments_.push_back(memory);
  pool.add_segment(std::exchange(segment_wanted_, 0));
  return {};
}

void JobContext::fail(JobFailure why) {
  if (failed()) return;
  failure = std::move(why);
  progress.phase = static_cast<std::uint32_t>(proto::mapreduce::Phase::failed);
  actions.clear();
  events.clear();
  events.push_back({proto::mapreduce::EventKind::failed});
}

}  // namespace aios::mapreduce
