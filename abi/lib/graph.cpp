// Graphs of tasks.
#include <algorithm>
#include <cstring>
#include <optional>

#include "abi/include/aios/codelet.h"
#include "abi/include/aios/tasks.h"
#include "abi/lib/failure.hpp"
#include "abi/lib/task_graph.hpp"
#include "abi/lib/tasks.hpp"

using namespace aios;
using namespace aios::lib;
namespace wire = proto::scheduler;

static_assert(AIOS_MODE_REDUX == mode_redux);

struct aios_graph {
  explicit aios_graph(std::shared_ptr<aios_tenant> of) : tenant(std::move(of)) {}

  /// The first and last of its tags.
  std::pair<std::uint64_t, std::uint64_t> tags() const {
    return {first_tag, first_tag + ended.size() - 1};
  }
  void arrived(const aios_completion& completion) {
    aios_completion& place = ended[completion.tag - first_tag];
    if (place.tag != 0) return;
    place = completion;
    ++ended_count;
    if (completion.status != AIOS_OK) ++failed;
  }

  std::shared_ptr<aios_tenant> tenant;
  TaskGraph tasks;
  bool submitted = false;
  std::uint64_t due_ns = 0;  ///< 0: no matter
  bool may_be_cheaper = false;
  std::optional<wire::AdmitGraph::Reply> admitted;
  std::size_t taken = 0;
  std::uint64_t first_tag = 0;
  std::vector<std::uint32_t> position;  ///< of each task among those submitted
  std::vector<aios_completion> ended;   ///< by position; tag 0: not yet
  std::size_t ended_count = 0;
  std::size_t failed = 0;  ///< joins among them
};

