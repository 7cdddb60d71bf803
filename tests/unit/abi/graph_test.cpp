// Which task of a graph waits for which.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

#include "abi/include/aios/codelet.h"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_graph.hpp"

using namespace aios;

namespace {

using Record = TaskGraph::Record;

Record task(std::initializer_list<std::pair<std::uint32_t, std::uint32_t>> uses) {
  Record record = make_task(0, 0);
  for (const auto& [buffer, mode] : uses) add_buffer(record, buffer, mode);
  return record;
}

constexpr std::uint32_t R = AIOS_MODE_READ;
constexpr std::uint32_t W = AIOS_MODE_WRITE;
constexpr std::uint32_t RW = AIOS_MODE_READ_WRITE;
constexpr std::uint32_t S = AIOS_MODE_SCRATCH;

std::set<std::uint32_t> needs(const Record& record) {
  return {record.dependencies, record.dependencies + record.dependency_count};
}

using Set = std::set<std::uint32_t>;

}  // namespace

TEST_CASE("Readers wait for the writer before them, writers for all readers since") {
  TaskGraph graph;
  REQUIRE(graph.add(task({{1, W}})));          // 0
  REQUIRE(graph.add(task({{1, R}})));          // 1
  REQUIRE(graph.add(task({{1, R}, {2, W}})));  // 2
  REQUIRE(graph.add(task({{1, RW}})));         // 3
  REQUIRE(graph.add(task({{1, S}})));          // 4
  REQUIRE(graph.add(task({{2, R}, {1, R}})));  // 5
  const auto plan = graph.plan(100);
  REQUIRE(plan);
  REQUIRE(plan->records.size() == 6);
  for (std::uint32_t i = 0; i < 6; ++i) CHECK(plan->records[i].tag == 100 + i);
  CHECK(needs(plan->records[0]) == Set{});
  CHECK(needs(plan->records[1]) == Set{100});
  CHECK(needs(plan->records[2]) == Set{100});
  CHECK(needs(plan->records[3]) == Set{101, 102});
  CHECK(needs(plan->records[4]) == Set{103});
  CHECK(needs(plan->records[5]) == Set{102, 104});
}

TEST_CASE("A gang is made of tasks of the graph, each of one gang") {
  TaskGraph graph;
  for (std::uint32_t i = 0; i < 5; ++i) REQUIRE(graph.add(task({{i, W}})));
  REQUIRE(graph.add_gang(std::vector<std::uint32_t>{3, 1}));
  REQUIRE(graph.add_gang(std::vector<std::uint32_t>{0, 2}));
  for (const std::vector<std::uint32_t>& wrong :
       {std::vector<std::uint32_t>{4}, {4, 4}, {4, 5}, {4, 3}, std::vector<std::uint32_t>(257)}) {
    const auto refused = graph.add_gang(wrong);
    REQUIRE(!refused);
    CHECK(refused.error().code() == Code::invalid_argument);
  }
  const auto plan = graph.plan(0);
  REQUIRE(plan);
  for (const std::uint32_t member : {1, 3}) {
    const Record& record = plan->records[plan->position[member]];
    CHECK((record.flags & proto::scheduler::task_flag::gang) != 0);
    CHECK((record.gang == 0 && record.gang_size == 2));
  }
  CHECK(plan->records[plan->position[2]].gang == 1);
  CHECK((plan->records[plan->position[4]].flags & proto::scheduler::task_flag::gang) == 0);
  Record by_hand = task({});
  by_hand.gang_size = 2;
  CHECK(graph.add(by_hand).error().code() == Code::invalid_argument);
}

TEST_CASE("Edges may lead from later tasks to earlier ones, but not in a circle") {
  TaskGraph graph;
  for (int i = 0; i < 4; ++i) REQUIRE(graph.add(task({})));
  REQUIRE(graph.add_edge(3, 1));
  REQUIRE(graph.add_edge(1, 0));
  const auto plan = graph.plan(1);
  REQUIRE(plan);
  CHECK(plan->position == std::vector<std::uint32_t>{3, 2, 0, 1});
  CHECK(needs(plan->records[3]) == Set{3});
  CHECK(needs(plan->records[2]) == Set{2});
  CHECK(graph.add_edge(0, 4).error().code() == Code::invalid_argument);
  REQUIRE(graph.add_edge(0, 3));
  const auto circle = graph.plan(1);
  REQUIRE(!circle);
  CHECK(circle.error().code() == Code::invalid_argument);
  CHECK(circle.error().message().find("circle: 0 before 3 before 1 before 0") != std::string::npos);
}

