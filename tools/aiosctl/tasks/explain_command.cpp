// aiosctl explain, models and bottlenecks: why tasks run where they do, and what that is founded
// on.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/graphs/placements.hpp"
#include "tools/aiosctl/tasks/trees_listing.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;

constexpr std::size_t max_listed = 20'000;
constexpr std::string_view state_names[] = {"waiting", "ready", "running", "done", "failed"};

std::string duration(double ns) {
  return human_duration(static_cast<std::uint64_t>(std::max(ns, 0.0)));
}

// ---- explain ------------------------------------------------------------------------------------

json to_json(const wire::LoggedCandidate& c, const std::vector<std::string>& names, bool chosen) {
  return {{"device", device_name(names, c.device)},
          {"chosen", chosen},
          {"at_once", c.at_once == wire::LoggedCandidate::began_at_once},
          {"memory_short", c.at_once == wire::LoggedCandidate::short_of_memory},
          {"fails", c.at_once == wire::LoggedCandidate::fails},
          {"wait_ns", c.wait_ns},
          {"transfer_ns", c.transfer_ns},
          {"predicted_ns", c.mean_ns},
          {"p95_ns", c.p95_ns},
          {"samples", c.samples},
          {"level", level_name(c.level)}};
}

/// A task as far as the scheduler still knows of it: it remembers the last placements and, apart
/// from these, the last tasks that ended.
struct Known {
  Placed placed{};           ///< without candidates: it was not placed, or that is forgotten
  std::string device;        ///< that runs or ran it; empty: none
  std::string failure = {};  ///< in words; of one that is ready, what it waits for
};

constexpr std::uint32_t state_number(wire::TaskState state) {
  return static_cast<std::uint32_t>(state);
}

/// Of a task that is listed: its state is newer than what the placement says.
void add_listed(Known& known, const wire::TaskNext::Reply& listed) {
  Placed& p = known.placed;
  p.number = listed.number;
  p.tag = listed.tag;
  p.job_id = listed.job_id;
  p.job_name = listed.job_name;
  p.codelet = listed.codelet;
  p.submitted_ns = listed.submitted_ns;
  p.state = listed.state;
  p.status = listed.status;
  p.attempts = listed.attempts;
  p.start_ns = listed.start_ns;
  p.end_ns = listed.end_ns;
  p.transfer_ns = listed.transfer_ns;
}

Result<Known> find_task(Client& scheduler, std::uint64_t number) {
  const Deadline deadline = Deadline::after(call_timeout_ns);
  const auto listed = TRY(scheduler.call<wire::TaskNext>({number - 1}, deadline));
  Known known{.placed = TRY(scheduler.call<wire::PlacementNext>({0, number}, deadline))};
  const bool is_listed = listed.number == number;
  if (known.placed.sequence == 0 && !is_listed)
    return error(Code::not_found,
                 fmt::format("task {} is not known: it is neither unfinished nor among the last "
                             "1,024 that ended or the last 8,192 that were placed (`aiosctl tasks` "
                             "lists tasks by number)",
                             number));
  if (is_listed) add_listed(known, listed);
  if (known.placed.candidate_count > 0)
    known.device = device_name(TRY(device_names(scheduler)), known.placed.candidates[0].device);
  else if (is_listed)
    known.device = listed.device.view();
  if (known.placed.state != state_number(wire::TaskState::failed) &&
      known.placed.state != state_number(wire::TaskState::ready))
    return known;
  const auto why = scheduler.call<wire::TaskFailure>({number}, deadline);
  if (!why && why.error().code() != Code::not_found) return std::unexpected(why.error());
  if (why) known.failure = why->text.view();
  return known;
}

