#include "services/scheduler/context_session.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "services/scheduler/record_check.hpp"

namespace aios::scheduler {
namespace {

using proto::context::Bind;
using proto::context::Load;
using proto::context::Run;
using proto::context::Unbind;

constexpr std::uint64_t open_timeout_ns = 5 * ns_per_s;
/// Contexts end themselves after 10 s; this is for one that does not.
constexpr std::uint64_t load_timeout_ns = 15 * ns_per_s;
constexpr std::uint64_t bind_timeout_ns = 10 * ns_per_s;
constexpr std::uint64_t look_interval_ns = 500 * ns_per_ms;
constexpr std::uint64_t stall_ns = ns_per_s;
/// A context ends itself when a task exceeds its limit, with more time than it needs for that.
constexpr std::uint64_t limit_grace_ns = 5 * ns_per_s;

Status checked(const Status& status) {
  if (status.code() > Code::internal)
    return Status(Code::internal, "the context answered with an unknown status");
  return status;
}

}  // namespace

ContextSession::ContextSession(Kernel& kernel, EventLoop& loop, ClaimedHandle port, JobId job,
                               const Resources& resources, SessionEvents events)
    : loop_(loop),
      port_(std::move(port)),
      job_(job),
      resources_(resources),
      events_(std::move(events)),
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

void ContextSession::run(TaskRef ref, const Task& task) {
  was_used_ = true;
  watch();
  const proto::scheduler::TaskRecord& record = task.record;
  Run::Request request{};
  request.buffer_count = record.buffer_count;
  request.argument_bytes = record.argument_bytes;
  request.limit_ns = record.limit_ns;
  std::copy(std::begin(record.grid), std::end(record.grid), request.grid);
  std::memcpy(request.arguments, record.arguments, sizeof request.arguments);
  for (std::uint32_t i = 0; i < record.buffer_count; ++i)
    request.buffers[i] = {buffer_id(record.buffers[i]), buffer_mode(record.buffers[i])};
  const std::pair<TenantId, std::uint32_t> key{task.tenant->id, record.codelet};
  Running& running =
      running_.insert_or_assign(ref.number, Running{.ref = ref, .codelet = key, .request = request})
          .first->second;

  const auto [entry, is_new] = codelets_.try_emplace(key);
  Loaded& codelet = entry->second;
  switch (codelet.state) {
    case Loaded::State::loading:
      codelet.waiting.push_back(ref.number);
      if (is_new) load(key);
      return;
    case Loaded::State::loaded:
      return send(running, codelet.number);
    case Loaded::State::failed:
      return finish(ref.number, std::unexpected(codelet.failure));
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
      Deadline::after(load_timeout_ns),
      [this, key](const Result<Load::Reply>& reply) { loaded(key, reply); });
}

void ContextSession::loaded(std::pair<TenantId, std::uint32_t> key,
                            const Result<Load::Reply>& reply) {
  if (closed_ || (!reply && !client_->connected())) return;
  Loaded& codelet = codelets_.at(key);
  const std::vector<std::uint64_t> waiting = std::exchange(codelet.waiting, {});
  codelet.since_ns = 0;
  if (reply) {
    codelet.state = Loaded::State::loaded;
    codelet.number = reply->codelet;
  } else {
    codelet.state = Loaded::State::failed;
    codelet.failure = checked(reply.error());
  }
  update_stalled(now_ns());
  for (const std::uint64_t number : waiting) {
    if (closed_) return;
    if (reply)
      send(running_.at(number), reply->codelet);
    else
      finish(number, std::unexpected(codelets_.at(key).failure));
  }
}

/// The context serves a link in order: the Run may follow its Binds without waiting for them.
void ContextSession::send(Running& running, std::uint32_t codelet) {
  running.request.codelet = codelet;
  for (std::uint32_t i = 0; i < running.request.buffer_count; ++i)
    bind(running.request.buffers[i].id);
  running.sent = true;
  events_.begun(running.ref);
  client_->start<Run>(running.request, Deadline::never(),
                      [this, number = running.ref.number](Result<Run::Reply> answer) {
                        if (closed_ || (!answer && !client_->connected())) return;
                        // One that was late has been given up.
                        if (running_.contains(number)) finish(number, std::move(answer));
                      });
}

void ContextSession::bind(std::uint32_t buffer) {
  const BufferSource& source = resources_.buffer(job_, buffer);
  if (const auto at = bound_.find(buffer); at != bound_.end() && at->second == source.serial)
    return;
  bound_[buffer] = source.serial;
  const std::uint32_t use =
      rights::info | rights::map_read | (source.writable ? rights::map_write : 0);
  client_->start_with_handles<Bind>(
      {0, source.offset, source.length, buffer, source.writable ? 1u : 0u},
      {{source.object.get(), source.type, use, 0, false}},
      [](std::span<const Handle> numbers, Bind::Request& r) { r.object = numbers.front(); },
      Deadline::after(bind_timeout_ns),
      [this, buffer, serial = source.serial](const Result<proto::Empty>& reply) {
        if (!reply && !closed_ && client_->connected()) bound(buffer, serial, reply.error());
      });
}

/// The runs that were sent after the Bind will fail; they shall say why.
void ContextSession::bound(std::uint32_t buffer, std::uint64_t serial, const Status& failure) {
  const auto at = bound_.find(buffer);
  if (at == bound_.end() || at->second != serial) return;
  bound_.erase(at);
  for (auto& [number, running] : running_)
    for (std::uint32_t i = 0; i < running.request.buffer_count; ++i)
      if (running.request.buffers[i].id == buffer) running.bind_failure = checked(failure);
}

void ContextSession::finish(std::uint64_t number, Result<Run::Reply> answer) {
  const auto at = running_.find(number);
  assert(at != running_.end());
  const TaskRef ref = at->second.ref;
  if (!answer) answer = std::unexpected(at->second.bind_failure.value_or(checked(answer.error())));
  running_.erase(at);
  events_.answered(ref, answer);
}

void ContextSession::release_buffer(std::uint32_t buffer) {
  if (bound_.erase(buffer) == 0) return;
  client_->start<Unbind>({buffer}, Deadline::after(bind_timeout_ns),
                         [](const Result<proto::Empty>&) {});
}

void ContextSession::drop_tenant(TenantId tenant) {
  std::erase_if(codelets_, [&](const auto& entry) { return entry.first.first == tenant; });
}

// ---- watching ---------------------------------------------------------------------------------

void ContextSession::watch() {
  if (watch_timer_ != 0 || closed_) return;
  watch_timer_ = loop_.after(look_interval_ns, [this] {
    watch_timer_ = 0;
    look();
  });
}

void ContextSession::look() {
  if (running_.empty() && !stalled_) return;
  const std::uint64_t now = now_ns();
  update_stalled(now);
  if (closed_) return;
  if (const auto late = late_task(now))
    return finish(*late, error(Code::timed_out,
                               "its context did not end it at its time limit, and is ended"));
  ask();
  watch();
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
      for_long(asked_ns_) || std::ranges::any_of(codelets_, [&](const auto& entry) {
        return for_long(entry.second.since_ns);
      });
  if (stalled != std::exchange(stalled_, stalled)) events_.stalled(stalled);
}

/// A context runs its tasks in the order in which they were sent, and ends each at its limit: none
/// can take longer than all of them together. Nothing is known of those behind one without limit.
std::optional<std::uint64_t> ContextSession::late_task(std::uint64_t now_ns) {
  std::uint64_t all_ns = limit_grace_ns;
  bool limited = true;
  for (const auto& [number, running] : running_) {
    if (running.due_ns != 0 && now_ns >= running.due_ns) return number;
    if (!running.sent) continue;
    limited = limited && running.request.limit_ns != 0;
    all_ns += std::min(running.request.limit_ns, UINT64_MAX - all_ns);
  }
  for (auto& [number, running] : running_)
    if (limited && running.sent && running.due_ns == 0 && all_ns <= UINT64_MAX - now_ns)
      running.due_ns = now_ns + all_ns;
  return std::nullopt;
}

}  // namespace aios::scheduler
