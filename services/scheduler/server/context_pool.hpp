// The contexts of all jobs: opens them through the drivers, keeps a session to each, finds out how
// they ended and tells the core. A driver that is away is waited for; running contexts do not need
// it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "abi/runtime/handle_claims.hpp"
#include "services/scheduler/core/core.hpp"
#include "services/scheduler/server/context_session.hpp"
#include "services/scheduler/server/driver.hpp"
#include "services/scheduler/server/resources.hpp"

namespace aios::scheduler {

/// Where a device of the scheduler is to be found.
struct DevicePlace {
  Driver* driver;
  std::uint64_t index;
};

class ContextPool {
 public:
  /// `changed` is called after the core has been told something; `answered` when that was only the
  /// end of tasks, or of copies, of which many may end at once.
  ContextPool(Kernel& kernel, EventLoop& loop, Core& core, const Resources& resources,
              HandleClaims& claims, std::function<DevicePlace(DeviceId)> locate,
              std::function<void()> changed, std::function<void()> answered);
  ContextPool(const ContextPool&) = delete;
  ~ContextPool();

  // The core's actions.
  void open(JobId job, DeviceId device);
  void close(JobId job, DeviceId device);
  /// Brief ones perhaps only with the next `flush`.
  void start(TaskRef task, JobId job, DeviceId device);
  void flush();

  /// Of the context that is this process, and whose it is; null: there is none.
  ContextSession* session_of(std::uint64_t process_id, JobId& job);

  /// The core hears of each device whose memory is free of it.
  void release_buffer(JobId job, std::uint32_t buffer);
  /// The core hears when the device's memory is free of it.
  void evict(JobId job, DeviceId device, std::uint32_t buffer);
  void drop_tenant(JobId job, TenantId tenant);

 private:
  using Key = std::pair<JobId, DeviceId>;
  using Opened = proto::driver::OpenContext::Reply;

  struct Entry {
    std::uint64_t serial = 0;    ///< answers to what was asked before the last change are stale
    std::uint64_t asked_ns = 0;  ///< when the first one was asked for; 0: it is there
    bool closing = false;
    bool verdict_due = false;  ///< the core waits to hear how the last context ended
    /// Timed out: their context may run them until it is gone, and writes to their buffers.
    std::vector<std::pair<TaskRef, Status>> late;
    std::unique_ptr<ContextSession> session;
    std::uint64_t process_id = 0;  ///< of the last context
    std::uint32_t errors = 0;      ///< of the driver, in a row
    std::uint32_t same = 0;        ///< how often the driver named the context that is gone
    std::uint32_t useless = 0;     ///< contexts in a row that ended before they got a task
    std::string why_useless;       ///< the last one that could not be reached
    TimerId timer = 0;
  };

  Entry* find(Key key, std::uint64_t serial);
  void ask(Key key, Entry& entry);
  void retry(Key key, Entry& entry, std::uint64_t delay_ns);
  void on_opened(Key key, std::uint64_t serial, const Result<Opened>& reply);
  void on_refused(Key key, Entry& entry, const Status& status);
  void on_same_context(Key key, Entry& entry);
  void connect(Key key, Entry& entry, ClaimedHandle port);
  void on_session_opened(Key key, std::uint64_t serial, const Result<void>& outcome);
  void on_lost(Key key, std::uint64_t serial);
  void on_answered(Key key, std::uint64_t serial, TaskRef task,
                   const Result<Core::RunReply>& answer);
  void tell_late(Entry& entry);
  void ask_to_close(Key key, Entry& entry);
  void refuse(Key key, const Status& status);
  void drop_session(Entry& entry);

  Kernel& kernel_;
  EventLoop& loop_;
  Core& core_;
  const Resources& resources_;
  HandleClaims& claims_;
  std::function<DevicePlace(DeviceId)> locate_;
  std::function<void()> changed_;
  std::function<void()> answered_;
  std::map<Key, Entry> entries_;
  std::uint64_t last_serial_ = 0;
  std::vector<std::uint64_t> batches_;                    // scratch, to spare allocations
  std::vector<std::unique_ptr<ContextSession>> dropped_;  ///< until the next turn of the loop
};

}  // namespace aios::scheduler
