// Random operations on the core and on a plain model of it, side by side, from a fixed seed.
#include <random>

#include "tests/unit/scheduler/fixture.hpp"
#include "tests/unit/scheduler/model.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint32_t slots = 3;
#ifdef __SANITIZE_ADDRESS__  // where each takes twenty times as long
constexpr int operations = 20'000;
#else
constexpr int operations = 100'000;
#endif
constexpr std::size_t max_tenants = 6;
constexpr std::size_t max_unfinished = 60;

class Pair {
 public:
  explicit Pair(std::uint64_t seed) : random_(seed) { core_.set_device(0, slots, true, "cpu0"); }

  void step() {
    switch (below(15)) {
      case 0:
        return open_tenant();
      case 1:
        return below(8) == 0 ? close_tenant() : submit();
      case 2:
      case 3:
      case 4:
        return submit();
      case 5:
        return below(4) == 0 ? cancel() : fetch();
      case 6:
      case 7:
        return begin();
      case 8:
        return end_context();
      case 9:
      case 10:
      case 11:
        return settle_context();
      case 12:
        return stall_or_resume();
      default:
        return answer();
    }
  }

  void compare() {
    std::set<JobId> expected_opens;
    const std::vector<std::uint64_t> expected = model_.decide(expected_opens);
    core_.decide(1);
    std::vector<std::uint64_t> started;
    std::set<JobId> opens;
    for (const Action& action : core_.take_actions()) {
      if (action.kind == Action::Kind::start) {
        started.push_back(action.task.number);
        refs_[action.task.number] = action.task;
      }
      if (action.kind == Action::Kind::open_context) opens.insert(action.job);
      if (action.kind == Action::Kind::tenant_closed) model_.tenants.erase(action.tenant);
    }
    REQUIRE(started == expected);
    REQUIRE(opens == expected_opens);
    REQUIRE(core_.devices()[0].running == model_.slots_used());
    for (const std::uint64_t number : started) REQUIRE(core_.find(refs_[number]) != nullptr);
  }

  /// Ends everything there is; nothing may be left.
  void drain() {
    for (const TenantId id : open_tenants()) {
      core_.close_tenant(id);
      model_.close_tenant(id);
    }
    for (auto& [job, door] : model_.doors) {
      if (door == Model::Door::shut) continue;
      core_.context_ended(job, 0, {How::exited, "", false});
      model_.end(job, How::exited);
    }
    compare();
    CHECK(model_.tasks.empty());
    CHECK(model_.tenants.empty());
    CHECK(core_.next_task(last_number_, 0, true).number == 0);
    CHECK(core_.devices()[0].running == 0);
  }

 private:
  std::uint64_t below(std::uint64_t n) { return random_() % n; }

