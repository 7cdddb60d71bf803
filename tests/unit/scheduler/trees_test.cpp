// Boosted trees: which are refused, what they say, when they speak, and that they outlive restarts.
#include "services/scheduler/costs/trees.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "services/scheduler/costs/history_record.hpp"
#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/costs/trees_record.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId cpu = 0;
constexpr std::uint64_t hash = 77;
const CodeletKey work_key{hash, 1000, "work"};
const TreesKey time_key{work_key, "cpu of here", false};

/// Below ln 1000 bytes `small`, else `large`, on a line that says 0.
BoostedTrees::Parts step(float small, float large) {
  return {{0, 0, 0},
          std::min(small, large),
          std::max(small, large),
          {0},
          {{std::log(1000.0F), 0, 1}, {small, TreeNode::leaf, 0}, {large, TreeNode::leaf, 0}}};
}

TrainedKey promoted(float small, float large, float trees_error = 0.05F, float told_error = 0.5F) {
  TreesReport report{60, 20, 0.05F, 0.4F, trees_error, told_error, TreesVerdict::promoted};
  return {time_key, report,
          std::make_shared<const BoostedTrees>(BoostedTrees::create(step(small, large)).value())};
}

struct Rig {
  Rig() {
    costs.set_device(cpu, {.name = "cpu0", .backend = 1, .identity = "cpu of here"});
    codelet = costs.open_codelet(work_key, {});
  }
  WorkId size(double bytes) {
    return costs.work(codelet, {static_cast<std::uint64_t>(bytes), bytes, 1});
  }
  void run(double bytes, double time_ns) { costs.learn({size(bytes), cpu, time_ns, 0}); }
  Estimate of(double bytes) { return costs.estimate(size(bytes), cpu); }
  LearnedCosts costs;
  CodeletId codelet = 0;
};

/// Times that do not depend on sizes as a line does.
double jagged(double bytes) {
  return bytes < 1000 ? 1e6 : 5e4;
}

void run_sizes(Rig& rig, int from, int to) {
  for (int i = from; i < to; ++i) {
    const double bytes = 101 + 5 * ((i * 7919) % 997);
    rig.run(bytes, jagged(bytes));
  }
}

bool is_refused(BoostedTrees::Parts parts) {
  const auto made = BoostedTrees::create(std::move(parts));
  return !made && made.error().code() == Code::corrupt;
}

}  // namespace

TEST_CASE("Trees say the sum of their line and of one leaf of each") {
  BoostedTrees::Parts parts = step(1, 2);
  parts.line = {0.5F, 0, 0.25F};
  parts.roots = {0, 0};
  parts.lowest = -10, parts.highest = 10;
  const BoostedTrees trees = BoostedTrees::create(parts).value();
  const float blocks = std::log(8.0F);
  CHECK(trees.predict({std::log(999.0F), blocks}) == doctest::Approx(0.5 + 0.25 * blocks + 2));
  CHECK(trees.predict({std::log(1000.0F), blocks}) == doctest::Approx(0.5 + 0.25 * blocks + 4));
}

TEST_CASE("Trees do not run away beyond what they learned from") {
  BoostedTrees::Parts parts = step(1, 2);
  parts.line = {0, 5, 0};
  const BoostedTrees trees = BoostedTrees::create(parts).value();
  CHECK(trees.predict({1000}) == 2 + 3);
  CHECK(trees.predict({-1000}) == 1 - 3);
}

TEST_CASE("Trees that lead nowhere, in circles, too deep, or to no number are refused") {
  const BoostedTrees::Parts good = step(1, 2);
  REQUIRE(BoostedTrees::create(good));
  const float wrong[] = {std::numeric_limits<float>::quiet_NaN(),
                         std::numeric_limits<float>::infinity(), 1e30F};
  for (const float value : wrong) {
    for (std::size_t i = 0; i < 3; ++i) {
      BoostedTrees::Parts bad = good;
      bad.nodes[i].value = value;
      CHECK(is_refused(bad));
      bad = good;
      bad.line[i] = value;
      CHECK(is_refused(bad));
    }
    BoostedTrees::Parts bad = good;
    bad.highest = value;
    CHECK(is_refused(bad));
  }
  for (const std::uint16_t below : {std::uint16_t{0}, std::uint16_t{2}, std::uint16_t{0xFFFF}}) {
    BoostedTrees::Parts bad = good;
    bad.nodes[0].below = below;
    CHECK(is_refused(bad));
  }
  BoostedTrees::Parts bad = good;
  bad.nodes[0].feature = tree_features;
  CHECK(is_refused(bad));
  bad = good;
  bad.nodes[1].below = 2;
  CHECK(is_refused(bad));
  bad = good;
  bad.roots = {3};
  CHECK(is_refused(bad));
  bad = good;
  bad.roots = {};
  CHECK(is_refused(bad));
  bad = good;
  bad.roots.assign(max_trees + 1, 0);
  CHECK(is_refused(bad));
  bad = good;
  bad.nodes.resize(max_tree_nodes + 1, {0, TreeNode::leaf, 0});
  CHECK(is_refused(bad));
  bad = good;
  std::swap(bad.lowest, bad.highest);
  CHECK(is_refused(bad));
}

