// Trees from XGBoost: they say what XGBoost itself would say.
#include "services/scheduler/trainer/xgboost.hpp"

#include <doctest/doctest.h>
#include <xgboost/c_api.h>

#include <algorithm>
#include <limits>
#include <random>

#include "services/scheduler/trainer/training.hpp"

namespace aios::scheduler::trainer {
namespace {

/// Times that jump with the size and with what is written of it.
KeyRuns jumping_runs(std::size_t count, double noise) {
  KeyRuns key{{{1, 1000, "work"}, "cpu", false}, {}};
  std::mt19937_64 random(3);
  std::uniform_real_distribution<float> any(8, 20);
  std::normal_distribution<float> chance(0, static_cast<float>(noise));
  for (std::size_t i = 0; i < count; ++i) {
    const float bytes = any(random), blocks = any(random) / 4, written = any(random);
    const float y = 4 + 0.8F * bytes + (bytes > 14 ? 2.5F : 0) - (written > 12 ? 1.2F : 0);
    key.runs.push_back({{bytes, blocks, bytes - 1, written, bytes - 2, 3}, y + chance(random), 15});
  }
  return key;
}

std::unique_ptr<Booster> library() {
  auto loaded = load_xgboost();
  REQUIRE_MESSAGE(loaded, loaded.error().to_string());
  return *std::move(loaded);
}

bool never() {
  return false;
}

/// What XGBoost, trained from the same rows, predicts for others.
std::vector<float> own_predictions(const std::vector<FirstRun>& train_on,
                                   const std::vector<FirstRun>& ask) {
  const auto line = fit_line(train_on);
  const auto matrix_of = [&](const std::vector<FirstRun>& runs) {
    std::vector<TreeFeatures> rows;
    std::vector<float> margins, labels;
    for (const FirstRun& run : runs) {
      rows.push_back(run.features);
      margins.push_back(line_at(line, run.features));
      labels.push_back(margins.back() + std::clamp(run.y - margins.back(), -2.0F, 2.0F));
    }
    DMatrixHandle matrix = nullptr;
    REQUIRE(XGDMatrixCreateFromMat(rows.front().data(), rows.size(), tree_features,
                                   std::numeric_limits<float>::quiet_NaN(), &matrix) == 0);
    REQUIRE(XGDMatrixSetFloatInfo(matrix, "base_margin", margins.data(), margins.size()) == 0);
    REQUIRE(XGDMatrixSetFloatInfo(matrix, "label", labels.data(), labels.size()) == 0);
    return matrix;
  };
  DMatrixHandle trained = matrix_of(train_on), asked = matrix_of(ask);
  BoosterHandle booster = nullptr;
  REQUIRE(XGBoosterCreate(&trained, 1, &booster) == 0);
  for (const auto& [name, value] : xgboost_parameters())
    REQUIRE(XGBoosterSetParam(booster, name, value) == 0);
  for (int round = 0; round < xgboost_rounds; ++round)
    REQUIRE(XGBoosterUpdateOneIter(booster, round, trained) == 0);
  bst_ulong length = 0;
  const float* out = nullptr;
  REQUIRE(XGBoosterPredict(booster, asked, 0, 0, 0, &length, &out) == 0);
  std::vector<float> predictions(out, out + length);
  XGBoosterFree(booster);
  XGDMatrixFree(trained);
  XGDMatrixFree(asked);
  return predictions;
}

}  // namespace

TEST_CASE("Trees say what XGBoost's own prediction says") {
  const auto booster = library();
  const KeyRuns key = jumping_runs(400, 0.2);
  const std::vector<FirstRun> early(key.runs.begin(), key.runs.begin() + 300);
  const std::vector<FirstRun> late(key.runs.begin() + 300, key.runs.end());
  const TrainedKey trained = train(key, *booster, never);
  REQUIRE(trained.report.verdict == TreesVerdict::promoted);
  REQUIRE(trained.trees->parts().roots.size() == xgboost_rounds);
  const std::vector<float> own = own_predictions(early, late);
  REQUIRE(own.size() == late.size());
  for (std::size_t i = 0; i < late.size(); ++i)
    CHECK(trained.trees->predict(late[i].features) == doctest::Approx(own[i]).epsilon(1e-4));
}

TEST_CASE("Trees learn jumps that no line has, from a hundred runs") {
  const auto booster = library();
  const TrainedKey trained = train(jumping_runs(130, 0.05), *booster, never);
  CHECK(trained.report.trees_mdape < 0.3);
  REQUIRE(trained.trees != nullptr);
  const auto of = [&](float bytes) {
    return trained.trees->predict({bytes, 3, bytes - 1, 10, bytes - 2, 3});
  };
  // The line rises by 0.4 between the two, the jump is 2.5.
  CHECK(of(14.25F) - of(13.75F) > 1.5);
}

TEST_CASE("The same runs give the same trees") {
  const auto booster = library();
  const KeyRuns key = jumping_runs(200, 0.2);
  CHECK(write_trained({train(key, *booster, never)}) ==
        write_trained({train(key, *booster, never)}));
}

TEST_CASE("A training that is stopped ends in the middle") {
  const auto booster = library();
  int asked = 0;
  const TrainedKey trained = train(jumping_runs(200, 0.2), *booster, [&] { return ++asked == 3; });
  CHECK(trained.report.verdict == TreesVerdict::out_of_time);
  CHECK(asked == 3);
}

TEST_CASE("Without the library the reason and the remedy are told") {
  const auto loaded = load_xgboost("libxgboost-that-is-not-there.so");
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().code() == Code::not_supported);
  CHECK(loaded.error().message().find("apt-get install libxgboost0") != std::string::npos);
}

}  // namespace aios::scheduler::trainer
