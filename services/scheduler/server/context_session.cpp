#include "services/scheduler/server/context_session.hpp"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <new>

#include "services/scheduler/core/parts/record_check.hpp"

namespace aios::scheduler {
namespace {

using proto::context::BatchFailure;
using proto::context::Bind;
using proto::context::BufferUse;
using proto::context::Load;
using proto::context::max_task_buffers;
using proto::context::Run;
using proto::context::RunBatch;
using proto::context::Unbind;

/// A vendor's library may take as long to start as it may to be found there (20 s), and waits
/// besides for the owner of memory. Of a context that ends instead it is heard at once.
constexpr std::uint64_t open_timeout_ns = 30 * ns_per_s;
constexpr std::uint64_t reason_timeout_ns = 10 * ns_per_s;
constexpr std::uint64_t pause_timeout_ns = 5 * ns_per_s;
constexpr std::uint64_t stall_ns = ns_per_s;
/// How often it is asked, at most, what it has copied.
constexpr std::uint64_t copies_interval_ns = 50 * ns_per_ms;
/// Each takes of the room that a link has for answers until the device's memory is free, and the
/// answers to the null call, by which a context is judged, and to tasks need some of it.
constexpr std::size_t max_unbinds_sent = 16;

Status checked(const Status& status) {
  if (!is_code(static_cast<std::uint32_t>(status.code())))
    return Status(Code::internal, "the context answered with an unknown status");
  return status;
}

/// Of a batch's pieces each begins at a multiple of four bytes.
std::uint32_t packed_argument_bytes(const Run::Request& request) {
  return (request.argument_bytes + 3) / 4 * 4;
}

}  // namespace

ContextSession::ContextSession(Kernel& kernel, EventLoop& loop, ClaimedHandle port, JobId job,
                               const Resources& resources, SessionEvents events, Patience patience)
    : loop_(loop),
      port_(std::move(port)),
      job_(job),
      resources_(resources),
      events_(std::move(events)),
      patience_(patience),
      client_(std::make_unique<Client>(kernel, &loop, port_.get(),
                                       proto::context::Protocol::version, "the context")) {}

void ContextSession::open() {
  client_->on_disconnect([this] {
    if (!closed_ && opened_) events_.lost();
  });
  client_->start<proto::Null>({}, Deadline::after(open_timeout_ns),
                              [this](const Result<proto::Empty>& reply) {
                                if (closed_) return;
                                opened_ = reply.has_value();
                                if (reply)
                                  events_.opened({});
                                else
                                  events_.opened(std::unexpected(reply.error()));
                              });
}

void ContextSession::close() {
  closed_ = true;
  loop_.cancel(std::exchange(watch_timer_, 0));
}

ContextSession::Running& ContextSession::add_running(TaskRef ref, const Task& task, bool brief) {
  if (free_.empty()) free_.push_back(&running_.emplace_back());
  Running& running = *free_.back();
  free_.pop_back();
  const proto::scheduler::TaskRecord& record = task.record;
  Run::Request& request = running.request;
  running.ref = ref;
  running.brief = brief;
  running.expected_ns = task.charge_ns;
  running.transfer_ns = task.transfer.ns;
  running.sent = false;
  running.due_ns = 0;
  request.buffer_count = record.buffer_count;
  request.argument_bytes = record.argument_bytes;
  std::copy(std::begin(record.grid), std::end(record.grid), request.grid);
  std::memcpy(request.arguments, record.arguments,
              brief ? packed_argument_bytes(request) : sizeof request.arguments);
  if (!brief) {
    request.limit_ns = record.limit_ns;
    std::ranges::fill(request.buffers, BufferUse{});
  }
  for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
    const std::uint32_t id = buffer_id(record.buffers[i]);
    request.buffers[i] = {static_cast<std::uint16_t>(id),
                          static_cast<std::uint16_t>(buffer_mode(record.buffers[i])),
                          task.tenant->job->buffers[id].content};
  }
  return running;
}

