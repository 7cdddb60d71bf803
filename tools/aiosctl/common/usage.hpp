// What is said of a command line that makes no sense: what is wrong, and which help tells more.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace CLI {
class App;
class Error;
}  // namespace CLI

namespace aios::ctl {

/// The subcommand of this name, or null.
const CLI::App* subcommand(const CLI::App& app, const std::string& name);

/// The one of `names` that `word` was probably to be: it begins so, or few letters differ.
std::optional<std::string> nearest(std::string_view word, std::span<const std::string> names);

/// Lines for standard error when `app` has no subcommand called `word`.
std::string no_such_command(const CLI::App& app, const std::string& word);

/// In a command's callback: that its options contradict one another is told as what is wrong with
/// one of them is.
void expect_sense(const Result<void>& checked);

/// Lines for standard error when `root`, parsing, has just thrown `failure`.
std::string usage_failure(const CLI::App& root, const CLI::Error& failure);

}  // namespace aios::ctl