json to_json(const Known& known, const std::vector<std::string>& names) {
  const Placed& p = known.placed;
  const bool failed = p.state == state_number(wire::TaskState::failed);
  json out{{"number", p.number},
           {"tag", p.tag},
           {"job", p.job_name.view()},
           {"job_id", p.job_id},
           {"codelet", p.codelet.view()},
           {"state", state_names[std::min<std::size_t>(p.state, std::size(state_names) - 1)]},
           {"status", code_name(static_cast<Code>(p.status))},
           {"error", failed && !known.failure.empty() ? json(known.failure) : json()},
           {"waits_for", failed || known.failure.empty() ? json() : json(known.failure)},
           {"device", known.device.empty() ? json() : json(known.device)},
           {"attempts", p.attempts},
           {"submitted_ns", p.submitted_ns},
           {"ready_ns", p.ready_ns},
           {"after_number", p.after_number},
           {"placed_ns", p.placed_ns},
           {"start_ns", p.start_ns},
           {"end_ns", p.end_ns},
           {"actual_ns", p.alone_ns},
           {"opening_ns", p.opening_ns},
           {"loading_ns", p.loading_ns},
           {"transfer_ns", p.transfer_ns},
           {"why", p.candidate_count > 0 ? reason_text(p.reason) : "it was not placed"},
           {"considered", p.considered},
           {"candidates", json::array()}};
  for (std::uint32_t i = 0; i < p.candidate_count; ++i)
    out["candidates"].push_back(to_json(p.candidates[i], names, i == 0));
  return out;
}

/// How it stands with it, or how it ended.
std::string state_text(const Known& known) {
  const Placed& p = known.placed;
  switch (static_cast<wire::TaskState>(p.state)) {
    case wire::TaskState::waiting:
      return "waits for tasks on which it depends";
    case wire::TaskState::ready:
      return known.failure.empty() ? "is ready, and waits for its turn"
                                   : "is ready, and waits: " + printable(known.failure);
    case wire::TaskState::running:
      return "is running, or on its way there";
    case wire::TaskState::done:
      return "is done";
    case wire::TaskState::failed:
      break;
  }
  return fmt::format("failed: {}{}{}{}", code_name(static_cast<Code>(p.status)),
                     known.failure.empty() ? "" : ": ", printable(known.failure),
                     p.attempts > 1 ? fmt::format(" (after {} attempts)", p.attempts) : "");
}

void print_candidates(const Placed& p, const std::vector<std::string>& names) {
  Table table({{"DEVICE"},
               {"WAIT", Align::right},
               {"TRANSFER", Align::right},
               {"RUN", Align::right},
               {"P95", Align::right},
               {"FINISH", Align::right},
               {"SAMPLES", Align::right},
               {"FOUNDED ON"}});
  std::string short_of_memory, failing;
  const auto add = [&](std::string& list, std::uint32_t device) {
    list += (list.empty() ? "" : ", ") + device_name(names, device);
  };
  for (std::uint32_t i = 0; i < p.candidate_count; ++i) {
    const wire::LoggedCandidate& c = p.candidates[i];
    if (c.at_once == wire::LoggedCandidate::short_of_memory) add(short_of_memory, c.device);
    if (c.at_once == wire::LoggedCandidate::fails) add(failing, c.device);
    const bool known = c.level != 0 || c.mean_ns > 0;
    const auto cell = [&](double ns) { return known ? duration(ns) : std::string("?"); };
    table.add({device_name(names, c.device), cell(c.wait_ns), cell(c.transfer_ns), cell(c.mean_ns),
               cell(c.p95_ns), cell(c.wait_ns + c.transfer_ns + c.mean_ns),
               std::to_string(c.samples), std::string(level_name(c.level))});
  }
  table.print();
  if (!short_of_memory.empty())
    print_to(stdout, "the memory had no room for it then: {}\n", short_of_memory);
  if (!failing.empty())
    print_to(stdout, "the last tasks of its codelet failed there, one after the other: {}\n",
             failing);
  if (p.considered > p.candidate_count)
    print_to(stdout, "and {} more devices\n", p.considered - p.candidate_count);
}

/// Of one that was on its device for longer than it kept it busy.
std::string shared_text(const Placed& p) {
  if (run_ns(p) <= p.alone_ns + p.alone_ns / 10) return {};
  return fmt::format(" within {}, in which others had their share of the device",
                     human_duration(run_ns(p)));
}

