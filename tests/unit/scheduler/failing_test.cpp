// Devices on which the tasks of a codelet fail, one after the other. A processor, and a device that
// is ten times as quick by what is guessed of it.
#include "tests/unit/scheduler/told_core.hpp"

namespace aios::scheduler {
namespace {

using namespace std::string_view_literals;

constexpr DeviceId cpu = 0;
constexpr DeviceId gpu = 1;
constexpr std::uint32_t both = proto::driver::backend::cpu | proto::driver::backend::cuda;

class Site : public ToldCore {
 public:
  explicit Site(std::string_view policy = "learned", std::uint32_t slots = 1)
      : ToldCore(*make_policy(policy)) {
    // Without predictions the first one is taken.
    const bool swapped = policy == "eager"sv;
    core.set_device(cpu, slots, true, "first0", both);
    core.set_device(gpu, slots, true, "second1", both);
    for (const DeviceId d : {cpu, gpu}) core.set_open_time(d, 0);
    core.all_devices_known();
    bad = swapped ? cpu : gpu;
    good = swapped ? gpu : cpu;
  }
  TenantId open(JobId job = 1, std::uint32_t user = 1000) {
    const TenantId id = *core.open_tenant(job, "job", user);
    REQUIRE(core.add_codelet(id, proto::Text<64>::from("work"), both));
    costs->tell("work", bad, 10.0 * ms);
    costs->estimates[{"work", bad}].level = Level::hint;
    tell("work", good, 100 * ms);
    return id;
  }
  void submit(TenantId of, const TaskRecord& record) {
    REQUIRE(core.submit(of, std::span(&record, 1), now));
    run();
  }
  void fail(std::uint64_t tag, Code code = Code::internal) {
    core.task_answered(running.at(tag), error(code, "no"));
    running.erase(tag);
    run();
  }
  /// One task, which fails on the bad device and nowhere else; where it ran.
  DeviceId one(TenantId of) {
    submit(of, task(++tag));
    REQUIRE(running.contains(tag));
    last = core.log().next(logged++, 0, true);
    const DeviceId device = on.at(tag);
    device == bad ? fail(tag) : end(tag);
    return device;
  }
  std::size_t fails_of(TenantId of, std::size_t tasks) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < tasks; ++i) count += one(of) == bad ? 1 : 0;
    return count;
  }

  DeviceId bad = 0, good = 0;
  std::uint64_t tag = 0, logged = 0;
  const PlacementLog::Entry* last = nullptr;
};

}  // namespace

TEST_CASE("A device on which all tasks of a codelet fail gets few of them, however good it seems") {
  for (const char* policy : {"eager", "dmda", "learned"}) {
    CAPTURE(policy);
    Site site(policy);
    const TenantId t = site.open();
    CHECK(site.fails_of(t, 3) == 3);
    // Passed over, and it is said why.
    CHECK(site.one(t) == site.good);
    CHECK(site.last->reason == static_cast<std::uint8_t>(Reason::fails));
    REQUIRE(site.last->candidate_count == 2);
    CHECK(site.last->considered == 2);
    CHECK(site.last->candidates[0].device == site.good);
    CHECK(site.last->candidates[1].device == site.bad);
    CHECK(site.last->candidates[1].at_once == PlacementLog::Candidate::fails);
    CHECK(site.fails_of(t, 63) == 0);
    CHECK(site.one(t) == site.bad);
    CHECK(site.fails_of(t, 128) == 0);
    CHECK(site.one(t) == site.bad);
    CHECK(site.fails_of(t, 10'000) <= 8);
  }
}

TEST_CASE("One success ends it, and single failures between successes do not begin it") {
  Site site;
  const TenantId t = site.open();
  for (int i = 0; i < 10; ++i) {
    CHECK(site.fails_of(t, 2) == 2);
    site.submit(t, task(++site.tag));
    CHECK(site.on.at(site.tag) == site.bad);
    site.end(site.tag);
  }
  CHECK(site.fails_of(t, 3 + 64) == 3);
  site.submit(t, task(++site.tag));
  CHECK(site.on.at(site.tag) == site.bad);
  site.end(site.tag);
  CHECK(site.fails_of(t, 3) == 3);
  CHECK(site.fails_of(t, 1) == 0);
}

TEST_CASE("What one tenant's tasks do is no reason to pass a device over for another's") {
  Site site;
  const TenantId t = site.open(), same_job = site.open(), other = site.open(2, 1001);
  CHECK(site.fails_of(t, 10) == 3);
  for (const TenantId of : {same_job, other}) {
    site.submit(of, task(++site.tag));
    CHECK(site.on.at(site.tag) == site.bad);
    site.end(site.tag);
  }
  // Another codelet of the same tenant is another thing.
  REQUIRE(site.core.add_codelet(t, proto::Text<64>::from("work"), both));
  TaskRecord different = task(++site.tag);
  different.codelet = 1;
  site.submit(t, different);
  CHECK(site.on.at(site.tag) == site.bad);
}

TEST_CASE("Where nothing else would do, a device is taken though all fails there") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Site site(policy);
    const TenantId t = site.open();
    CHECK(site.fails_of(t, 4) == 3);
    // The task names it.
    TaskRecord named = task(++site.tag);
    named.device = site.bad + 1;
    site.submit(t, named);
    CHECK(site.on.at(site.tag) == site.bad);
    site.fail(site.tag);
    // The other one is stalled; has no context for the job; is gone.
    site.core.context_stalled(1, site.good);
    CHECK(site.one(t) == site.bad);
    site.core.context_resumed(1, site.good);
    CHECK(site.one(t) == site.good);
    site.core.context_lost(1, site.good);
    site.submit(t, task(++site.tag));
    CHECK_FALSE(site.running.contains(site.tag));
    site.core.context_refused(1, site.good, Status(Code::denied, "no"));
    site.run();
    REQUIRE(site.running.contains(site.tag));
    CHECK(site.on.at(site.tag) == site.bad);
    site.fail(site.tag);
    CHECK(site.one(t) == site.good);
    site.core.set_device(site.good, 1, false, "gone", both);
    CHECK(site.one(t) == site.bad);
  }
}

