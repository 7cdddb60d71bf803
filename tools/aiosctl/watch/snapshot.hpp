// What an instance holds and has done at one moment, for `aiosctl top` and `aiosctl metrics`.
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

/// A job with all jobs below it.
struct JobUse {
  ListedJob record;
  std::string path;
  /// Of its processes, as its control group has counted them. Without one: of those that live, and
  /// of programs that attached what they have started, too; so it may become less.
  ProcessUse processes;
  proto::scheduler::LoadNext::Reply load;  ///< of its tasks; `job_id` is 0 where it never had any
};

struct Snapshot {
  std::uint64_t at_ns = 0;  ///< by the monotonic clock
  proto::kernel::InstanceInfo::Reply instance;
  std::vector<ListedServer> servers;
  std::vector<ListedDevice> devices;
  std::vector<JobUse> jobs;  ///< by number, so a job after the one above it
  std::optional<proto::storage::Info::Reply> storage;
  /// Whom nothing is known of, and why: "scheduler: ...".
  std::vector<std::string> silent;
};

/// Adds to each job what the jobs below it have; `own` is by position in `jobs`.
void add_to_jobs_above(std::vector<JobUse>& jobs);

class Watcher {
 public:
  /// unreachable when no instance answers there.
  static Result<Watcher> attach(const Session& session);
  /// Servers that do not answer within two seconds, all together, are silent. An error is the
  /// kernel's: then this object is of no more use.
  Result<Snapshot> look();

 private:
  explicit Watcher(Operator attached)
      : attached_(std::make_unique<Operator>(std::move(attached))) {}
  Result<void> look_at_scheduler(Snapshot& out, Deadline deadline);
  Result<void> look_at_storage(Snapshot& out, Deadline deadline);
  Result<void> look_at_processes(std::vector<JobUse>& jobs);
  Result<Client*> client(const std::string& label, std::uint64_t version);

  std::unique_ptr<Operator> attached_;  ///< outlives the clients
  std::map<std::string, std::unique_ptr<Client>> clients_;
};

}  // namespace aios::ctl
