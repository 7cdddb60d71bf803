#include "tools/aiosctl/watch/frame.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;

void sort_jobs(std::vector<JobRow>& jobs, SortBy sort) {
  std::ranges::stable_sort(jobs, std::greater(), [sort](const JobRow& row) {
    switch (sort) {
      case SortBy::cpu:
        return row.rates.cores;
      case SortBy::memory:
        return static_cast<double>(row.sums.memory_bytes + row.job.record.used.memory_bytes);
      case SortBy::tasks:
        break;
    }
    return row.rates.tasks.tasks_per_s;
  });
}

/// Of jobs right below `parent`, sorted, and behind each user's those of his programs. Of contexts
/// alone nothing is shown, for they work for the job above; of servers `aiosctl status` tells.
void add_jobs(Frame& frame, const std::vector<JobSums>& sums, const std::vector<JobRates>& rates,
              std::uint64_t parent, int depth, SortBy sort) {
  std::vector<JobRow> rows;
  for (std::size_t i = 0; i < frame.now.jobs.size(); ++i) {
    const SeenJob& job = frame.now.jobs[i];
    if (job.record.parent_id == parent && job.record.name.view() != proto::kernel::contexts_job)
      rows.push_back({job, sums[i], rates[i], depth});
  }
  sort_jobs(rows, sort);
  for (JobRow& row : rows) {
    const std::uint64_t id = row.job.record.job_id;
    const bool of_user = row.job.record.name.view().starts_with("user:");
    frame.jobs.push_back(std::move(row));
    if (depth == 0 && of_user) add_jobs(frame, sums, rates, id, depth + 1, sort);
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

/// Of a quantity that may be unknown.
template <class Value, class Write>
std::string known(bool is_known, const Value& value, Write write) {
  return is_known ? std::string(write(value)) : "-";
}

std::string rate_text(double rate) {
  return rate >= 10 || rate == 0 ? fmt::format("{:.0f}", rate) : fmt::format("{:.1f}", rate);
}
std::string threads_text(double threads) {
  return fmt::format("{:.1f}", threads);
}
std::string count_text(std::uint64_t count) {
  return std::to_string(count);
}

std::string server_lines(const Snapshot& now) {
  std::size_t running = 0;
  std::string others;
  for (const ListedServer& server : now.servers) {
    const bool has_ended = !server.last_end.view().empty();
    if (state_name(server) == "running")
      ++running;
    else
      others += fmt::format("  {}: {}{}{}\n", printable(server.server.view()), state_name(server),
                            has_ended ? ", last end: " : "", printable(server.last_end.view()));
  }
  std::string text;
  if (!now.servers.empty())
    text = fmt::format("servers: {} of {} running\n", running, now.servers.size()) + others;
  for (const auto& [server, why] : now.silent)
    text += fmt::format("  no answer from {}: {}\n", server, printable(why));
  return text;
}

std::string task_line(const Frame& frame) {
  const bool knows = frame.now.knows_tasks;
  TaskRates all;
  for (const TaskRates& one : frame.device_rates.value_or(std::vector<TaskRates>{})) {
    all.tasks_per_s += one.tasks_per_s;
    all.busy_threads += one.busy_threads;
  }
  const bool rates = frame.device_rates.has_value();
  return fmt::format(
      "tasks: {} running, {} waiting, {} done a second, {} threads busy with them\n",
      known(knows, frame.running, count_text), known(knows, frame.waiting, count_text),
      known(rates, all.tasks_per_s, rate_text), known(rates, all.busy_threads, threads_text));
}

std::string device_table(const Frame& frame) {
  constexpr std::size_t most_of_name = 40;
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
  const std::vector<std::string> names = names_of(frame.now.devices);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto& d = frame.now.devices[i].device;
    const bool rates = frame.device_rates.has_value();
    const TaskRates rate = rates ? (*frame.device_rates)[i] : TaskRates{};
    table.add({names[i], first_columns(std::string(d.model.view()), most_of_name),
               std::string(health_name(frame.now.devices[i])),
               d.busy_permille == proto::driver::unknown_utilisation
                   ? "-"
                   : fmt::format("{:.0f}%", d.busy_permille / 10.0),
               d.millicelsius == proto::driver::unknown_temperature
                   ? "-"
                   : fmt::format("{:.0f} C", d.millicelsius / 1000.0),
               human_bytes(d.memory_bytes), std::to_string(d.contexts),
               known(rates, rate.tasks_per_s, rate_text),
               known(rates, rate.busy_threads, threads_text), std::to_string(d.threads)});
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
    const JobSums& sums = row.sums;
    const bool processes = frame.now.knows_processes;
    const bool rates = sums.has_tasks && frame.device_rates.has_value();
    table.add({(row.depth == 0 ? "" : "  ") + std::string(row.job.record.name.view()),
               known(processes, row.rates.cores,
                     [](double cores) { return fmt::format("{:.0f}%", cores * 100); }),
               known(processes, sums.memory_bytes, human_bytes),
               human_bytes(row.job.record.used.memory_bytes),
               std::to_string(row.job.record.used.processes),
               known(sums.has_tasks, sums.running, count_text),
               known(sums.has_tasks, sums.waiting, count_text),
               known(rates, row.rates.tasks.tasks_per_s, rate_text),
               known(rates, row.rates.tasks.busy_threads, threads_text),
               known(sums.has_tasks, sums.tasks_failed, count_text)});
  }
  return table.empty() ? "" : table.to_string();
}

template <class Value>
json or_null(bool is_known, const Value& value) {
  return is_known ? json(value) : json(nullptr);
}

json device_json(const Frame& frame, std::size_t index, const std::string& name) {
  const ListedDevice& device = frame.now.devices[index];
  const auto& d = device.device;
  const bool rates = frame.device_rates.has_value();
  const TaskRates rate = rates ? (*frame.device_rates)[index] : TaskRates{};
  return {{"device", name},
          {"name", d.model.view()},
          {"backend", d.backend.view()},
          {"health", health_name(device)},
          {"utilisation", or_null(d.busy_permille != proto::driver::unknown_utilisation,
                                  d.busy_permille / 1000.0)},
          {"temperature_celsius",
           or_null(d.millicelsius != proto::driver::unknown_temperature, d.millicelsius / 1000.0)},
          {"memory_bytes", d.memory_bytes},
          {"contexts", d.contexts},
          {"threads", d.threads},
          {"tasks_per_s", or_null(rates, rate.tasks_per_s)},
          {"busy_threads", or_null(rates, rate.busy_threads)}};
}

json job_json(const Frame& frame, const JobRow& row) {
  const JobSums& sums = row.sums;
  const bool tasks = frame.now.knows_tasks;
  const bool rates = frame.device_rates.has_value();
  const bool processes = frame.now.knows_processes;
  return {{"job_id", row.job.record.job_id},
          {"path", row.job.path},
          {"cores", or_null(processes, row.rates.cores)},
          {"memory_bytes", or_null(processes, sums.memory_bytes)},
          {"region_bytes", row.job.record.used.memory_bytes},
          {"processes", row.job.record.used.processes},
          {"tasks_running", or_null(tasks, sums.running)},
          {"tasks_waiting", or_null(tasks, sums.waiting)},
          {"tasks_done", or_null(tasks, sums.tasks_done)},
          {"tasks_failed", or_null(tasks, sums.tasks_failed)},
          {"tasks_per_s", or_null(rates, row.rates.tasks.tasks_per_s)},
          {"busy_threads", or_null(rates, row.rates.tasks.busy_threads)}};
}

}  // namespace

