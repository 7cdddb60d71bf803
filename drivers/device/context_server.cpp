#include "drivers/device/context_server.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <cerrno>

#include "abi/runtime/log.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/file_split.hpp"
#include "drivers/device/owned_handle.hpp"

namespace aios::device {
namespace {

using proto::context::Bind;
using proto::context::Load;
using proto::context::Run;
using proto::context::Unbind;

constexpr std::uint64_t load_limit_ns = 10 * ns_per_s;

proto::context::RunBatch::Reply not_begun() {
  return {.status = static_cast<std::uint16_t>(Code::cancelled)};
}

bool is_constant(const Fd& memory) {
  const int seals = ::fcntl(memory.get(), F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

}  // namespace

Result<std::unique_ptr<ContextServer>> ContextServer::create(Kernel& kernel, EventLoop& loop,
                                                             const std::vector<int>& cpus,
                                                             Backend& backend) {
  return create_with(kernel, loop, backend, [&](std::function<void()> notify) {
    return Executor::create(cpus, std::move(notify));
  });
}

Result<std::unique_ptr<ContextServer>> ContextServer::create_queue(Kernel& kernel, EventLoop& loop,
                                                                   std::size_t depth,
                                                                   Backend& backend) {
  return create_with(kernel, loop, backend, [depth](std::function<void()> notify) {
    return Executor::create_queue(depth, std::move(notify));
  });
}

Result<std::unique_ptr<ContextServer>> ContextServer::create_with(
    Kernel& kernel, EventLoop& loop, Backend& backend, const MakeExecutor& make_executor) {
  std::unique_ptr<ContextServer> server(new ContextServer(kernel, loop, backend));
  server->finished_bell_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!server->finished_bell_.valid()) return errno_error("make an eventfd", errno);
  const int bell = server->finished_bell_.get();
  TRY(loop.watch(bell, EPOLLIN, [self = server.get()](std::uint32_t) { self->answer_finished(); }));
  server->executor_ = TRY(make_executor([bell] { ::eventfd_write(bell, 1); }));
  return server;
}

ContextServer::~ContextServer() {
  loop_.unwatch(finished_bell_.get());
  loop_.cancel(limit_timer_);
  loop_.cancel(lonely_timer_);
  loop_.cancel(collect_timer_);
}

Answer<Load::Reply> ContextServer::handle(Load, const Load::Request& request, CallContext& call) {
  const auto info = TRY(check_object(request.region));
  OwnedHandle handle(kernel_, request.region);
  if (static_cast<ObjectType>(info.type) != ObjectType::region)
    return error(Code::wrong_type, "a module is loaded from a region");
  if (!request.codelet.valid() || request.codelet.view().empty())
    return error(Code::invalid_argument, "the codelet's name is malformed");
  if (request.length == 0 || request.length > proto::context::max_module_bytes)
    return error(Code::invalid_argument, "a module has 1 byte to 64 MiB");
  Region region = TRY(Region::map(kernel_, handle.release(), Mapping::Access::read));
  if (request.length > region.size() || request.offset > region.size() - request.length)
    return error(Code::invalid_argument, "the module does not lie within its region");
  auto loading = std::make_shared<Loading>(Loading{.region = std::move(region),
                                                   .offset = request.offset,
                                                   .length = request.length,
                                                   .codelet = std::string(request.codelet.view())});
  Loading* raw = loading.get();
  TRY(submit({.token = call.token(), .limit_ns = load_limit_ns, .work = std::move(loading)},
             {.block_count = 1, .run_block = [this, raw](std::uint32_t) { return load(*raw); }}));
  return deferred;
}

/// On a worker: module code runs while it is loaded. The bytes are copied first, since their owner
/// may change them meanwhile.
Result<void> ContextServer::load(Loading& loading) {
  const std::span<const std::byte> bytes =
      std::span<const std::byte>(loading.region.bytes()).subspan(loading.offset, loading.length);
  try {
    const std::vector<std::byte> image(bytes.begin(), bytes.end());
    loading.number = TRY(backend_.load(image, loading.codelet));
    return {};
  } catch (const std::bad_alloc&) {
    return error(Code::no_memory, "there is no memory to load the module");
  }
}

Answer<Bind::Reply> ContextServer::handle(Bind, const Bind::Request& request, CallContext& call) {
  const auto info = TRY(check_object(request.object));
  OwnedHandle handle(kernel_, request.object);
  Buffer buffer = TRY(make_buffer(request, info, call.peer().process_id));
  TRY(buffers_[call.client()].bind(
      request.id, std::move(buffer),
      [kernel = &kernel_, object = request.object] { kernel->close(object); }));
  (void)handle.release();
  return proto::Empty{};
}

/// The number came in a message: only regions and file channels, of which this process has none but
/// those it was sent, may be used and closed.
Result<ContextServer::ObjectInfo> ContextServer::check_object(Handle handle) {
  const auto info = TRY(kernel_.call<proto::kernel::HandleInfo>({.handle = handle})).reply;
  const auto type = static_cast<ObjectType>(info.type);
  if (type == ObjectType::region || type == ObjectType::file) return info;
  return error(Code::wrong_type, "neither a region nor a file channel");
}

Result<Buffer> ContextServer::make_buffer(const Bind::Request& request, const ObjectInfo& info,
                                          std::uint64_t binder) {
  if (request.writable > 1) return error(Code::invalid_argument, "`writable` is 0 or 1");
  const bool writable = request.writable == 1;
  if (static_cast<ObjectType>(info.type) == ObjectType::file) {
    if (request.offset != 0 || request.length != 0 || writable)
      return error(Code::invalid_argument,
                   "lent files are bound whole and read-only: offset, length and writable are 0");
    auto opened = TRY(kernel_.call<proto::kernel::FileOpen>({.file = request.object}));
    if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left for lent files");
    return Buffer::files(TRY(receive_split(opened.fds.front())));
  }
  auto opened = TRY(kernel_.call<proto::kernel::RegionMap>(
      {.region = request.object, .writable = request.writable, .reserved = 0}));
  if (opened.fds.size() != 1) return error(Code::quota, "no descriptor left to map a buffer");
  const Fd& memory = opened.fds.front();
  const std::uint64_t size_bytes = opened.reply.size_bytes;
  Mapping read = TRY(Mapping::map(memory, size_bytes, Mapping::Access::read));
  Mapping write;
  if (writable) write = TRY(Mapping::map(memory, size_bytes, Mapping::Access::read_write));
  return Buffer::memory(std::move(read), std::move(write), request.offset, request.length,
                        {.region = info.object_id,
                         .constant = is_constant(memory),
                         .binder = binder,
                         .serial = request.serial});
}

Answer<Unbind::Reply> ContextServer::handle(Unbind, const Unbind::Request& request,
                                            CallContext& call) {
  TRY(buffers_[call.client()].unbind(request.id));
  if (!backend_.keeps_buffers()) return proto::Empty{};
  release_unbound();
  unbinding_[release_job_].push_back(call.token());
  return deferred;
}

Answer<Run::Reply> ContextServer::handle(Run, const Run::Request& request, CallContext& call) {
  auto work = TRY(backend_.prepare(request, buffers_[call.client()]));
  Work* raw = work.get();
  Executor::Job job{.block_count = raw->block_count(),
                    .run_block = [raw](std::uint32_t block) { return raw->run_block(block); },
                    .begin = [raw] { return raw->begin(); }};
  if (raw->tells_end()) job.has_ended = [raw] { return raw->has_ended(); };
  TRY(submit({.token = call.token(), .limit_ns = request.limit_ns, .work = std::move(work)},
             std::move(job)));
  return deferred;
}

Answer<proto::context::RunBatch::Reply> ContextServer::handle(
    proto::context::RunBatch, const proto::context::RunBatch::Request& request, CallContext& call) {
  BatchLog& batches = batches_[call.client()];
  BatchLog::Before before = TRY(batches.before(request));
  const auto refuse = [&](const Status& why) {
    batches.refused(request.number);
    return std::unexpected(why);
  };
  auto created = RunBatch::create(request, backend_, buffers_[call.client()]);
  if (!created) return refuse(created.error());
  if (before.cancelled) {
    batches.ended_early(request.number, {});
    return not_begun();
  }
  RunBatch* raw = created->get();
  Executor::Job work{.block_count = 1,
                     .brief = true,
                     .run_block = [raw](std::uint32_t) { return raw->run(); },
                     .after = std::move(before.jobs)};
  if (executor_->is_queue()) {
    work.begin = [raw] { return raw->begin_all(), Result<>(); };
    work.run_block = [raw](std::uint32_t) { return raw->end_all(); };
    if (raw->tells_end()) work.has_ended = [raw] { return raw->has_ended(); };
    work.will_fail = [raw] { return raw->will_fail(); };
  }
  const auto job =
      submit({.token = call.token(), .limit_ns = 0, .work = *std::move(created)}, std::move(work));
  if (!job) return refuse(job.error());
  batches.begun(request.number, *job);
  ++batches_pending_;
  return deferred;
}

Answer<proto::context::BatchFailure::Reply> ContextServer::handle(
    proto::context::BatchFailure, const proto::context::BatchFailure::Request& request,
    CallContext& call) {
  using Reply = proto::context::BatchFailure::Reply;
  const std::string why = TRY(batches_[call.client()].take_reason(request.number));
  return Reply{decltype(Reply::why)::from(why)};
}

/// Returns the job's id.
Result<std::uint64_t> ContextServer::submit(Pending pending, Executor::Job job) {
  const std::uint64_t id = job.id = next_job_++;
  const std::uint64_t limit_ns = job.limit_ns = pending.limit_ns;
  TRY(executor_->submit(std::move(job)));
  kick_later();
  pending_.emplace(id, std::move(pending));
  if (limit_ns != 0) check_limits_at(Deadline::after(limit_ns).at_ns);
  return id;
}

/// By a worker, after what runs now: the device's library belongs to it. One that is queued already
/// does it for all that is unbound meanwhile. One for which the queue has no room is tried again
/// when jobs have ended, and as long nobody is told that the memory is free.
void ContextServer::release_unbound() {
  if (release_queued_.exchange(true)) return;
  if (!std::exchange(release_due_, false)) release_job_ = next_job_++;
  const auto queued = executor_->submit({.id = release_job_,
                                         .block_count = 1,
                                         .limit_ns = 0,
                                         .brief = false,
                                         .run_block = [this](std::uint32_t) -> Result<> {
                                           release_queued_ = false;
                                           backend_.release_unbound();
                                           return {};
                                         }});
  if (!queued) {
    release_queued_ = false;
    release_due_ = true;
  }
  kick_later();
}

/// Once for all that comes in one turn of the loop.
void ContextServer::kick_later() {
  if (std::exchange(kick_posted_, true)) return;
  loop_.post([this] {
    kick_posted_ = false;
    executor_->kick();
    collect_later();
  });
}

/// A thread that keeps ends of brief tasks back may find that the next one is not brief at all.
void ContextServer::collect_later() {
  constexpr std::uint64_t patience_ns = 5 * ns_per_ms;
  if (batches_pending_ == 0 || std::exchange(collecting_, true)) return;
  collect_timer_ = loop_.after(patience_ns, [this] {
    collecting_ = false;
    answer_finished();
    collect_later();
  });
}

void ContextServer::answer_finished() {
  eventfd_t count = 0;
  ::eventfd_read(finished_bell_.get(), &count);
  const std::vector<Executor::Finished> all = executor_->take_finished();
  if (release_due_) release_unbound();
  // Whatever ended well has: it is answered, also when the device is lost.
  bool crashed = false;
  peak_memory_bytes_ = backend_.peak_memory_bytes();
  for (const Executor::Finished& finished : all) {
    if (const auto unbound = unbinding_.extract(finished.id); !unbound.empty())
      for (const ReplyToken& token : unbound.mapped())
        server_->reply<Unbind>(token, proto::Empty{});
    const auto it = pending_.find(finished.id);
    if (it == pending_.end()) continue;
    const std::optional<Code> failure = failure_of(it->second, finished);
    crashed = crashed || failure == Code::crashed;
    if (failure && is_suspect(it->second, finished, *failure)) continue;
    const Pending pending = std::move(it->second);
    pending_.erase(it);
    answer(pending, finished);
  }
  if (backend_.loss() == Loss::gone) {
    log_line("the device is gone: the context ends");
    end_process(exit_device_gone);
  }
  // Who has lost the device says so a moment before it ends; it is waited for, to be answered.
  if (!crashed || backend_.loss() == Loss::none) return;
  log_line("a task faulted on the device, which is lost to this context: it ends");
  end_process(exit_device_lost);
}

/// Also what a batch failed of that was cancelled when it had run.
std::optional<Code> ContextServer::failure_of(const Pending& pending,
                                              const Executor::Finished& finished) {
  if (const auto* batch = std::get_if<std::shared_ptr<RunBatch>>(&pending.work))
    if (const auto& failure = (*batch)->failure()) return failure->code();
  if (finished.outcome) return std::nullopt;
  return finished.outcome.error().code();
}

/// The device is lost, and any of those that were on their way may have been the one at fault: the
/// scheduler will run them again, one at a time.
bool ContextServer::is_suspect(const Pending& pending, const Executor::Finished& finished,
                               Code failure) const {
  const Loss loss = backend_.loss();
  if (loss == Loss::none) return false;
  if (loss == Loss::gone || failure == Code::service_down) return true;
  if (failure != Code::crashed) return false;
  return !finished.alone || std::holds_alternative<std::shared_ptr<RunBatch>>(pending.work);
}

void ContextServer::answer(const Pending& pending, const Executor::Finished& finished) {
  if (const auto* loading = std::get_if<std::shared_ptr<Loading>>(&pending.work)) {
    if (!finished.outcome)
      return server_->reply<Load>(pending.token, std::unexpected(finished.outcome.error()));
    return server_->reply<Load>(pending.token,
                                Load::Reply{.codelet = (*loading)->number, .reserved = 0});
  }
  if (const auto* batch = std::get_if<std::shared_ptr<RunBatch>>(&pending.work)) {
    --batches_pending_;
    return answer(pending, **batch, finished.cancelled);
  }
  if (!finished.outcome)
    return server_->reply<Run>(pending.token, std::unexpected(finished.outcome.error()));
  Run::Reply reply{};
  reply.start_ns = finished.start_ns;
  reply.end_ns = finished.end_ns;
  const auto& work = std::get<std::shared_ptr<Work>>(pending.work);
  if (const auto times = work->times()) {
    reply.start_ns = times->start_ns;
    reply.end_ns = times->end_ns;
  }
  reply.peak_memory_bytes = peak_memory_bytes_;
  reply.transfer_ns = work->transfer_ns();
  reply.ahead_ns = work->ahead_ns();
  reply.busy_ns = finished.busy_ns;
  const auto& result = work->result();
  std::copy(result.begin(), result.end(), reply.result);
  server_->reply<Run>(pending.token, reply);
}

void ContextServer::answer(const Pending& pending, const RunBatch& batch, bool cancelled) {
  BatchLog& batches = batches_[pending.token.client];
  proto::context::RunBatch::Reply reply = batch.reply();
  if (reply.count == 0 || cancelled) {
    batches.ended_early(batch.number(), {});
    reply = not_begun();
  } else if (batch.failure()) {
    batches.ended_early(batch.number(), batch.failure()->message());
  } else {
    batches.ended(batch.number());
  }
  reply.peak_memory_bytes = peak_memory_bytes_;
  server_->reply<proto::context::RunBatch>(pending.token, reply);
}

void ContextServer::end_when_lonely(std::uint64_t after_ns) {
  lonely_ns_ = after_ns;
  loop_.cancel(lonely_timer_);
  lonely_timer_ = loop_.after(after_ns, [] {
    log_line("nobody is connected to this context: it ends");
    end_process(exit_in_order);
  });
}

void ContextServer::client_opened(ClientId, const PeerInfo&) {
  loop_.cancel(lonely_timer_);
}

void ContextServer::client_closed(ClientId client) {
  for (const auto& [id, pending] : pending_) {
    if (pending.token.client != client) continue;
    log_line("the scheduler left while tasks ran: the context ends");
    end_process(exit_in_order);
  }
  buffers_.erase(client);
  batches_.erase(client);
  if (backend_.keeps_buffers()) release_unbound();
  if (lonely_ns_ != 0 && server_->client_count() == 0) end_when_lonely(lonely_ns_);
}

Answer<proto::context::Pause::Reply> ContextServer::handle(
    proto::context::Pause, const proto::context::Pause::Request& request, CallContext&) {
  if (request.paused > 1) return error(Code::invalid_argument, "`paused` is 0 or 1");
  if (request.paused == 1) {
    executor_->pause(now_ns());
  } else {
    executor_->resume(now_ns());
    check_limits();
  }
  return proto::Empty{};
}

void ContextServer::check_limits_at(std::uint64_t when_ns) {
  if (limit_timer_ns_ != 0 && limit_timer_ns_ <= when_ns) return;
  loop_.cancel(limit_timer_);
  limit_timer_ns_ = when_ns;
  limit_timer_ = loop_.at({when_ns}, [this] { check_limits(); });
}

void ContextServer::check_limits() {
  limit_timer_ns_ = 0;
  const Executor::LimitCheck check = executor_->check_limits(now_ns());
  if (check.exceeded) end_by_limit(*check.exceeded);
  if (check.next_ns != 0) check_limits_at(check.next_ns);
}

/// A thread that will not come back cannot be taken out of its process: the process ends.
void ContextServer::end_by_limit(std::uint64_t id) {
  answer_finished();  // what has ended by itself, perhaps this one
  if (!pending_.contains(id)) return check_limits();
  const Pending& culprit = pending_.at(id);
  const std::string limit = std::to_string(culprit.limit_ns / ns_per_ms) + " ms";
  if (std::holds_alternative<std::shared_ptr<Loading>>(culprit.work))
    server_->reply<Load>(culprit.token,
                         error(Code::timed_out, "the module was not loaded within " + limit));
  else
    server_->reply<Run>(culprit.token,
                        error(Code::timed_out, "the task exceeded its time limit of " + limit));
  log_line("a task exceeded its time limit of " + limit + ": the context ends");
  end_process(exit_limit);
}

}  // namespace aios::device
