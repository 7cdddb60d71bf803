#include "abi/lib/task_client.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstring>
#include <new>

namespace aios {

namespace wire = proto::scheduler;

namespace {

constexpr std::uint64_t batch_bytes = wire::max_batch * sizeof(wire::TaskRecord);
constexpr std::uint64_t batches_bytes = TaskLink::arena_batches * batch_bytes;

std::uint64_t room_bytes(const TaskLink::CompletionCalls& calls) {
  return calls.each * sizeof(wire::Completion);
}

/// What ends calls needs no memory: without its text where there is none.
std::unexpected<Status> lost() noexcept {
  try {
    return error(Code::peer_closed, "the scheduler went away since the tenant was opened");
  } catch (const std::bad_alloc&) {
    return error(Code::peer_closed);
  }
}

/// What an answer has, kept beyond it. no_memory: it is lost.
template <class T>
Result<T> kept(auto first, std::size_t count) {
  try {
    return T(first, first + count);
  } catch (const std::bad_alloc&) {
    return error(Code::no_memory, "out of memory");
  }
}

/// Calls `start`; where there is no memory to, what had been taken for it is given back.
template <class Start, class GiveBack>
void start_or(Start start, GiveBack give_back) {
  try {
    start();
  } catch (const std::bad_alloc&) {
    give_back();
    throw;
  }
}

/// What waited to be sent when the connection was lost is cancelled, see TaskLink; to its caller it
/// ended as what had been sent.
std::unexpected<Status> ended(Status status, bool connection_lost) {
  if (connection_lost && status.code() == Code::cancelled) return lost();
  return std::unexpected(std::move(status));
}

}  // namespace

// ---- the link -----------------------------------------------------------------------------------

TaskLink::TaskLink(Kernel& kernel, EventLoop* loop, Handle port, CompletionCalls calls)
    : kernel_(kernel),
      calls_(calls),
      client_(std::make_unique<Client>(kernel, loop, port, wire::Protocol::version, "scheduler")) {
  client_->on_disconnect([this] {
    ++connection_;
    prepared_ = false;
    rooms_taken_.reset();
    // What was not sent yet names tenants of the connection that is gone.
    client_->disconnect();
    if (on_lost_) on_lost_();
  });
}

void TaskLink::prepare(Deadline deadline, TaskCallback<void> done) {
  if (prepared_) return done({});
  if (!arena_.valid()) {
    const std::uint64_t bytes = batches_bytes + calls_.at_once * room_bytes(calls_);
    auto arena = Region::create(kernel_, bytes, "task-arena");
    if (!arena) return done(std::unexpected(std::move(arena).error()));
    arena_ = std::move(*arena);
  }
  client_->start_with_handles<wire::SetArena>(
      {0},
      {{arena_.handle(), ObjectType::region, rights::info | rights::map_read | rights::map_write, 0,
        false}},
      [](std::span<const Handle> numbers, wire::SetArena::Request& r) { r.region = numbers[0]; },
      deadline,
      [this, connection = connection_, done = std::move(done)](Result<proto::Empty> reply) mutable {
        if (!reply) return done(ended(std::move(reply).error(), connection != connection_));
        prepared_ = true;
        done({});
      });
}

Result<std::uint32_t> TaskLink::take_place() {
  const auto number = static_cast<std::uint32_t>(std::countr_one(taken_));
  if (number >= arena_batches) return error(Code::busy, "too many batches are on their way");
  taken_ |= 1u << number;
  return number;
}

std::span<std::byte> TaskLink::place(std::uint32_t number) {
  return arena_.bytes().subspan(number * batch_bytes, batch_bytes);
}

Result<std::uint32_t> TaskLink::take_room() {
  for (std::uint32_t number = 0; number < calls_.at_once; ++number) {
    if (rooms_taken_.test(number)) continue;
    rooms_taken_.set(number);
    return number;
  }
  return error(Code::busy, "too many calls for completions are on their way");
}

std::uint64_t TaskLink::room_offset(std::uint32_t number) const {
  return batches_bytes + number * room_bytes(calls_);
}

// ---- the tenant ---------------------------------------------------------------------------------

namespace {

std::uint64_t next_session() {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

TaskTenant::TaskTenant(TaskLink& link) : link_(link), session_(next_session()) {}

void TaskTenant::open(Handle job, Deadline deadline, TaskCallback<void> done) {
  // Shared: should there be no memory for the second call, it is told that.
  const auto told = std::make_shared<TaskCallback<void>>(std::move(done));
  const auto open = [this, job, deadline, told] {
    const std::uint32_t use = rights::info | rights::act | rights::send;
    link_.client_->start_with_handles<wire::OpenTenant>(
        {0, session_}, {{job, ObjectType::job, use, rights::info | rights::act, false}},
        [](std::span<const Handle> numbers, wire::OpenTenant::Request& r) { r.job = numbers[0]; },
        deadline,
        [this, connection = link_.connection_, told](Result<wire::OpenTenant::Reply> reply) {
          if (!reply)
            return (*told)(ended(std::move(reply).error(), connection != link_.connection_));
          id_ = reply->tenant;
          connection_ = link_.connection_;
          (*told)({});
        });
  };
  link_.prepare(deadline, [open, told](Result<void> prepared) {
    if (!prepared) return (*told)(std::move(prepared));
    try {
      open();
    } catch (const std::bad_alloc&) {
      (*told)(error(Code::no_memory, "out of memory"));
    }
  });
}

template <class M, class T>
void TaskTenant::call(const typename M::Request& request, Deadline deadline, TaskCallback<T> done) {
  if (!is_open()) return done(lost());
  TaskLink& link = link_;
  link.client_->start<M>(
      request, deadline,
      [&link, connection = link.connection_,
       done = std::move(done)](Result<typename M::Reply> reply) mutable {
        if (!reply) return done(ended(std::move(reply).error(), connection != link.connection_));
        if constexpr (std::is_void_v<T>)
          done({});
        else if constexpr (std::is_same_v<T, std::string>)
          done(kept<T>(reply->text.view().data(), reply->text.view().size()));
        else
          done(*reply);
      });
}

void TaskTenant::close(Deadline deadline, TaskCallback<void> done) {
  call<wire::CloseTenant>({id_, 0}, deadline, std::move(done));
  connection_ = 0;
}

void TaskTenant::register_codelet(Handle region, std::uint64_t offset, std::uint64_t length,
                                  std::string_view function, std::string_view label,
                                  std::uint32_t backends, Deadline deadline,
                                  TaskCallback<std::uint32_t> done, std::uint64_t module_hash) {
  using M = wire::RegisterCodelet;
  if (!is_open()) return done(lost());
  if (!proto::Text<64>::fits(function))
    return done(error(Code::invalid_argument, "a codelet's name has at most 63 characters"));
  link_.client_->start_with_handles<M>(
      {0, offset, length, id_, backends, module_hash, proto::Text<64>::from(function),
       proto::Text<64>::from(label)},
      {{region, ObjectType::region, rights::info | rights::send, rights::info | rights::map_read,
        false}},
      [](std::span<const Handle> numbers, M::Request& r) { r.region = numbers[0]; }, deadline,
      [&link = link_, connection = link_.connection_,
       done = std::move(done)](Result<M::Reply> reply) mutable {
        if (!reply) return done(ended(std::move(reply).error(), connection != link.connection_));
        done(reply->codelet);
      });
}

void TaskTenant::set_cheaper(std::uint32_t codelet, std::uint32_t cheaper, Deadline deadline,
                             TaskCallback<void> done) {
  call<wire::SetCheaper>({id_, codelet, cheaper, 0}, deadline, std::move(done));
}

void TaskTenant::register_buffer(Handle region, std::uint64_t offset, std::uint64_t length,
                                 bool writable, Deadline deadline,
                                 TaskCallback<std::uint32_t> done) {
  register_object(region, ObjectType::region, offset, length, writable, deadline, std::move(done));
}

void TaskTenant::register_files(Handle file, Deadline deadline, TaskCallback<std::uint32_t> done) {
  register_object(file, ObjectType::file, 0, 0, false, deadline, std::move(done));
}

void TaskTenant::register_object(Handle object, ObjectType type, std::uint64_t offset,
                                 std::uint64_t length, bool writable, Deadline deadline,
                                 TaskCallback<std::uint32_t> done) {
  using M = wire::RegisterBuffer;
  if (!is_open()) return done(lost());
  const std::uint32_t grant = rights::info | rights::map_read | (writable ? rights::map_write : 0);
  link_.client_->start_with_handles<M>(
      {0, offset, length, id_, writable ? 1u : 0u},
      {{object, type, rights::info | rights::send, grant, false}},
      [](std::span<const Handle> numbers, M::Request& r) { r.object = numbers[0]; }, deadline,
      [&link = link_, connection = link_.connection_,
       done = std::move(done)](Result<M::Reply> reply) mutable {
        if (!reply) return done(ended(std::move(reply).error(), connection != link.connection_));
        done(reply->buffer);
      });
}

void TaskTenant::release_buffer(std::uint32_t buffer, Deadline deadline, TaskCallback<void> done) {
  call<wire::ReleaseBuffer>({id_, buffer}, deadline, std::move(done));
}

void TaskTenant::submit(std::span<const TaskRecord> records, Deadline deadline,
                        TaskCallback<void> done, bool continues, std::uint32_t graph) {
  if (!is_open()) return done(lost());
  if (records.empty() || records.size() > wire::max_batch)
    return done(error(Code::invalid_argument, "a batch is 1 to 1024 tasks"));
  const Result<std::uint32_t> place = link_.take_place();
  if (!place) return done(std::unexpected(place.error()));
  std::memcpy(link_.place(*place).data(), records.data(), records.size_bytes());
  const wire::Submit::Request request{*place * batch_bytes,
                                      static_cast<std::uint32_t>(records.size()), id_,
                                      continues ? 1u : 0u, graph};
  const auto start = [&] {
    call<wire::Submit, void>(
        request, deadline,
        [link = &link_, number = *place, done = std::move(done)](Result<void> result) mutable {
          link->give_place(number);
          done(std::move(result));
        });
  };
  start_or(start, [&] { link_.give_place(*place); });
}

void TaskTenant::completions(Deadline deadline, TaskCallback<Completions> done,
                             std::uint32_t least) {
  if (!is_open()) return done(lost());
  const Result<std::uint32_t> room = link_.take_room();
  if (!room) return done(std::unexpected(room.error()));
  const std::uint64_t offset = link_.room_offset(*room);
  TaskLink& link = link_;
  auto answered = [&link, number = *room, offset, connection = link.connection_,
                   done = std::move(done)](Result<wire::Completions::Reply> reply) mutable {
    if (connection != link.connection_)
      return done(ended(reply ? Status(Code::cancelled) : std::move(reply).error(), true));
    // One that is late still has the room: it is not given to another.
    if (reply || reply.error().code() != Code::timed_out) link.give_room(number);
    if (!reply) return done(std::unexpected(std::move(reply).error()));
    const auto* first =
        reinterpret_cast<const wire::Completion*>(link.arena_.bytes().data() + offset);
    const std::size_t count = std::min<std::uint64_t>(reply->count, link.calls_.each);
    done(kept<Completions>(first, count));
  };
  const auto start = [&] {
    link.client_->start<wire::Completions>(
        {offset, link.calls_.each, std::min(least, link.calls_.each), id_, 0}, deadline,
        std::move(answered));
  };
  start_or(start, [&] { link.give_room(*room); });
}

void TaskTenant::device(std::uint64_t index, Deadline deadline,
                        TaskCallback<wire::DeviceNext::Reply> done) {
  call<wire::DeviceNext>({index}, deadline, std::move(done));
}

void TaskTenant::failure(std::uint64_t tag, Deadline deadline, TaskCallback<std::string> done) {
  call<wire::Failure>({tag, id_, 0}, deadline, std::move(done));
}

void TaskTenant::cancel(std::uint64_t tag, Deadline deadline, TaskCallback<void> done) {
  call<wire::Cancel>({tag, id_, 0}, deadline, std::move(done));
}

void TaskTenant::cancel_range(std::uint64_t first, std::uint64_t last, Deadline deadline,
                              TaskCallback<Cancelled> done) {
  call<wire::CancelRange>({first, last, id_, 0}, deadline, std::move(done));
}

void TaskTenant::open_graph(std::uint64_t due_ns, Deadline deadline,
                            TaskCallback<std::uint32_t> done) {
  call<wire::OpenGraph, wire::OpenGraph::Reply>(
      {due_ns, id_, 0}, deadline,
      [done = std::move(done)](Result<wire::OpenGraph::Reply> reply) mutable {
        if (!reply) return done(std::unexpected(std::move(reply).error()));
        done(reply->graph);
      });
}

void TaskTenant::admit_graph(std::uint32_t graph, bool withdraw, Deadline deadline,
                             TaskCallback<Admitted> done) {
  call<wire::AdmitGraph>({id_, graph, withdraw ? 1u : 0u}, deadline, std::move(done));
}

// ---- helpers ------------------------------------------------------------------------------------

Result<Region> module_region(Kernel& kernel, std::span<const std::byte> module) {
  if (module.empty() || module.size() > proto::context::max_module_bytes)
    return error(Code::invalid_argument, "a module has 1 byte to 64 MiB");
  Region region = TRY(Region::create(kernel, module.size(), "module"));
  std::memcpy(region.data(), module.data(), module.size());
  return region;
}

proto::scheduler::TaskRecord make_task(std::uint64_t tag, std::uint32_t codelet) {
  wire::TaskRecord record{};
  record.tag = tag;
  record.codelet = codelet;
  record.flags = wire::task_flag::idempotent;
  record.grid[0] = record.grid[1] = record.grid[2] = 1;
  return record;
}

void add_buffer(wire::TaskRecord& record, std::uint32_t buffer, std::uint32_t mode) {
  assert(record.buffer_count < proto::context::max_task_buffers);
  record.buffers[record.buffer_count++] = buffer | mode << 28;
}

namespace {

/// From then to then, "1.250 s".
std::string span_text(std::uint64_t from_ns, std::uint64_t to_ns) {
  const double ms = static_cast<double>(to_ns - std::min(from_ns, to_ns)) / 1e6;
  char text[48];
  std::snprintf(text, sizeof text, ms < 1000 ? "%.3g ms" : "%.3f s", ms < 1000 ? ms : ms / 1000);
  return text;
}

}  // namespace

Result<void> refusal_of(const wire::AdmitGraph::Reply& answer) {
  const auto verdict = static_cast<wire::Verdict>(answer.verdict);
  if (verdict == wire::Verdict::accepted) return {};
  if (verdict == wire::Verdict::withdrawn) return error(Code::cancelled, "the graph was withdrawn");
  const std::string from_now = span_text(answer.now_ns, answer.deadline_ns);
  if (answer.finish_ns == 0)
    return error(Code::too_late, "the graph's deadline passed while it was submitted");
  std::string text = "the graph is predicted to finish in " +
                     span_text(answer.now_ns, answer.finish_ns) +
                     ", and with the margin that keeps 19 of 20 in time in " +
                     span_text(answer.now_ns, answer.finish_p95_ns) + "; ";
  if (verdict == wire::Verdict::harms_others)
    text += "that is before its deadline in " + from_now +
            ", but graphs accepted before it would be late; submit it with a later deadline";
  else
    text += "its deadline is in " + from_now + ": allow it " +
            span_text(answer.deadline_ns, answer.finish_p95_ns) + " more, or submit less";
  if (answer.unknown > 0)
    text += " (nothing is known of " + std::to_string(answer.unknown) + " of its " +
            std::to_string(answer.tasks) + " tasks: they may take longer)";
  if (answer.anywhere_p95_ns != 0)
    text += "; if its tasks named no device, their other variants would be done in " +
            span_text(answer.now_ns, answer.anywhere_p95_ns);
  if (answer.cheaper_p95_ns != 0)
    text += "; if " + std::to_string(answer.cheaper_tasks) + " of its " +
            std::to_string(answer.tasks) +
            " tasks might run in the cheaper variants of their codelets, it would be done in " +
            span_text(answer.now_ns, answer.cheaper_p95_ns) + ": permit them";
  return error(Code::too_late, text);
}

}  // namespace aios
