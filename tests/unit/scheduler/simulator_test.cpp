#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "services/scheduler/simulator/study.hpp"

namespace aios::scheduler::sim {
namespace {

Platform platform(const std::string& spec) {
  auto parsed = parse_devices(spec);
  REQUIRE(parsed);
  return std::move(*parsed);
}

Graph graph(const std::string& spec) {
  auto made = generate(spec);
  REQUIRE(made);
  return std::move(*made);
}

std::size_t links(const Graph& graph) {
  return std::accumulate(graph.tasks.begin(), graph.tasks.end(), std::size_t{0},
                         [](std::size_t sum, const SimTask& t) { return sum + t.parents.size(); });
}

/// A chain of `n` tasks of a second.
Graph chain(std::uint32_t n) {
  Graph made;
  made.name = "chain";
  made.types.push_back({"step"});
  for (std::uint32_t i = 0; i < n; ++i) {
    made.tasks.push_back({"step_" + std::to_string(i), 0, 1.0, 0, {}, {}});
    if (i > 0) made.tasks.back().parents.push_back(i - 1);
  }
  return made;
}

}  // namespace

TEST_CASE("Generated factorisations have as many tasks as the algorithms") {
  // n + n(n-1)/2 twice + n(n-1)(n-2)/6.
  CHECK(graph("cholesky:10").tasks.size() == 10 + 2 * 45 + 120);
  CHECK(graph("lu:6").tasks.size() == 6 + 2 * 15 + 55);
  CHECK(graph("qr:6").tasks.size() == 6 + 2 * 15 + 55);
  CHECK(graph("stencil:7").tasks.size() == 49);
  CHECK(graph("fft:8").tasks.size() == 8 * 3);
  CHECK(graph("random:100:5").tasks.size() == 100);
}

TEST_CASE("A generated graph is the same each time and every parent is earlier") {
  for (const char* spec : {"cholesky:8", "lu:6", "qr:6", "stencil:7", "fft:8", "random:200:5"}) {
    const Graph one = graph(spec);
    const Graph two = graph(spec);
    CHECK(links(one) == links(two));
    for (std::uint32_t t = 0; t < one.tasks.size(); ++t)
      for (const std::uint32_t parent : one.tasks[t].parents) CHECK(parent < t);
  }
  CHECK(links(graph("random:200:5")) != links(graph("random:200:6")));
}

TEST_CASE("In a cholesky factorisation the second potrf waits for the syrk before it") {
  const Graph made = graph("cholesky:2");
  REQUIRE(made.tasks.size() == 4);
  CHECK(made.tasks[1].parents == std::vector<std::uint32_t>{0});
  CHECK(made.types[made.tasks[2].type].name == "syrk");
  CHECK(made.tasks[3].parents == std::vector<std::uint32_t>{2});
}

TEST_CASE("A chain takes as long as its tasks, wherever they run") {
  const Graph made = chain(5);
  for (const auto& [devices, seconds] :
       {std::pair{"cpu:4", 5.0}, std::pair{"cpu:4,gpu:1@5", 1.0}}) {
    const Platform on = platform(devices);
    const auto run = Realisation::draw(made, on, {});
    REQUIRE(run);
    Study study(made, on);
    for (const char* policy : {"dmda", "heft", "learned"}) {
      for (int i = 0; i < 4; ++i) REQUIRE(study.learn_from(made, {}));
      const auto outcome = study.run(*run, Method::core, policy);
      REQUIRE(outcome);
      CHECK(outcome->makespan_ns / 1e9 == doctest::Approx(seconds));
    }
    CHECK(study.run(*run, Method::heft_true)->makespan_ns / 1e9 == doctest::Approx(seconds));
    CHECK(lower_bound_ns(*run) / 1e9 == doctest::Approx(seconds));
  }
}

TEST_CASE("No schedule is shorter than the bound") {
  for (const char* spec : {"cholesky:8", "qr:6", "random:150:5"}) {
    const Graph made = graph(spec);
    const Platform on = platform("cpu:4,gpu:2@10");
    Study study(made, on);
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
      const auto run = Realisation::draw(made, on, {0.5, 0.1, seed});
      REQUIRE(run);
      const double bound = lower_bound_ns(*run);
      CHECK(bound > 0);
      for (const Method method : {Method::heft_true, Method::oracle, Method::heft_mean})
        CHECK(study.run(*run, method)->makespan_ns >= bound * 0.999999);
      CHECK(study.run(*run, Method::core, "learned")->makespan_ns >= bound * 0.999999);
    }
  }
}

