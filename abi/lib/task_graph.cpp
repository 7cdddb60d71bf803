#include "abi/lib/task_graph.hpp"

#include <algorithm>
#include <functional>
#include <queue>

#include "abi/include/aios/codelet.h"
#include "abi/lib/task_client.hpp"

namespace aios {
namespace {

using proto::scheduler::max_dependencies;
using Record = TaskGraph::Record;

constexpr std::uint32_t id_mask = (1u << 28) - 1;

std::uint32_t id_of(std::uint32_t word) {
  return word & id_mask;
}
std::uint32_t mode_of(std::uint32_t word) {
  return word >> 28;
}

/// Gives the record these dependencies; what is too much goes into joins before it.
void add_dependencies(std::vector<Record>& records, Record task, std::vector<std::uint64_t> tags,
                      std::uint64_t first_tag) {
  while (tags.size() > max_dependencies) {
    Record join = make_task(first_tag + records.size(), task.codelet);
    join.flags |= proto::scheduler::task_flag::join;
    join.dependency_count = max_dependencies;
    for (std::uint32_t i = 0; i < max_dependencies; ++i)
      join.dependencies[i] = static_cast<std::uint32_t>(tags[i]);
    tags.erase(tags.begin(), tags.begin() + max_dependencies);
    tags.push_back(join.tag);
    records.push_back(join);
  }
  task.tag = first_tag + records.size();
  task.dependency_count = static_cast<std::uint32_t>(tags.size());
  for (std::size_t i = 0; i < tags.size(); ++i)
    task.dependencies[i] = static_cast<std::uint32_t>(tags[i]);
  records.push_back(task);
}

}  // namespace

Result<void> TaskGraph::check_uses(const Record& task) const {
  if (task.buffer_count > proto::context::max_task_buffers)
    return error(Code::invalid_argument, "a task has at most 16 buffers");
  for (std::uint32_t i = 0; i < task.buffer_count; ++i) {
    const std::uint32_t id = id_of(task.buffers[i]);
    const std::uint32_t mode = mode_of(task.buffers[i]);
    if (mode < AIOS_MODE_READ || mode > mode_redux)
      return error(Code::invalid_argument, "buffer " + std::to_string(id) + " has no known mode");
    if (mode == mode_redux && !reductions_.contains(id))
      return error(Code::invalid_argument, "no reduction is set for buffer " + std::to_string(id) +
                                               ", which a task uses with REDUX: set one before");
    for (std::uint32_t k = 0; k < i; ++k)
      if (id_of(task.buffers[k]) == id &&
          (mode != AIOS_MODE_READ || mode_of(task.buffers[k]) != AIOS_MODE_READ))
        return error(Code::invalid_argument,
                     "a task uses buffer " + std::to_string(id) +
                         " twice, and not only to read it: name it once, with READ_WRITE");
  }
  return {};
}

Result<std::uint32_t> TaskGraph::add(const Record& task) {
  TRY(check_uses(task));
  if ((task.flags & proto::scheduler::task_flag::gang) != 0 || task.gang != 0 ||
      task.gang_size != 0)
    return error(Code::invalid_argument,
                 "gangs of a graph are made of tasks that are in it, not by their records");
  if (tasks_.size() >= max_tasks) return error(Code::quota, "a graph has at most 2^28 tasks");
  Record plain = task;
  for (std::uint32_t i = 0; i < plain.buffer_count; ++i) {
    const std::uint32_t id = id_of(plain.buffers[i]);
    const auto at = reductions_.find(id);
    if (at == reductions_.end()) continue;
    if (mode_of(plain.buffers[i]) == mode_redux)
      plain.buffers[i] = partial_for(at->second) | AIOS_MODE_READ_WRITE << 28;
    else
      combine(id, at->second);
  }
  return add_plain(plain);
}

std::uint32_t TaskGraph::add_plain(const Record& task) {
  const auto number = static_cast<std::uint32_t>(tasks_.size());
  tasks_.push_back(task);
  for (std::uint32_t i = 0; i < task.buffer_count; ++i)
    use(number, {id_of(task.buffers[i]), mode_of(task.buffers[i])});
  return number;
}

void TaskGraph::use(std::uint32_t task, Use use) {
  Data& data = data_[use.buffer];
  if (use.mode == AIOS_MODE_READ) {
    if (data.writer != none) edge(data.writer, task);
    data.readers.push_back(task);
    return;
  }
  for (const std::uint32_t reader : data.readers)
    if (reader != task) edge(reader, task);
  // Readers have waited for the writer.
  if (data.readers.empty() && data.writer != none) edge(data.writer, task);
  data.readers.clear();
  data.writer = task;
}

/// The next of them, initialised if nobody has used it yet.
std::uint32_t TaskGraph::partial_for(Reduction& reduction) {
  const std::uint32_t partial = reduction.partials[reduction.next];
  if (reduction.next == reduction.used) {
    ++reduction.used;
    Record initialise = make_task(0, reduction.initialise);
    aios::add_buffer(initialise, partial, AIOS_MODE_WRITE);
    add_plain(initialise);
  }
  reduction.next = (reduction.next + 1) % reduction.partials.size();
  return partial;
}

void TaskGraph::combine(std::uint32_t buffer, Reduction& reduction) {
  for (std::uint32_t i = 0; i < reduction.used; ++i) {
    Record task = make_task(0, reduction.combine);
    aios::add_buffer(task, buffer, AIOS_MODE_READ_WRITE);
    aios::add_buffer(task, reduction.partials[i], AIOS_MODE_READ);
    add_plain(task);
  }
  reduction.used = reduction.next = 0;
}

Result<void> TaskGraph::add_edge(std::uint32_t before, std::uint32_t after) {
  if (before >= tasks_.size() || after >= tasks_.size())
    return error(Code::invalid_argument,
                 "there is no task " + std::to_string(std::max(before, after)) + " in this graph");
  if (before >= after) any_backward_ = true;
  edge(before, after);
  return {};
}

Result<void> TaskGraph::add_gang(std::span<const std::uint32_t> tasks) {
  if (tasks.size() < 2 || tasks.size() > proto::scheduler::max_gang)
    return error(Code::invalid_argument, "a gang has 2 to 256 members");
  std::vector<std::uint32_t> members(tasks.begin(), tasks.end());
  std::ranges::sort(members);
  if (members.back() >= tasks_.size())
    return error(Code::invalid_argument,
                 "there is no task " + std::to_string(members.back()) + " in this graph");
  if (std::ranges::adjacent_find(members) != members.end())
    return error(Code::invalid_argument, "a gang names a task twice");
  for (const std::uint32_t member : members)
    if ((tasks_[member].flags & proto::scheduler::task_flag::gang) != 0)
      return error(Code::invalid_argument,
                   "task " + std::to_string(member) + " is of another gang already");
  for (const std::uint32_t member : members) {
    tasks_[member].flags |= proto::scheduler::task_flag::gang;
    tasks_[member].gang = gangs_;
    tasks_[member].gang_size = static_cast<std::uint32_t>(members.size());
  }
  ++gangs_;
  return {};
}

Result<void> TaskGraph::set_reduction(std::uint32_t buffer, std::span<const std::uint32_t> partials,
                                      std::uint32_t initialise, std::uint32_t combine_codelet) {
  if (partials.empty())
    return error(Code::invalid_argument, "a reduction needs at least one partial buffer");
  if (std::ranges::find(partials, buffer) != partials.end())
    return error(Code::invalid_argument, "a buffer cannot be a partial buffer of itself");
  if (const auto at = reductions_.find(buffer); at != reductions_.end())
    combine(buffer, at->second);
  reductions_[buffer] = {{partials.begin(), partials.end()}, initialise, combine_codelet};
  return {};
}

// ---- the plan -----------------------------------------------------------------------------------

void TaskGraph::sort_edges() {
  const auto by_later = [](const auto& a, const auto& b) {
    return std::pair(a.second, a.first) < std::pair(b.second, b.first);
  };
  std::ranges::sort(edges_, by_later);
  const auto repeated = std::ranges::unique(edges_);
  edges_.erase(repeated.begin(), repeated.end());
  first_edge_.assign(tasks_.size() + 1, 0);
  for (const auto& [before, after] : edges_) ++first_edge_[after + 1];
  for (std::size_t i = 1; i < first_edge_.size(); ++i) first_edge_[i] += first_edge_[i - 1];
}

std::span<const std::pair<std::uint32_t, std::uint32_t>> TaskGraph::edges_to(
    std::uint32_t task) const {
  return std::span(edges_).subspan(first_edge_[task], first_edge_[task + 1] - first_edge_[task]);
}

/// In the order of adding where that is possible, else as near to it as it can be.
Result<std::vector<std::uint32_t>> TaskGraph::order(const NameOf& name_of) const {
  std::vector<std::uint32_t> order(tasks_.size());
  for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  if (!any_backward_) return order;
  std::vector<std::uint32_t> waiting_for(tasks_.size(), 0);
  std::vector<std::vector<std::uint32_t>> later(tasks_.size());
  for (const auto& [before, after] : edges_) {
    ++waiting_for[after];
    later[before].push_back(after);
  }
  std::priority_queue<std::uint32_t, std::vector<std::uint32_t>, std::greater<>> ready;
  for (std::uint32_t i = 0; i < waiting_for.size(); ++i)
    if (waiting_for[i] == 0) ready.push(i);
  order.clear();
  while (!ready.empty()) {
    const std::uint32_t task = ready.top();
    ready.pop();
    order.push_back(task);
    for (const std::uint32_t after : later[task])
      if (--waiting_for[after] == 0) ready.push(after);
  }
  if (order.size() == tasks_.size()) return order;
  return circle(waiting_for, name_of);
}

/// Walks back from any task that waits for ever, until one comes twice.
std::unexpected<Status> TaskGraph::circle(const std::vector<std::uint32_t>& waiting_for,
                                          const NameOf& name_of) const {
  constexpr std::size_t most_named = 8;
  std::vector<std::uint32_t> way;
  auto at = static_cast<std::uint32_t>(
      std::ranges::find_if(waiting_for, [](std::uint32_t n) { return n > 0; }) -
      waiting_for.begin());
  std::vector<bool> passed(waiting_for.size());
  while (!passed[at]) {
    passed[at] = true;
    way.push_back(at);
    const auto edges = edges_to(at);
    at =
        std::ranges::find_if(edges, [&](const auto& e) { return waiting_for[e.first] > 0; })->first;
  }
  way.erase(way.begin(), std::ranges::find(way, at));
  std::string text = name_of(at);
  for (std::size_t i = way.size(); i-- > 0;) {
    if (way.size() - i > most_named) {
      text += " ... " + name_of(at);
      break;
    }
    text += " before " + name_of(way[i]);
  }
  return error(Code::invalid_argument, "tasks wait for one another in a circle: " + text);
}

Result<TaskGraph::Plan> TaskGraph::plan(std::uint64_t first_tag, const NameOf& name_of) {
  for (auto& [buffer, reduction] : reductions_) combine(buffer, reduction);
  sort_edges();
  const std::vector<std::uint32_t> in_order = TRY(order(name_of));
  Plan plan;
  plan.records.reserve(tasks_.size());
  plan.position.resize(tasks_.size());
  std::vector<std::uint64_t> tags;
  for (const std::uint32_t task : in_order) {
    tags.clear();
    for (const auto& [before, after] : edges_to(task))
      tags.push_back(first_tag + plan.position[before]);
    add_dependencies(plan.records, tasks_[task], tags, first_tag);
    plan.position[task] = static_cast<std::uint32_t>(plan.records.size() - 1);
  }
  return plan;
}

}  // namespace aios
