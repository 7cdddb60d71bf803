// When trees are trained, what they are trained from and judged by, and when they are promoted.
#include "services/scheduler/trainer/training.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace aios::scheduler::trainer {
namespace {

/// Notes what it was asked, and answers with one leaf.
class OneLeaf final : public Booster {
 public:
  explicit OneLeaf(float value) : value_(value) {}
  std::string name() const override { return "one leaf"; }
  Result<Forest> fit(std::span<const TreeFeatures> given, std::span<const float> margins,
                     std::span<const float> labels, const std::function<bool()>& stop) override {
    if (fails) return error(Code::internal, "it cannot");
    if (stop()) return error(Code::cancelled, "stopped");
    rows.assign(given.begin(), given.end());
    residuals.clear();
    for (std::size_t i = 0; i < labels.size(); ++i) residuals.push_back(labels[i] - margins[i]);
    return Forest{{0}, {{value_, TreeNode::leaf, 0}}};
  }
  bool fails = false;
  std::vector<TreeFeatures> rows;
  std::vector<float> residuals;

 private:
  float value_;
};

bool never() {
  return false;
}

/// Runs on a line over bytes, of which nothing but a constant was predicted.
KeyRuns runs_on_a_line(std::size_t count, float told) {
  KeyRuns key{{{1, 1000, "work"}, "cpu", false}, {}};
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = static_cast<float>(5 + (i * 37 % 101) / 20.0);
    key.runs.push_back({{x, 1}, 2 * x + 3, told});
  }
  return key;
}

}  // namespace

TEST_CASE("A line through runs is found again, and stays flat where nothing varies") {
  const auto line = fit_line(runs_on_a_line(60, 0).runs);
  CHECK(line[0] == doctest::Approx(3).epsilon(0.05));
  CHECK(line[1] == doctest::Approx(2).epsilon(0.01));
  CHECK(line[2] == doctest::Approx(0));
}

TEST_CASE("The latest runs judge, and none of them trains") {
  OneLeaf booster(0);
  const KeyRuns key = runs_on_a_line(80, 10);
  const TrainedKey trained = train(key, booster, never);
  CHECK(trained.report.trained == 60);
  CHECK(trained.report.held_out == 20);
  REQUIRE(booster.rows.size() == 60);
  for (std::size_t i = 0; i < 60; ++i) CHECK(booster.rows[i] == key.runs[i].features);
}

TEST_CASE("Trees that predict better than what was told are promoted") {
  OneLeaf booster(0);
  const TrainedKey trained = train(runs_on_a_line(80, 10), booster, never);
  CHECK(trained.report.verdict == TreesVerdict::promoted);
  REQUIRE(trained.trees != nullptr);
  CHECK(trained.trees->predict({6, 1}) == doctest::Approx(15).epsilon(0.01));
  CHECK(trained.report.trees_mdape < 0.05);
  CHECK(trained.report.told_mdape > 0.5);
}

TEST_CASE("Trees that predict worse than what was told are not promoted, and not handed on") {
  OneLeaf booster(0.5F);
  KeyRuns key = runs_on_a_line(80, 0);
  for (FirstRun& run : key.runs) run.told = run.y + 0.1F;
  const TrainedKey trained = train(key, booster, never);
  CHECK(trained.report.verdict == TreesVerdict::no_better);
  CHECK(trained.trees == nullptr);
  CHECK(trained.report.told_mdape == doctest::Approx(std::exp(0.1) - 1).epsilon(0.01));
}

TEST_CASE("An outlier trains as a residual of a factor of seven, not more") {
  OneLeaf booster(0);
  KeyRuns key = runs_on_a_line(80, 10);
  key.runs[5].y = 60;
  train(key, booster, never);
  CHECK(booster.residuals[5] == 2);
}

TEST_CASE("A gain that chance would give is not enough") {
  std::vector<Judged> lucky, sure;
  for (int i = 0; i < 20; ++i) {
    // Better by 0.1 in the mean and in the median, but now much better and now worse.
    const float told = i % 5 < 3 ? 0.8F : 0.0F;
    lucky.push_back({i % 5 < 3 ? 0.3F : 0.6F, told, 0});
    sure.push_back({0.3F, 0.4F, 0});
  }
  CHECK(judge(lucky).verdict == TreesVerdict::no_better);
  CHECK(judge(sure).verdict == TreesVerdict::promoted);
  CHECK(judge(sure).trees_error == doctest::Approx(0.3));
  // Both are equally wrong.
  CHECK(judge(std::vector<Judged>(20, {0.3F, 0.3F, 0})).verdict == TreesVerdict::no_better);
}

TEST_CASE("A better mean with a worse median is not enough") {
  std::vector<Judged> runs;
  for (int i = 0; i < 40; ++i)
    runs.push_back(i % 4 == 0 ? Judged{0.0F, 2.0F, 0} : Judged{0.25F, 0.2F, 0});
  const TreesReport report = judge(runs);
  CHECK(report.trees_error < report.told_error);
  CHECK(report.verdict == TreesVerdict::no_better);
}

TEST_CASE("Too few runs, runs without variation and late ones are told as such") {
  OneLeaf booster(0);
  CHECK(train(runs_on_a_line(63, 10), booster, never).report.verdict == TreesVerdict::too_few);
  CHECK(booster.rows.empty());
  KeyRuns same = runs_on_a_line(80, 10);
  for (FirstRun& run : same.runs) run.features = {1, 1};
  CHECK(train(same, booster, never).report.verdict == TreesVerdict::no_variation);
  KeyRuns constant = runs_on_a_line(80, 10);
  for (FirstRun& run : constant.runs) run.y = 7;
  CHECK(train(constant, booster, never).report.verdict == TreesVerdict::no_variation);
  CHECK(booster.rows.empty());
  const TrainedKey late = train(runs_on_a_line(80, 10), booster, [] { return true; });
  CHECK(late.report.verdict == TreesVerdict::out_of_time);
  CHECK(late.trees == nullptr);
  booster.fails = true;
  CHECK(train(runs_on_a_line(80, 10), booster, never).report.verdict == TreesVerdict::failed);
}

}  // namespace aios::scheduler::trainer
