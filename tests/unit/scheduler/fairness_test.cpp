// Users and tenants share devices by time, not by how many tasks they start. Time passes here as
// the test says.
#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/policy/policy.hpp"
#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t ms = 1'000'000;

/// Tenants that always have ready tasks, each taking its own time, on a device of some slots.
class Crowd {
 public:
  explicit Crowd(const char* policy, std::uint32_t slots = 8)
      : Crowd(*make_policy(policy), slots) {}

  TenantId tenant(JobId job, std::uint32_t user, std::uint64_t task_ns, std::int32_t priority = 0) {
    const TenantId id = *core.open_tenant(job, "job", user);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("work of " + std::to_string(id))));
    members[id] = {task_ns, priority};
    for (int i = 0; i < 16; ++i) submit(id);
    return id;
  }
  void submit(TenantId id) {
    REQUIRE(core.submit(id, std::vector{task(++tag, {}, members[id].priority)}, now));
    owner[tag] = id;
  }
  /// Everything runs as it does, for so long.
  void pass(std::uint64_t ns) {
    const std::uint64_t end = now + ns;
    for (decide(); !running.empty(); decide()) {
      const auto next = running.begin();
      if (next->first > end) break;
      now = next->first;
      const TaskRef ref = next->second;
      const TenantId of = owner[core.find(ref)->record.tag];
      running.erase(next);
      Core::RunReply reply{};
      reply.start_ns = now - members[of].task_ns;
      reply.end_ns = now;
      core.task_answered(ref, reply);
      members[of].had_ns += members[of].task_ns;
      Core::Completion some[8];
      while (core.take_completions(of, some) > 0) {
      }
      if (!members[of].resting) submit(of);
    }
    now = end;
  }
  double had(TenantId id) const { return static_cast<double>(members.at(id).had_ns) / ms; }

  struct Member {
    std::uint64_t task_ns = 0;
    std::int32_t priority = 0;
    std::uint64_t had_ns = 0;
    bool resting = false;
  };
  Core core;
  std::uint64_t now = 1000 * ms;
  std::uint64_t tag = 0;
  std::map<TenantId, Member> members;
  std::map<std::uint64_t, TenantId> owner;
  std::multimap<std::uint64_t, TaskRef> running;  ///< by when they end

 private:
  Crowd(Policy policy, std::uint32_t slots)
      : core(std::move(policy.order), std::move(policy.placement),
             std::make_unique<LearnedCosts>()) {
    core.set_device(0, slots, true, "cpu0");
    core.set_open_time(0, 0);
  }
  void decide() {
    for (bool again = true; again;) {
      again = false;
      core.decide(now);
      for (const Action& action : core.take_actions()) {
        if (action.kind == Action::Kind::open_context) {
          core.context_ready(action.job, action.device);
          again = true;
        }
        if (action.kind != Action::Kind::start) continue;
        core.task_begun(action.task);
        const TenantId of = owner[core.find(action.task)->record.tag];
        running.emplace(now + members[of].task_ns, action.task);
      }
    }
  }
};

}  // namespace

TEST_CASE("Two users get equal time though the tasks of one take twenty times as long") {
  for (const char* policy : {"prio", "eager", "learned"}) {
    INFO(policy);
    Crowd crowd(policy);
    const TenantId slow = crowd.tenant(1, 1000, 20 * ms);
    const TenantId quick = crowd.tenant(2, 1001, ms, 5);
    crowd.pass(4000 * ms);
    CHECK(crowd.had(slow) == doctest::Approx(16000).epsilon(0.05));
    CHECK(crowd.had(quick) == doctest::Approx(16000).epsilon(0.05));
  }
}

TEST_CASE("Tenants of one user share its time, whatever the other user's number of tenants") {
  Crowd crowd("learned");
  const TenantId alone = crowd.tenant(1, 1000, 5 * ms);
  const TenantId a = crowd.tenant(2, 1001, 10 * ms);
  const TenantId b = crowd.tenant(3, 1001, 2 * ms);
  crowd.pass(4000 * ms);
  CHECK(crowd.had(alone) == doctest::Approx(16000).epsilon(0.05));
  CHECK(crowd.had(a) == doctest::Approx(8000).epsilon(0.05));
  CHECK(crowd.had(b) == doctest::Approx(8000).epsilon(0.05));
}

TEST_CASE("Who rests for a while has saved nothing up, and owes nothing") {
  Crowd crowd("learned");
  const TenantId busy = crowd.tenant(1, 1000, 4 * ms);
  const TenantId other = crowd.tenant(2, 1001, 4 * ms);
  crowd.pass(400 * ms);
  crowd.members[other].resting = true;
  crowd.pass(2000 * ms);
  const double before = crowd.had(busy);
  crowd.members[other].resting = false;
  const double had = crowd.had(other);
  for (int i = 0; i < 16; ++i) crowd.submit(other);
  crowd.pass(400 * ms);
  CHECK(crowd.had(busy) - before == doctest::Approx(1600).epsilon(0.1));
  CHECK(crowd.had(other) - had == doctest::Approx(1600).epsilon(0.1));
}

TEST_CASE("A task that holds its slot for much longer than such tasks do is charged when it ends") {
  Crowd crowd("learned", 1);
  const TenantId a = crowd.tenant(1, 1000, 2 * ms);
  const TenantId b = crowd.tenant(2, 1000, 2 * ms);
  crowd.pass(200 * ms);
  crowd.members[a].task_ns = 300 * ms;
  crowd.pass(4 * ms);
  crowd.members[a].task_ns = 2 * ms;
  const double had = crowd.had(b);
  // First the long one ends, then the other has as much.
  crowd.pass(600 * ms);
  CHECK(crowd.had(b) - had >= 260);
}

}  // namespace aios::scheduler