/// What came of it, in the order in which it happened.
void print_course(const Placed& p) {
  const Parts parts = parts_of(p);
  const std::uint64_t until_ns = p.start_ns != 0 ? p.start_ns : p.placed_ns;
  print_to(stdout, "it waited {} from when it was ready",
           human_duration(until_ns - std::min(until_ns, p.ready_ns)));
  if (p.after_number != 0) print_to(stdout, " (after task {})", p.after_number);
  if (p.opening_ns > 0)
    print_to(stdout, ", {} of it for a context to be opened", duration(parts.opening_ns));
  if (p.loading_ns > 0)
    print_to(stdout, ", {} of it for its module to be loaded", duration(parts.loading_ns));
  const auto predicted = [&](double ns) {
    return ns > 0 ? fmt::format(" ({} predicted)", duration(ns)) : std::string();
  };
  if (p.end_ns != 0 && (parts.transfer_ns > 0 || parts.predicted_transfer_ns > 0))
    print_to(stdout, "; copying its data took {}{}", duration(parts.transfer_ns),
             predicted(parts.predicted_transfer_ns));
  if (p.end_ns != 0)
    print_to(stdout, "; it ran for {}{}{}", duration(parts.compute_ns),
             predicted(parts.predicted_ns), shared_text(p));
  print_to(stdout, "\n");
}

void print_explanation(const Known& known, const std::vector<std::string>& names) {
  const Placed& p = known.placed;
  print_to(stdout, "task {} (tag {}) of {}: {}{}{} {}\n", p.number, p.tag,
           printable(p.job_name.view()), printable(p.codelet.view()),
           known.device.empty() ? "" : " on ", known.device, state_text(known));
  if (p.candidate_count == 0) {
    print_to(stdout, "{}\n",
             p.attempts > 0 ? "why it was placed there is forgotten: only the last 8,192 "
                              "placements are kept"
                            : "it was not placed on any device");
    return;
  }
  print_to(stdout, "placed there because: {}\n", reason_text(p.reason));
  print_candidates(p, names);
  print_course(p);
}

Result<int> explain(const Session& session, std::uint64_t number) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  const Known known = TRY(find_task(*scheduler, number));
  const std::vector<std::string> names = TRY(device_names(*scheduler));
  if (session.json)
    print_json(to_json(known, names));
  else
    print_explanation(known, names);
  return exit_done;
}

// ---- models -------------------------------------------------------------------------------------

Result<std::vector<wire::ModelNext::Reply>> list_models(Client& scheduler) {
  std::vector<wire::ModelNext::Reply> all;
  while (all.size() < max_listed) {
    const auto next =
        scheduler.call<wire::ModelNext>({all.size()}, Deadline::after(call_timeout_ns));
    if (!next && next.error().code() == Code::not_found) return all;
    if (!next) return std::unexpected(next.error());
    all.push_back(*next);
  }
  return all;
}

json to_json(const wire::ModelNext::Reply& m) {
  return {{"codelet", m.codelet.view()},
          {"module", fmt::format("{:016x}", m.module_hash)},
          {"user", m.user},
          {"device", m.device.view()},
          {"footprint", fmt::format("{:016x}", m.footprint)},
          {"bytes", m.bytes},
          {"level", level_name(m.level)},
          {"samples", m.samples},
          {"predicted_ns", m.time_mean_ns},
          {"p95_ns", m.time_p95_ns},
          {"memory_bytes", m.memory_mean_bytes},
          {"memory_p95_bytes", m.memory_p95_bytes},
          {"log_error", m.log_error},
          {"drifts", m.drifts}};
}

/// One line for each model, with the names of the JSON as titles.
Result<void> export_models(const std::vector<wire::ModelNext::Reply>& models,
                           const std::string& path) {
  std::ofstream file(path);
  bool first = true;
  for (const auto& model : models) {
    const json one = to_json(model);
    std::string titles, line;
    for (const auto& [name, value] : one.items()) {
      titles += (titles.empty() ? "" : ",") + name;
      line +=
          (line.empty() ? "" : ",") + value.dump(-1, ' ', false, json::error_handler_t::replace);
    }
    if (std::exchange(first, false)) file << titles << '\n';
    file << line << '\n';
  }
  file.flush();
  if (!file) return errno_error("write " + path, errno);
  return {};
}

