#include "tools/aiosctl/common/usage.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <utility>
#include <vector>

#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

/// How many letters have to be put in, left out, exchanged or swapped with their neighbour.
std::size_t letters_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before_last, last, row(b.size() + 1);
  for (std::size_t k = 0; k <= b.size(); ++k) row[k] = k;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    before_last = std::exchange(last, row);
    row[0] = i;
    for (std::size_t k = 1; k <= b.size(); ++k) {
      row[k] = std::min({last[k] + 1, row[k - 1] + 1, last[k - 1] + (a[i - 1] != b[k - 1])});
      if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
        row[k] = std::min(row[k], before_last[k - 2] + 1);
    }
  }
  return row[b.size()];
}

/// "aiosctl fs get" for `between` "", "aiosctl help fs get" for " help".
std::string call_of(const CLI::App& app, const std::string& between = "") {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() + between
                           : call_of(*parent, between) + " " + app.get_name();
}

std::string complaint(const CLI::App& app, const std::string& what) {
  return call_of(app) + ": " + printable(what) + "\nSee: " + call_of(app, " help") + "\n";
}

std::string none_called(const char* kind, const std::string& word,
                        const std::vector<std::string>& names) {
  const std::optional<std::string> meant = nearest(word, names);
  return std::string("there is no ") + kind + " '" + word + "'" +
         (meant ? "; did you mean '" + *meant + "'?" : "");
}

/// Those of the command and of all above it.
std::vector<std::string> options_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* one = &app; one != nullptr; one = one->get_parent())
    for (const CLI::Option* option : one->get_options())
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

/// The command that the words have chosen.
const CLI::App& chosen(const CLI::App& app) {
  const std::vector<CLI::App*> next = app.get_subcommands();
  return next.empty() ? app : chosen(*next.front());
}

}  // namespace

const CLI::App* subcommand(const CLI::App& app, const std::string& name) {
  for (const CLI::App* one : app.get_subcommands({}))
    if (one->check_name(name)) return one;
  return nullptr;
}

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> names) {
  std::optional<std::string> found;
  if (word.size() < 2) return found;
  // A third of the word may be wrong.
  std::size_t most = std::max<std::size_t>(word.size() / 3, 1);
  for (const std::string& name : names) {
    if (name.starts_with(word)) return name;
    const std::size_t letters = letters_between(word, name);
    if (letters > most || (found && letters == most)) continue;
    most = letters;
    found = name;
  }
  return found;
}

std::string no_such_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* one : app.get_subcommands({})) names.push_back(one->get_name());
  return complaint(app, none_called("command", word, names));
}

void expect_sense(const Result<void>& checked) {
  if (!checked) throw CLI::ValidationError(checked.error().message());
}

std::string usage_failure(const CLI::App& root, const CLI::Error& failure) {
  const CLI::App& app = chosen(root);
  const bool is_group = !app.get_subcommands({}).empty();
  const auto is = [&](CLI::ExitCodes code) {
    return failure.get_exit_code() == static_cast<int>(code);
  };
  const bool lacks_command = is_group && is(CLI::ExitCodes::RequiredError);
  if (!lacks_command && !is(CLI::ExitCodes::ExtrasError)) return complaint(app, failure.what());
  // What no command took, but for the mark before positional arguments.
  std::vector<std::string> words = root.remaining(true);
  std::erase(words, "--");
  if (words.empty()) return complaint(app, lacks_command ? "it takes a command" : failure.what());
  const std::string name = words[0].substr(0, words[0].find('='));
  if (name.size() > 1 && name[0] == '-')
    return complaint(app, none_called("option", name, options_of(app)));
  return is_group ? no_such_command(app, words[0])
                  : complaint(app, "it does not take '" + words[0] + "'");
}

}  // namespace aios::ctl
