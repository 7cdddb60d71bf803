#include "services/scheduler/simulator/overload.hpp"

#include <algorithm>
#include <cmath>
#include <queue>
#include <random>

#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/policy/policy.hpp"
#include "services/scheduler/simulator/core_tasks.hpp"

namespace aios::scheduler::sim {
namespace {

using proto::scheduler::TaskRecord;

/// What comes: small factorisations and layered graphs, their data in the host's memory.
constexpr const char* shapes[] = {"cholesky:4", "cholesky:6", "random:30", "random:60",
                                  "stencil:6"};

struct Shape {
  Graph graph;
  double work_ns = 0;
  double critical_path_ns = 0;
};

struct Arrival {
  std::uint64_t at_ns;
  std::size_t shape;
  std::size_t tenant;
  std::uint64_t deadline_ns;  ///< 0: none
};

struct Running {
  const Arrival* arrival;
  std::size_t left;
};

Result<std::vector<Shape>> make_shapes() {
  std::vector<Shape> all;
  for (const char* spec : shapes) {
    Shape shape{TRY(generate(spec))};
    std::vector<double> end(shape.graph.tasks.size());
    for (std::uint32_t t = 0; t < end.size(); ++t) {
      SimTask& task = shape.graph.tasks[t];
      task.accesses.clear();
      for (const std::uint32_t parent : task.parents) end[t] = std::max(end[t], end[parent]);
      end[t] += task.work_s * 1e9;
      shape.work_ns += task.work_s * 1e9;
      shape.critical_path_ns = std::max(shape.critical_path_ns, end[t]);
    }
    all.push_back(std::move(shape));
  }
  return all;
}

class Run {
 public:
  Run(const Stream& stream, Policy policy)
      : stream_(stream),
        random_(stream.seed),
        core_(std::move(policy.order), std::move(policy.placement),
              std::make_unique<LearnedCosts>()) {}

  Result<StreamOutcome> go() {
    shapes_ = TRY(make_shapes());
    core_.set_device(0, stream_.slots, true, "cpu0");
    core_.set_open_time(0, 0);
    core_.all_devices_known();
    for (std::uint32_t i = 0; i < stream_.users * stream_.tenants; ++i)
      TRY(open_tenant(i + 1, 1000 + i % stream_.users));
    draw_arrivals();
    while (next_arrival_ < arrivals_.size() || !ends_.empty()) {
      const std::uint64_t arrives =
          next_arrival_ < arrivals_.size() ? arrivals_[next_arrival_].at_ns : ~std::uint64_t{0};
      now_ns_ = std::min(arrives, ends_.empty() ? ~std::uint64_t{0} : ends_.top().at_ns);
      while (!ends_.empty() && ends_.top().at_ns <= now_ns_) end();
      if (arrives <= now_ns_) TRY(arrive(arrivals_[next_arrival_++]));
      decide();
    }
    return outcome_;
  }

 private:
  struct End {
    std::uint64_t at_ns;
    TaskRef task;
    double run_ns;
    bool operator>(const End& other) const {
      return at_ns != other.at_ns ? at_ns > other.at_ns : task.number > other.task.number;
    }
  };

  double uniform() { return (static_cast<double>(random_()) + 0.5) / 4294967296.0; }
  double factor() {
    const double variance = std::log(1 + stream_.noise * stream_.noise);
    const double normal = std::sqrt(-2 * std::log(uniform())) * std::cos(2 * M_PI * uniform());
    return std::exp(std::sqrt(variance) * normal - variance / 2);
  }

  Result<void> open_tenant(JobId job, std::uint32_t user) {
    const TenantId tenant = TRY(core_.open_tenant(job, "stream", user));
    for (const Shape& shape : shapes_)
      for (const TaskType& type : shape.graph.types)
        TRY(core_.add_codelet(tenant, proto::Text<64>::from(shape.graph.name + type.name)));
    tenants_.push_back(tenant);
    return {};
  }

  void draw_arrivals() {
    double mean_work = 0;
    for (const Shape& shape : shapes_) mean_work += shape.work_ns / std::size(shapes);
    const double mean_gap = mean_work / stream_.slots / stream_.load;
    double at = begin_ns;
    for (std::uint32_t i = 0; i < stream_.graphs; ++i) {
      at += -std::log(uniform()) * mean_gap;
      const auto shape = static_cast<std::size_t>(uniform() * std::size(shapes));
      const double work_ns = shapes_[shape].work_ns;
      const double alone = std::max(shapes_[shape].critical_path_ns, work_ns / stream_.slots);
      const double allowed = alone * (1.5 + 3 * uniform());
      const auto tenant =
          static_cast<std::size_t>(uniform() * static_cast<double>(tenants_.size()));
      const bool dated = uniform() >= stream_.undated;
      arrivals_.push_back({static_cast<std::uint64_t>(at), shape, tenant,
                           dated ? static_cast<std::uint64_t>(at + allowed) : 0});
      if (!dated) continue;
      ++outcome_.offered;
      outcome_.offered_work_ns += work_ns;
    }
  }

