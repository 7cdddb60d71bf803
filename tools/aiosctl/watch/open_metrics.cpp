#include "tools/aiosctl/watch/open_metrics.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <utility>

#include "abi/runtime/standard_streams.hpp"

namespace aios::ctl {

namespace {

struct Label {
  std::string_view name;
  std::string value;
};
using Labels = std::vector<Label>;

std::string escaped(std::string_view value) {
  std::string out;
  for (const char byte : printable(value)) {
    if (byte == '\\' || byte == '"') out += '\\';
    out += static_cast<unsigned char>(byte) < 0x80 ? byte : '?';
  }
  return out;
}

/// One family after another: its type, unit and meaning, then its samples; nothing without samples.
class Writer {
 public:
  /// `unit` is how `name` ends; empty: it has none.
  void family(std::string_view name, std::string_view type, std::string_view unit,
              std::string_view help) {
    name_ = name;
    suffix_ = type == "counter" ? "_total" : type == "info" ? "_info" : "";
    heading_ = fmt::format("# TYPE {} {}\n", name, type);
    if (!unit.empty()) heading_ += fmt::format("# UNIT {} {}\n", name, unit);
    heading_ += fmt::format("# HELP {} {}\n", name, help);
  }
  template <class Number>
  void sample(const Labels& labels, Number value) {
    text_ += std::exchange(heading_, {}) + name_ + suffix_;
    for (std::size_t i = 0; i < labels.size(); ++i)
      text_ +=
          fmt::format("{}{}=\"{}\"", i == 0 ? "{" : ",", labels[i].name, escaped(labels[i].value));
    text_ += fmt::format("{} {}\n", labels.empty() ? "" : "}", value);
  }
  std::string take() { return std::move(text_) + "# EOF\n"; }