TEST_CASE("A long circle is found and named without looking at its tasks again and again") {
  TaskGraph graph;
  constexpr std::uint32_t tasks = 600'000;
  for (std::uint32_t i = 0; i < tasks; ++i) REQUIRE(graph.add(task({})));
  for (std::uint32_t i = 0; i < tasks; ++i) REQUIRE(graph.add_edge(i, (i + 1) % tasks));
  const auto circle = graph.plan(1);
  REQUIRE(!circle);
  CHECK(
      circle.error().message().ends_with("circle: 0 before 1 before 2 before 3 before 4 before 5 "
                                         "before 6 before 7 before 8 ... 0"));
}

TEST_CASE("A task may wait for itself only in vain") {
  TaskGraph graph;
  REQUIRE(graph.add(task({})));
  REQUIRE(graph.add_edge(0, 0));
  CHECK(graph.plan(1).error().code() == Code::invalid_argument);
}

TEST_CASE("Who waits for more than twelve tasks waits for joins") {
  TaskGraph graph;
  constexpr std::uint32_t readers = 40;
  REQUIRE(graph.add(task({{1, W}})));
  for (std::uint32_t i = 0; i < readers; ++i) REQUIRE(graph.add(task({{1, R}})));
  const auto last = graph.add(task({{1, W}}));
  REQUIRE(last);
  const auto plan = graph.plan(0);
  REQUIRE(plan);
  // What the last one waits for, through joins, are all readers.
  Set waits_for;
  std::vector<std::uint32_t> open{plan->position[*last]};
  while (!open.empty()) {
    const Record& record = plan->records[open.back()];
    open.pop_back();
    for (const std::uint32_t tag : needs(record)) {
      CHECK(tag < record.tag);
      if ((plan->records[tag].flags & proto::scheduler::task_flag::join) != 0)
        open.push_back(tag);
      else
        waits_for.insert(tag);
    }
  }
  CHECK(waits_for.size() == readers);
  CHECK(!waits_for.contains(0));
}

TEST_CASE("Modes that contradict each other in one task are refused, readings are not") {
  TaskGraph graph;
  CHECK(graph.add(task({{1, R}, {1, W}})).error().code() == Code::invalid_argument);
  CHECK(graph.add(task({{1, S}, {1, S}})).error().code() == Code::invalid_argument);
  CHECK(graph.add(task({{1, 6}})).error().code() == Code::invalid_argument);
  CHECK(graph.add(task({{1, mode_redux}})).error().code() == Code::invalid_argument);
  CHECK(graph.size() == 0);
  CHECK(graph.add(task({{1, R}, {1, R}})));
}

TEST_CASE("Reducing tasks use partial buffers at the same time, and what follows their sum") {
  TaskGraph graph;
  const std::uint32_t partials[] = {11, 12};
  constexpr std::uint32_t zero = 7, sum = 8;
  REQUIRE(graph.set_reduction(1, partials, zero, sum));
  REQUIRE(graph.add(task({{1, W}})));
  std::vector<std::uint32_t> adders;
  for (int i = 0; i < 4; ++i) adders.push_back(*graph.add(task({{1, mode_redux}})));
  const auto reader = graph.add(task({{1, R}}));
  REQUIRE(reader);
  const auto plan = graph.plan(0);
  REQUIRE(plan);
  const auto at = [&](std::uint32_t task) -> const Record& {
    return plan->records[plan->position[task]];
  };
  // Each partial is initialised once, then added to by every other task.
  CHECK(at(adders[0]).buffers[0] == (11 | RW << 28));
  CHECK(at(adders[1]).buffers[0] == (12 | RW << 28));
  CHECK(at(adders[2]).buffers[0] == (11 | RW << 28));
  CHECK(needs(at(adders[2])) == Set{static_cast<std::uint32_t>(at(adders[0]).tag)});
  std::uint32_t initialised = 0, combined = 0;
  for (const Record& record : plan->records) {
    initialised += record.codelet == zero ? 1 : 0;
    if (record.codelet != sum) continue;
    ++combined;
    CHECK(record.buffers[0] == (1 | RW << 28));
    CHECK(record.tag < at(*reader).tag);
  }
  CHECK(initialised == 2);
  CHECK(combined == 2);
  CHECK(needs(at(*reader)) == Set{static_cast<std::uint32_t>(at(*reader).tag - 1)});
}

TEST_CASE("A reduction that nobody reads is completed all the same") {
  TaskGraph graph;
  const std::uint32_t partials[] = {11};
  REQUIRE(graph.set_reduction(1, partials, 7, 8));
  REQUIRE(graph.add(task({{1, mode_redux}})));
  const auto plan = graph.plan(0);
  REQUIRE(plan);
  REQUIRE(plan->records.size() == 3);
  CHECK(plan->records.back().codelet == 8);
  CHECK(graph.set_reduction(1, {}, 7, 8).error().code() == Code::invalid_argument);
  const std::uint32_t itself[] = {1};
  CHECK(graph.set_reduction(1, itself, 7, 8).error().code() == Code::invalid_argument);
}
