#include "services/mapreduce/mapreduce_server.hpp"

#include <algorithm>

namespace aios::mapreduce {

namespace {

namespace wire = proto::mapreduce;

/// Everything spilled lies below this; a service that starts removes what its predecessor left.
constexpr const char* spill_prefix = "mapreduce/";
constexpr std::uint32_t max_jobs_per_user = 16;

Result<void> check(const wire::Submit::Request& request) {
  const auto bad = [](const char* what) { return error(Code::invalid_argument, what); };
  if (request.reducers == 0 || request.reducers > wire::max_reducers)
    return bad("a job has 1 to 512 reducers");
  if (request.threads == 0 || request.threads > wire::max_threads)
    return bad("a job has 1 to 256 threads");
  if (request.memory_bytes < wire::min_memory_bytes ||
      request.memory_bytes > wire::max_memory_bytes)
    return bad("a job has between 8 MiB and 1 TiB of memory");
  if (request.split_count > wire::max_splits) return bad("a job has at most 1,048,576 splits");
  if (request.max_bad_records > wire::max_bad_records)
    return bad("a job skips at most 100,000 bad records");
  if (request.parameter_bytes > wire::max_parameter_bytes)
    return bad("a job's arguments are at most 64 KiB");
  if (request.parameter_offset < engine::job_header_bytes(request.reducers))
    return bad("a job's arguments lie behind its description and boundaries");
  if (request.names_offset >= request.parameter_offset)
    return bad("the names of a job's files lie before its arguments");
  if (!request.label.valid() || request.label.view().empty()) return bad("the job has no label");
  return {};
}

std::unexpected<Status> shutting_down() {
  return error(Code::service_down, "the instance is shutting down and takes no new jobs");
}

}  // namespace

MapReduceServer::MapReduceServer(Kernel& kernel, EventLoop& loop, Handle tasks, Handle storage)
    : kernel_(kernel),
      loop_(loop),
      claims_(kernel),
      tasks_(kernel, &loop, tasks),
      spills_(kernel, loop, storage),
      services_{kernel, loop, claims_, tasks_, spills_},
      server_(kernel, loop, *this) {
  tasks_.on_lost([this] {
    for (auto& [id, job] : jobs_)
      if (job.runner != nullptr) job.runner->scheduler_failed(Status(Code::peer_closed));
  });
  spills_.remove_all(spill_prefix);
}

Result<MapReduceServer::Job*> MapReduceServer::find(std::uint64_t id, const CallContext& call) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.client != call.client())
    return error(Code::not_found, "no job " + std::to_string(id) + " is this client's");
  if (found->second.runner == nullptr)
    return error(Code::invalid_argument, "job " + std::to_string(id) + " is not submitted yet");
  return &found->second;
}

Result<MapReduceServer::Job*> MapReduceServer::find_prepared(std::uint64_t id,
                                                             const CallContext& call) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.client != call.client() ||
      found->second.runner != nullptr)
    return nullptr;
  if (found->second.cancelled) return error(Code::cancelled, "the job was cancelled");
  return &found->second;
}

Result<std::uint64_t> MapReduceServer::add(const CallContext& call) {
  const auto of_user = std::count_if(jobs_.begin(), jobs_.end(), [&](const auto& entry) {
    return entry.second.uid == call.peer().uid;
  });
  if (jobs_.size() >= wire::max_jobs || of_user >= max_jobs_per_user)
    return error(Code::quota, "too many MapReduce jobs run already; try again when one is done");
  const std::uint64_t id = ++last_job_;
  jobs_.emplace(id, Job{call.client(), call.peer().uid, call.peer().job_id, now_ns()});
  return id;
}

