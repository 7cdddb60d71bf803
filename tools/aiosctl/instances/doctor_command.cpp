// aiosctl doctor: what this host protects, what that means, and how to get the rest.
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/sandbox/cage.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"
#include "tools/aiosctl/instances/doctor.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;
using nlohmann::json;
using proto::sandbox::protection_names;
using sandbox::Protection;

constexpr std::uint64_t probe_timeout_ns = 20 * ns_per_s;

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text.append(text.empty() ? "" : ", ").append(name);
  return text;
}

/// What the supervisor makes of a manifest: there is one reader of manifests.
Result<std::vector<Patient>> read_manifest(const std::string& libexec,
                                           const std::string& manifest) {
  const std::string program = libexec + "/aios-supervisor";
  const auto ended = TRY(sandbox::run_in_cage(
      false, true,
      [&](int output) {
        ::dup2(output, STDOUT_FILENO);
        ::dup2(output, STDERR_FILENO);
        ::execl(program.c_str(), program.c_str(), "--manifest", manifest.c_str(), "--show-profiles",
                nullptr);
        const std::string why = "cannot run " + program;
        (void)!::write(output, why.data(), why.size());
        return 1;
      },
      Deadline::after(probe_timeout_ns)));
  if (ended.signalled || ended.code != 0) return error(Code::invalid_argument, ended.output);
  return parse_patients(ended.output);
}

struct Probe {
  std::uint32_t enforced = 0;
  std::map<Protection, std::string> reasons;
};

/// What this host gives a process of that profile, tried in one that ends at once.
Result<Probe> probe(sandbox::Profile profile) {
  const auto body = [profile](int output) {
    // Any folder that exists does for those who keep one.
    const auto report = sandbox::lock_in({.profile = profile, .folder = "/usr"});
    if (!report) return 1;
    std::string text = std::to_string(report->confined.enforced) + "\n";
    for (const sandbox::Missing& missing : report->missing)
      text += std::to_string(static_cast<std::uint32_t>(missing.protection)) + " " +
              missing.reason + "\n";
    return ::write(output, text.data(), text.size()) > 0 ? 0 : 1;
  };
  const bool keeps_user = proto::sandbox::keeps_user(profile);
  auto ended = sandbox::run_in_cage(true, keeps_user, body, Deadline::after(probe_timeout_ns));
  std::string no_namespaces;
  if (!ended) {
    no_namespaces = ended.error().message();
    ended = sandbox::run_in_cage(false, keeps_user, body, Deadline::after(probe_timeout_ns));
  }
  if (!ended || ended->signalled || ended->code != 0)
    return error(Code::internal, "a process of profile " +
                                     std::string(proto::sandbox::profile_name(profile)) +
                                     " cannot lock itself in here");
  Probe result;
  std::istringstream lines(ended->output);
  std::string line;
  std::getline(lines, line);
  result.enforced = static_cast<std::uint32_t>(std::stoul(line));
  while (std::getline(lines, line)) {
    const std::size_t end = line.find(' ');
    result.reasons[static_cast<Protection>(std::stoul(line.substr(0, end)))] = line.substr(end + 1);
  }
  if (!no_namespaces.empty()) result.reasons[Protection::namespaces] = no_namespaces;
  return result;
}

/// Replaces what this host would give by what the processes of the instance say that they have.
Result<void> ask_instance(const Session& session, Diagnosis& diagnosis) {
  Operator attached = TRY(Operator::attach(session));
  const Handle root = TRY(attached.root());
  diagnosis.running = true;
  std::vector<Patient> contexts;
  for (std::uint64_t after = 0;;) {
    const auto process = TRY(attached.kernel().call<pk::ProcessNext>({root, after})).reply;
    if ((after = process.process_id) == 0) break;
    const auto confined = proto::sandbox::Confined::from(process.sandbox);
    if (process.outside != 0 || process.exited != 0) continue;
    const std::string name(process.name.view());
    const auto found = std::ranges::find(diagnosis.patients, name, &Patient::name);
    if (found != diagnosis.patients.end()) {
      // Of several contexts the weakest counts.
      const std::uint32_t weakest = found->pid != 0 ? found->enforced : ~0u;
      found->pid = process.pid;
      found->enforced = confined ? confined->enforced & weakest : 0;
    } else if (confined) {
      contexts.push_back({name, confined->profile, 0, process.pid, confined->enforced});
    }
  }
  diagnosis.patients.insert(diagnosis.patients.end(), contexts.begin(), contexts.end());
  return {};
}

Result<Diagnosis> diagnose(const Session& session, const std::string& chosen) {
  const std::string libexec = TRY(find_libexec());
  const std::string manifest = chosen.empty() ? TRY(find_manifest(session.state, libexec)) : chosen;
  Diagnosis diagnosis;
  diagnosis.patients = TRY(read_manifest(libexec, manifest));
  std::map<sandbox::Profile, Probe> probes;
  for (Patient& patient : diagnosis.patients) {
    if (!probes.contains(patient.profile)) probes[patient.profile] = TRY(probe(patient.profile));
    patient.enforced = probes[patient.profile].enforced;
    if (patient.profile != sandbox::Profile::open)
      diagnosis.reasons.insert(probes[patient.profile].reasons.begin(),
                               probes[patient.profile].reasons.end());
  }
  const auto asked = ask_instance(session, diagnosis);
  if (!asked && asked.error().code() != Code::unreachable) return std::unexpected(asked.error());
  diagnosis.limits = TRY(job_limits(diagnosis.running ? &session : nullptr));
  diagnosis.libraries = host_libraries();
  diagnosis.memory = memory_features();
  return diagnosis;
}