TEST_CASE("A tree may be as deep as the limit, and not deeper") {
  // The second of each pair is the node below which the next pair lies.
  const auto chain = [](std::uint32_t depth) {
    BoostedTrees::Parts parts{{0, 0, 0}, 0, 1, {0}, {{0, 0, 1}}};
    for (std::uint32_t i = 1; i <= depth; ++i) {
      parts.nodes.push_back({1, TreeNode::leaf, 0});
      const bool last = i == depth;
      parts.nodes.push_back({1, last ? TreeNode::leaf : std::uint16_t{0},
                             static_cast<std::uint16_t>(last ? 0 : 2 * i + 1)});
    }
    return parts;
  };
  CHECK(BoostedTrees::create(chain(max_tree_depth)));
  CHECK(is_refused(chain(max_tree_depth + 1)));
}

TEST_CASE("What came of a training is the same after it was written and read") {
  const std::vector<TrainedKey> keys{promoted(1, 2),
                                     {{work_key, "gpu 7", true},
                                      {50, 20, 0.5F, 0.4F, 1, 0.75F, TreesVerdict::no_better},
                                      nullptr}};
  const auto read = read_trained(write_trained(keys));
  REQUIRE(read);
  REQUIRE(read->size() == 2);
  CHECK((*read)[0].key == keys[0].key);
  CHECK((*read)[0].trees->predict({8}) == keys[0].trees->predict({8}));
  CHECK((*read)[1].key == keys[1].key);
  CHECK((*read)[1].report.told_error == 0.75F);
  CHECK((*read)[1].trees == nullptr);
}

TEST_CASE("Damaged, cut and extended records of trees and runs are refused, and nonsense") {
  const auto trees = write_trained({promoted(1, 2)});
  const auto runs = write_runs({{time_key, {{{1, 2, 3}, 4, 5}, {{2, 3, 4}, 5, 6}}}});
  REQUIRE(read_runs(runs));
  REQUIRE((*read_runs(runs))[0].runs[1].told == 6);
  CHECK_FALSE(read_runs(trees));
  CHECK_FALSE(read_trained(runs));
  for (const bool of_trees : {true, false}) {
    const auto& record = of_trees ? trees : runs;
    const auto is_read = [&](std::span<const std::byte> bytes) {
      return of_trees ? read_trained(bytes).has_value() : read_runs(bytes).has_value();
    };
    for (std::size_t at = 0; at < record.size(); ++at) {
      auto damaged = record;
      damaged[at] ^= std::byte{0x10};
      CHECK_FALSE(is_read(damaged));
    }
    for (std::size_t length = 0; length < record.size(); ++length)
      CHECK_FALSE(is_read(std::span(record).first(length)));
    auto extended = record;
    extended.push_back(std::byte{0});
    CHECK_FALSE(is_read(extended));
  }
  auto foreign = trees;
  foreign[8] = std::byte{99};
  CHECK(read_trained(foreign).error().code() == Code::version_mismatch);
  for (int what = 0; what < 4; ++what) {
    TrainedKey wrong = promoted(1, 2);
    if (what == 0) wrong.key.codelet.module_hash = 0;
    if (what == 1) wrong.report.trees_error = std::nanf("");
    if (what == 2) wrong.report.verdict = TreesVerdict::no_better;
    if (what == 3) wrong.trees = nullptr;
    CHECK(read_trained(write_trained({wrong})).error().code() == Code::corrupt);
  }
  CHECK_FALSE(read_runs(write_runs({{time_key, {{{std::nanf("")}, 4, 5}}}})));
  CHECK_FALSE(read_runs(
      write_runs({{time_key, std::vector<FirstRun>(max_first_runs + 1, FirstRun{{1}, 2, 3})}})));
  CHECK_FALSE(
      read_trained(write_trained(std::vector<TrainedKey>(max_trained_keys + 1, promoted(1, 2)))));
}

TEST_CASE("A training is due when enough sizes have run, and when they have grown by a quarter") {
  Rig rig;
  run_sizes(rig, 0, least_first_runs - 1);
  CHECK_FALSE(rig.costs.training_due());
  // A size that ran before is none of them.
  run_sizes(rig, 0, 10);
  CHECK_FALSE(rig.costs.training_due());
  run_sizes(rig, least_first_runs - 1, least_first_runs);
  REQUIRE(rig.costs.training_due());
  const auto keys = rig.costs.take_training(8);
  REQUIRE(keys.size() == 1);
  CHECK(keys[0].key == time_key);
  REQUIRE(keys[0].runs.size() == least_first_runs);
  // In the order of time, with what was predicted before the outcome was known.
  CHECK(keys[0].runs[0].y == doctest::Approx(std::log(jagged(101))));
  CHECK(keys[0].runs[0].told == doctest::Approx(std::log(1e6)));
  CHECK_FALSE(rig.costs.training_due());
  run_sizes(rig, least_first_runs, least_first_runs * 5 / 4 - 1);
  CHECK_FALSE(rig.costs.training_due());
  run_sizes(rig, least_first_runs * 5 / 4 - 1, least_first_runs * 5 / 4);
  CHECK(rig.costs.training_due());
}

