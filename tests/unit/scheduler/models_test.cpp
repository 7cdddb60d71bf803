// The worked example of services/scheduler/MODELS.md, computed again.
#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <string>

#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/costs/cost_models.hpp"

namespace aios::scheduler {
namespace {

/// The rows "| what | value |" of the page.
std::map<std::string, std::string> rows() {
  std::map<std::string, std::string> found;
  std::ifstream page(AIOS_MODELS);
  for (std::string line; std::getline(page, line);) {
    const std::size_t middle = line.find(" | ", 2);
    if (!line.starts_with("| ") || middle == std::string::npos || !line.ends_with(" |")) continue;
    found[line.substr(2, middle - 2)] = line.substr(middle + 3, line.size() - middle - 5);
  }
  return found;
}

class Page {
 public:
  /// As the page prints it.
  void says(const std::string& what, double value) {
    REQUIRE_MESSAGE(rows_.contains(what), what);
    const std::string printed = rows_.at(what);
    const auto decimals = static_cast<int>(printed.size() - printed.find('.') - 1);
    CHECK_MESSAGE(std::abs(std::stod(printed) - value) <= 0.51 * std::pow(10, -decimals), what);
    rows_.erase(what);
  }
  std::size_t left() const { return rows_.size(); }

 private:
  std::map<std::string, std::string> rows_ = rows();
};

}  // namespace

TEST_CASE("The worked example of MODELS.md is what the models compute") {
  Page page;
  History history;
  history.learn(std::log(20.0));
  history.learn(std::log(10.0));
  page.says("history m after 20 and 10 ms", history.mean());
  history.learn(std::log(8.0));
  page.says("history m after 8 ms", history.mean());
  page.says("history v after 8 ms", history.variance());
  history.learn(std::log(9.0));
  history.learn(std::log(12.0));
  page.says("history m after 12 ms", history.mean());
  page.says("history v after 12 ms", history.variance());
  page.says("predictive deviation", history.predictive_sd());
  page.says("mean in ms", std::exp(history.mean() + history.variance() / 2));
  page.says("p95 in ms with z 1.645", std::exp(history.mean() + 1.645 * history.predictive_sd()));

  QuantileTracker tracker;
  tracker.saw(false);
  page.says("z after a miss", tracker.z());
  tracker.saw(true);
  page.says("z after a miss and a hit", tracker.z());

  Regression regression;
  regression.learn({1, 0, 0}, std::log(2.0));
  regression.learn({1, std::log(4.0), 0}, std::log(8.0));
  regression.learn({1, std::log(2.0), 0}, std::log(4.0));
  const Regression::Prediction unseen = regression.predict({1, std::log(8.0), 0});
  page.says("regression in ms for 8 kB", std::exp(unseen.mean));
  page.says("regression deviation", unseen.sd);

  Admission admission;
  Forecast verdict = admission.ask(1, {25e6, 30e6, 50'000'000}, 0);
  CHECK(verdict.accepted);
  page.says("first predicted in ms", static_cast<double>(verdict.finish_ns) / 1e6);
  page.says("first p95 in ms", static_cast<double>(verdict.finish_p95_ns) / 1e6);
  verdict = admission.ask(2, {15e6, 20e6, 50'000'000}, 0);
  CHECK_FALSE(verdict.accepted);
  page.says("second predicted in ms", static_cast<double>(verdict.finish_ns) / 1e6);
  page.says("second p95 in ms", static_cast<double>(verdict.finish_p95_ns) / 1e6);
  // Only the tables' heads are left.
  CHECK(page.left() == 1);
}

}  // namespace aios::scheduler
