#include "tools/aiosctl/common/listings.hpp"

#include <algorithm>
#include <iterator>

namespace aios::ctl {

namespace pk = proto::kernel;

Handle scope_of(Operator& attached) {
  return attached.root().value_or(attached.kernel().job());
}

Result<std::vector<pk::ProcessRecord>> list_processes(Operator& attached) {
  auto all = TRY(list_all<pk::ProcessNext>(
      attached, [](const pk::ProcessRecord& record) { return record.process_id; }));
  std::erase_if(all, [](const pk::ProcessRecord& record) { return record.exited != 0; });
  return all;
}

Result<std::vector<ListedJob>> list_jobs(Operator& attached) {
  return list_all<pk::JobNext>(attached, [](const ListedJob& job) { return job.job_id; });
}

std::string path_of(const ListedJob& job, const std::vector<ListedJob>& all) {
  std::string path(job.name.view());
  std::uint64_t parent = job.parent_id;
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    if (at->job_id != parent || at->parent_id == 0) continue;
    path = std::string(at->name.view()) + "/" + path;
    parent = at->parent_id;
  }
  return path;
}

Result<std::vector<ListedServer>> list_servers(Client& supervisor, Deadline deadline) {
  std::vector<ListedServer> servers;
  std::uint32_t count = 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    const ListedServer server = TRY(supervisor.call<proto::supervisor::Server>({i}, deadline));
    if (!server.server.valid() || !server.last_end.valid() || !server.last_words.valid())
      return error(Code::protocol_error, "the supervisor answered nonsense");
    count = server.count;
    servers.push_back(server);
  }
  return servers;
}

std::string_view state_name(const ListedServer& server) {
  static constexpr std::string_view names[] = {"waiting", "starting", "running",    "stopping",
                                               "stopped", "failed",   "quarantined"};
  return server.state < std::size(names) ? names[server.state] : "unknown";
}

Result<std::vector<ListedDevice>> list_devices(Client& scheduler, Deadline deadline) {
  std::vector<ListedDevice> devices;
  for (std::uint64_t index = 0;; ++index) {
    const auto next = scheduler.call<proto::scheduler::DeviceNext>({index}, deadline);
    // Without any the first is not found.
    if (!next && next.error().code() == Code::not_found) return devices;
    if (!next) return std::unexpected(next.error());
    devices.push_back(*next);
    if (index + 1 >= next->device.count) return devices;
  }
}

std::vector<std::string> names_of(const std::vector<ListedDevice>& devices) {
  std::vector<std::string> names;
  for (const ListedDevice& one : devices)
    names.push_back(std::string(one.device.kind.view()) + std::to_string(names.size()));
  return names;
}

std::string_view health_name(const ListedDevice& device) {
  constexpr std::string_view names[] = {"ok", "degraded", "failed"};
  const std::uint32_t health = device.device.health;
  return health < std::size(names) ? names[health] : "unknown";
}

}  // namespace aios::ctl