void ContextSession::run(TaskRef ref, const Task& task, bool brief,
                         std::span<const std::uint64_t> after) {
  was_used_ = true;
  watch();
  Running& running = add_running(ref, task, brief);
  const std::pair<TenantId, std::uint32_t> key{task.tenant->id, task.record.codelet};
  const auto [entry, is_new] = codelets_.try_emplace(key);
  Loaded& codelet = entry->second;
  switch (codelet.state) {
    case Loaded::State::loading:
      if (after.empty()) codelet.waiting.push_back(&running);
      if (is_new) load(key);
      // By the time it is loaded those before it are no longer there.
      if (!after.empty()) not_begun(running);
      return;
    case Loaded::State::loaded:
      return send(running, codelet.number, after);
    case Loaded::State::failed:
      return finish(running, std::unexpected(codelet.failure));
  }
}

void ContextSession::load(std::pair<TenantId, std::uint32_t> key) {
  codelets_.at(key).since_ns = now_ns();
  const CodeletSource& source = resources_.codelet(key.first, key.second);
  const Load::Request request{0, source.offset, source.length, source.function};
  client_->start_with_handles<Load>(
      request,
      {{source.region.get(), ObjectType::region, rights::info | rights::map_read, 0, false}},
      [](std::span<const Handle> numbers, Load::Request& r) { r.region = numbers.front(); },
      Deadline::never(), [this, key](const Result<Load::Reply>& reply) { loaded(key, reply); });
}

void ContextSession::loaded(std::pair<TenantId, std::uint32_t> key,
                            const Result<Load::Reply>& reply) {
  if (closed_ || (!reply && !client_->connected())) return;
  const auto found = codelets_.find(key);
  if (found == codelets_.end()) return;  // its tenant has left meanwhile
  Loaded& codelet = found->second;
  if (codelet.state != Loaded::State::loading) return;  // it was late, and given up
  const std::vector<Running*> waiting = std::exchange(codelet.waiting, {});
  const std::uint64_t since_ns = std::exchange(codelet.since_ns, 0);
  codelet.due_ns = 0;
  if (reply) {
    events_.loaded(key.first, key.second, since_ns);
    codelet.state = Loaded::State::loaded;
    codelet.number = reply->codelet;
  } else {
    codelet.state = Loaded::State::failed;
    codelet.failure = checked(reply.error());
  }
  const Status failure = codelet.failure;  // what is told next may end the tenant
  update_stalled(now_ns());
  for (Running* running : waiting) {
    if (closed_) return;
    if (reply)
      send(*running, reply->codelet, {});
    else
      finish(*running, std::unexpected(failure));
  }
  flush();
}

/// The context serves a link in order: the Run may follow its Binds without waiting for them.
void ContextSession::send(Running& running, std::uint32_t codelet,
                          std::span<const std::uint64_t> after) {
  running.request.codelet = codelet;
  for (std::uint32_t i = 0; i < running.request.buffer_count; ++i)
    bind(running.request.buffers[i].id);
  running.sent = true;
  if (running.brief) return pack(running, after);
  events_.begun(running.ref, 0);
  send_alone(running);
}

void ContextSession::send_alone(Running& running) {
  client_->start<Run>(
      running.request, Deadline::never(),
      [this, task = &running, number = running.ref.number](const Result<RunReply>& answer) {
        if (closed_ || (!answer && !client_->connected())) return;
        // One that was late has been given up.
        if (task->ref.number == number) finish(*task, answer);
      });
}

// ---- batches ------------------------------------------------------------------------------------

static_assert(offsetof(RunBatch::Request, packed) % alignof(RunBatch::PackedRun) == 0 &&
              sizeof(BufferUse) % alignof(RunBatch::PackedRun) == 0);

