#include "tools/aiosctl/watch/frame.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;

std::uint64_t grown(std::uint64_t before, std::uint64_t now) {
  return now >= before ? now - before : now;
}

TaskRates rates_of(std::uint64_t tasks, std::uint64_t busy_ns, double seconds) {
  if (seconds <= 0) return {};
  return {static_cast<double>(tasks) / seconds, static_cast<double>(busy_ns) / 1e9 / seconds};
}

const JobUse* find(const Snapshot& all, std::uint64_t id) {
  const auto at = std::ranges::find(all.jobs, id, [](const JobUse& j) { return j.record.job_id; });
  return at == all.jobs.end() ? nullptr : &*at;
}

JobRow job_row(const JobUse* before, const JobUse& now, double seconds) {
  static const JobUse none{};
  // One that did not exist has had nothing; of one that did, what processes had that ended since is
  // not known.
  const JobUse& then = before == nullptr ? none : *before;
  const auto cpu_ns = now.processes.cpu_ns - std::min(then.processes.cpu_ns, now.processes.cpu_ns);
  JobRow row{.use = now, .rates = {}, .cores = 0, .depth = 0};
  row.rates = rates_of(grown(then.load.tasks_done + then.load.tasks_failed,
                             now.load.tasks_done + now.load.tasks_failed),
                       grown(then.load.busy_ns, now.load.busy_ns), seconds);
  if (seconds > 0) row.cores = static_cast<double>(cpu_ns) / 1e9 / seconds;
  return row;
}

void sort_jobs(std::vector<JobRow>& jobs, SortBy sort) {
  std::ranges::stable_sort(jobs, std::greater(), [sort](const JobRow& row) {
    switch (sort) {
      case SortBy::cpu:
        return row.cores;
      case SortBy::memory:
        return static_cast<double>(row.use.processes.memory_bytes +
                                   row.use.record.used.memory_bytes);
      case SortBy::tasks:
        break;
    }
    return row.rates.tasks_per_s;
  });
}

/// Of jobs right below `parent`, sorted, and of what is below each: of contexts alone nothing is
/// shown, for they work for the job above.
void add_jobs(Frame& frame, const Snapshot& before, std::uint64_t parent, int depth, SortBy sort) {
  std::vector<JobRow> rows;
  for (const JobUse& job : frame.now.jobs) {
    if (job.record.parent_id != parent || job.record.name.view() == proto::kernel::contexts_job)
      continue;
    rows.push_back(job_row(find(before, job.record.job_id), job, frame.seconds));
    rows.back().depth = depth;
  }
  sort_jobs(rows, sort);
  for (JobRow& row : rows) {
    const std::uint64_t id = row.use.record.job_id;
    // Servers have a job each, too; `aiosctl status` tells of them.
    const bool of_user = row.use.record.name.view().starts_with("user:");
    frame.jobs.push_back(std::move(row));
    if (depth == 0 && of_user) add_jobs(frame, before, id, depth + 1, sort);
  }
}

/// Of UTF-8 text.
std::string first_columns(const std::string& text, std::size_t columns) {
  std::size_t seen = 0;
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80 && seen++ == columns) break;
  return text.substr(0, at);
}

std::string cores_text(double cores) {
  return fmt::format("{:.0f}%", cores * 100);
}

std::string rate_text(double rate) {
  return rate >= 10 || rate == 0 ? fmt::format("{:.0f}", rate) : fmt::format("{:.1f}", rate);
}

std::string server_lines(const Snapshot& now) {
  std::size_t running = 0;
  std::string others;
  for (const ListedServer& server : now.servers) {
    if (state_name(server) == "running")
      ++running;
    else
      others += fmt::format(
          "  {}: {}{}{}\n", printable(server.server.view()), state_name(server),
          server.last_end.view().empty() ? "" : ", last end: ", printable(server.last_end.view()));
  }
  std::string text =
      fmt::format("servers: {} of {} running\n", running, now.servers.size()) + others;
  for (const std::string& one : now.silent) text += "  no answer from " + printable(one) + "\n";
  return text;
}

