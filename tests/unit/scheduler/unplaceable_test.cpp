// Tasks that nothing will ever run end with the reason, whenever that turns out; none waits for
// ever.
#include "services/scheduler/core/parts/record_check.hpp"
#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {
namespace {

namespace backend = proto::driver::backend;

/// A processor; a tenant with codelets for it (0), for CUDA devices (1) and for both (2).
class Host : public Fixture {
 public:
  Host() {
    t = tenant();
    REQUIRE(*core.add_codelet(t, proto::Text<64>::from("cuda"), backend::cuda) == 1);
    REQUIRE(*core.add_codelet(t, proto::Text<64>::from("both"), backend::cpu | backend::cuda) == 2);
  }
  void add_gpu(bool usable = true) { core.set_device(1, 1, usable, "gpu1", backend::cuda); }
  /// By tag, with the reason of those that failed.
  std::map<std::uint64_t, std::pair<Code, std::string>> ended() {
    std::map<std::uint64_t, std::pair<Code, std::string>> all;
    for (const Core::Completion& c : completions(t)) {
      const Code code = static_cast<Code>(c.status);
      all[c.tag] = {code, code == Code::ok ? "" : *core.failure(t, c.tag)};
    }
    return all;
  }
  /// What a submit of it is told.
  std::pair<Code, std::string> refusal(const std::vector<TaskRecord>& records) {
    const auto refused = core.submit(t, records, 1);
    REQUIRE_FALSE(refused);
    return {refused.error().code(), refused.error().message()};
  }
  bool runs(std::uint64_t tag) const { return running.contains(tag); }

  TenantId t;
};

TaskRecord of(std::uint32_t codelet, TaskRecord record) {
  record.codelet = codelet;
  return record;
}

TaskRecord on(DeviceId device, TaskRecord record) {
  record.device = device + 1;
  return record;
}

TaskRecord member(std::uint64_t tag, std::uint32_t gang, std::uint32_t size) {
  TaskRecord record = task(tag);
  record.flags |= proto::scheduler::task_flag::gang;
  record.gang = gang;
  record.gang_size = size;
  return record;
}

}  // namespace

