// What an instance says at one moment of what it holds and has done, for `aiosctl top` and `aiosctl
// metrics`; job_use.hpp adds it up.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "abi/proto/storage.hpp"
#include "tools/aiosctl/common/listings.hpp"
#include "tools/aiosctl/watch/process_use.hpp"

namespace aios::ctl {

struct SeenJob {
  ListedJob record;
  std::string path;
  proto::scheduler::LoadNext::Reply load;  ///< of its own tasks; `job_id` 0: it has had none
};

struct SeenProcess {
  pid_t pid = 0;
  std::uint64_t job_id = 0;
  ProcessUse use;
};

struct Snapshot {
  std::uint64_t at_ns = 0;    ///< by the monotonic clock
  std::uint64_t boot_ns = 0;  ///< the same moment after the machine's start
  proto::kernel::InstanceInfo::Reply instance;
  std::vector<ListedServer> servers;
  bool knows_tasks = false;  ///< what the scheduler says: devices and loads
  std::vector<ListedDevice> devices;
  std::vector<SeenJob> jobs;  ///< by number, so a job after the one above it
  bool knows_processes = false;
  std::vector<SeenProcess> processes;  ///< by pid; what programs that attached have started, too
  std::optional<proto::storage::Info::Reply> storage;
  /// Who was asked and did not answer: servers by name, and why.
  std::map<std::string, std::string> silent;
};

class Watcher {
 public:
  /// unreachable when no instance answers there.
  static Result<Watcher> attach(const Session& session);
  /// A server that does not answer within two seconds is silent; who is not in the manifest is not
  /// asked. An error is the kernel's, unreachable when it is gone: then this object is of no more
  /// use. While the kernel itself hangs it does not return.
  Result<Snapshot> look();

 private:
  explicit Watcher(Operator attached)
      : attached_(std::make_unique<Operator>(std::move(attached))) {}
  Result<Snapshot> ask_all();
  Result<void> ask_scheduler(Snapshot& out, Client& scheduler);
  Result<void> look_at_processes(Snapshot& out);

  std::unique_ptr<Operator> attached_;  ///< outlives the clients
  std::map<std::string, std::unique_ptr<Client>> clients_;
};

}  // namespace aios::ctl