Result<int> show_models(const Session& session, const std::string& export_to) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  const auto models = TRY(list_models(*scheduler));
  if (!export_to.empty()) TRY(export_models(models, export_to));
  json out = json::array();
  Table table({{"CODELET"},
               {"DEVICE"},
               {"BYTES", Align::right},
               {"FOUNDED ON"},
               {"SAMPLES", Align::right},
               {"RUN", Align::right},
               {"P95", Align::right},
               {"MEMORY", Align::right},
               {"ERROR", Align::right},
               {"DRIFTS", Align::right}});
  for (const auto& m : models) {
    out.push_back(to_json(m));
    table.add({std::string(m.codelet.view()), std::string(m.device.view()),
               human_bytes(static_cast<std::uint64_t>(m.bytes)), std::string(level_name(m.level)),
               std::to_string(m.samples), duration(m.time_mean_ns), duration(m.time_p95_ns),
               human_bytes(static_cast<std::uint64_t>(m.memory_mean_bytes)),
               fmt::format("{:.0f}%", 100 * m.log_error), std::to_string(m.drifts)});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

// ---- bottlenecks --------------------------------------------------------------------------------

struct Share {
  std::size_t tasks = 0;
  Parts parts;
};

/// By codelet and device, along one critical path.
std::map<std::pair<std::string, std::string>, Share> shares_of(
    const std::vector<Placed>& path, const std::vector<std::string>& names) {
  std::map<std::pair<std::string, std::string>, Share> shares;
  for (const Placed& p : path) {
    Share& share =
        shares[{std::string(p.codelet.view()), device_name(names, p.candidates[0].device)}];
    const Parts parts = parts_of(p);
    ++share.tasks;
    share.parts.queue_ns += parts.queue_ns;
    share.parts.opening_ns += parts.opening_ns;
    share.parts.loading_ns += parts.loading_ns;
    share.parts.transfer_ns += parts.transfer_ns;
    share.parts.predicted_transfer_ns += parts.predicted_transfer_ns;
    share.parts.compute_ns += parts.compute_ns;
    share.parts.predicted_ns += parts.predicted_ns;
  }
  return shares;
}

struct Advice {
  double ns = 0;
  std::string text = "nothing: nothing was placed";
};

void consider(Advice& best, double ns, const std::string& text) {
  if (ns > best.ns) best = {ns, text};
}

Advice advice_of(const std::map<std::pair<std::string, std::string>, Share>& shares) {
  Advice best;
  for (const auto& [key, share] : shares) {
    const auto& [codelet, device] = key;
    consider(best, share.parts.queue_ns,
             fmt::format("more slots or devices that run {}, or less beside it: its tasks waited",
                         codelet));
    consider(best, share.parts.opening_ns,
             fmt::format("fewer jobs on {} with more in each, or one that stays: a job has a "
                         "context of its own there, which was opened for",
                         device));
    consider(
        best, share.parts.loading_ns,
        fmt::format("a smaller module for {} on {}, or tasks that follow in the same job, which "
                    "loads it once: it was loaded for",
                    codelet, device));
    consider(
        best, share.parts.transfer_ns,
        fmt::format("tasks that keep their data on {}: it was brought for {}", device, codelet));
    consider(best, share.parts.compute_ns,
             fmt::format("a faster variant of {} on {}, or smaller tasks", codelet, device));
  }
  return best;
}

json to_json(const std::map<std::pair<std::string, std::string>, Share>& shares) {
  json out = json::array();
  for (const auto& [key, share] : shares)
    out.push_back({{"codelet", key.first},
                   {"device", key.second},
                   {"tasks", share.tasks},
                   {"queue_ns", share.parts.queue_ns},
                   {"opening_ns", share.parts.opening_ns},
                   {"loading_ns", share.parts.loading_ns},
                   {"transfer_ns", share.parts.transfer_ns},
                   {"predicted_transfer_ns", share.parts.predicted_transfer_ns},
                   {"compute_ns", share.parts.compute_ns},
                   {"predicted_ns", share.parts.predicted_ns}});
  return out;
}

void print_bottlenecks(const std::map<std::pair<std::string, std::string>, Share>& shares) {
  Table table({{"CODELET"},
               {"DEVICE"},
               {"TASKS", Align::right},
               {"QUEUE", Align::right},
               {"OPENING", Align::right},
               {"LOADING", Align::right},
               {"TRANSFER", Align::right},
               {"COMPUTE", Align::right},
               {"PREDICTED", Align::right}});
  for (const auto& [key, share] : shares)
    table.add({key.first, key.second, std::to_string(share.tasks), duration(share.parts.queue_ns),
               duration(share.parts.opening_ns), duration(share.parts.loading_ns),
               duration(share.parts.transfer_ns), duration(share.parts.compute_ns),
               share.parts.predicted_ns > 0 ? duration(share.parts.predicted_ns) : "?"});
  table.print();
}

Result<int> show_bottlenecks(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  const std::vector<std::string> names = TRY(device_names(*scheduler));
  const std::vector<Placed> all = TRY(placements_after(*scheduler, 0, max_listed));
  std::map<std::uint64_t, std::string> jobs;
  for (const Placed& p : all) jobs[p.job_id] = p.job_name.view();
  json out = json::array();
  for (const auto& [id, name] : jobs) {
    const std::vector<Placed> path = critical_path(all, id);
    if (path.empty()) continue;
    const auto shares = shares_of(path, names);
    const Advice advice = advice_of(shares);
    const std::uint64_t span_ns =
        path.back().end_ns - std::min(path.front().ready_ns, path.back().end_ns);
    out.push_back({{"job", name},
                   {"job_id", id},
                   {"tasks", path.size()},
                   {"span_ns", span_ns},
                   {"parts", to_json(shares)},
                   {"would_help", advice.text},
                   {"would_help_ns", advice.ns}});
    if (session.json) continue;
    print_to(stdout, "{}: {} tasks, one after the other, determined its {}\n", printable(name),
             path.size(), human_duration(span_ns));
    print_bottlenecks(shares);
    print_to(stdout, "what would help most: {} {} of it\n", advice.text, duration(advice.ns));
  }
  if (session.json)
    print_json(out);
  else if (out.empty())
    print_to(stdout, "no task has run yet\n");
  return exit_done;
}

}  // namespace