TEST_CASE("What came before the devices were known ends as what comes afterwards is refused") {
  Host h;
  const std::vector<TaskRecord> never{on(7, task(1)),        of(1, task(2)),  of(1, task(3, {20})),
                                      on(0, of(1, task(4))), member(5, 1, 2), member(6, 1, 2),
                                      member(7, 2, 2)};
  TaskRecord named = on(9, member(8, 2, 2));
  h.submit(h.t, {task(20), task(21)});
  h.submit(h.t, never);
  h.submit(h.t, {named, task(9, {2})});
  const std::uint32_t graph = *h.core.open_graph(h.t, 1'000'000'000, 1);
  REQUIRE(h.core.submit(h.t, std::vector{of(1, task(10)), task(11), task(12, {10})}, 1, graph));
  h.run();
  CHECK(h.running_tags() == Tags{20});
  CHECK(h.ended().empty());

  h.core.all_devices_known();
  h.run();
  const auto ended = h.ended();
  const auto same = [&](const TaskRecord& record) {
    CAPTURE(record.tag);
    REQUIRE(ended.contains(record.tag));
    CHECK(ended.at(record.tag) == h.refusal({record}));
  };
  for (std::size_t i = 0; i < 4; ++i) same(never[i]);
  CHECK(ended.at(1).second == "task 1: there is no device 7");
  CHECK(ended.at(2).second == "task 2: its module has no code for any device here");
  CHECK(ended.at(4).second == "task 4: its module has no code for the device that it names");
  // Gangs: one that is too large, and one of which a member suits nothing.
  CHECK(ended.at(5).first == Code::not_supported);
  CHECK(ended.at(5).second.find("2 members, and the devices that they may run on have 1 slots") !=
        std::string::npos);
  CHECK(h.refusal({member(5, 1, 2), member(6, 1, 2)}).first == Code::not_supported);
  CHECK(ended.at(6).first == Code::cancelled);
  CHECK(ended.at(7).first == Code::cancelled);
  CHECK(ended.at(8).second == "task 8: there is no device 9");
  CHECK(ended.at(9).first == Code::cancelled);
  // Also in a graph that is not complete; the rest of it is admitted.
  CHECK(ended.at(10) == h.refusal({of(1, task(10))}));
  CHECK(ended.at(12).first == Code::cancelled);
  CHECK(ended.size() == 11);
  REQUIRE(h.core.admit_graph(h.t, graph, false, 1));
  h.ok(20);
  h.ok(h.running_tags().front());
  h.ok(h.running_tags().front());
  CHECK(h.ended().size() == 3);
  CHECK(h.core.idle());
}

TEST_CASE("Drivers of which nothing has been heard are named where their devices are missed") {
  Host h;
  h.submit(h.t, {of(1, task(1)), on(3, task(2))});
  h.core.all_devices_known("gpu");
  const auto ended = h.ended();
  CHECK(ended.at(1).second ==
        "task 1: its module has no code for any device here; nothing has been heard yet of these "
        "drivers: gpu (`aiosctl devices` says why)");
  CHECK(ended.at(2).second.find("there is no device 3; nothing has been heard") !=
        std::string::npos);
  // It answers after all.
  h.add_gpu();
  h.core.all_devices_known();
  h.submit(h.t, {of(1, task(3))});
  CHECK(h.runs(3));
  CHECK(h.refusal({on(3, task(4))}).second == "task 4: there is no device 3");
}

TEST_CASE("Until all devices are known a task for one that has not come waits, come what may") {
  Host h;
  h.hold_contexts = true;
  h.submit(h.t, {of(1, task(1)), task(2)});
  h.core.context_refused(1, 0, Status(Code::denied, "no"));
  CHECK(h.ended() ==
        std::map<std::uint64_t, std::pair<Code, std::string>>{{2, {Code::denied, "no"}}});
  h.core.set_device(0, 1, false, "cpu0");
  h.run();
  CHECK(h.ended().empty());
  h.hold_contexts = false;
  h.add_gpu();
  h.core.all_devices_known();
  h.run();
  CHECK(h.runs(1));
}

TEST_CASE("A task that waits for others fails when the only device that it can run on is gone") {
  Host h;
  h.add_gpu();
  h.core.all_devices_known();
  const std::uint32_t graph = *h.core.open_graph(h.t, 1'000'000'000, 1);
  REQUIRE(h.core.submit(h.t, std::vector{on(1, of(2, task(5)))}, 1, graph));
  h.submit(h.t, {task(1), of(1, task(2, {1})), of(2, task(3, {1})), task(4, {2})});
  h.add_gpu(false);
  const auto ended = h.ended();
  CHECK(ended.at(2) == h.refusal({of(1, task(2))}));
  CHECK(ended.at(2).first == Code::service_down);
  CHECK(ended.at(4).first == Code::cancelled);
  CHECK(ended.at(5) == h.refusal({on(1, of(2, task(5)))}));
  CHECK(ended.size() == 3);
  h.ok(1);
  CHECK(h.runs(3));
}

TEST_CASE("A refused context fails also what waits for others and has no other device") {
  Host h;
  h.add_gpu();
  h.core.all_devices_known();
  h.submit(h.t, {task(1), of(1, task(2, {1})), of(2, task(3, {1}))});
  h.hold_contexts = true;
  h.submit(h.t, {of(1, task(4))});
  h.core.context_refused(1, 1, Status(Code::quota, "too many processes"));
  const auto ended = h.ended();
  CHECK(ended.size() == 2);
  CHECK(ended.at(2) == std::pair<Code, std::string>(Code::quota, "too many processes"));
  CHECK(ended.at(4).first == Code::quota);
  h.ok(1);
  CHECK(h.runs(3));
}

TEST_CASE("On a device that is gone what runs goes on, and what has not begun fails") {
  Host h;
  h.add_gpu();
  h.core.all_devices_known();
  h.submit(h.t, {of(1, task(1)), of(1, task(2))});
  REQUIRE(h.runs(1));
  h.add_gpu(false);
  h.run();
  CHECK(h.ended().at(2).first == Code::service_down);
  h.ok(1);
  CHECK(h.ended().at(1).first == Code::ok);

  // One that its context gives back.
  h.add_gpu();
  h.submit(h.t, {of(1, task(3))});
  REQUIRE(h.runs(3));
  h.add_gpu(false);
  h.core.task_not_begun(h.running.at(3));
  h.run();
  CHECK(h.ended().at(3).first == Code::service_down);
}

TEST_CASE("A context that opens, or ends for good, on a device that is gone keeps nobody waiting") {
  for (const bool opens : {true, false}) {
    CAPTURE(opens);
    Host h;
    h.hold_contexts = opens;
    h.add_gpu();
    h.core.all_devices_known();
    if (!opens) {
      // The context of the job's last tenant is still being closed.
      h.submit(h.t, {of(1, task(1))});
      h.ok(1);
      h.core.close_tenant(h.t);
      h.t = *h.core.open_tenant(1, "job", 1000);
      REQUIRE(h.core.add_codelet(h.t, proto::Text<64>::from("cuda"), backend::cuda));
      h.submit(h.t, {task(2)});
      h.core.set_device(1, 1, false, "gpu1", backend::cuda);
      CHECK(h.ended().at(2).first == Code::service_down);
      h.add_gpu();
      h.submit(h.t, {task(3)});
      h.core.context_ended(1, 1, {How::exited, "", false});
      h.run();
      CHECK(h.runs(3));
      continue;
    }
    h.submit(h.t, {of(1, task(2))});
    h.add_gpu(false);
    CHECK(h.ended().empty());
    h.core.context_ready(1, 1);
    CHECK(h.ended().at(2).first == Code::service_down);
  }
}

TEST_CASE(
    "Data that a device does not hold any more, since it says to have less, fails its tasks") {
  Host h;
  h.add_gpu();
  h.core.set_own_memory(1);
  h.core.set_memory_size(1, 1000);
  h.core.all_devices_known();
  const std::uint32_t buffer = *h.core.add_buffer(h.t, true, 600);
  TaskRecord record = of(1, task(2, {1}));
  record.buffers[record.buffer_count++] = buffer | AIOS_MODE_READ << 28;
  h.submit(h.t, {task(1), record});
  h.core.set_memory_size(1, 500);
  CHECK(h.ended().at(2) == h.refusal({record}));
  // And for what a device has no code that is another one now.
  h.submit(h.t, {of(1, task(3, {1}))});
  h.core.set_device(1, 1, true, "gpu1", backend::opencl);
  CHECK(h.ended().at(3).first == Code::not_supported);
}

}  // namespace aios::scheduler