TEST_CASE("HEFT uses a gap that an earlier task leaves") {
  // Two slots. A long way a-b, and c: without insertion c would come after b.
  Graph made;
  made.name = "gap";
  made.types.push_back({"work"});
  made.tasks = {{"a", 0, 4, 0, {}, {}},
                {"b", 0, 4, 0, {0}, {}},
                {"x", 0, 3, 0, {}, {}},
                {"y", 0, 4, 0, {0, 2}, {}},
                {"c", 0, 1, 0, {}, {}}};
  const Platform on = platform("cpu:2");
  const auto run = Realisation::draw(made, on, {});
  REQUIRE(run);
  CHECK(run_heft(*run, true_times(*run)).makespan_ns / 1e9 == doctest::Approx(8));
}

TEST_CASE("Noise has the mean 1 and the spread that was asked for, and is the task's own") {
  const Graph made = graph("random:1500:5");
  const Platform on = platform("cpu:1,gpu:1@2");
  const auto run = Realisation::draw(made, on, {0.4, -1, 3});
  REQUIRE(run);
  double sum = 0;
  double squares = 0;
  for (std::uint32_t t = 0; t < made.tasks.size(); ++t) {
    const double factor = run->true_ns(t, 0) / run->expected_ns(t, 0);
    CHECK(run->true_ns(t, 1) / run->expected_ns(t, 1) == doctest::Approx(factor));
    sum += factor;
    squares += factor * factor;
  }
  const double n = static_cast<double>(made.tasks.size());
  CHECK(sum / n == doctest::Approx(1).epsilon(0.04));
  CHECK(std::sqrt(squares / n - sum * sum / n / n) == doctest::Approx(0.4).epsilon(0.1));
}

TEST_CASE("The ratio of communication to computation is what was asked for") {
  const Graph made = graph("cholesky:8");
  const Platform on = platform("cpu:4,gpu:2@10");
  const auto run = Realisation::draw(made, on, {0, 2, 1});
  REQUIRE(run);
  double moving = 0;
  double running = 0;
  for (std::uint32_t t = 0; t < made.tasks.size(); ++t) {
    for (const Access& access : made.tasks[t].accesses)
      if (access.reads()) moving += run->bus().of(made.data_bytes[access.data]);
    running += (4 * run->true_ns(t, 0) + run->true_ns(t, 1) + run->true_ns(t, 2)) / 6;
  }
  CHECK(moving / running == doctest::Approx(2));
}

TEST_CASE("What runs taught is there in the next run") {
  const Graph made = graph("cholesky:8");
  const Platform on = platform("cpu:4,gpu:2@10");
  Study study(made, on);
  const auto error_of = [&](std::uint64_t seed) {
    const auto run = Realisation::draw(made, on, {0.2, -1, seed});
    REQUIRE(run);
    Accuracy accuracy;
    accuracy.add(*study.run(*run, Method::core, "learned"));
    return *accuracy.median_error();
  };
  const double cold = error_of(1);
  for (std::uint64_t seed = 100; seed < 110; ++seed)
    REQUIRE(study.learn_from(made, {0.2, -1, seed}));
  CHECK(error_of(1) < cold);
  CHECK(error_of(2) < 0.25);
}

