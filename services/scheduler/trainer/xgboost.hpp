// XGBoost as a Booster, loaded when the program runs: AIOS works without it.
#pragma once

#include <memory>

#include "services/scheduler/trainer/booster.hpp"

namespace aios::scheduler::trainer {

/// not_supported: the library is not installed, or another than expected; the message says how to
/// get it. Opens files: before the process locks itself in. With a name it loads that file.
Result<std::unique_ptr<Booster>> load_xgboost(const char* library = nullptr);

/// How the library would be installed.
inline constexpr const char* xgboost_package = "libxgboost0";

/// What it is trained with: trees that are small and few, for of some hundred runs little more can
/// be learned.
struct XgboostParameter {
  const char* name;
  const char* value;
};
std::span<const XgboostParameter> xgboost_parameters();
inline constexpr int xgboost_rounds = 30;

}  // namespace aios::scheduler::trainer
