// aiosctl top: who uses the machine, as it changes.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/watch/frame.hpp"
#include "tools/aiosctl/watch/terminal.hpp"

namespace aios::ctl {

namespace {

struct TopOptions {
  double interval_s = 1;
  std::uint64_t count = 0;  ///< frames; 0: until it is ended, in a terminal, else one
  std::string sort = "cpu";
};

SortBy sort_of(const std::string& name) {
  return name == "memory" ? SortBy::memory : name == "tasks" ? SortBy::tasks : SortBy::cpu;
}

constexpr const char* keys_line = "c, m, t: by CPU, memory, tasks; space: now; q: end\n";

/// The frames on the screen, until `q` or Ctrl-C, or so many.
Result<int> watch(const Session& session, Watcher& watcher, const TopOptions& options) {
  const auto interval_ns = static_cast<std::uint64_t>(options.interval_s * 1e9);
  SortBy sort = sort_of(options.sort);
  Snapshot before = TRY(watcher.look());
  const Terminal terminal = TRY(Terminal::take());
  // Something to see at once; rates come with the next.
  Snapshot now = before;
  Deadline next = Deadline::after(interval_ns);
  for (std::uint64_t looks = 0;;) {
    const auto [lines, columns] = terminal.size();
    const Frame frame = make_frame(before, now, sort);
    terminal.show(fitted(keys_line + to_text(frame, session.socket), lines, columns));
    const Terminal::Event event = terminal.wait(next);
    const char key = event == Terminal::Event::key ? terminal.key() : '\0';
    if (key == 'q') return exit_done;
    if (key == 'c') sort = SortBy::cpu;
    if (key == 'm') sort = SortBy::memory;
    if (key == 't') sort = SortBy::tasks;
    if (event != Terminal::Event::time && key != ' ') continue;
    if (event == Terminal::Event::time && options.count != 0 && looks++ == options.count)
      return exit_done;
    before = std::move(now);
    now = TRY(watcher.look());
    next = Deadline::after(interval_ns);
  }
}

/// The frames one after the other, for other programs and for files.
Result<int> print(const Session& session, Watcher& watcher, const TopOptions& options) {
  const auto interval_ns = static_cast<std::uint64_t>(options.interval_s * 1e9);
  Snapshot before = TRY(watcher.look());
  for (std::uint64_t i = 0; i < std::max<std::uint64_t>(options.count, 1); ++i) {
    const timespec pause{static_cast<time_t>(interval_ns / ns_per_s),
                         static_cast<long>(interval_ns % ns_per_s)};
    ::nanosleep(&pause, nullptr);
    Snapshot now = TRY(watcher.look());
    const Frame frame = make_frame(before, now, sort_of(options.sort));
    if (session.json)
      print_json(to_json(frame), -1);
    else
      print_to(stdout, "{}{}", i == 0 ? "" : "\n", to_text(frame, session.socket));
    if (std::fflush(stdout) != 0) break;  // told at the end
    before = std::move(now);
  }
  return exit_done;
}

Result<int> top(const Session& session, const TopOptions& options) {
  Watcher watcher = TRY(Watcher::attach(session));
  const bool on_screen = !session.json && Terminal::is_there();
  return on_screen ? watch(session, watcher, options) : print(session, watcher, options);
}

}  // namespace

void add_top_command(CLI::App& app, Session& session) {
  CLI::App* command = app.add_subcommand("top", "Who uses the machine: devices and jobs, live");
  const auto options = std::make_shared<TopOptions>();
  command->add_option("--interval", options->interval_s, "Seconds between two looks [1]")
      ->transform(command_line::between(0.1, 3600.0));
  command
      ->add_option("--count", options->count,
                   "So many frames [until q or Ctrl-C in a terminal, else one]")
      ->transform(command_line::between(1, 1'000'000));
  command->add_option("--sort", options->sort, "cpu, memory or tasks: who comes first [cpu]")
      ->check(CLI::IsMember({"cpu", "memory", "tasks"}));
  command->add_flag("--json", session.json, "A line of JSON for each frame (abi/schema/top.json)");
  command->footer(
      "CPU is of the processes of a job and all below it, a core being 100%; MEMORY theirs "
      "without\n"
      "what is shared, REGIONS what AIOS shares for them. TASKS/S are those that were done; BUSY "
      "is\n"
      "how many threads of devices ran them, where what runs for long counts when it ends. FAILED\n"
      "counts tasks that were cancelled, too. Operators see all jobs, others their own.");
  command->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return top(session, *options); });
    };
  });
}

}  // namespace aios::ctl