TEST_CASE("A graph of many parents and children runs to its end") {
  Graph made;
  made.name = "wide";
  made.types.push_back({"work"});
  for (std::uint32_t i = 0; i < 400; ++i)
    made.tasks.push_back({"t" + std::to_string(i), 0, 1.0, 0, {}, {}});
  SimTask end{"end", 0, 1.0, 0, {}, {}};
  for (std::uint32_t i = 0; i < 400; ++i) end.parents.push_back(i);
  made.tasks.push_back(end);
  const Platform on = platform("cpu:8");
  const auto run = Realisation::draw(made, on, {});
  REQUIRE(run);
  Study study(made, on);
  CHECK(study.run(*run, Method::core, "learned")->makespan_ns / 1e9 == doctest::Approx(51));
}

TEST_CASE("Tasks that are done after their deadline are counted") {
  const Graph made = chain(4);
  const Platform on = platform("cpu:1");
  const auto run = Realisation::draw(made, on, {});
  REQUIRE(run);
  Study study(made, on);
  CHECK(study.run(*run, Method::core, "edf", {9e9, 9e9, 2.5e9, 3.5e9})->deadline_misses == 2);
}

TEST_CASE("Devices are as many as were asked for, in memories of their own but for the processor") {
  const Platform on = platform("cpu:6@1.5,gpu:2@20,xla:1@50");
  REQUIRE(on.devices.size() == 4);
  CHECK(on.slots() == 9);
  CHECK(on.devices[0].memory == host_memory);
  CHECK(on.devices[1].memory != on.devices[2].memory);
  CHECK(on.devices[3].speed == 50);
  for (const char* bad :
       {"", "gpu", "gpu:", "gpu:0", "gpu:x", "gpu:1@", "gpu:1@0", "cpu:1000", "gpu:100", ":3"}) {
    const auto refused = parse_devices(bad);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == Code::invalid_argument);
  }
}

namespace {

/// A record of AIOS: a chain of tasks of a second each on cpu0, which has two threads.
nlohmann::json record_of(std::uint32_t tasks, std::uint32_t threads_of_each) {
  nlohmann::json specified = nlohmann::json::array(), executed = nlohmann::json::array();
  for (std::uint32_t i = 0; i < tasks; ++i) {
    const std::string id = "t" + std::to_string(i);
    specified.push_back({{"id", id}, {"name", "axpy"}, {"parents", nlohmann::json::array()}});
    executed.push_back({{"id", id},
                        {"runtimeInSeconds", 1.0},
                        {"machines", nlohmann::json::array({"cpu0"})},
                        {"coreCount", threads_of_each},
                        {"aios", {{"pinned", false}, {"transferInSeconds", 0.0}}}});
  }
  const nlohmann::json machine{{"nodeName", "cpu0"},
                               {"cpu", {{"coreCount", 2}}},
                               {"aios",
                                {{"kind", "cpu"},
                                 {"backend", "cpu"},
                                 {"openingInSeconds", 0.0},
                                 {"latencyInSeconds", 0.0},
                                 {"loadingInSeconds", nlohmann::json::object()}}}};
  return {{"name", "r"},
          {"schemaVersion", "1.5"},
          {"runtimeSystem", {{"name", "AIOS"}, {"version", "1"}}},
          {"workflow",
           {{"specification", {{"tasks", specified}, {"files", nlohmann::json::array()}}},
            {"execution",
             {{"makespanInSeconds", 9.0},
              {"machines", nlohmann::json::array({machine})},
              {"tasks", executed}}}}}};
}

nlohmann::json& execution(nlohmann::json& record) {
  return record["workflow"]["execution"];
}

double simulated_s(const nlohmann::json& record, const std::string& policy = "learned") {
  const auto read = parse_wfformat(record.dump(), "record");
  REQUIRE_MESSAGE(read, (read ? "" : read.error().message()));
  const Platform on = recorded_platform(*read);
  const auto run = Realisation::draw(*read, on, {});
  REQUIRE(run);
  Study study(*read, on);
  const auto outcome = study.run(*run, Method::core, policy);
  REQUIRE(outcome);
  CHECK(study.run(*run, Method::heft_true)->makespan_ns > 0);
  return outcome->makespan_ns / 1e9;
}

}  // namespace