void print(const Diagnosis& diagnosis) {
  for (std::size_t i = 0; i < protection_names.size(); ++i) {
    const auto protection = static_cast<Protection>(i);
    const sandbox::Explanation& text = sandbox::explain(protection);
    const std::vector<std::string> lacking = diagnosis.lacking(protection);
    const std::vector<std::string> required = diagnosis.requiring(protection);
    if (lacking.empty()) {
      print_to(stdout, "enforced  {:<18}  each process {}\n", protection_names[i], text.gives);
      continue;
    }
    const auto reason = diagnosis.reasons.find(protection);
    print_to(stdout, "MISSING   {:<18}  {} {}{}; to enable it: {}{}\n", protection_names[i],
             joined(lacking), text.without,
             reason == diagnosis.reasons.end() ? "" : " (" + printable(reason->second) + ")",
             text.enable,
             required.empty() ? "" : "; REQUIRED by the manifest for " + joined(required));
  }
  for (const JobLimit& limit : diagnosis.limits)
    if (limit.enforced)
      print_to(stdout, "enforced  {:<18}  a job {}\n", limit.name, limit.gives);
    else
      print_to(stdout, "MISSING   {:<18}  a job {} ({}); to enable it: {}\n", limit.name,
               limit.without, printable(limit.reason), enable_limits);
  for (const HostLibrary& library : diagnosis.libraries)
    if (library.reason.empty())
      print_to(stdout, "found     {:<18}  {}\n", library.name, library.gives);
    else
      print_to(stdout, "MISSING   {:<18}  {} ({}); to enable it: {}\n", library.name,
               library.without, printable(library.reason), library.enable);
  for (const MemoryFeature& feature : diagnosis.memory)
    if (feature.given)
      print_to(stdout, "given     {:<18}  {}\n", feature.name, feature.gives);
    else
      print_to(stdout, "MISSING   {:<18}  {} ({}); to enable it: {}\n", feature.name,
               feature.without, printable(feature.reason), feature.enable);
  for (const Patient& patient : diagnosis.patients)
    if (patient.profile == sandbox::Profile::open)
      print_to(stdout, "open      {} has no sandbox by the manifest's wish (profile \"open\")\n",
               patient.name);
  print_to(stdout, "{}\n",
           diagnosis.running ? "This is what the processes of the running instance have."
                             : "No instance runs; this is what its processes would have here.");
}

std::vector<std::string> names_of(std::uint32_t protections) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < protection_names.size(); ++i)
    if ((protections >> i & 1) != 0) names.emplace_back(protection_names[i]);
  return names;
}

json to_json(const Diagnosis& diagnosis) {
  json out = {{"running", diagnosis.running}, {"satisfied", diagnosis.satisfied()},
              {"protections", json::array()}, {"job_limits", json::array()},
              {"libraries", json::array()},   {"memory", json::array()},
              {"processes", json::array()}};
  for (std::size_t i = 0; i < protection_names.size(); ++i) {
    const auto protection = static_cast<Protection>(i);
    const sandbox::Explanation& text = sandbox::explain(protection);
    const auto reason = diagnosis.reasons.find(protection);
    out["protections"].push_back(
        {{"name", protection_names[i]},
         {"enforced", diagnosis.lacking(protection).empty()},
         {"gives", text.gives},
         {"without", text.without},
         {"enable", text.enable},
         {"reason", reason == diagnosis.reasons.end() ? "" : printable(reason->second)},
         {"missing_for", diagnosis.lacking(protection)},
         {"required_by", diagnosis.requiring(protection)}});
  }
  for (const JobLimit& limit : diagnosis.limits)
    out["job_limits"].push_back({{"name", limit.name},
                                 {"enforced", limit.enforced},
                                 {"gives", limit.gives},
                                 {"without", limit.without},
                                 {"enable", enable_limits},
                                 {"reason", limit.reason}});
  for (const HostLibrary& library : diagnosis.libraries)
    out["libraries"].push_back({{"name", library.name},
                                {"found", library.reason.empty()},
                                {"gives", library.gives},
                                {"without", library.without},
                                {"enable", library.enable},
                                {"reason", library.reason}});
  for (const MemoryFeature& feature : diagnosis.memory)
    out["memory"].push_back({{"name", feature.name},
                             {"given", feature.given},
                             {"gives", feature.gives},
                             {"without", feature.without},
                             {"enable", feature.enable},
                             {"reason", feature.reason}});
  for (const Patient& patient : diagnosis.patients)
    out["processes"].push_back({{"name", patient.name},
                                {"profile", proto::sandbox::profile_name(patient.profile)},
                                {"pid", patient.pid},
                                {"enforced", names_of(patient.enforced)},
                                {"required", names_of(patient.require)}});
  return out;
}

Result<int> doctor(const Session& session, const std::string& manifest) {
  const Diagnosis diagnosis = TRY(diagnose(session, manifest));
  if (session.json)
    print_json(to_json(diagnosis));
  else
    print(diagnosis);
  return diagnosis.satisfied() ? exit_done : exit_failed;
}

}  // namespace

void add_doctor_command(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("doctor", "What this host protects, and how to enable the rest");
  auto manifest = std::make_shared<std::string>();
  command->add_option("--manifest", *manifest, "As for boot")
      ->check(command_line::names_something());
  command->add_flag("--json", session.json, "As JSON (abi/schema/doctor.json)");
  command->footer("Exit code 1: the manifest requires what this host does not give.");
  command->callback([&session, manifest] {
    session.action = [&session, manifest] {
      return run_command([&] { return doctor(session, *manifest); });
    };
  });
}

}  // namespace aios::ctl