void ContextSession::pack(Running& running, std::span<const std::uint64_t> after) {
  static_assert(offsetof(Running, request) + offsetof(Run::Request, limit_ns) <= 64);
  const Run::Request& request = running.request;
  const std::uint32_t argument_bytes = packed_argument_bytes(request);
  const auto buffer_bytes = static_cast<std::uint32_t>(request.buffer_count * sizeof(BufferUse));
  const std::uint32_t bytes =
      static_cast<std::uint32_t>(sizeof(RunBatch::PackedRun)) + buffer_bytes + argument_bytes;
  if (batch_tasks_.size() == RunBatch::max_tasks ||
      batch_.packed_bytes + bytes > sizeof batch_.packed ||
      batch_ns_ + running.expected_ns > max_batch_ns || !goes_with_batch(after))
    flush();
  if (!wait_for(after)) {
    flush();
    if (!wait_for(after)) return not_begun(running);
  }
  std::uint8_t* to = batch_.packed + batch_.packed_bytes;
  new (to) RunBatch::PackedRun{request.codelet,
                               {request.grid[0], request.grid[1], request.grid[2]},
                               static_cast<std::uint16_t>(request.buffer_count),
                               static_cast<std::uint16_t>(request.argument_bytes)};
  to += sizeof(RunBatch::PackedRun);
  std::memcpy(to, request.buffers, buffer_bytes);
  to += buffer_bytes;
  // What follows the arguments is zero, as a record's check has made sure.
  std::memcpy(to, request.arguments, argument_bytes);
  batch_.packed_bytes += bytes;
  batch_tasks_.push_back(&running);
  batch_ns_ += running.expected_ns;
  events_.begun(running.ref, last_batch_ + 1);
}

/// A task that waits for nothing would wait in a batch that does, and the other way round it would
/// make those that are there wait. With what it depends on it has to wait for the rest anyway.
bool ContextSession::goes_with_batch(std::span<const std::uint64_t> after) const {
  if (std::ranges::find(after, last_batch_ + 1) != after.end()) return true;
  return after.empty() == (batch_.after_count == 0);
}

/// Has the batch that is being filled wait for these as well, but for itself. False, and nothing is
/// changed: they are too many, or one is too far back.
bool ContextSession::wait_for(std::span<const std::uint64_t> batches) {
  const std::uint64_t number = last_batch_ + 1;
  std::uint32_t count = batch_.after_count;
  for (const std::uint64_t batch : batches) {
    if (batch == number) continue;
    if (number - batch > RunBatch::max_distance) return false;
    const auto distance = static_cast<std::uint16_t>(number - batch);
    const auto end = batch_.after + count;
    if (std::find(batch_.after, end, distance) != end) continue;
    if (count == RunBatch::max_after) return false;
    batch_.after[count++] = distance;
  }
  batch_.after_count = count;
  return true;
}

void ContextSession::flush() {
  if (batch_tasks_.empty() || closed_) return;
  batch_.number = ++last_batch_;
  batch_.count = static_cast<std::uint16_t>(batch_tasks_.size());
  std::fill(batch_.after + batch_.after_count, std::end(batch_.after), std::uint16_t{0});
  client_->start<RunBatch>(batch_, Deadline::never(),
                           [this, number = last_batch_, waits = batch_.after_count > 0,
                            tasks = std::move(batch_tasks_)](const Result<RunBatch::Reply>& reply) {
                             if (closed_ || (!reply && !client_->connected())) return;
                             batch_ended(tasks, number, waits, reply);
                           });
  batch_tasks_.clear();
  batch_tasks_.reserve(RunBatch::max_tasks);
  batch_.packed_bytes = 0;
  batch_.after_count = 0;
  batch_ns_ = 0;
}