TEST_CASE("Tasks of a record that keep all threads of their device busy run one after the other") {
  for (const char* policy : {"eager", "learned"}) {
    CHECK(simulated_s(record_of(6, 2), policy) == doctest::Approx(6));
    CHECK(simulated_s(record_of(6, 1), policy) == doctest::Approx(3));
  }
  // What is wide begins on the thread that is free, and the last when both of its are again.
  nlohmann::json mixed = record_of(3, 1);
  execution(mixed)["tasks"][1]["coreCount"] = 2;
  CHECK(simulated_s(mixed) == doctest::Approx(2.5));
}

TEST_CASE("What opened a context, loaded a module and copied data in a record does so again") {
  nlohmann::json record = record_of(4, 2);
  nlohmann::json& aios = execution(record)["machines"][0]["aios"];
  aios["openingInSeconds"] = 0.5;
  CHECK(simulated_s(record) == doctest::Approx(4.5));
  aios["loadingInSeconds"]["axpy"] = 0.25;
  CHECK(simulated_s(record) == doctest::Approx(4.75));
  aios["latencyInSeconds"] = 0.01;
  CHECK(simulated_s(record) == doctest::Approx(4.79));
  for (nlohmann::json& task : execution(record)["tasks"]) task["aios"]["transferInSeconds"] = 0.1;
  CHECK(simulated_s(record) == doctest::Approx(5.19));
  execution(record)["aios"]["preparationInSeconds"] = 0.3;
  CHECK(simulated_s(record) == doctest::Approx(5.49));
}

TEST_CASE("A device is busy for its copies, however brief its tasks, but for those made ahead") {
  constexpr std::uint32_t tasks = 100;
  // So brief that the core gives the device a thousand at once.
  nlohmann::json record = record_of(tasks, 2);
  for (nlohmann::json& task : execution(record)["tasks"]) {
    task["runtimeInSeconds"] = 1e-4;
    task["aios"]["transferInSeconds"] = 0.02;
  }
  nlohmann::json& aios = execution(record)["machines"][0]["aios"];
  for (const std::uint32_t depth : {0u, 1u}) {
    aios["queueDepth"] = depth;
    for (const char* policy : {"eager", "learned"})
      CHECK(simulated_s(record, policy) == doctest::Approx(tasks * 0.0201));
  }
  aios["latencyInSeconds"] = 0.001;
  CHECK(simulated_s(record) == doctest::Approx(tasks * 0.0211));
  aios["latencyInSeconds"] = 0.0;
  const auto copied_ahead = [&](double seconds) {
    for (nlohmann::json& task : execution(record)["tasks"])
      task["aios"]["aheadInSeconds"] = seconds;
    return simulated_s(record);
  };
  // Once at the beginning nothing runs meanwhile; then the longer one of both counts.
  CHECK(copied_ahead(0.005) == doctest::Approx(0.005 + tasks * 0.0151));
  CHECK(copied_ahead(0.015) == doctest::Approx(tasks * 0.015 + 0.0051));
  // Tasks that are not brief come to the device while one runs if its queue has a place for them.
  for (nlohmann::json& task : execution(record)["tasks"]) task["runtimeInSeconds"] = 0.01;
  CHECK(copied_ahead(0.005) == doctest::Approx(0.005 + tasks * 0.025));
  aios["queueDepth"] = 0;
  CHECK(copied_ahead(0.005) == doctest::Approx(tasks * 0.03));
}

TEST_CASE("Times of a record that make no sense are refused, and do not wrap around") {
  nlohmann::json record = record_of(3, 2);
  nlohmann::json& aios = execution(record)["machines"][0]["aios"];
  for (const char* name : {"openingInSeconds", "latencyInSeconds"}) aios[name] = 1e15;
  aios["loadingInSeconds"]["axpy"] = 1e15;
  for (nlohmann::json& task : execution(record)["tasks"]) task["runtimeInSeconds"] = 1e15;
  const auto read = parse_wfformat(record.dump(), "record");
  REQUIRE(read);
  const Platform on = recorded_platform(*read);
  const auto run = Realisation::draw(*read, on, {});
  REQUIRE(run);
  for (const char* policy : {"eager", "learned"}) {
    const auto outcome = Study(*read, on).run(*run, Method::core, policy);
    REQUIRE(!outcome);
    CHECK(outcome.error().code() == Code::invalid_argument);
    CHECK(outcome.error().message().starts_with("record would run for longer than 285 years"));
  }
}