  std::vector<TenantId> open_tenants() const {
    std::vector<TenantId> ids;
    for (const auto& [id, tenant] : model_.tenants)
      if (!tenant.closing) ids.push_back(id);
    return ids;
  }
  TenantId pick_tenant() {
    const std::vector<TenantId> ids = open_tenants();
    return ids.empty() ? 0 : ids[below(ids.size())];
  }
  std::uint64_t pick_running() {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, task] : model_.tasks)
      if (task.running) numbers.push_back(number);
    return numbers.empty() ? 0 : numbers[below(numbers.size())];
  }
  JobId pick_job(Model::Door a, Model::Door b, Model::Door c) {
    std::vector<JobId> jobs;
    for (const auto& [job, door] : model_.doors)
      if (door == a || door == b || door == c) jobs.push_back(job);
    return jobs.empty() ? 0 : jobs[below(jobs.size())];
  }

  void open_tenant() {
    if (model_.tenants.size() >= max_tenants) return;
    const JobId job = 1 + below(4);
    const auto user = static_cast<std::uint32_t>(1000 + job % 2);
    const TenantId id = *core_.open_tenant(job, "job", user);
    REQUIRE(core_.add_codelet(id, {}));
    model_.open_tenant(id, job, user);
  }

  void close_tenant() {
    const TenantId id = pick_tenant();
    if (id == 0) return;
    core_.close_tenant(id);
    model_.close_tenant(id);
  }

  /// Now and then it is of a gang, of 2 or 3 tasks that need not come at once.
  void join_gang(TenantId id, TaskRecord& record) {
    Forming& forming = forming_[id];
    if (forming.left == 0) {
      if (below(6) != 0) return;
      forming = {++last_gang_, static_cast<std::uint32_t>(2 + below(2)), 0};
      forming.left = forming.size;
    } else if (below(2) == 0) {
      return;
    }
    // One that waits for another of its gang, perhaps through others, never starts.
    const auto waits = [&](std::uint32_t tag) {
      return std::any_of(model_.tasks.begin(), model_.tasks.end(), [&](const auto& entry) {
        const Model::ModelTask& other = entry.second;
        return other.tenant == id && other.tag == tag && (other.gang != 0 || !other.needs.empty());
      });
    };
    const auto end = record.dependencies + record.dependency_count;
    if (std::any_of(record.dependencies, end, waits) ||
        std::any_of(record.dependencies, end, [&](auto tag) { return tag > last_before_; })) {
      std::fill(std::begin(record.dependencies), std::end(record.dependencies), 0);
      record.dependency_count = 0;
    }
    record.flags |= proto::scheduler::task_flag::gang;
    record.gang = forming.gang;
    record.gang_size = forming.size;
    --forming.left;
  }

  void submit() {
    const TenantId id = pick_tenant();
    if (id == 0 || model_.tasks.size() >= max_unfinished) return;
    std::vector<TaskRecord> batch(1 + below(3));
    std::vector<std::uint64_t> known;
    last_before_ = last_tag_;
    for (const auto& [tag, code] : model_.tenants[id].finished) known.push_back(tag);
    for (const auto& [number, other] : model_.tasks)
      if (other.tenant == id) known.push_back(other.tag);
    for (TaskRecord& record : batch) {
      record = task(++last_tag_, {}, static_cast<std::int32_t>(below(3)));
      if (below(4) == 0) record.flags = 0;
      // Mostly of late ones: they are the unfinished.
      for (std::uint64_t k = below(6) / 3; k > 0 && !known.empty(); --k)
        record.dependencies[record.dependency_count++] = static_cast<std::uint32_t>(
            known[known.size() - 1 - below(std::min<std::size_t>(known.size(), 8))]);
      known.push_back(record.tag);
      join_gang(id, record);
    }
    REQUIRE(core_.submit(id, batch, 1));
    for (const TaskRecord& record : batch) model_.submit(id, record);
    last_number_ += batch.size();
  }

  void cancel() {
    if (model_.tasks.empty()) return;
    auto at = model_.tasks.begin();
    std::advance(at, below(model_.tasks.size()));
    const Model::ModelTask task = at->second;
    if (model_.tenants[task.tenant].closing) return;
    const Result<void> result = core_.cancel(task.tenant, task.tag);
    REQUIRE(result.has_value() == !task.running);
    if (result) model_.cancel(task.tenant, task.tag);
  }

  void begin() {
    const std::uint64_t number = pick_running();
    if (number == 0) return;
    core_.task_begun(refs_[number]);
    model_.begin(number);
  }

  void answer() {
    const std::uint64_t number = pick_running();
    if (number == 0) return;
    const std::uint64_t kind = below(32);
    const Code code = kind == 0 ? Code::internal : kind == 1 ? Code::timed_out : Code::ok;
    core_.task_answered(refs_[number], code == Code::ok ? Result<Core::RunReply>(Core::RunReply{})
                                                        : error(code, "no"));
    model_.answer(number, code);
  }

  void stall_or_resume() {
    using Door = Model::Door;
    const JobId job = pick_job(Door::open, Door::stalled, Door::stalled);
    if (job == 0) return;
    Door& door = model_.doors[job];
    if (door == Door::open)
      core_.context_stalled(job, 0);
    else
      core_.context_resumed(job, 0);
    door = door == Door::open ? Door::stalled : Door::open;
  }

  void end_context() {
    const JobId job = pick_job(Model::Door::open, Model::Door::stalled, Model::Door::stalled);
    if (job == 0) return;
    core_.context_lost(job, 0);
    model_.lose(job);
  }

  /// What the driver says about a context that is being opened, was lost, or is to close.
  void settle_context() {
    using Door = Model::Door;
    const JobId job = pick_job(Door::opening, Door::lost, Door::closing);
    if (job == 0) return;
    Door& door = model_.doors[job];
    if (door == Door::closing) {
      core_.context_ended(job, 0, {How::exited, "", false});
      return model_.end(job, How::exited);
    }
    if (below(20) == 0) {
      core_.context_refused(job, 0, Status(Code::quota, "no"));
      return model_.refuse(job, Code::quota);
    }
    if (door == Door::lost) {
      const How how = below(3) != 0 ? How::fault : static_cast<How>(below(5));
      core_.context_ended(job, 0, {how, "", true});
      model_.end(job, how);
    }
    core_.context_ready(job, 0);
    door = Door::open;
  }

  void fetch() {
    const TenantId id = pick_tenant();
    if (id == 0) return;
    std::vector<std::pair<std::uint64_t, Code>> got;
    Core::Completion some[5];
    while (const std::uint32_t n = core_.take_completions(id, some))
      for (std::uint32_t i = 0; i < n; ++i)
        got.emplace_back(some[i].tag, static_cast<Code>(some[i].status));
    auto& expected = model_.tenants[id].unread;
    std::sort(got.begin(), got.end());
    std::sort(expected.begin(), expected.end());
    REQUIRE(got == expected);
    expected.clear();
  }

  std::mt19937_64 random_;
  Core core_{make_priority_order(), make_eager_placement()};
  Model model_{slots};
  std::map<std::uint64_t, TaskRef> refs_;
  struct Forming {
    std::uint32_t gang = 0;
    std::uint32_t size = 0;
    std::uint32_t left = 0;  ///< to come
  };
  std::map<TenantId, Forming> forming_;
  std::uint32_t last_gang_ = 0;
  std::uint64_t last_tag_ = 0;
  std::uint64_t last_before_ = 0;  ///< the batch
  std::uint64_t last_number_ = 0;
};

}  // namespace

TEST_CASE("After each of many random operations the core has done what the plain rules say") {
  Pair pair(20240607);
  for (int i = 0; i < operations; ++i) {
    INFO("operation ", i);
    pair.step();
    pair.compare();
  }
  pair.drain();
}

}  // namespace aios::scheduler