/// `waits`: for other batches, so that perhaps it was not begun.
void ContextSession::batch_ended(const std::vector<Running*>& tasks, std::uint64_t number,
                                 bool waits, const Result<RunBatch::Reply>& reply) {
  if (!reply) {
    for (Running* task : tasks) finish(*task, std::unexpected(reply.error()));
    return;
  }
  const bool failed = reply->status != 0;
  if (waits && reply->count == 0 && failed) {
    for (Running* task : tasks) not_begun(*task);
    return;
  }
  if (reply->count == 0 || reply->count > tasks.size() ||
      (!failed && reply->count != tasks.size())) {
    for (Running* task : tasks)
      finish(*task, error(Code::internal, "the context answered with a nonsensical batch"));
    return;
  }
  // What was copied is known of all together: each gets of it as was predicted. A context's word.
  constexpr double most_ns = 1e18;
  const double copied_ns = std::min(static_cast<double>(reply->transfer_ns), most_ns);
  const double ahead_ns = std::min(1e3 * reply->ahead_us, copied_ns);
  double predicted_ns = 0;
  for (std::uint32_t i = 0; i < reply->count; ++i) predicted_ns += tasks[i]->transfer_ns;
  Result<RunReply> one{RunReply{}};
  one->peak_memory_bytes = reply->peak_memory_bytes;
  for (std::uint32_t i = 0; i < reply->count - (failed ? 1u : 0u); ++i) {
    const RunBatch::Ended& ended = reply->ended[i];
    const double share =
        predicted_ns > 0 ? tasks[i]->transfer_ns / predicted_ns : 1.0 / reply->count;
    one->start_ns = reply->base_ns + ended.start_ns;
    one->end_ns = reply->base_ns + ended.end_ns;
    one->transfer_ns = static_cast<std::uint64_t>(copied_ns * share);
    one->ahead_ns = static_cast<std::uint64_t>(ahead_ns * share);
    std::ranges::copy(reply->results[i].words, one->result);
    finish(*tasks[i], one);
  }
  if (!failed) return;
  batch_failed(*tasks[reply->count - 1], number, static_cast<Code>(reply->status));
  for (std::size_t i = reply->count; i < tasks.size(); ++i) not_begun(*tasks[i]);
}

/// Asks for the reason first.
void ContextSession::batch_failed(Running& task, std::uint64_t number, Code code) {
  client_->start<BatchFailure>(
      {number}, Deadline::after(reason_timeout_ns),
      [this, task = &task, code](const Result<BatchFailure::Reply>& reply) {
        if (closed_ || (!reply && !client_->connected())) return;
        const std::string why = reply ? std::string(reply->why.view()) : reply.error().message();
        finish(*task, error(code, why));
      });
}

void ContextSession::bind(std::uint32_t buffer) {
  const BufferSource& source = resources_.buffer(job_, buffer);
  if (const auto at = bound_.find(buffer); at != bound_.end() && at->second == source.serial)
    return;
  unbind_before_binding(buffer);
  bound_[buffer] = source.serial;
  const std::uint32_t use =
      rights::info | rights::map_read | (source.writable ? rights::map_write : 0);
  client_->start_with_handles<Bind>(
      {0, source.offset, source.length, buffer, source.writable ? 1u : 0u, source.serial},
      {{source.object.get(), source.type, use, 0, false}},
      [](std::span<const Handle> numbers, Bind::Request& r) { r.object = numbers.front(); },
      Deadline::never(),
      [this, buffer, serial = source.serial](const Result<proto::Empty>& reply) {
        if (!reply && !closed_ && client_->connected()) bound(buffer, serial, reply.error());
      });
}

/// The runs that were sent after the Bind will fail; they shall say why.
void ContextSession::bound(std::uint32_t buffer, std::uint64_t serial, const Status& failure) {
  const auto at = bound_.find(buffer);
  if (at == bound_.end() || at->second != serial) return;
  bound_.erase(at);
  for (Running& running : running_)
    for (std::uint32_t i = 0; running.ref.number != 0 && i < running.request.buffer_count; ++i)
      if (running.request.buffers[i].id == buffer)
        bind_failures_.insert_or_assign(running.ref.number, checked(failure));
}

// ---- what it lets go of -------------------------------------------------------------------------

void ContextSession::release_buffer(std::uint32_t buffer, std::function<void()> done) {
  if (Unbinding* unbinding = unbind(buffer))
    unbinding->released.push_back(std::move(done));
  else
    done();
  send_unbinds();
}

void ContextSession::evict(std::uint32_t buffer, std::function<void()> done) {
  if (Unbinding* unbinding = unbind(buffer))
    unbinding->evicted = std::move(done);
  else
    done();
  send_unbinds();
}

/// The last one of the buffer, still to be sent if it is bound; null: nothing of it is there.
ContextSession::Unbinding* ContextSession::unbind(std::uint32_t buffer) {
  if (bound_.erase(buffer) != 0) return &unbindings_.emplace_back(Unbinding{buffer});
  const auto last = std::find_if(unbindings_.rbegin(), unbindings_.rend(),
                                 [&](const Unbinding& one) { return one.buffer == buffer; });
  return last == unbindings_.rend() ? nullptr : &*last;
}