void add_explain_commands(CLI::App& app, Session& session) {
  CLI::App* explaining = app.add_subcommand("explain", "Why a task runs where it does");
  const auto number = std::make_shared<std::uint64_t>(0);
  explaining->add_option("TASK", *number, "Its number, as `aiosctl tasks` shows it")
      ->required()
      ->transform(command_line::at_least(std::uint64_t{1}));
  explaining->add_flag("--json", session.json, "As JSON (abi/schema/explain.json)");
  explaining->callback([&session, number] {
    session.action = [&session, number] {
      return run_command([&] { return explain(session, *number); });
    };
  });
  CLI::App* models = app.add_subcommand("models", "What was learned of the costs of tasks");
  const auto path = std::make_shared<std::string>();
  const auto trees = std::make_shared<bool>(false);
  CLI::Option* exporting =
      models->add_option("--export", *path, "Also writes them to a file, as CSV")
          ->check(command_line::names_something());
  models->add_flag("--trees", *trees, "Where boosted trees predict new sizes better, and where not")
      ->excludes(exporting);
  models->add_flag("--json", session.json, "As JSON (abi/schema/models.json, models-trees.json)");
  models->callback([&session, path, trees] {
    session.action = [&session, path, trees] {
      return run_command(
          [&] { return *trees ? show_trees(session) : show_models(session, *path); });
    };
  });
  CLI::App* bottlenecks = app.add_subcommand(
      "bottlenecks", "What determined how long jobs took, of the last 8,192 tasks placed");
  bottlenecks->add_flag("--json", session.json, "As JSON (abi/schema/bottlenecks.json)");
  bottlenecks->callback([&session] {
    session.action = [&session] { return run_command([&] { return show_bottlenecks(session); }); };
  });
}

}  // namespace aios::ctl