Frame make_frame(const Snapshot& before, Snapshot now, SortBy sort) {
  Frame frame;
  frame.seconds = static_cast<double>(now.at_ns - std::min(before.at_ns, now.at_ns)) / 1e9;
  frame.device_rates = device_rates_of(before, now);
  const std::vector<JobSums> sums = sums_of(now);
  const std::vector<JobRates> rates = rates_of(before, now);
  // Operators see the root job, too, which has everything.
  std::uint64_t top = 0;
  if (!now.jobs.empty()) {
    const ListedJob& first = now.jobs.front().record;
    top = first.parent_id == 0 ? first.job_id : first.parent_id;
  }
  frame.now = std::move(now);
  add_jobs(frame, sums, rates, top, 0, sort);
  for (const JobRow& row : frame.jobs) {
    if (row.depth != 0) continue;
    frame.waiting += row.sums.waiting;
    frame.running += row.sums.running;
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
  text += task_line(frame);
  if (frame.now.storage)
    text += fmt::format("storage: {} objects, {}, {} free\n", frame.now.storage->objects,
                        human_bytes(frame.now.storage->stored_bytes),
                        human_bytes(frame.now.storage->free_bytes));
  text += server_lines(frame.now);
  const std::string devices = device_table(frame);
  return text + "\n" + devices + (devices.empty() ? "" : "\n") + job_table(frame);
}

json to_json(const Frame& frame) {
  const auto& instance = frame.now.instance;
  const bool tasks = frame.now.knows_tasks;
  json out = {{"interval_s", frame.seconds},
              {"uptime_ns", frame.now.at_ns - std::min(instance.started_ns, frame.now.at_ns)},
              {"tasks_running", or_null(tasks, frame.running)},
              {"tasks_waiting", or_null(tasks, frame.waiting)},
              {"silent", frame.now.silent},
              {"servers", json::array()},
              {"devices", json::array()},
              {"jobs", json::array()}};
  for (const ListedServer& server : frame.now.servers)
    out["servers"].push_back({{"name", server.server.view()}, {"state", state_name(server)}});
  const std::vector<std::string> names = names_of(frame.now.devices);
  for (std::size_t i = 0; i < names.size(); ++i)
    out["devices"].push_back(device_json(frame, i, names[i]));
  for (const JobRow& row : frame.jobs) out["jobs"].push_back(job_json(frame, row));
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