void ContextSession::send_unbinds() {
  while (!closed_ && unbinds_sent_ < max_unbinds_sent) {
    const auto next = std::ranges::find(unbindings_, false, &Unbinding::sent);
    if (next == unbindings_.end()) return;
    send(next);
  }
}

void ContextSession::send(std::list<Unbinding>::iterator unbinding) {
  unbinding->sent = true;
  ++unbinds_sent_;
  watch();
  client_->start<Unbind>({unbinding->buffer}, Deadline::never(),
                         [this, unbinding](const Result<proto::Empty>& reply) {
                           if (closed_ || (!reply && !client_->connected())) return;
                           unbound(unbinding, reply);
                         });
}

/// not_found: it could not be bound. After any other error it may still be there, and is counted
/// until the context ends.
void ContextSession::unbound(std::list<Unbinding>::iterator unbinding,
                             const Result<proto::Empty>& reply) {
  const Unbinding ended = std::move(*unbinding);
  unbindings_.erase(unbinding);
  --unbinds_sent_;
  send_unbinds();
  if (!reply && reply.error().code() != Code::not_found) return;
  for (const auto& done : ended.released) done();
  if (ended.evicted) ended.evicted();
}

/// Its number is bound again, perhaps for another one: what was there before has to go first, and
/// of one that comes back nobody waits any more that it is gone.
void ContextSession::unbind_before_binding(std::uint32_t buffer) {
  for (Unbinding& one : unbindings_)
    if (one.buffer == buffer) one.evicted = nullptr;
  const auto unsent = [&](const Unbinding& one) { return one.buffer == buffer && !one.sent; };
  for (auto next = std::ranges::find_if(unbindings_, unsent); next != unbindings_.end();
       next = std::ranges::find_if(unbindings_, unsent))
    send(next);
}

void ContextSession::not_begun(Running& running) {
  const TaskRef ref = std::exchange(running.ref, {});
  bind_failures_.erase(ref.number);
  free_.push_back(&running);
  events_.not_begun(ref);
}

void ContextSession::finish(Running& running, const Result<RunReply>& answer) {
  assert(running.ref.number != 0);
  const TaskRef ref = std::exchange(running.ref, {});
  free_.push_back(&running);
  if (events_.copied) ask_copies();
  const auto unbound = bind_failures_.extract(ref.number);
  if (answer)
    events_.answered(ref, answer);
  else
    events_.answered(ref,
                     std::unexpected(unbound.empty() ? checked(answer.error()) : unbound.mapped()));
}

// ---- what copies take ---------------------------------------------------------------------------

namespace {

/// False when what was said before does not lie in what is said now.
bool subtract(proto::context::Copies::Sum& sum, const proto::context::Copies::Sum& before) {
  if (sum.count < before.count || sum.bytes < before.bytes || sum.ns < before.ns) return false;
  sum = {sum.count - before.count, sum.bytes - before.bytes, sum.ns - before.ns};
  return true;
}

}  // namespace

/// After a task: before the first one there is nothing to tell.
void ContextSession::ask_copies() {
  const std::uint64_t now = now_ns();
  if (asking_copies_ || now - copies_asked_ns_ < copies_interval_ns) return;
  asking_copies_ = true;
  client_->start<proto::context::Copies>(
      {}, Deadline::never(),
      [this, since_ns = std::exchange(copies_asked_ns_, now)](
          const Result<proto::context::Copies::Reply>& reply) {
        if (closed_ || !reply) return;
        asking_copies_ = false;
        proto::context::Copies::Reply more = *reply;
        bool sensible = true;
        for (int i = 0; i < 2; ++i)
          sensible = sensible && subtract(more.to_device[i], copies_.to_device[i]) &&
                     subtract(more.to_host[i], copies_.to_host[i]);
        copies_ = *reply;
        if (sensible) events_.copied(more, now_ns() - since_ns);
      });
}

void ContextSession::drop_tenant(TenantId tenant) {
  std::erase_if(codelets_, [&](const auto& entry) { return entry.first.first == tenant; });
}

// ---- watching ---------------------------------------------------------------------------------