Answer<wire::Prepare::Reply> MapReduceServer::handle(Prepare, const Prepare::Request& request,
                                                     CallContext& call) {
  const auto phase = static_cast<wire::Phase>(request.progress.phase);
  if (phase > wire::Phase::unpacking || phase == wire::Phase::failed)
    return error(Code::invalid_argument,
                 "a job that its client prepares or leads has no such phase");
  if (request.progress.reserved != 0)
    return error(Code::invalid_argument, "a reserved field is not zero");
  if (!request.label.valid() || request.label.view().empty())
    return error(Code::invalid_argument, "the job has no label");
  if (draining_.begun()) return shutting_down();
  const std::uint64_t id = request.job != 0 ? request.job : TRY(add(call));
  Job* job = TRY(find_prepared(id, call));
  if (job == nullptr)
    return error(Code::not_found, "no job " + std::to_string(id) + " is this client's to prepare");
  job->request.label = request.label;
  job->request.reducers = request.reducers;
  job->request.threads = request.threads;
  job->request.input_bytes = request.input_bytes;
  job->preparation = request.progress;
  return wire::Prepare::Reply{id};
}

Answer<wire::Submit::Reply> MapReduceServer::handle(Submit, const Submit::Request& request,
                                                    CallContext& call) {
  TRY(check(request));
  if (draining_.begun()) return shutting_down();
  const bool prepared = TRY(find_prepared(request.prepared, call)) != nullptr;
  const std::uint64_t id = prepared ? request.prepared : TRY(add(call));
  const std::string prefix =
      spill_prefix + std::to_string(kernel_.epoch()) + "-" + std::to_string(id) + "/";
  auto runner = JobRunner::create(services_, request, call.peer().process_id, prefix);
  if (!runner) {
    jobs_.erase(id);
    return std::unexpected(runner.error());
  }
  Job& job = jobs_.at(id);
  job.request = request;
  job.runner = *runner;
  (*runner)->start([this, id] { changed(id); },
                   [this] {
                     for (auto& [other, job] : jobs_)
                       if (job.runner != nullptr) job.runner->submit_tasks();
                   });
  return wire::Submit::Reply{id};
}

Answer<wire::Next::Reply> MapReduceServer::handle(Next, const Next::Request& request,
                                                  CallContext& call) {
  Job* job = TRY(find(request.job, call));
  if (job->waiting) return error(Code::busy, "this job's next event is being waited for already");
  job->waiting = call.token();
  job->timer = loop_.after(wire::progress_interval_ns, [this, id = request.job] {
    const auto found = jobs_.find(id);
    if (found != jobs_.end()) answer(found->second, {wire::EventKind::progress});
  });
  changed(request.job);
  return deferred;
}

void MapReduceServer::changed(std::uint64_t id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || !found->second.waiting) return;
  Job& job = found->second;
  if (job.runner->machine().has_event()) answer(job, job.runner->machine().take_event());
}

void MapReduceServer::answer(Job& job, const ClientEvent& event) {
  if (!job.waiting) return;
  const JobMachine& machine = job.runner->machine();
  wire::Next::Reply reply{};
  reply.kind = static_cast<std::uint32_t>(event.kind);
  reply.partition = event.partition;
  reply.number = event.number;
  reply.bytes = event.bytes;
  reply.offset = event.offset;
  reply.segment = event.segment;
  reply.progress = machine.progress();
  std::copy(machine.counters().begin(), machine.counters().end(), reply.counters);
  const ReplyToken token = *job.waiting;
  job.waiting.reset();
  loop_.cancel(job.timer);
  server_.reply<wire::Next>(token, reply);
}

Answer<proto::Empty> MapReduceServer::handle(Lend, const Lend::Request& request,
                                             CallContext& call) {
  Job* job = TRY(find(request.job, call));
  if (request.channel_count == 0 || request.channel_count > wire::max_channels ||
      request.pieces > wire::max_channels * proto::kernel::max_lent_files)
    return error(Code::invalid_argument, "a split has 1 to 8 channels of 1 to 128 pieces");
  job->runner->lend(request, [this, token = call.token()](const Result<proto::Empty>& result) {
    server_.reply<wire::Lend>(token, result);
  });
  return deferred;
}