TEST_CASE("A task of a record runs where it did if it had to, or where others of its type did") {
  nlohmann::json record = record_of(4, 2);
  nlohmann::json other = execution(record)["machines"][0];
  other["nodeName"] = "gpu1";
  other["aios"]["backend"] = "cuda";
  execution(record)["machines"].push_back(other);
  // None of them ever ran there.
  CHECK(simulated_s(record) == doctest::Approx(4));
  execution(record)["tasks"][3]["machines"] = nlohmann::json::array({"gpu1"});
  CHECK(simulated_s(record) == doctest::Approx(2));
  for (nlohmann::json& task : execution(record)["tasks"]) task["aios"]["pinned"] = true;
  CHECK(simulated_s(record) == doctest::Approx(3));
}

namespace {

/// The device in a record of AIOS, as cpu0 but for its name and backend.
void add_gpu(nlohmann::json& record, const char* name, bool first) {
  nlohmann::json& machines = execution(record)["machines"];
  nlohmann::json gpu = machines[0];
  gpu["nodeName"] = name;
  gpu["aios"]["backend"] = "cuda";
  machines.insert(first ? machines.begin() : machines.end(), gpu);
}

/// Of eight tasks the first is another's type, on a device of which the other record knows nothing;
/// the last must run on gpu1, the rest on cpu0, for three seconds.
nlohmann::json earlier_record() {
  nlohmann::json record = record_of(8, 2);
  add_gpu(record, "gpu1", true);
  add_gpu(record, "gpu7", true);
  record["workflow"]["specification"]["tasks"][0]["name"] = "scale";
  nlohmann::json& tasks = execution(record)["tasks"];
  for (nlohmann::json& task : tasks) {
    task["runtimeInSeconds"] = 3.0;
    task["aios"]["pinned"] = true;
  }
  tasks[0]["machines"] = nlohmann::json::array({"gpu7"});
  tasks[7]["machines"] = nlohmann::json::array({"gpu1"});
  return record;
}

}  // namespace

TEST_CASE("A record of other devices and types teaches what it says of those that are there too") {
  nlohmann::json record = record_of(4, 2);
  add_gpu(record, "gpu1", false);
  const auto here = parse_wfformat(record.dump(), "record");
  const auto earlier = parse_wfformat(earlier_record().dump(), "earlier");
  REQUIRE(here);
  REQUIRE(earlier);
  const Graph mapped = recorded_as(*here, *earlier);
  REQUIRE(mapped.tasks.size() == 8);
  CHECK(mapped.types.at(mapped.tasks[0].type).name == "scale");
  CHECK(mapped.tasks[0].device == not_recorded);
  CHECK_FALSE(mapped.tasks[0].pinned);
  for (std::size_t i = 1; i < 8; ++i) {
    CHECK(mapped.tasks[i].type == here->tasks[0].type);
    CHECK(mapped.tasks[i].device == (i < 7 ? 0 : 1));
    CHECK(mapped.tasks[i].pinned);
  }
  const Platform on = recorded_platform(*here);
  Study study(*here, on);
  REQUIRE(study.learn_from(*earlier, {}));
  const auto run = Realisation::draw(*here, on, {});
  REQUIRE(run);
  const auto outcome = study.run(*run, Method::core, "learned");
  REQUIRE(outcome);
  REQUIRE(!outcome->predictions.empty());
  CHECK(outcome->predictions[0].device == 0);
  CHECK(outcome->predictions[0].estimate.time.mean == doctest::Approx(3e9).epsilon(0.05));
  // Of six the first stood only until the second.
  CHECK(outcome->predictions[0].estimate.samples == 5);
}

