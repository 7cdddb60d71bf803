// What several commands list of an instance: processes, jobs, servers, devices. Each listing is one
// call for each entry, so what begins or ends meanwhile is in it or not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/proto/supervisor.hpp"
#include "tools/aiosctl/common/operator.hpp"

namespace aios::ctl {

inline constexpr std::size_t max_listed = 100'000;

/// The root job of an operator's instance; for others the job that they attached to.
Handle scope_of(Operator& attached);

/// Every answer of a kernel's `_next` call below that job: `id_of` gives the number to go on from,
/// 0 at the end.
template <class M, class IdOf>
Result<std::vector<typename M::Reply>> list_all(Operator& attached, IdOf id_of) {
  const Handle scope = scope_of(attached);
  std::vector<typename M::Reply> all;
  std::uint64_t after = 0;
  while (all.size() < max_listed) {
    const auto next = TRY(attached.kernel().call<M>({scope, after})).reply;
    after = id_of(next);
    if (after == 0) break;
    all.push_back(next);
  }
  return all;
}

/// Those that have not ended.
Result<std::vector<proto::kernel::ProcessRecord>> list_processes(Operator& attached);

using ListedJob = proto::kernel::JobRecord;
Result<std::vector<ListedJob>> list_jobs(Operator& attached);
/// "user:1000/run-7": the names from below the root on.
std::string path_of(const ListedJob& job, const std::vector<ListedJob>& all);

using ListedServer = proto::supervisor::Server::Reply;
/// Those of the manifest.
Result<std::vector<ListedServer>> list_servers(
    Client& supervisor, Deadline deadline = Deadline::after(call_timeout_ns));
/// "running"
std::string_view state_name(const ListedServer& server);

using ListedDevice = proto::scheduler::DeviceNext::Reply;
/// All that the scheduler knows.
Result<std::vector<ListedDevice>> list_devices(
    Client& scheduler, Deadline deadline = Deadline::after(call_timeout_ns));
/// "cpu0", "gpu1"; by device.
std::vector<std::string> names_of(const std::vector<ListedDevice>& devices);
/// "ok"
std::string_view health_name(const ListedDevice& device);

}  // namespace aios::ctl
