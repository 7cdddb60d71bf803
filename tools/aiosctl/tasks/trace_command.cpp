// aiosctl trace: the last placements as a file for chrome://tracing and ui.perfetto.dev.
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/signals.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/late_file.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/graphs/placements.hpp"

namespace aios::ctl {

namespace {

namespace wire = proto::scheduler;
using nlohmann::json;

constexpr std::size_t most_in_trace = 1'000'000;
constexpr int ms_between_looks = 100;

double us(std::uint64_t ns) {
  return static_cast<double>(ns) / 1000;
}

/// Device and lane: tasks that run at once on a device are shown below one another.
struct Place {
  std::uint32_t device;
  std::size_t lane;
};

/// By task number. `all` is sorted by start.
std::map<std::uint64_t, Place> places_of(const std::vector<Placed>& all) {
  std::map<std::uint32_t, std::vector<std::uint64_t>> lanes;  // when each gets free
  std::map<std::uint64_t, Place> places;
  for (const Placed& p : all) {
    const std::uint32_t device = p.candidates[0].device;
    std::vector<std::uint64_t>& ends = lanes[device];
    const auto free = std::ranges::find_if(ends, [&](std::uint64_t e) { return e <= p.start_ns; });
    const auto lane = static_cast<std::size_t>(free - ends.begin());
    if (free == ends.end()) ends.push_back(0);
    ends[lane] = p.end_ns;
    places[p.number] = {device, lane};
  }
  return places;
}

json slice(const Placed& p, const Place& place) {
  const Parts parts = parts_of(p);
  json arguments{{"task", p.number},
                 {"tag", p.tag},
                 {"job", p.job_name.view()},
                 {"status", code_name(static_cast<Code>(p.status))},
                 {"why here", reason_text(p.reason)},
                 {"queue_us", parts.queue_ns / 1000},
                 {"opening_us", parts.opening_ns / 1000},
                 {"loading_us", parts.loading_ns / 1000},
                 {"transfer_us", parts.transfer_ns / 1000},
                 {"predicted_transfer_us", parts.predicted_transfer_ns / 1000},
                 {"actual_us", parts.compute_ns / 1000}};
  const wire::LoggedCandidate& chosen = p.candidates[0];
  if (chosen.mean_ns > 0) {
    arguments["predicted_us"] = chosen.mean_ns / 1000;
    arguments["predicted_p95_us"] = chosen.p95_ns / 1000;
    arguments["founded on"] = level_name(chosen.level);
  }
  return {{"ph", "X"},
          {"name", p.codelet.view()},
          {"cat", "task"},
          {"pid", place.device},
          {"tid", place.lane},
          {"ts", us(p.start_ns)},
          {"dur", us(run_ns(p))},
          {"args", arguments}};
}

/// From the end of each task in the trace on which `p` depends.
void add_flows(json& events, const Placed& p, const std::map<std::uint64_t, Place>& places,
               const std::map<std::pair<std::uint64_t, std::uint32_t>, const Placed*>& by_tag) {
  for (std::uint32_t i = 0; i < std::min(p.dependency_count, wire::max_dependencies); ++i) {
    const auto found = by_tag.find({p.job_id, p.dependencies[i]});
    if (found == by_tag.end() || found->second->number >= p.number) continue;
    const Placed& from = *found->second;
    const std::string id = fmt::format("{}-{}", from.number, p.number);
    const auto flow = [&](const char* phase, std::uint64_t at_ns, const Place& place) {
      return json{{"ph", phase},         {"id", id},       {"name", "depends"},
                  {"cat", "dependency"}, {"bp", "e"},      {"pid", place.device},
                  {"tid", place.lane},   {"ts", us(at_ns)}};
    };
    events.push_back(flow("s", from.end_ns, places.at(from.number)));
    events.push_back(flow("f", p.start_ns, places.at(p.number)));
  }
}

json to_trace(std::vector<Placed> all, const std::vector<std::string>& names) {
  std::erase_if(all, [](const Placed& p) { return run_ns(p) == 0; });
  std::ranges::sort(all, {}, &Placed::start_ns);
  const auto places = places_of(all);
  std::map<std::pair<std::uint64_t, std::uint32_t>, const Placed*> by_tag;
  for (const Placed& p : all) by_tag[{p.job_id, static_cast<std::uint32_t>(p.tag)}] = &p;
  json events = json::array();
  for (std::uint32_t device = 0; device < names.size(); ++device)
    events.push_back({{"ph", "M"},
                      {"name", "process_name"},
                      {"pid", device},
                      {"args", {{"name", names[device]}}}});
  for (const Placed& p : all) {
    events.push_back(slice(p, places.at(p.number)));
    add_flows(events, p, places, by_tag);
  }
  return {{"displayTimeUnit", "ns"}, {"traceEvents", events}};
}

/// What is kept, and what is placed during the next `seconds`, or until a signal comes.
Result<std::vector<Placed>> collect(Client& scheduler, double seconds) {
  const Fd signals = TRY(make_signal_fd({SIGINT, SIGTERM}));
  const Deadline end = Deadline::after(static_cast<std::uint64_t>(seconds * 1e9));
  std::map<std::uint64_t, Placed> all;
  std::uint64_t after = 0;
  for (bool last = false; !last;) {
    last = end.passed();
    for (const Placed& p : TRY(placements_after(scheduler, after, most_in_trace)))
      all[p.sequence] = p;
    // Those that have not ended are asked for again.
    const auto open = std::ranges::find_if(all, [&](const auto& entry) {
      return entry.first > after && entry.second.end_ns == 0 && entry.second.status == 0;
    });
    if (open != all.end())
      after = open->first - 1;
    else if (!all.empty())
      after = all.rbegin()->first;
    pollfd signal{signals.get(), POLLIN, 0};
    if (!last && ::poll(&signal, 1, ms_between_looks) > 0) last = true;
  }
  std::vector<Placed> out;
  for (auto& [sequence, placed] : all) out.push_back(placed);
  return out;
}

Result<int> trace(const Session& session, const std::string& path, double seconds) {
  Operator attached = TRY(Operator::attach(session));
  const auto scheduler = TRY(attached.client("scheduler", wire::Protocol::version));
  const std::vector<std::string> names = TRY(device_names(*scheduler));
  LateFile file = TRY(LateFile::open(path));
  const json out = to_trace(TRY(collect(*scheduler, seconds)), names);
  TRY(file.write(out.dump(-1, ' ', false, json::error_handler_t::replace) + '\n'));
  print_to(stdout, "{}: open it with https://ui.perfetto.dev or chrome://tracing\n", path);
  return exit_done;
}

}  // namespace

void add_trace_command(CLI::App& app, Session& session) {
  struct Options {
    std::string path;
    double seconds = 0;
  };
  CLI::App* command =
      app.add_subcommand("trace", "Writes what ran on which device, for a trace viewer");
  const auto options = std::make_shared<Options>();
  command->add_option("-o,--output", options->path, "The file to write")->required();
  command->add_option("--for", options->seconds, "Seconds to go on collecting [0]")
      ->transform(command_line::between(0.0, 86'400.0));
  command->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return trace(session, options->path, options->seconds); });
    };
  });
}

}  // namespace aios::ctl