void ContextSession::watch() {
  if (watch_timer_ != 0 || closed_) return;
  watch_timer_ = loop_.after(patience_.look_every_ns, [this] {
    watch_timer_ = 0;
    look();
  });
}

void ContextSession::look() {
  if (free_.size() == running_.size() && unbindings_.empty() && !stalled_) return;
  const std::uint64_t now = now_ns();
  update_stalled(now);
  if (closed_) return;
  if (!suspended_ && end_late(now)) return;
  ask();
  watch();
}

/// What it had to do before counts anew from when it goes on.
void ContextSession::suspend(bool suspended,
                             std::function<void(const Result<proto::Empty>&)> done) {
  suspended_ = suspended;
  if (!suspended) {
    asked_ns_ = asked_ns_ != 0 ? now_ns() : 0;
    for (auto& [key, codelet] : codelets_)
      if (codelet.since_ns != 0) codelet.since_ns = now_ns(), codelet.due_ns = 0;
    for (Running& running : running_) running.due_ns = 0;
    watch();
  }
  update_stalled(now_ns());
  client_->start<proto::context::Pause>(
      {suspended ? 1u : 0u}, Deadline::after(pause_timeout_ns),
      [done = std::move(done)](const Result<proto::Empty>& reply) { done(reply); });
}

void ContextSession::ask() {
  if (asked_ns_ != 0) return;
  asked_ns_ = now_ns();
  client_->start<proto::Null>({}, Deadline::never(), [this](const Result<proto::Empty>& reply) {
    if (closed_ || !reply) return;
    asked_ns_ = 0;
    update_stalled(now_ns());
  });
}

void ContextSession::update_stalled(std::uint64_t now_ns) {
  const auto for_long = [now_ns](std::uint64_t since_ns) {
    return since_ns != 0 && now_ns - since_ns >= stall_ns;
  };
  const bool stalled =
      suspended_ || for_long(asked_ns_) || std::ranges::any_of(codelets_, [&](const auto& entry) {
        return for_long(entry.second.since_ns);
      });
  if (stalled != std::exchange(stalled_, stalled)) events_.stalled(stalled);
}

/// A context does what it was sent in that order, and ends each task at its limit and each module
/// at its: nothing can take longer than all of it together. Nothing is known behind a task without
/// limit, so it is never late: ~0.
std::uint64_t ContextSession::all_due_ns(std::uint64_t now_ns) const {
  std::uint64_t due_ns = now_ns + patience_.grace_ns;
  const auto add = [&](std::uint64_t ns) { due_ns += std::min(ns, UINT64_MAX - due_ns); };
  for (const Running& running : running_)
    if (running.ref.number != 0 && running.sent)
      add(!running.brief && running.request.limit_ns != 0 ? running.request.limit_ns : UINT64_MAX);
  for (const auto& [key, codelet] : codelets_)
    if (codelet.state == Loaded::State::loading) add(patience_.load_ns);
  return due_ns;
}

/// Whether something was late, and has been told so.
bool ContextSession::end_late(std::uint64_t now_ns) {
  const auto is_late = [&](std::uint64_t due_ns) { return due_ns != 0 && now_ns >= due_ns; };
  for (Running& running : running_)
    if (running.ref.number != 0 && is_late(running.due_ns)) {
      finish(running,
             error(Code::timed_out, "its context did not end it at its time limit, and is ended"));
      return true;
    }
  for (const auto& [key, codelet] : codelets_)
    if (is_late(codelet.due_ns) && !codelet.waiting.empty()) {
      loaded(key, error(Code::timed_out,
                        "its context did not load its module within the time for that, and is "
                        "ended"));
      return true;
    }
  const std::uint64_t due_ns = all_due_ns(now_ns);
  if (due_ns == UINT64_MAX) return false;
  for (Running& running : running_)
    if (running.ref.number != 0 && running.sent && running.due_ns == 0) running.due_ns = due_ns;
  for (auto& [key, codelet] : codelets_)
    if (codelet.state == Loaded::State::loading && codelet.due_ns == 0) codelet.due_ns = due_ns;
  return false;
}

}  // namespace aios::scheduler
