// aiosctl jobs: quotas, and what is used of them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
using nlohmann::json;

constexpr std::size_t max_listed = 10'000;

/// All jobs of the instance for its operators, the user's own for others.
Result<std::vector<pk::JobRecord>> list_jobs(Operator& attached) {
  const Handle scope = attached.root().value_or(attached.kernel().job());
  std::vector<pk::JobRecord> jobs;
  std::uint64_t after = 0;
  while (jobs.size() < max_listed) {
    const pk::JobRecord job = TRY(attached.kernel().call<pk::JobNext>({scope, after})).reply;
    if (job.job_id == 0) break;
    after = job.job_id;
    jobs.push_back(job);
  }
  return jobs;
}

/// "user:1000/run-7": the names from below the root on.
std::string path_of(const pk::JobRecord& job, const std::vector<pk::JobRecord>& all) {
  std::string path(job.name.view());
  std::uint64_t parent = job.parent_id;
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    if (at->job_id != parent || at->parent_id == 0) continue;
    path = std::string(at->name.view()) + "/" + path;
    parent = at->parent_id;
  }
  return path;
}

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
