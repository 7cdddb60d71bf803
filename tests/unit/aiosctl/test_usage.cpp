#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "abi/runtime/command_line.hpp"
#include "tools/aiosctl/common/usage.hpp"

using namespace aios;
using namespace aios::ctl;

namespace {

const std::vector<std::string> names = {"boot", "status", "stat", "devices", "graph", "logs"};

/// What is said of a command line: of `tool`, which has the commands status and fs get, put.
std::string said(std::vector<std::string> words) {
  CLI::App app("A tool", "tool");
  app.require_subcommand(1);
  app.fallthrough();
  bool json = false;
  std::uint32_t threads = 0;
  std::string name;
  app.add_subcommand("status", "")->add_flag("--json", json);
  CLI::App* fs = app.add_subcommand("fs", "");
  fs->require_subcommand(1);
  CLI::App* get = fs->add_subcommand("get", "");
  get->add_option("NAME", name)->required();
  get->add_option("--threads", threads)->transform(command_line::between(1u, 256u));
  fs->add_subcommand("put", "");
  std::ranges::reverse(words);
  try {
    app.parse(words);
  } catch (const CLI::ParseError& failure) {
    return usage_failure(app, failure);
  }
  return "";
}

/// What a validator says of a text; nothing where it is in order.
std::string said_of(const CLI::Validator& validator, std::string text) {
  return validator(text);
}

}  // namespace

TEST_CASE("The word that was meant is near, or goes on where one stopped") {
  CHECK(nearest("stauts", names) == "status");
  CHECK(nearest("devcies", names) == "devices");
  CHECK(nearest("log", names) == "logs");
  CHECK(nearest("grph", names) == "graph");
  CHECK(nearest("dev", names) == "devices");
  CHECK(nearest("bogus", names) == std::nullopt);
  CHECK(nearest("s", names) == std::nullopt);
  CHECK(nearest("", names) == std::nullopt);
}

TEST_CASE("A command that there is not is named, beside one that was perhaps meant") {
  CHECK(said({"bogus"}) == "tool: there is no command 'bogus'\nSee: tool help\n");
  CHECK(said({"stats"}) ==
        "tool: there is no command 'stats'; did you mean 'status'?\nSee: tool help\n");
  CHECK(said({"fs", "gett", "x"}) ==
        "tool fs: there is no command 'gett'; did you mean 'get'?\nSee: tool help fs\n");
  CHECK(said({}) == "tool: it takes a command\nSee: tool help\n");
  CHECK(said({"fs"}) == "tool fs: it takes a command\nSee: tool help fs\n");
  CHECK(said({"a\033[2Jb"}) == "tool: there is no command 'a?[2Jb'\nSee: tool help\n");
}

TEST_CASE("Words and options that a command does not take are named") {
  CHECK(said({"status", "extra"}) ==
        "tool status: it does not take 'extra'\nSee: tool help status\n");
  CHECK(said({"status", "--jsn=1"}) ==
        "tool status: there is no option '--jsn'; did you mean '--json'?\nSee: tool help status\n");
  CHECK(said({"fs", "get"}) == "tool fs get: NAME is required\nSee: tool help fs get\n");
  CHECK(said({"fs", "get", "x", "--threads", "0"}) ==
        "tool fs get: --threads: it takes a whole number from 1 to 256, not '0'\n"
        "See: tool help fs get\n");
  CHECK(said({"fs", "get", "x", "--threads", "08"}).empty());
}

TEST_CASE("Numbers are whole, decimal, and within their bounds") {
  const CLI::Validator whole = command_line::between(1u, 256u);
  for (const char* good : {"1", "256", "010"}) CHECK(said_of(whole, good).empty());
  for (const char* bad :
       {"0", "257", "-1", "", "x", "1x", "1.5", "0x10", "1e2", " 1", "99999999999"})
    CHECK(said_of(whole, bad) ==
          "it takes a whole number from 1 to 256, not '" + std::string(bad) + "'");
  const CLI::Validator positive = command_line::at_least(std::uint64_t{1});
  CHECK(said_of(positive, "18446744073709551615").empty());
  CHECK(said_of(positive, "-1") == "it takes a whole number of at least 1, not '-1'");
  CHECK(said_of(positive, "18446744073709551616") ==
        "it takes a whole number of at least 1, not '18446744073709551616'");
  const CLI::Validator real = command_line::between(0.001, 1e6);
  for (const char* good : {"0.001", "1e6", "3"}) CHECK(said_of(real, good).empty());
  for (const char* bad : {"0", "nan", "inf", "1e7", "1e999", "x"})
    CHECK(said_of(real, bad) ==
          "it takes a number from 0.001 to 1000000, not '" + std::string(bad) + "'");
}

TEST_CASE("A name that a variable left empty is refused") {
  CHECK(said_of(command_line::names_something(), "") == "it is empty, and names nothing");
  CHECK(said_of(command_line::names_something(), "x").empty());
}