TEST_CASE("Where all devices fail none is passed over") {
  Site site;
  const TenantId t = site.open();
  CHECK(site.fails_of(t, 3) == 3);
  for (int i = 0; i < 3; ++i) {
    site.submit(t, task(++site.tag));
    CHECK(site.on.at(site.tag) == site.good);
    site.fail(site.tag);
  }
  CHECK(site.one(t) == site.bad);
}

TEST_CASE("A busy device is waited for rather than one that fails at once and so is always free") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Site site(policy);
    const TenantId t = site.open();
    CHECK(site.fails_of(t, 4) == 3);
    site.submit(t, task(101));
    site.submit(t, task(102));
    CHECK(site.on.at(101) == site.good);
    CHECK_FALSE(site.running.contains(102));
    site.end(101);
    CHECK(site.on.at(102) == site.good);
  }
}

TEST_CASE("A task that crashes its context alone is tried elsewhere when such tasks all do") {
  Site site;
  const TenantId t = site.open();
  const auto crash = [&] {
    const std::uint64_t one = site.running.begin()->first;
    site.running.erase(one);
    site.core.context_lost(1, site.bad);
    site.core.context_ended(1, site.bad, {How::fault, "segmentation fault", true});
    site.core.context_ready(1, site.bad);
    site.run();
  };
  site.submit(t, task(1));
  REQUIRE(site.on.at(1) == site.bad);
  crash();
  REQUIRE(site.on.at(1) == site.bad);
  crash();
  CHECK_FALSE(site.running.contains(1));
  site.submit(t, task(2));
  REQUIRE(site.on.at(2) == site.bad);
  crash();
  REQUIRE(site.running.contains(2));
  CHECK(site.on.at(2) == site.good);

  site.end(2);
  // So, too, with tasks that are not run again.
  const TenantId other = site.open();
  for (std::uint64_t tag = 11; tag < 14; ++tag) {
    site.submit(other, once(task(tag)));
    REQUIRE(site.on.at(tag) == site.bad);
    site.core.task_begun(site.running.at(tag));
    crash();
  }
  site.submit(other, once(task(14)));
  CHECK(site.on.at(14) == site.good);
}

TEST_CASE("Members of a gang prefer a device on which they do not fail") {
  Site site("learned", 2);
  const TenantId t = site.open();
  CHECK(site.fails_of(t, 4) == 3);
  std::vector<TaskRecord> gang{task(101), task(102)};
  for (TaskRecord& member : gang) {
    member.flags |= proto::scheduler::task_flag::gang;
    member.gang = 1;
    member.gang_size = 2;
  }
  REQUIRE(site.core.submit(t, gang, site.now));
  site.run();
  CHECK(site.on.at(101) == site.good);
  CHECK(site.on.at(102) == site.good);
}

}  // namespace aios::scheduler