TEST_CASE(
    "What took its time on a device that a record lacks teaches nothing of those that it has") {
  const auto here = parse_wfformat(record_of(2, 2).dump(), "record");
  REQUIRE(here);
  const auto predicted_after = [&](const nlohmann::json& earlier) {
    const Platform on = recorded_platform(*here);
    Study study(*here, on);
    REQUIRE(study.learn_from(*parse_wfformat(earlier.dump(), "earlier"), {}));
    const auto outcome = study.run(*Realisation::draw(*here, on, {}), Method::core, "learned");
    REQUIRE(outcome);
    return outcome->predictions.at(0).estimate;
  };
  // The same codelet took a hundredth of the time on a GPU.
  nlohmann::json earlier = record_of(6, 2);
  add_gpu(earlier, "gpu7", false);
  for (nlohmann::json& task : execution(earlier)["tasks"]) {
    task["runtimeInSeconds"] = 0.01;
    task["machines"] = nlohmann::json::array({"gpu7"});
  }
  CHECK(predicted_after(earlier).samples == 0);
  CHECK(predicted_after(earlier).level == Level::none);
  // Nor does one of the same name that is of another kind.
  for (nlohmann::json& task : execution(earlier)["tasks"])
    task["machines"] = nlohmann::json::array({"cpu0"});
  CHECK(predicted_after(earlier).time.mean == doctest::Approx(1e7).epsilon(0.05));
  execution(earlier)["machines"][0]["aios"]["backend"] = "cuda";
  CHECK(predicted_after(earlier).samples == 0);
}

TEST_CASE("Where a record's modules took long to load they do so in the terms of another") {
  nlohmann::json record = earlier_record();
  execution(record)["machines"][2]["aios"]["loadingInSeconds"]["axpy"] = 0.25;
  execution(record)["machines"][0]["aios"]["loadingInSeconds"]["scale"] = 0.5;
  const auto here = parse_wfformat(record_of(4, 2).dump(), "record");
  const auto earlier = parse_wfformat(record.dump(), "earlier");
  REQUIRE(here);
  REQUIRE(earlier);
  const Graph mapped = recorded_as(*here, *earlier);
  REQUIRE(mapped.loading_s.size() == 1);
  CHECK(mapped.loading_s.begin()->first == std::pair(mapped.tasks[1].type, 0u));
  CHECK(mapped.recorded_devices.size() == 1);
}

TEST_CASE("A record whose devices make no sense is refused with the place") {
  const auto refused = [](auto change) {
    nlohmann::json record = record_of(2, 1);
    change(execution(record));
    const auto read = parse_wfformat(record.dump(), "record");
    return read ? std::string() : read.error().message();
  };
  using Json = nlohmann::json;
  CHECK(refused([](Json&) {}).empty());
  CHECK(refused([](Json& e) { e["machines"][0].erase("nodeName"); }).find("machines[0]") !=
        std::string::npos);
  CHECK(refused([](Json& e) { e["machines"][0]["cpu"]["coreCount"] = 1e9; }).find("coreCount") !=
        std::string::npos);
  CHECK(refused([](Json& e) { e["machines"][0]["aios"]["backend"] = "abacus"; }).find("backend") !=
        std::string::npos);
  CHECK(refused([](Json& e) { e["machines"].push_back(e["machines"][0]); }).find("earlier") !=
        std::string::npos);
  CHECK(refused([](Json& e) {
          e["tasks"][1]["machines"] = Json::array({"cpu9"});
        }).find("tasks[1]") != std::string::npos);
  CHECK(refused([](Json& e) {
          e["machines"][0]["aios"]["loadingInSeconds"]["axpy"] = -1;
        }).find("loadingInSeconds") != std::string::npos);
  // A record of an earlier version names no devices.
  CHECK(refused([](Json& e) { e.erase("machines"); }).empty());
}

}  // namespace aios::scheduler::sim
