#include "services/scheduler/server/context_pool.hpp"

#include <algorithm>

#include "abi/runtime/log.hpp"

namespace aios::scheduler {
namespace {

constexpr std::uint64_t first_delay_ns = 50 * ns_per_ms;
constexpr std::uint64_t max_delay_ns = ns_per_s;
constexpr std::uint32_t max_errors = 6;
/// A driver may hear of a context's end later than its peers do.
constexpr std::uint64_t same_context_delay_ns = 5 * ns_per_ms;
constexpr std::uint32_t max_same = 100;
constexpr std::uint32_t max_useless = 5;
/// A context that ended a task at its limit ends itself; this long it is waited for.
constexpr std::uint64_t ending_timeout_ns = ns_per_s;

bool driver_is_away(Code code) {
  return code == Code::peer_closed || code == Code::timed_out || code == Code::busy;
}

std::uint64_t delay_ns(std::uint32_t errors) {
  return std::min(first_delay_ns << std::min(errors, 8u), max_delay_ns);
}

}  // namespace

ContextPool::ContextPool(Kernel& kernel, EventLoop& loop, Core& core, const Resources& resources,
                         HandleClaims& claims, std::function<DevicePlace(DeviceId)> locate,
                         std::function<void()> changed, std::function<void()> answered)
    : kernel_(kernel),
      loop_(loop),
      core_(core),
      resources_(resources),
      claims_(claims),
      locate_(std::move(locate)),
      changed_(std::move(changed)),
      answered_(std::move(answered)) {}

ContextPool::~ContextPool() {
  for (auto& [key, entry] : entries_) loop_.cancel(entry.timer);
}

ContextPool::Entry* ContextPool::find(Key key, std::uint64_t serial) {
  const auto at = entries_.find(key);
  return at == entries_.end() || at->second.serial != serial ? nullptr : &at->second;
}

// ---- opening ----------------------------------------------------------------------------------

void ContextPool::open(JobId job, DeviceId device) {
  const Key key{job, device};
  const auto [at, is_new] = entries_.try_emplace(key);
  if (!is_new) return;
  at->second.asked_ns = now_ns();
  ask(key, at->second);
}

void ContextPool::ask(Key key, Entry& entry) {
  const std::uint64_t serial = entry.serial = ++last_serial_;
  const DevicePlace place = locate_(key.second);
  place.driver->open_context(
      resources_.job(key.first), place.index,
      [this, key, serial](const Result<Opened>& reply) { on_opened(key, serial, reply); });
}

void ContextPool::retry(Key key, Entry& entry, std::uint64_t delay) {
  const std::uint64_t serial = entry.serial = ++last_serial_;
  entry.timer = loop_.after(delay, [this, key, serial] {
    if (Entry* waiting = find(key, serial)) ask(key, *waiting);
  });
}

void ContextPool::on_opened(Key key, std::uint64_t serial, const Result<Opened>& reply) {
  ClaimedHandle port;
  if (reply)
    if (auto claimed =
            claims_.claim(reply->port, any_sender, {ObjectType::port}, rights::connect, 0))
      port = std::move(claimed->handle);
  Entry* entry = find(key, serial);
  if (entry == nullptr) return;
  if (!reply) return on_refused(key, *entry, reply.error());
  if (port.get() == 0)
    return on_refused(key, *entry, Status(Code::internal, "the driver sent no port"));
  entry->errors = 0;
  if (reply->process_id == entry->process_id) return on_same_context(key, *entry);
  entry->same = 0;
  entry->process_id = reply->process_id;
  const std::string cause(reply->previous_cause.view());
  if (entry->useless >= max_useless) {
    refuse(key, Status(Code::io_error, "its contexts end before they run anything: " +
                                           (cause.empty() ? entry->why_useless : cause)));
    return changed_();
  }
  connect(key, *entry, std::move(port));
  if (!std::exchange(entry->verdict_due, false)) return;
  tell_late(*entry);
  core_.context_ended(key.first, key.second,
                      {static_cast<proto::driver::ContextEnd>(reply->previous_end), cause, true});
  changed_();
}

void ContextPool::on_refused(Key key, Entry& entry, const Status& status) {
  // A driver that is away comes back, or its own supervisor gives it up: service_down.
  if (driver_is_away(status.code()))
    return retry(key, entry, delay_ns(entry.errors < max_errors ? entry.errors++ : entry.errors));
  const bool for_good = status.code() == Code::denied || status.code() == Code::service_down ||
                        ++entry.errors >= max_errors;
  if (!for_good) return retry(key, entry, delay_ns(entry.errors));
  refuse(key, status);
  changed_();
}

/// The link to it is gone, so it is of no use, whether it has ended or not.
void ContextPool::on_same_context(Key key, Entry& entry) {
  if (++entry.same < max_same) return retry(key, entry, same_context_delay_ns);
  entry.same = 0;
  const DevicePlace place = locate_(key.second);
  const std::uint64_t serial = entry.serial = ++last_serial_;
  place.driver->close_context(key.first, place.index,
                              [this, key, serial](const Result<proto::Empty>&) {
                                if (Entry* waiting = find(key, serial)) ask(key, *waiting);
                              });
}

void ContextPool::connect(Key key, Entry& entry, ClaimedHandle port) {
  const std::uint64_t serial = entry.serial = ++last_serial_;
  SessionEvents events;
  events.opened = [this, key, serial](const Result<void>& r) { on_session_opened(key, serial, r); };
  events.lost = [this, key, serial] { on_lost(key, serial); };
  events.loaded = [this, device = key.second](TenantId tenant, std::uint32_t codelet,
                                              std::uint64_t since_ns) {
    core_.module_loaded(tenant, codelet, device, since_ns, now_ns());
  };
  events.stalled = [this, key, serial](bool stalled) {
    if (find(key, serial) == nullptr) return;
    if (stalled) log_line("a context of job " + std::to_string(key.first) + " does not go on");
    stalled ? core_.context_stalled(key.first, key.second)
            : core_.context_resumed(key.first, key.second);
    changed_();
  };
  events.begun = [this](TaskRef task, std::uint64_t batch) { core_.task_begun(task, batch); };
  events.not_begun = [this](TaskRef task) {
    core_.task_not_begun(task);
    answered_();
  };
  events.answered = [this, key, serial](TaskRef task, const Result<Core::RunReply>& answer) {
    on_answered(key, serial, task, answer);
  };
  if (core_.copy_costs(key.second) != nullptr)
    events.copied = [this, key, serial](const proto::context::Copies::Reply& more,
                                        std::uint64_t within_ns) {
      if (find(key, serial) == nullptr) return;
      core_.copied(key.first, key.second, more, within_ns);
      answered_();
    };
  entry.session = std::make_unique<ContextSession>(kernel_, loop_, std::move(port), key.first,
                                                   resources_, std::move(events));
  entry.session->open();
}

void ContextPool::on_session_opened(Key key, std::uint64_t serial, const Result<void>& outcome) {
  Entry* entry = find(key, serial);
  if (entry == nullptr) return;
  if (!outcome) {
    ++entry->useless;
    entry->why_useless = outcome.error().message();
    drop_session(*entry);
    return retry(key, *entry, same_context_delay_ns);
  }
  // One that follows another was waited for in another way.
  if (const std::uint64_t asked_ns = std::exchange(entry->asked_ns, 0); asked_ns != 0)
    core_.context_opened_in(key.second, now_ns() - asked_ns);
  core_.context_ready(key.first, key.second, now_ns());
  changed_();
}

// ---- running ----------------------------------------------------------------------------------

void ContextPool::start(TaskRef ref, JobId job, DeviceId device) {
  const Task* task = core_.find(ref);
  const auto at = entries_.find({job, device});
  if (task == nullptr || at == entries_.end() || at->second.session == nullptr) return;
  if (task->state != State::running) return;  // what has happened since ended it
  if (task->doomed || !core_.batches_before(*task, batches_)) return core_.task_not_begun(ref);
  at->second.session->run(ref, *task, task->brief, batches_);
}

void ContextPool::flush() {
  for (auto& [key, entry] : entries_)
    if (entry.session != nullptr) entry.session->flush();
}

void ContextPool::on_answered(Key key, std::uint64_t serial, TaskRef task,
                              const Result<Core::RunReply>& answer) {
  Entry* entry = find(key, serial);
  if (entry == nullptr) return;
  if (!answer && answer.error().code() == Code::timed_out) {
    entry->late.emplace_back(task, answer.error());
    core_.context_lost(key.first, key.second);
    if (!std::exchange(entry->verdict_due, true)) {
      loop_.cancel(entry->timer);
      entry->timer = loop_.after(ending_timeout_ns, [this, key, serial] { on_lost(key, serial); });
    }
  } else {
    core_.task_answered(task, answer);
  }
  answered_();
}

/// The context is gone, or its driver is, and nobody can say any more.
void ContextPool::tell_late(Entry& entry) {
  for (const auto& [task, status] : std::exchange(entry.late, {}))
    core_.task_answered(task, std::unexpected(status));
}

void ContextPool::on_lost(Key key, std::uint64_t serial) {
  Entry* entry = find(key, serial);
  if (entry == nullptr || entry->session == nullptr) return;
  loop_.cancel(entry->timer);
  entry->useless = entry->session->was_used() ? 0 : entry->useless + 1;
  entry->verdict_due = true;
  drop_session(*entry);
  core_.context_lost(key.first, key.second);
  ask(key, *entry);
  changed_();
}

ContextSession* ContextPool::session_of(std::uint64_t process_id, JobId& job) {
  for (auto& [key, entry] : entries_) {
    if (entry.process_id != process_id || entry.session == nullptr) continue;
    job = key.first;
    return entry.session.get();
  }
  return nullptr;
}

void ContextPool::release_buffer(JobId job, std::uint32_t buffer) {
  for (auto& [key, entry] : entries_)
    if (key.first == job && entry.session != nullptr)
      entry.session->release_buffer(buffer, [this, job, device = key.second, buffer] {
        core_.buffer_gone(job, device, buffer);
        answered_();
      });
}

void ContextPool::evict(JobId job, DeviceId device, std::uint32_t buffer) {
  const auto at = entries_.find({job, device});
  // Without a context there is nothing of it left.
  if (at == entries_.end() || at->second.session == nullptr) return;
  at->second.session->evict(buffer, [this, job, device, buffer] {
    core_.buffer_evicted(job, device, buffer);
    changed_();
  });
}

void ContextPool::drop_tenant(JobId job, TenantId tenant) {
  for (auto& [key, entry] : entries_)
    if (key.first == job && entry.session != nullptr) entry.session->drop_tenant(tenant);
}

// ---- closing ----------------------------------------------------------------------------------

void ContextPool::close(JobId job, DeviceId device) {
  const Key key{job, device};
  const auto at = entries_.find(key);
  if (at == entries_.end()) return;
  Entry& entry = at->second;
  entry.closing = true;
  loop_.cancel(entry.timer);
  drop_session(entry);
  ask_to_close(key, entry);
}

void ContextPool::ask_to_close(Key key, Entry& entry) {
  const std::uint64_t serial = entry.serial = ++last_serial_;
  const DevicePlace place = locate_(key.second);
  place.driver->close_context(
      key.first, place.index, [this, key, serial](const Result<proto::Empty>& reply) {
        Entry* closing = find(key, serial);
        if (closing == nullptr) return;
        if (!reply && driver_is_away(reply.error().code())) {
          closing->timer = loop_.after(first_delay_ns, [this, key, serial] {
            if (Entry* again = find(key, serial)) ask_to_close(key, *again);
          });
          return;
        }
        if (!reply) log_line("cannot close a context: " + reply.error().to_string());
        tell_late(*closing);
        entries_.erase(key);
        core_.context_ended(key.first, key.second,
                            {proto::driver::ContextEnd::exited, "its tenant was closed", false});
        changed_();
      });
}

void ContextPool::refuse(Key key, const Status& status) {
  // A device that is gone is one for all jobs.
  if (status.code() == Code::service_down) locate_(key.second).driver->refresh([] {});
  Entry& entry = entries_.at(key);
  drop_session(entry);
  tell_late(entry);
  entries_.erase(key);
  core_.context_refused(key.first, key.second, status);
}

void ContextPool::drop_session(Entry& entry) {
  if (entry.session == nullptr) return;
  entry.session->close();
  // It may be one of its callbacks that is running.
  dropped_.push_back(std::move(entry.session));
  loop_.post([this] { dropped_.clear(); });
}

}  // namespace aios::scheduler