namespace {

Result<void> still_building(const aios_graph& graph) {
  if (!graph.submitted) return {};
  return error(Code::invalid_argument, "the graph was submitted; make another for more tasks");
}

Result<void> cancel(aios_graph& graph, Deadline deadline) {
  const auto [first, last] = graph.tags();
  TRY(graph.tenant->cancel(first, last, deadline));
  return {};
}

/// Dependencies on tasks that have ended well.
void drop_ended(const aios_graph& graph, wire::TaskRecord& record) {
  const auto has_ended = [&](std::uint32_t dependency) {
    const auto position = dependency - static_cast<std::uint32_t>(graph.first_tag);
    return graph.ended[position].tag != 0 && graph.ended[position].status == AIOS_OK;
  };
  std::uint32_t* const end = record.dependencies + record.dependency_count;
  std::uint32_t* const kept = std::remove_if(record.dependencies, end, has_ended);
  std::fill(kept, end, 0u);
  record.dependency_count = static_cast<std::uint32_t>(kept - record.dependencies);
}

/// At the scheduler, where it has a deadline; else its number is 0.
Result<HeldGraph> open(aios_graph& graph, std::size_t tasks, Deadline deadline) {
  HeldGraph held;
  if (graph.due_ns == 0) return held;
  if (tasks > wire::max_graph_tasks)
    return error(Code::quota,
                 "a graph with a deadline has at most 32,768 tasks, joins among them; "
                 "this one has " +
                     std::to_string(tasks));
  held.number = TRY(graph.tenant->ask<std::uint32_t>(deadline, [&](TaskTenant& t, auto done) {
    held.life = graph.tenant->life();
    t.open_graph(graph.due_ns, deadline, std::move(done));
  }));
  return held;
}

/// Of a refused graph nothing is left: it may be submitted again.
void withdrawn(aios_graph& graph) {
  const std::lock_guard lock(graph.tenant->mutex);
  const auto [first, last] = graph.tags();
  graph.tenant->withdraw(first, last);
  graph.tenant->unwatch(graph.first_tag, true);
  graph.taken = graph.ended_count = graph.failed = 0;
  graph.submitted = false;
}

/// The scheduler that held it is gone, and with it the graph.
bool is_gone(const Result<void>& done) {
  return !done &&
         (done.error().code() == Code::peer_closed || done.error().code() == Code::indeterminate);
}

Result<TaskTenant::Admitted> ask_for_admission(aios_graph& graph, HeldGraph held, bool withdraw,
                                               Deadline deadline) {
  aios_tenant& tenant = *graph.tenant;
  const auto accepted = [&graph, &tenant,
                         tags = graph.tags()](const wire::AdmitGraph::Reply& reply) {
    if (static_cast<wire::Verdict>(reply.verdict) == wire::Verdict::accepted)
      tenant.admitted(tags.first, tags.second, graph.due_ns, reply.cheaper_tasks > 0);
  };
  return tenant.ask<TaskTenant::Admitted>(
      deadline,
      [&](TaskTenant& t, auto done) {
        t.admit_graph(
            held.number, withdraw, deadline,
            [accepted, done = std::move(done)](Result<TaskTenant::Admitted> reply) mutable {
              if (reply) accepted(*reply);
              done(std::move(reply));
            });
      },
      held.life);
}

/// Asks whether it is accepted, once all of it was `taken`.
Result<void> admit(aios_graph& graph, HeldGraph held, const Result<void>& taken,
                   Deadline deadline) {
  const bool withdraw = !taken;
  auto answer =
      ask_for_admission(graph, held, withdraw, withdraw ? Deadline::after(5 * ns_per_s) : deadline);
  if (answer) graph.admitted = *answer;
  if (!answer && answer.error().code() == Code::indeterminate)
    answer = error(Code::indeterminate,
                   "the scheduler died before it said whether the graph is accepted: tasks of it "
                   "may have begun, and none goes on");
  const Result<void> accepted = !taken    ? taken
                                : !answer ? error(answer.error().code(), answer.error().message())
                                          : refusal_of(*answer);
  if (!accepted && (answer || is_gone(accepted))) withdrawn(graph);
  return accepted;
}

Result<void> submit_once(aios_graph& graph, TaskGraph::Plan plan, Deadline deadline) {
  const auto held = TRY(open(graph, plan.records.size(), deadline));
  graph.submitted = true;
  graph.ended.assign(plan.records.size(), {});
  {
    const std::lock_guard lock(graph.tenant->mutex);
    graph.first_tag = graph.tenant->watch(
        plan.records.size(), [&graph](const aios_completion& one) { graph.arrived(one); });
  }
  for (wire::TaskRecord& record : plan.records) {
    record.tag += graph.first_tag;
    // There are no more of them than tasks.
    if ((record.flags & wire::task_flag::gang) != 0)
      record.gang += static_cast<std::uint32_t>(graph.first_tag);
    if (graph.may_be_cheaper) record.flags |= wire::task_flag::may_be_cheaper;
    for (std::uint32_t i = 0; i < record.dependency_count; ++i)
      record.dependencies[i] += static_cast<std::uint32_t>(graph.first_tag);
  }
  graph.position = std::move(plan.position);
  // The scheduler remembers so many that have ended, and a large graph has more.
  const auto forget_ended = [&](std::size_t first, std::size_t count) {
    for (wire::TaskRecord& record : std::span(plan.records).subspan(first, count))
      drop_ended(graph, record);
  };
  const Result<void> done =
      graph.tenant->submit_many(plan.records, deadline, graph.taken, forget_ended, held);
  if (held.number != 0) return admit(graph, held, done, deadline);
  if (!done && graph.taken > 0) (void)cancel(graph, Deadline::after(5 * ns_per_s));
  return done;
}

Result<void> submit(aios_graph& graph, Deadline deadline) {
  TRY(still_building(graph));
  if (graph.tasks.size() == 0) return error(Code::invalid_argument, "the graph has no task");
  // Joins are known only with the plan: positions first, then tags.
  TaskGraph::Plan plan = TRY(graph.tasks.plan(0));
  if (graph.due_ns == 0) return submit_once(graph, std::move(plan), deadline);
  for (;;) {
    Result<void> done = submit_once(graph, plan, deadline);
    // Nothing of it was begun: once more, to the next scheduler.
    if (done || done.error().code() != Code::peer_closed || deadline.passed()) return done;
    const std::lock_guard lock(graph.tenant->mutex);
    if (graph.tenant->broken) return done;
  }
}

Result<void> wait(aios_graph& graph, Deadline deadline) {
  TRY(graph.tenant->core().check_process());
  TRY(prepare_to_sleep());
  std::unique_lock lock(graph.tenant->mutex);
  const auto all_ended = [&] {
    if (graph.ended_count == graph.taken || graph.tenant->broken) return true;
    graph.tenant->want_completions(graph.taken - graph.ended_count);
    return false;
  };
  finish(*graph.tenant, lock, all_ended, deadline);
  if (graph.ended_count == graph.taken) return {};
  if (graph.tenant->broken) return std::unexpected(*graph.tenant->broken);
  return error(Code::timed_out, std::to_string(graph.taken - graph.ended_count) +
                                    " tasks of the graph have not ended");
}

}  // namespace

aios_code aios_graph_create(aios_tenant* tenant, aios_graph** graph) {
  if (tenant == nullptr || graph == nullptr) return null_argument("aios_graph_create");
  return guarded([&]() -> Result<void> {
    TRY(tenant->core().check_process());
    *graph = new aios_graph(tenant->self);
    return {};
  });
}

void aios_graph_free(aios_graph* graph) {
  if (graph == nullptr || graph->tenant->core().foreign()) return;
  const Uncancelled until_end;
  {
    const std::lock_guard lock(graph->tenant->mutex);
    if (graph->submitted)
      graph->tenant->unwatch(graph->first_tag, graph->ended_count == graph->taken);
  }
  delete graph;
}

