// aiosctl jobs: quotas, and what is used of them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "tools/aiosctl/common/listings.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
using nlohmann::json;

json json_of(const pk::JobRecord& job, const std::string& path) {
  json enforced = json::array();
  if ((job.enforced & pk::enforced::memory) != 0) enforced.push_back("memory");
  if ((job.enforced & pk::enforced::cpu) != 0) enforced.push_back("cpu");
  if ((job.enforced & pk::enforced::processes) != 0) enforced.push_back("processes");
  return {{"job_id", job.job_id},
          {"parent_id", job.parent_id},
          {"name", job.name.view()},
          {"path", path},
          {"quota",
           {{"memory_bytes", job.quota.memory_bytes},
            {"cpu_millis", job.quota.cpu_millis},
            {"processes", job.quota.processes},
            {"handles", job.quota.handles},
            {"links", job.quota.links}}},
          {"used",
           {{"region_bytes", job.used.memory_bytes},
            {"own_memory_bytes", job.own_memory_bytes},
            {"cpu_ns", job.cpu_ns},
            {"processes", job.used.processes},
            {"handles", job.used.handles},
            {"links", job.used.links}}},
          {"enforced_by_linux", enforced},
          {"memory_kills", job.memory_kills},
          {"refused_forks", job.refused_forks}};
}

std::string of_quota(const std::string& used, std::uint64_t most, const std::string& quota) {
  return most == 0 ? used : used + " of " + quota;
}

Result<int> show_jobs(const Session& session) {
  Operator attached = TRY(Operator::attach(session));
  const std::vector<pk::JobRecord> jobs = TRY(list_jobs(attached));
  json out = json::array();
  Table table({{"ID", Align::right},
               {"JOB"},
               {"PROCESSES", Align::right},
               {"REGIONS", Align::right},
               {"OWN MEMORY", Align::right},
               {"CPU", Align::right},
               {"CORES", Align::right},
               {"HANDLES", Align::right},
               {"LINKS", Align::right}});
  for (const pk::JobRecord& job : jobs) {
    const std::string path = path_of(job, jobs);
    out.push_back(json_of(job, path));
    const auto count = [](std::uint64_t used, std::uint64_t most) {
      return of_quota(std::to_string(used), most, std::to_string(most));
    };
    const std::string memory = human_bytes(job.quota.memory_bytes);
    const bool counted = job.enforced != 0;
    table.add({std::to_string(job.job_id), path, count(job.used.processes, job.quota.processes),
               of_quota(human_bytes(job.used.memory_bytes), job.quota.memory_bytes, memory),
               counted ? human_bytes(job.own_memory_bytes) : "-",
               counted ? human_duration(job.cpu_ns) : "-",
               job.quota.cpu_millis == 0 ? "-" : fmt::format("{:g}", job.quota.cpu_millis / 1000.0),
               count(job.used.handles, job.quota.handles), count(job.used.links, job.quota.links)});
  }
  session.json ? print_json(out) : table.print();
  return exit_done;
}

}  // namespace

void add_job_commands(CLI::App& app, Session& session) {
  CLI::App* jobs = app.add_subcommand("jobs", "Jobs, their quotas and what they use");
  jobs->add_flag("--json", session.json, "As JSON (abi/schema/jobs.json)");
  jobs->callback([&session] {
    session.action = [&session] { return run_command([&] { return show_jobs(session); }); };
  });
}

}  // namespace aios::ctl
