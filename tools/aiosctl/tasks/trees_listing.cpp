#include "tools/aiosctl/tasks/trees_listing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;
using Trees = wire::TreesNext::Reply;

constexpr std::size_t max_listed_models = 20'000;
constexpr std::string_view verdict_names[] = {"promoted",     "no_better",   "too_few",
                                              "no_variation", "out_of_time", "failed"};
constexpr std::string_view reasons[] = {
    "they predict better on runs that they were not trained from",
    "they do not predict better on runs that they were not trained from",
    "too few sizes have run",
    "sizes, or what they take, do not vary",
    "the training ended before their turn",
    "the library that trains failed; see the trainer's log",
};
static_assert(std::size(reasons) == std::size(verdict_names));

std::size_t verdict_of(const Trees& t) {
  return std::min<std::size_t>(t.verdict, std::size(verdict_names) - 1);
}

std::string why(const Trees& t) {
  const bool silenced = t.verdict == 0 && t.speaks == 0;
  return silenced ? "promoted, but of late they err more" : std::string(reasons[verdict_of(t)]);
}

json to_json(const Trees& t) {
  return {{"codelet", t.codelet.view()},
          {"module", fmt::format("{:016x}", t.module_hash)},
          {"user", t.user},
          {"device", t.device.view()},
          {"of", t.memory != 0 ? "memory" : "time"},
          {"verdict", verdict_names[verdict_of(t)]},
          {"why", why(t)},
          {"speaks", t.speaks != 0},
          {"trained", t.trained},
          {"held_out", t.held_out},
          {"trees_mdape", t.trees_mdape},
          {"told_mdape", t.told_mdape},
          {"trees_log_error", t.trees_error},
          {"told_log_error", t.told_error},
          {"since", t.live_runs},
          {"since_trees_log_error", t.live_trees_error},
          {"since_told_log_error", t.live_told_error}};
}

Result<std::vector<Trees>> list_trees(Client& scheduler) {
  std::vector<Trees> all;
  while (all.size() < max_listed_models) {
    const auto next =
        scheduler.call<wire::TreesNext>({all.size()}, Deadline::after(call_timeout_ns));
    if (!next && next.error().code() == Code::not_found) break;
    all.push_back(TRY(next));
  }
  return all;
}

void print_table(const std::vector<Trees>& all) {
  Table table({{"CODELET"},
               {"DEVICE"},
               {"OF"},
               {"TRAINED", Align::right},
               {"HELD OUT", Align::right},
               {"TREES", Align::right},
               {"WITHOUT", Align::right},
               {"SPEAK"},
               {"WHY"}});
  const auto percent = [](const Trees& t, double share) {
    return t.held_out == 0 ? std::string("-") : fmt::format("{:.1f}%", 100 * share);
  };
  for (const Trees& t : all)
    table.add({std::string(t.codelet.view()), std::string(t.device.view()),
               t.memory != 0 ? "memory" : "time", std::to_string(t.trained),
               std::to_string(t.held_out), percent(t, t.trees_mdape), percent(t, t.told_mdape),
               t.speaks != 0 ? "yes" : "no", why(t)});
  table.print();
}

}  // namespace

Result<int> show_trees(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  const auto training = TRY(scheduler->call<wire::Training>({}, Deadline::after(call_timeout_ns)));
  const std::vector<Trees> all = TRY(list_trees(*scheduler));
  if (session.json) {
    json out{{"available", training.available != 0},
             {"trainer", training.text.view()},
             {"running", training.running != 0},
             {"trainings", training.trainings},
             {"cpu_ns", training.cpu_ns},
             {"trees", json::array()}};
    for (const Trees& t : all) out["trees"].push_back(to_json(t));
    print_json(out);
    return exit_done;
  }
  print_to(stdout, "{} {}; {} trainings, {} of a processor{}\n",
           training.available != 0 ? "trained by" : "NOT trained:", printable(training.text.view()),
           training.trainings, human_duration(training.cpu_ns),
           training.running != 0 ? "; one is under way" : "");
  if (!all.empty())
    print_to(stdout,
             "median errors, on the latest runs of new sizes, of trees and without them:\n");
  print_table(all);
  return exit_done;
}

}  // namespace aios::ctl
