// A core with a device, driven by hand: contexts open as soon as they are asked for, unless held.
#pragma once

#include <doctest/doctest.h>

#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "services/scheduler/core/core.hpp"

namespace aios::scheduler {

using proto::scheduler::TaskRecord;
using How = proto::driver::ContextEnd;

/// A task of codelet 0, one block, idempotent.
inline TaskRecord task(std::uint64_t tag, std::initializer_list<std::uint32_t> dependencies = {},
                       std::int32_t priority = 0) {
  TaskRecord record{};
  record.tag = tag;
  record.flags = proto::scheduler::task_flag::idempotent;
  record.priority = priority;
  record.grid[0] = record.grid[1] = record.grid[2] = 1;
  for (const std::uint32_t d : dependencies) record.dependencies[record.dependency_count++] = d;
  return record;
}

inline TaskRecord once(TaskRecord record) {
  record.flags = 0;
  return record;
}

using Tags = std::vector<std::uint64_t>;

class Fixture {
 public:
  explicit Fixture(std::uint32_t slots = 1) { core.set_device(0, slots, true, "cpu0"); }

  /// A tenant of `job` with one codelet.
  TenantId tenant(JobId job = 1, std::uint32_t uid = 1000) {
    const TenantId id = *core.open_tenant(job, "job", uid);
    CHECK(core.add_codelet(id, proto::Text<64>::from("work")));
    return id;
  }

  void submit(TenantId tenant, const std::vector<TaskRecord>& records) {
    REQUIRE(core.submit(tenant, records, 1));
    run();
  }

  /// Decides and carries out, until nothing is left to do.
  void run() {
    core.decide(1);
    while (true) {
      const std::vector<Action> actions = core.take_actions();
      if (actions.empty()) return;
      for (const Action& action : actions) carry_out(action);
      core.decide(1);
    }
  }

  /// By default it is not brief.
  void ok(std::uint64_t tag, std::uint64_t duration_ns = 1'000'000) {
    Core::RunReply reply{};
    reply.start_ns = 10;
    reply.end_ns = 10 + duration_ns;
    reply.result[0] = tag * 2;
    core.task_answered(take_running(tag), reply);
    run();
  }
  void fail(std::uint64_t tag, Code code, const std::string& text) {
    core.task_answered(take_running(tag), error(code, text));
    run();
  }
  /// Everything that runs is in the middle of it.
  void begin_all() {
    for (const auto& [tag, ref] : running) core.task_begun(ref);
  }
  /// The context dies, its successor is there at once.
  void end_context(How how, const std::string& cause = "segmentation fault", JobId job = 1) {
    lose_context(job);
    core.context_ended(job, 0, {how, cause, true});
    core.context_ready(job, 0);
    run();
  }
  void lose_context(JobId job = 1) {
    std::erase_if(running, [&](const auto& entry) {
      return core.find(entry.second)->tenant->job->id == job;
    });
    core.context_lost(job, 0);
  }

  Tags running_tags() const {
    Tags tags;
    for (const auto& [tag, ref] : running) tags.push_back(tag);
    return tags;
  }
  std::vector<Core::Completion> completions(TenantId tenant) {
    std::vector<Core::Completion> all;
    Core::Completion some[5];
    while (const std::uint32_t n = core.take_completions(tenant, some))
      all.insert(all.end(), some, some + n);
    return all;
  }
  /// The only completion there is.
  Core::Completion completion(TenantId tenant) {
    const auto all = completions(tenant);
    REQUIRE(all.size() == 1);
    return all.front();
  }
  Code status(TenantId tenant) { return static_cast<Code>(completion(tenant).status); }

  Core core{make_priority_order(), make_eager_placement()};
  std::map<std::uint64_t, TaskRef> running;  ///< by tag: tests use each tag once at a time
  Tags started;                              ///< all, in order
  std::vector<Action> others;                ///< actions that are neither start nor open_context
  std::vector<Action> opens;
  bool hold_contexts = false;

 private:
  void carry_out(const Action& action) {
    if (action.kind == Action::Kind::start) {
      const std::uint64_t tag = core.find(action.task)->record.tag;
      started.push_back(tag);
      running[tag] = action.task;
    } else if (action.kind == Action::Kind::open_context) {
      opens.push_back(action);
      if (!hold_contexts) core.context_ready(action.job, action.device);
    } else {
      others.push_back(action);
    }
  }
  TaskRef take_running(std::uint64_t tag) {
    REQUIRE(running.contains(tag));
    const TaskRef ref = running[tag];
    running.erase(tag);
    return ref;
  }
};

}  // namespace aios::scheduler