Answer<proto::Empty> MapReduceServer::handle(AddSegment, const AddSegment::Request& request,
                                             CallContext& call) {
  Job* job = TRY(find(request.job, call));
  TRY(job->runner->add_segment(request.region));
  return proto::Empty{};
}

Answer<proto::Empty> MapReduceServer::handle(AddSpare, const AddSpare::Request& request,
                                             CallContext& call) {
  Job* job = TRY(find(request.job, call));
  TRY(job->runner->add_spare(request.spare));
  return proto::Empty{};
}

Answer<proto::Empty> MapReduceServer::handle(Written, const Written::Request& request,
                                             CallContext& call) {
  Job* job = TRY(find(request.job, call));
  TRY(job->runner->written(request.number));
  return proto::Empty{};
}

Answer<wire::Failure::Reply> MapReduceServer::handle(Failure, const Failure::Request& request,
                                                     CallContext& call) {
  Job* job = TRY(find(request.job, call));
  const std::optional<JobFailure>& failure = job->runner->machine().failure();
  if (!failure) return error(Code::invalid_argument, "this job has not failed");
  wire::Failure::Reply reply{};
  reply.split = failure->split;
  reply.piece = failure->piece;
  reply.offset = failure->offset;
  reply.status = static_cast<std::uint32_t>(failure->status.code());
  reply.in_module = failure->in_module ? 1 : 0;
  reply.text = decltype(reply.text)::from(failure->status.message());
  return reply;
}

Answer<proto::Empty> MapReduceServer::handle(Cancel, const Cancel::Request& request,
                                             CallContext& call) {
  const auto found = jobs_.find(request.job);
  if (found == jobs_.end() || !may_see(call.peer(), found->second))
    return error(Code::not_found, "there is no MapReduce job " + std::to_string(request.job));
  // The runner may end, and the job with it, inside the call.
  const std::shared_ptr<JobRunner> runner = found->second.runner;
  if (runner == nullptr) {
    found->second.cancelled = true;
    found->second.preparation.phase = static_cast<std::uint32_t>(wire::Phase::failed);
    return proto::Empty{};
  }
  runner->abort(Status(Code::cancelled, "the job was cancelled"));
  return proto::Empty{};
}

Answer<wire::JobNext::Reply> MapReduceServer::handle(JobNext, const JobNext::Request& request,
                                                     CallContext& call) {
  for (auto at = jobs_.upper_bound(request.after); at != jobs_.end(); ++at) {
    const Job& job = at->second;
    if (!may_see(call.peer(), job)) continue;
    wire::JobNext::Reply reply{};
    reply.job = at->first;
    reply.kernel_job_id = job.kernel_job_id;
    reply.started_ns = job.started_ns;
    reply.input_bytes = job.request.input_bytes;
    reply.uid = job.uid;
    reply.reducers = job.request.reducers;
    reply.threads = job.request.threads;
    reply.label = job.request.label;
    reply.progress = job.progress();
    return reply;
  }
  return wire::JobNext::Reply{};
}

Answer<proto::Empty> MapReduceServer::handle(proto::Drain, const proto::Empty&, CallContext& call) {
  draining_.begin(call.token());
  // Nobody waits for a job that would not be taken any more; its client hears of it.
  std::erase_if(jobs_, [](const auto& entry) { return entry.second.runner == nullptr; });
  if (jobs_.empty()) draining_.idle(server_);
  return deferred;
}

void MapReduceServer::client_closed(ClientId client) {
  for (auto at = jobs_.begin(); at != jobs_.end();) {
    if (at->second.client != client) {
      ++at;
      continue;
    }
    loop_.cancel(at->second.timer);
    const std::shared_ptr<JobRunner> runner = std::move(at->second.runner);
    at = jobs_.erase(at);
    if (runner != nullptr) runner->abort(Status(Code::cancelled, "its client is gone"));
  }
  // A job is done when its client has fetched the result and gone.
  if (jobs_.empty()) draining_.idle(server_);
}

}  // namespace aios::mapreduce