TEST_CASE("More keys than one training takes are due at once again") {
  Rig rig;
  for (int i = 0; i < 70; ++i) rig.costs.learn({rig.size(100 + i), cpu, 1e6, 4096.0 + i});
  CHECK(rig.costs.take_training(1).size() == 1);
  REQUIRE(rig.costs.training_due());
  const auto second = rig.costs.take_training(1);
  REQUIRE(second.size() == 1);
  CHECK(second[0].key.memory);
  CHECK_FALSE(rig.costs.training_due());
}

TEST_CASE("Promoted trees speak for sizes that never ran, and for no others") {
  Rig rig;
  run_sizes(rig, 0, 70);
  CHECK(rig.of(5000).level == Level::regression);
  REQUIRE(rig.costs.adopt(promoted(std::log(1e6F), std::log(5e4F)), true));
  CHECK(rig.of(5000).level == Level::boosted);
  CHECK(rig.of(5000).time.mean == doctest::Approx(5e4).epsilon(0.01));
  CHECK(rig.of(500).time.mean == doctest::Approx(1e6).epsilon(0.01));
  CHECK(rig.of(5000).time.p95 > rig.of(5000).time.mean);
  rig.run(5000, 7e4);
  CHECK(rig.of(5000).level == Level::history);
  CHECK(rig.costs.trees_state(time_key).speak);
  CHECK(rig.costs.trees_state(time_key).runs == 1);
}

TEST_CASE("Trees that are not promoted do not speak, and those that were are gone") {
  Rig rig;
  run_sizes(rig, 0, 70);
  REQUIRE(rig.costs.adopt(promoted(std::log(1e6F), std::log(5e4F)), true));
  REQUIRE(rig.of(5000).level == Level::boosted);
  TrainedKey worse{time_key, {60, 20, 0.5F, 0.4F, 0.6F, 0.5F, TreesVerdict::no_better}, nullptr};
  REQUIRE(rig.costs.adopt(worse, true));
  CHECK(rig.of(5000).level == Level::regression);
}

TEST_CASE("Trees that err more than what speaks without them are silent until they do not") {
  Rig rig;
  for (int i = 0; i < 70; ++i) rig.run(2000 + 50 * i, 10.0 * (2000 + 50 * i));
  REQUIRE(rig.costs.adopt(promoted(std::log(1e6F), std::log(1e6F)), true));
  REQUIRE(rig.of(1e5).level == Level::boosted);
  // The trend is right about these, and the trees are not.
  int runs = 0;
  while (rig.of(1e5).level == Level::boosted) {
    const double bytes = 6000 + 100 * runs;
    rig.run(bytes, 10 * bytes);
    REQUIRE(++runs < 12);
  }
  CHECK(rig.of(1e5).level == Level::regression);
  CHECK_FALSE(rig.costs.trees_state(time_key).speak);
  // Later they are right, and the trend is not.
  runs = 0;
  while (rig.of(1e5).level == Level::regression) {
    rig.run(20'000 + 10.0 * runs, 1e6);
    REQUIRE(++runs < 100);
  }
  CHECK(rig.of(1e5).level == Level::boosted);
}

TEST_CASE("Trees of another codelet, user or device are not adopted") {
  Rig rig;
  run_sizes(rig, 0, 70);
  TrainedKey trained = promoted(1, 2);
  trained.key.device = "cpu of there";
  CHECK_FALSE(rig.costs.adopt(trained, true));
  trained = promoted(1, 2);
  trained.key.codelet.user = 1001;
  CHECK_FALSE(rig.costs.adopt(trained, true));
  CHECK(rig.of(5000).level == Level::regression);
}

TEST_CASE("After a restart trees are judged by what they erred before, and trained no sooner") {
  Rig before;
  run_sizes(before, 0, 70);
  const TrainedKey trained = promoted(std::log(3e6F), std::log(3e6F));
  REQUIRE(before.costs.adopt(trained, true));
  // They are off by a lot, more than the trend.
  run_sizes(before, 70, 79);
  REQUIRE_FALSE(before.costs.trees_state(time_key).speak);
  const auto saved = read_history(write_history(before.costs.save(max_history_bytes), {}));
  REQUIRE(saved);
  for (const bool trees_first : {false, true}) {
    Rig after;
    if (trees_first) after.costs.adopt(trained, false);
    after.costs.restore(saved->costs);
    REQUIRE(after.costs.adopt(trained, false));
    CHECK_FALSE(after.costs.trees_state(time_key).speak);
    after.run(1e7, 1e6);
    CHECK_FALSE(after.costs.training_due());
    for (int i = 0; i < 30; ++i) after.run(2e7 + i, 1e6);
    REQUIRE(after.costs.training_due());
    const auto keys = after.costs.take_training(8);
    REQUIRE(keys.size() == 1);
    // The early ones are there, and come before the later ones.
    CHECK(keys[0].runs.size() == 79 + 31);
    CHECK(keys[0].runs[0].y == doctest::Approx(std::log(jagged(101))));
  }
}

}  // namespace aios::scheduler