aios_code aios_graph_add(aios_graph* graph, const aios_task_record* task, std::uint32_t* number) {
  if (graph == nullptr || task == nullptr || number == nullptr)
    return null_argument("aios_graph_add");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    wire::TaskRecord record;
    std::memcpy(&record, task, sizeof record);
    *number = TRY(graph->tasks.add(record));
    return {};
  });
}

aios_code aios_graph_add_edge(aios_graph* graph, std::uint32_t before, std::uint32_t after) {
  if (graph == nullptr) return null_argument("aios_graph_add_edge");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    return graph->tasks.add_edge(before, after);
  });
}

aios_code aios_graph_gang(aios_graph* graph, const std::uint32_t* tasks, std::size_t count) {
  if (graph == nullptr || tasks == nullptr) return null_argument("aios_graph_gang");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    return graph->tasks.add_gang({tasks, count});
  });
}

aios_code aios_graph_set_reduction(aios_graph* graph, std::uint32_t buffer,
                                   const std::uint32_t* partials, std::size_t count,
                                   std::uint32_t initialise, std::uint32_t combine) {
  if (graph == nullptr || (partials == nullptr && count != 0))
    return null_argument("aios_graph_set_reduction");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    return graph->tasks.set_reduction(buffer, {partials, count}, initialise, combine);
  });
}

aios_code aios_graph_set_deadline(aios_graph* graph, std::uint64_t deadline_ns) {
  if (graph == nullptr) return null_argument("aios_graph_set_deadline");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    graph->due_ns = deadline_ns;
    return {};
  });
}

aios_code aios_graph_predicted(const aios_graph* graph, aios_prediction* prediction) {
  if (graph == nullptr || prediction == nullptr) return null_argument("aios_graph_predicted");
  return guarded([&]() -> Result<void> {
    if (!graph->admitted)
      return error(Code::not_found, "no graph with a deadline was submitted: nothing is predicted");
    const wire::AdmitGraph::Reply& answer = *graph->admitted;
    *prediction = {answer.finish_ns,
                   answer.finish_p95_ns,
                   answer.tasks,
                   answer.unknown,
                   answer.promise == static_cast<std::uint32_t>(wire::Promise::made) ? 1u : 0u,
                   refusal_of(answer) ? answer.cheaper_tasks : 0};
    return {};
  });
}

aios_code aios_graph_permit_cheaper(aios_graph* graph, int permitted) {
  if (graph == nullptr) return null_argument("aios_graph_permit_cheaper");
  return guarded([&]() -> Result<void> {
    TRY(still_building(*graph));
    graph->may_be_cheaper = permitted != 0;
    return {};
  });
}

aios_code aios_graph_offered(const aios_graph* graph, aios_offer* offer) {
  if (graph == nullptr || offer == nullptr) return null_argument("aios_graph_offered");
  return guarded([&]() -> Result<void> {
    if (!graph->admitted || refusal_of(*graph->admitted))
      return error(Code::not_found, "the graph was not refused");
    const wire::AdmitGraph::Reply& answer = *graph->admitted;
    if (answer.cheaper_p95_ns == 0 && answer.anywhere_p95_ns == 0)
      return error(Code::not_found, "nothing that is known would have it done in time");
    *offer = {answer.cheaper_p95_ns, answer.anywhere_p95_ns, answer.cheaper_tasks, 0};
    return {};
  });
}

aios_code aios_graph_submit(aios_graph* graph, std::uint64_t timeout_ns) {
  if (graph == nullptr) return null_argument("aios_graph_submit");
  return guarded([&] { return submit(*graph, deadline_of(timeout_ns)); });
}

aios_code aios_graph_wait(aios_graph* graph, std::uint64_t timeout_ns, std::size_t* failed) {
  if (graph == nullptr) return null_argument("aios_graph_wait");
  return guarded([&]() -> Result<void> {
    if (!graph->submitted) return error(Code::invalid_argument, "the graph was not submitted");
    TRY(wait(*graph, deadline_of(timeout_ns)));
    if (failed != nullptr) *failed = graph->failed;
    return {};
  });
}

aios_code aios_graph_completion(const aios_graph* graph, std::uint32_t number,
                                aios_completion* completion) {
  if (graph == nullptr || completion == nullptr) return null_argument("aios_graph_completion");
  return guarded([&]() -> Result<void> {
    if (number >= graph->position.size())
      return error(Code::not_found, "no task " + std::to_string(number) + " was submitted");
    const std::lock_guard lock(graph->tenant->mutex);
    *completion = graph->ended[graph->position[number]];
    if (completion->tag != 0) return {};
    return error(Code::busy, "task " + std::to_string(number) + " has not ended");
  });
}

aios_code aios_graph_cancel(aios_graph* graph, std::uint64_t timeout_ns) {
  if (graph == nullptr) return null_argument("aios_graph_cancel");
  return guarded([&]() -> Result<void> {
    if (!graph->submitted) return error(Code::invalid_argument, "the graph was not submitted");
    return cancel(*graph, deadline_of(timeout_ns));
  });
}