std::string device_table(const Frame& frame) {
  Table table({{"DEVICE"},
               {"NAME"},
               {"HEALTH"},
               {"LOAD", Align::right},
               {"TEMP", Align::right},
               {"MEMORY", Align::right},
               {"CONTEXTS", Align::right},
               {"TASKS/S", Align::right},
               {"BUSY", Align::right},
               {"THREADS", Align::right}});
  for (const DeviceRow& row : frame.devices) {
    const auto& d = row.device.device;
    constexpr std::size_t most_of_name = 40;
    table.add({row.name, first_columns(std::string(d.model.view()), most_of_name),
               std::string(health_name(row.device)),
               d.busy_permille == proto::driver::unknown_utilisation
                   ? "-"
                   : fmt::format("{:.0f}%", d.busy_permille / 10.0),
               d.millicelsius == proto::driver::unknown_temperature
                   ? "-"
                   : fmt::format("{:.0f} C", d.millicelsius / 1000.0),
               human_bytes(d.memory_bytes), std::to_string(d.contexts),
               rate_text(row.rates.tasks_per_s), fmt::format("{:.1f}", row.rates.busy_threads),
               std::to_string(d.threads)});
  }
  return table.empty() ? "" : table.to_string();
}

std::string job_table(const Frame& frame) {
  Table table({{"JOB"},
               {"CPU", Align::right},
               {"MEMORY", Align::right},
               {"REGIONS", Align::right},
               {"PROCESSES", Align::right},
               {"RUNNING", Align::right},
               {"WAITING", Align::right},
               {"TASKS/S", Align::right},
               {"BUSY", Align::right},
               {"FAILED", Align::right}});
  for (const JobRow& row : frame.jobs) {
    const bool has_tasks = row.use.load.job_id != 0;
    const auto of_tasks = [&](const std::string& text) {
      return has_tasks ? text : std::string("-");
    };
    const auto& load = row.use.load;
    table.add({(row.depth == 0 ? "" : "  ") + std::string(row.use.record.name.view()),
               cores_text(row.cores), human_bytes(row.use.processes.memory_bytes),
               human_bytes(row.use.record.used.memory_bytes),
               std::to_string(row.use.record.used.processes),
               of_tasks(std::to_string(load.running)), of_tasks(std::to_string(load.waiting)),
               of_tasks(rate_text(row.rates.tasks_per_s)),
               of_tasks(fmt::format("{:.1f}", row.rates.busy_threads)),
               of_tasks(std::to_string(load.tasks_failed))});
  }
  return table.empty() ? "" : table.to_string();
}

json rates_json(const TaskRates& rates) {
  return {{"tasks_per_s", rates.tasks_per_s}, {"busy_threads", rates.busy_threads}};
}

json device_json(const DeviceRow& row) {
  const auto& d = row.device.device;
  json out = rates_json(row.rates);
  out["device"] = row.name;
  out["name"] = d.model.view();
  out["backend"] = d.backend.view();
  out["health"] = health_name(row.device);
  out["utilisation"] = d.busy_permille == proto::driver::unknown_utilisation
                           ? json(nullptr)
                           : json(d.busy_permille / 1000.0);
  out["temperature_celsius"] = d.millicelsius == proto::driver::unknown_temperature
                                   ? json(nullptr)
                                   : json(d.millicelsius / 1000.0);
  out["memory_bytes"] = d.memory_bytes;
  out["contexts"] = d.contexts;
  out["threads"] = d.threads;
  return out;
}

json job_json(const JobRow& row) {
  json out = rates_json(row.rates);
  out["job_id"] = row.use.record.job_id;
  out["path"] = row.use.path;
  out["cores"] = row.cores;
  out["memory_bytes"] = row.use.processes.memory_bytes;
  out["region_bytes"] = row.use.record.used.memory_bytes;
  out["processes"] = row.use.record.used.processes;
  out["tasks_running"] = row.use.load.running;
  out["tasks_waiting"] = row.use.load.waiting;
  out["tasks_done"] = row.use.load.tasks_done;
  out["tasks_failed"] = row.use.load.tasks_failed;
  return out;
}

}  // namespace

