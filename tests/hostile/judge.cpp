#include "tests/hostile/judge.hpp"

#include <array>
#include <filesystem>
#include <sstream>

namespace aios::hostile {

namespace {

std::uint64_t open_descriptors(std::uint64_t pid) {
  std::error_code failure;
  std::uint64_t count = 0;
  for (auto entry =
           std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure))
    ++count;
  return count;
}

/// "what: 12, at most 10" for each that is too high.
class Excess {
 public:
  void check(const std::string& what, std::uint64_t now, std::uint64_t most) {
    if (now > most)
      text_ += what + " " + std::to_string(now) + ", at most " + std::to_string(most) + "; ";
  }
  void same(const std::string& what, std::uint64_t now, std::uint64_t before) {
    if (now != before)
      text_ += what + " " + std::to_string(now) + ", was " + std::to_string(before) + "; ";
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string excess_of(const Holdings& now, const Holdings& baseline) {
  Excess excess;
  excess.check("processes", now.processes, baseline.processes);
  excess.check("links", now.links, baseline.links);
  excess.check("regions", now.regions, baseline.regions);
  excess.check("bytes of regions", now.region_bytes, baseline.region_bytes);
  excess.check("descriptors of the kernel", now.kernel_fds, baseline.kernel_fds);
  for (const auto& [name, before] : baseline.servers) {
    const auto found = now.servers.find(name);
    const Holdings::Server server = found == now.servers.end() ? Holdings::Server{} : found->second;
    excess.same("epoch of " + name, server.epoch, before.epoch);
    excess.same("restarts of " + name, server.restarts, before.restarts);
    excess.check("handles of " + name, server.handles, before.handles);
    excess.check("links of " + name, server.links, before.links);
    excess.check("descriptors of " + name, server.fds, before.fds);
  }
  return excess.text();
}

}  // namespace

Result<Holdings> holdings_of(test::TestInstance& instance) {
  Holdings all;
  const auto info = TRY(instance.info());
  all.processes = info.processes;
  all.links = info.links;
  all.regions = info.regions;
  all.region_bytes = info.region_bytes;
  all.kernel_fds = open_descriptors(static_cast<std::uint64_t>(instance.kernel_pid()));
  for (const auto& process : TRY(instance.processes())) {
    const std::string name(process.name.view());
    if (process.outside != 0 || name.starts_with("cpu-")) continue;
    Holdings::Server& server = all.servers[name];
    server.epoch = process.epoch;
    server.handles = process.handles;
    server.links = process.links;
    server.fds = open_descriptors(process.pid);
    // The supervisor has no record of itself.
    if (const auto record = instance.server(name)) server.restarts = record->restarts;
  }
  all.servers["supervisor"].restarts = info.supervisor_restarts;
  return all;
}

Result<void> Judge::begin() {
  baseline_ = TRY(holdings_of(instance_));
  return {};
}

Result<void> Judge::nothing_left() {
  std::string excess;
  Result<void> read;
  const Result<void> settled = test::TestInstance::wait_until([&] {
    const Result<Holdings> now = holdings_of(instance_);
    if (!now) {
      read = std::unexpected(now.error());
      return true;
    }
    excess = excess_of(*now, baseline_);
    return excess.empty();
  });
  TRY(std::move(read));
  if (!settled) return error(Code::internal, "not given back: " + excess);
  return {};
}

std::string Judge::crash_in_logs() const {
  constexpr std::array<std::string_view, 7> signs = {
      "Sanitizer",        "runtime error",   "terminate called", "Assertion",
      "killed by signal", "does not answer", "restarting it"};
  std::istringstream logs(instance_.logs());
  for (std::string line; std::getline(logs, line);)
    for (const std::string_view sign : signs)
      if (line.find(sign) != std::string::npos) return line;
  return {};
}

}  // namespace aios::hostile