  Result<void> arrive(const Arrival& arrival) {
    const Shape& shape = shapes_[arrival.shape];
    const TenantId tenant = tenants_[arrival.tenant];
    const GraphId id = next_arrival_;
    running_[id] = {&arrival, shape.graph.tasks.size()};
    std::vector<TaskRecord> records;
    for (std::uint32_t t = 0; t < shape.graph.tasks.size(); ++t) records.push_back(record(id, t));
    if (!stream_.admission || arrival.deadline_ns == 0)
      return core_.submit(tenant, records, now_ns_);
    const std::uint32_t graph = TRY(core_.open_graph(tenant, arrival.deadline_ns, now_ns_));
    TRY(core_.submit(tenant, records, now_ns_, graph));
    const Core::Admitted answer = TRY(core_.admit_graph(tenant, graph, false, now_ns_));
    if (answer.verdict == static_cast<std::uint32_t>(proto::scheduler::Verdict::accepted))
      return {};
    ++outcome_.rejected;
    running_.erase(id);
    return {};
  }

  TaskRecord record(GraphId id, std::uint32_t t) {
    const Arrival& arrival = *running_.at(id).arrival;
    const SimTask& task = shapes_[arrival.shape].graph.tasks[t];
    TaskRecord record{};
    record.tag = id * tags_of_graph + t;
    for (std::size_t s = 0; s < arrival.shape; ++s)
      record.codelet += static_cast<std::uint32_t>(shapes_[s].graph.types.size());
    record.codelet += task.type;
    record.flags = proto::scheduler::task_flag::idempotent;
    record.grid[0] = record.grid[1] = record.grid[2] = 1;
    record.deadline_ns = arrival.deadline_ns;
    for (const std::uint32_t parent : task.parents)
      record.dependencies[record.dependency_count++] =
          static_cast<std::uint32_t>(id * tags_of_graph + parent);
    return record;
  }

  void decide() {
    for (bool again = true; again;) {
      again = false;
      core_.decide(now_ns_);
      for (const Action& action : core_.take_actions()) {
        if (action.kind == Action::Kind::open_context) {
          core_.context_ready(action.job, action.device);
          again = true;
        } else if (action.kind == Action::Kind::start) {
          const std::uint64_t tag = core_.find(action.task)->record.tag;
          const double run_ns = task_of(tag).work_s * 1e9 * factor();
          core_.task_begun(action.task);
          ends_.push({now_ns_ + static_cast<std::uint64_t>(run_ns) + 1, action.task, run_ns});
        }
      }
    }
  }

  const SimTask& task_of(std::uint64_t tag) const {
    const Arrival& arrival = *running_.at(tag / tags_of_graph).arrival;
    return shapes_[arrival.shape].graph.tasks[tag % tags_of_graph];
  }

  void end() {
    const End end = ends_.top();
    ends_.pop();
    const std::uint64_t tag = core_.find(end.task)->record.tag;
    const GraphId id = tag / tags_of_graph;
    Core::RunReply reply{};
    reply.start_ns = end.at_ns - std::max<std::uint64_t>(static_cast<std::uint64_t>(end.run_ns), 1);
    reply.end_ns = end.at_ns;
    core_.task_answered(end.task, reply);
    Core::Completion done[64];
    while (core_.take_completions(tenants_[running_.at(id).arrival->tenant], done) > 0) {
    }
    Running& graph = running_.at(id);
    if (--graph.left > 0) return;
    const Arrival& arrival = *graph.arrival;
    if (arrival.deadline_ns != 0) {
      const bool in_time = end.at_ns <= arrival.deadline_ns;
      outcome_.missed += !in_time;
      if (in_time) outcome_.good_work_ns += shapes_[arrival.shape].work_ns;
    }
    running_.erase(id);
  }

  static constexpr std::uint64_t tags_of_graph = 128;

  const Stream& stream_;
  std::mt19937 random_;
  Core core_;
  std::vector<Shape> shapes_;
  std::vector<Arrival> arrivals_;
  std::size_t next_arrival_ = 0;
  std::vector<TenantId> tenants_;
  std::uint64_t now_ns_ = begin_ns;
  std::map<GraphId, Running> running_;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends_;
  StreamOutcome outcome_;
};

}  // namespace

Result<StreamOutcome> run_stream(const Stream& stream) {
  return Run(stream, TRY(make_policy(stream.admission ? "learned" : "edf"))).go();
}

}  // namespace aios::scheduler::sim