Frame make_frame(const Snapshot& before, Snapshot now, SortBy sort) {
  Frame frame;
  frame.seconds = static_cast<double>(now.at_ns - std::min(before.at_ns, now.at_ns)) / 1e9;
  const std::vector<std::string> names = names_of(now.devices);
  for (std::size_t i = 0; i < now.devices.size(); ++i) {
    const ListedDevice& device = now.devices[i];
    const ListedDevice then = i < before.devices.size() ? before.devices[i] : ListedDevice{};
    const TaskRates rates = rates_of(
        grown(then.tasks_done + then.tasks_failed, device.tasks_done + device.tasks_failed),
        grown(then.busy_ns, device.busy_ns), frame.seconds);
    frame.rates.tasks_per_s += rates.tasks_per_s;
    frame.rates.busy_threads += rates.busy_threads;
    frame.devices.push_back({names[i], device, rates});
  }
  // Operators see the root job, too, which has everything.
  std::uint64_t top = 0;
  if (!now.jobs.empty()) {
    const ListedJob& first = now.jobs.front().record;
    top = first.parent_id == 0 ? first.job_id : first.parent_id;
  }
  frame.now = std::move(now);
  add_jobs(frame, before, top, 0, sort);
  for (const JobRow& row : frame.jobs) {
    if (row.depth != 0) continue;
    frame.waiting += row.use.load.waiting;
    frame.running += row.use.load.running;
  }
  return frame;
}

std::string to_text(const Frame& frame, const std::string& socket) {
  const auto& instance = frame.now.instance;
  const std::uint64_t up_ns = frame.now.at_ns - std::min(instance.started_ns, frame.now.at_ns);
  std::string text =
      fmt::format("AIOS at {}: up {}, {} processes, {} links, {} in {} regions\n",
                  printable(socket), human_duration(up_ns), instance.processes, instance.links,
                  human_bytes(instance.region_bytes), instance.regions);
  text += fmt::format("tasks: {} running, {} waiting, {} a second, {:.1f} threads busy with them\n",
                      frame.running, frame.waiting, rate_text(frame.rates.tasks_per_s),
                      frame.rates.busy_threads);
  if (frame.now.storage)
    text += fmt::format("storage: {} objects, {}, {} free\n", frame.now.storage->objects,
                        human_bytes(frame.now.storage->stored_bytes),
                        human_bytes(frame.now.storage->free_bytes));
  text += server_lines(frame.now);
  text += "\n" + device_table(frame) + "\n" + job_table(frame);
  return text;
}

json to_json(const Frame& frame) {
  const auto& instance = frame.now.instance;
  json out = rates_json(frame.rates);
  out["interval_s"] = frame.seconds;
  out["uptime_ns"] = frame.now.at_ns - std::min(instance.started_ns, frame.now.at_ns);
  out["tasks_running"] = frame.running;
  out["tasks_waiting"] = frame.waiting;
  out["silent"] = frame.now.silent;
  out["servers"] = json::array();
  for (const ListedServer& server : frame.now.servers)
    out["servers"].push_back({{"name", server.server.view()}, {"state", state_name(server)}});
  out["devices"] = json::array();
  for (const DeviceRow& row : frame.devices) out["devices"].push_back(device_json(row));
  out["jobs"] = json::array();
  for (const JobRow& row : frame.jobs) out["jobs"].push_back(job_json(row));
  return out;
}

std::string fitted(const std::string& text, std::size_t lines, std::size_t columns) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    all.push_back(first_columns(text.substr(at, end - at), columns));
    at = end + 1;
  }
  if (all.size() > lines && lines > 0) {
    const std::size_t missing = all.size() - lines + 1;
    all.resize(lines - 1);
    all.push_back(first_columns(fmt::format("... and {} lines more", missing), columns));
  }
  std::string out;
  for (const std::string& line : all) out += line + "\n";
  return out;
}

}  // namespace aios::ctl