 private:
  std::string text_;
  std::string heading_;
  std::string name_;
  std::string suffix_;
};

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / 1e9;
}

void write_instance(Writer& out, const Snapshot& snapshot) {
  const auto& instance = snapshot.instance;
  out.family("aios_uptime_seconds", "gauge", "seconds", "Since the instance was booted.");
  out.sample({}, seconds(snapshot.at_ns - std::min(instance.started_ns, snapshot.at_ns)));
  out.family("aios_processes", "gauge", "", "Servers, contexts and attached programs.");
  out.sample({}, instance.processes);
  out.family("aios_links", "gauge", "", "Connections between processes.");
  out.sample({}, instance.links);
  out.family("aios_regions", "gauge", "", "Regions of shared memory.");
  out.sample({}, instance.regions);
  out.family("aios_regions_bytes", "gauge", "bytes", "Shared memory of all regions.");
  out.sample({}, instance.region_bytes);
  out.family("aios_supervisor_restarts", "counter", "", "How often the supervisor came back.");
  out.sample({}, instance.supervisor_restarts);
  out.family("aios_silent", "gauge", "",
             "1: the server was asked and did not answer; what it knows is missing.");
  for (const char* server : {"supervisor", "scheduler", "storage"})
    out.sample({{"server", server}}, snapshot.silent.contains(server) ? 1 : 0);
}

void write_servers(Writer& out, const std::vector<ListedServer>& servers) {
  const auto each = [&](auto value) {
    for (const ListedServer& server : servers)
      out.sample({{"server", std::string(server.server.view())}}, value(server));
  };
  out.family("aios_server_up", "gauge", "", "1: it runs and answers; 0: any other state.");
  each([](const ListedServer& s) { return state_name(s) == "running" ? 1 : 0; });
  out.family("aios_server_restarts", "counter", "", "How often it was started again.");
  each([](const ListedServer& s) { return s.restarts; });
  out.family("aios_server_missed_heartbeats", "gauge", "", "In a row, by now.");
  each([](const ListedServer& s) { return s.missed_heartbeats; });
  out.family("aios_server_heartbeat_seconds", "gauge", "seconds",
             "How long it took to answer the last one.");
  each([](const ListedServer& s) { return seconds(s.heartbeat_ns); });
}

void write_devices(Writer& out, const std::vector<ListedDevice>& devices) {
  const std::vector<std::string> names = names_of(devices);
  const auto each = [&](auto write) {
    for (std::size_t i = 0; i < devices.size(); ++i) write(Label{"device", names[i]}, devices[i]);
  };
  out.family("aios_device", "info", "", "What computes here.");
  each([&](const Label& label, const ListedDevice& d) {
    out.sample({label,
                {"kind", std::string(d.device.kind.view())},
                {"backend", std::string(d.device.backend.view())},
                {"name", std::string(d.device.model.view())},
                {"uuid", std::string(d.device.uuid.view())}},
               1);
  });
  out.family("aios_device_up", "gauge", "", "1: its health is ok; 0: degraded or failed.");
  each([&](const Label& label, const ListedDevice& d) {
    out.sample({label}, health_name(d) == "ok" ? 1 : 0);
  });
  out.family("aios_device_utilisation_ratio", "gauge", "ratio",
             "How much of it was in use of late, by anybody.");
  each([&](const Label& label, const ListedDevice& d) {
    if (d.device.busy_permille != proto::driver::unknown_utilisation)
      out.sample({label}, d.device.busy_permille / 1000.0);
  });
  out.family("aios_device_temperature_celsius", "gauge", "celsius", "Of those that say it.");
  each([&](const Label& label, const ListedDevice& d) {
    if (d.device.millicelsius != proto::driver::unknown_temperature)
      out.sample({label}, d.device.millicelsius / 1000.0);
  });
  out.family("aios_device_memory_bytes", "gauge", "bytes", "That it works in.");
  each([&](const Label& label, const ListedDevice& d) {
    out.sample({label}, d.device.memory_bytes);
  });
  out.family("aios_device_threads", "gauge", "", "What runs at once there.");
  each([&](const Label& label, const ListedDevice& d) { out.sample({label}, d.device.threads); });
  out.family("aios_device_contexts", "gauge", "", "Processes of jobs there.");
  each([&](const Label& label, const ListedDevice& d) { out.sample({label}, d.device.contexts); });
  out.family("aios_device_faults", "counter", "", "What went wrong in contexts there.");
  each([&](const Label& label, const ListedDevice& d) { out.sample({label}, d.device.faults); });
  out.family("aios_device_context_restarts", "counter", "", "Contexts that were opened again.");
  each([&](const Label& label, const ListedDevice& d) {
    out.sample({label}, d.device.context_restarts);
  });
  out.family("aios_device_tasks", "counter", "",
             "That ended there; failed without those that never began.");
  each([&](const Label& label, const ListedDevice& d) {
    out.sample({label, {"result", "done"}}, d.tasks_done);
    out.sample({label, {"result", "failed"}}, d.tasks_failed);
  });
  out.family("aios_device_busy_seconds", "counter", "seconds",
             "Time of its threads with tasks that ended.");
  each([&](const Label& label, const ListedDevice& d) { out.sample({label}, seconds(d.busy_ns)); });
}

void write_jobs(Writer& out, const Snapshot& snapshot) {
  const std::vector<JobSums> sums = sums_of(snapshot);
  const auto each = [&](auto write) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const SeenJob& job = snapshot.jobs[i];
      // Contexts work for the job above theirs.
      if (job.record.name.view() != proto::kernel::contexts_job)
        write(Labels{{"job", job.path}, {"id", std::to_string(job.record.job_id)}}, sums[i],
              job.record);
    }
  };
  out.family("aios_job_processes", "gauge", "",
             "Of AIOS, of the job and those below, as all here.");
  each([&](const Labels& labels, const JobSums&, const ListedJob& job) {
    out.sample(labels, job.used.processes);
  });
  out.family("aios_job_regions_bytes", "gauge", "bytes", "Shared memory.");
  each([&](const Labels& labels, const JobSums&, const ListedJob& job) {
    out.sample(labels, job.used.memory_bytes);
  });
  out.family("aios_job_memory_bytes", "gauge", "bytes",
             "Of its processes, without what is shared.");
  each([&](const Labels& labels, const JobSums& sum, const ListedJob&) {
    if (snapshot.knows_processes) out.sample(labels, sum.memory_bytes);
  });
  // Without a control group it is of those that live, and so no counter.
  out.family("aios_job_cpu_seconds", "gauge", "seconds",
             "Time on all cores of its processes that live; of all where a control group counts.");
  each([&](const Labels& labels, const JobSums& sum, const ListedJob&) {
    if (snapshot.knows_processes) out.sample(labels, seconds(sum.cpu_ns));
  });
  const auto with = [](Labels labels, const char* name, const char* value) {
    labels.push_back({name, value});
    return labels;
  };
  out.family("aios_job_tasks_pending", "gauge", "", "That have not ended.");
  each([&](const Labels& labels, const JobSums& sum, const ListedJob&) {
    if (!sum.has_tasks) return;
    out.sample(with(labels, "state", "waiting"), sum.waiting);
    out.sample(with(labels, "state", "running"), sum.running);
  });
  // As a job ends its numbers leave its user's: a sum over jobs that come and go is no counter.
  out.family("aios_job_tasks_ended", "gauge", "",
             "Of jobs that the scheduler has now; failed with those that were cancelled.");
  each([&](const Labels& labels, const JobSums& sum, const ListedJob&) {
    if (!sum.has_tasks) return;
    out.sample(with(labels, "result", "done"), sum.tasks_done);
    out.sample(with(labels, "result", "failed"), sum.tasks_failed);
  });
  out.family("aios_job_busy_seconds", "gauge", "seconds",
             "Time of devices' threads with those tasks.");
  each([&](const Labels& labels, const JobSums& sum, const ListedJob&) {
    if (sum.has_tasks) out.sample(labels, seconds(sum.busy_ns));
  });
}

void write_storage(Writer& out, const proto::storage::Info::Reply& storage) {
  out.family("aios_storage_objects", "gauge", "", "In storage.");
  out.sample({}, storage.objects);
  out.family("aios_storage_stored_bytes", "gauge", "bytes", "Of all objects.");
  out.sample({}, storage.stored_bytes);
  out.family("aios_storage_free_bytes", "gauge", "bytes", "Of the file system.");
  out.sample({}, storage.free_bytes);
  out.family("aios_storage_puts", "counter", "", "Objects that were written.");
  out.sample({}, storage.puts);
  out.family("aios_storage_flushes", "counter", "", "Of the disk.");
  out.sample({}, storage.flushes);
}

}  // namespace

std::string to_open_metrics(const Snapshot& snapshot) {
  Writer out;
  write_instance(out, snapshot);
  write_servers(out, snapshot.servers);
  write_devices(out, snapshot.devices);
  write_jobs(out, snapshot);
  if (snapshot.storage) write_storage(out, *snapshot.storage);
  return out.take();
}

}  // namespace aios::ctl
