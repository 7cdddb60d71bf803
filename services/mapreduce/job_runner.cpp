#include "services/mapreduce/job_runner.hpp"

#include <algorithm>
#include <utility>

#include "services/mapreduce/countdown.hpp"

namespace aios::mapreduce {

namespace {

namespace wire = proto::mapreduce;
namespace storage = proto::storage;

constexpr std::uint64_t look_interval_ns = 100 * ns_per_ms;
constexpr std::uint32_t memory_rights = rights::map_read | rights::map_write;

Result<Mapping> map_region(Kernel& kernel, const HandleClaims::Claimed& region,
                           Mapping::Access access) {
  const auto opened = TRY(kernel.call<proto::kernel::RegionMap>(
      {region.handle.get(), access == Mapping::Access::read_write ? 1u : 0u, 0}));
  if (opened.fds.size() != 1)
    return error(Code::quota, "no descriptor left to map the job's memory");
  return Mapping::map(opened.fds.front(), region.info.detail, access);
}

Result<HandleClaims::Claimed> claim_memory(HandleClaims& claims, Handle handle,
                                           std::uint64_t client) {
  constexpr std::uint32_t all = memory_rights | rights::send | rights::info;
  return claims.claim(handle, client, {ObjectType::region}, all, memory_rights | rights::info);
}

Result<HandleClaims::Claimed> claim_job(HandleClaims& claims, Handle handle, std::uint64_t client) {
  return claims.claim(handle, client, {ObjectType::job}, rights::act | rights::send,
                      rights::info | rights::act | rights::send);
}

bool lies_within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return length <= size && offset <= size - length;
}

}  // namespace

Result<std::shared_ptr<JobRunner>> JobRunner::create(Services& services,
                                                     const Submit::Request& request,
                                                     std::uint64_t client, std::string prefix) {
  HandleClaims::Claimed region = TRY(claim_memory(services.claims, request.region, client));
  HandleClaims::Claimed job = TRY(claim_job(services.claims, request.job, client));
  const std::uint64_t size = region.info.detail;
  if (!lies_within(request.module_offset, request.module_bytes, size) ||
      !lies_within(request.parameter_offset, request.parameter_bytes, size) ||
      request.module_bytes == 0 || size < engine::job_header_bytes(request.reducers))
    return error(Code::invalid_argument, "the module or the arguments lie outside their region");
  Mapping mapping = TRY(map_region(services.kernel, region, Mapping::Access::read));
  JobSettings settings;
  settings.reducers = request.reducers;
  settings.threads = request.threads;
  settings.memory_bytes = request.memory_bytes;
  settings.split_count = request.split_count;
  settings.input_bytes = request.input_bytes;
  settings.max_bad_records = request.max_bad_records;
  settings.parameter_offset = request.parameter_offset;
  settings.parameter_bytes = request.parameter_bytes;
  settings.names_offset = request.names_offset;
  JobParts parts;
  parts.request = request;
  parts.region = std::move(region.handle);
  parts.region_mapping = std::move(mapping);
  return std::shared_ptr<JobRunner>(new JobRunner(services, settings, client, std::move(parts),
                                                  std::move(job.handle), std::move(prefix)));
}

JobRunner::JobRunner(Services& services, const JobSettings& settings, std::uint64_t client,
                     JobParts parts, ClaimedHandle job, std::string prefix)
    : services_(services),
      client_(client),
      parts_(std::move(parts)),
      prefix_(std::move(prefix)),
      machine_(settings, parts_.region_mapping.bytes().first(wire::description_bytes)) {
  jobs_[main_place] = std::move(job);
}

// ---- places -------------------------------------------------------------------------------------

void JobRunner::start(std::function<void()> changed, std::function<void()> submitted) {
  changed_ = std::move(changed);
  submitted_ = std::move(submitted);
  open(main_place);
}

void JobRunner::open(Place place) {
  TaskPlace::Events events;
  const auto self = shared_from_this();
  events.opened = [self, place](const Result<void>& result) { self->opened(place, result); };
  events.completed = [self, place](const TaskTenant::Completions& all) {
    for (const auto& completion : all) self->complete(place, completion);
    self->perform();
  };
  events.failed = [self](const Status& why) { self->scheduler_failed(why); };
  places_[place] = std::make_shared<TaskPlace>(services_.tasks, parts_, std::move(events));
  places_[place]->open(jobs_[place].get());
}

void JobRunner::opened(Place place, const Result<void>& result) {
  if (!result && !started_) return scheduler_failed(result.error());
  if (!result) {
    std::exchange(places_[place], {})->close([] {});
    machine_.place_refused(place, result.error());
  } else if (std::exchange(started_, true)) {
    machine_.place_ready(place);
  } else {
    machine_.start();
    look_again();
  }
  perform();
}

void JobRunner::close(Place place) {
  std::exchange(places_[place], {})->close([self = shared_from_this(), place] {
    self->machine_.place_closed(place);
    self->perform();
  });
}

/// The timer does not keep the job: it may outlive what the job uses.
void JobRunner::look_again() {
  services_.loop.after(look_interval_ns, [job = weak_from_this()] {
    const std::shared_ptr<JobRunner> self = job.lock();
    if (self == nullptr || self->machine_.over()) return;
    self->machine_.look(now_ns());
    self->perform();
    self->look_again();
  });
}

void JobRunner::everywhere(std::move_only_function<void(TaskPlace&, TaskPlace::Done)> what,
                           TaskPlace::Done done) {
  Countdown all(std::move(done));
  TaskPlace::Done guard = all.one();
  for (const auto& place : places_)
    if (place != nullptr && place->is_open()) what(*place, all.one());
  guard();
}

// ---- from the client ----------------------------------------------------------------------------

void JobRunner::lend(const Lend::Request& request,
                     std::move_only_function<void(Result<proto::Empty>)> done) {
  std::vector<ClaimedHandle> channels;
  for (std::uint32_t i = 0; i < request.channel_count; ++i) {
    auto claimed =
        services_.claims.claim(request.channels[i], client_, {ObjectType::file},
                               rights::send | rights::info, rights::map_read | rights::info);
    if (!claimed) return done(std::unexpected(claimed.error()));
    channels.push_back(std::move(claimed->handle));
  }
  if (parts_.splits.contains(request.split))
    return done(error(Code::invalid_argument, "this split is lent already"));
  parts_.splits[request.split] = std::move(channels);
  everywhere([split = request.split](
                 TaskPlace& place, TaskPlace::Done one) { place.add_split(split, std::move(one)); },
             [self = shared_from_this(), request, done = std::move(done)]() mutable {
               const auto lent =
                   self->machine_.split_lent({request.split, request.bytes, request.pieces,
                                              static_cast<std::uint32_t>(request.first_document)});
               self->perform();
               if (lent) return done(proto::Empty{});
               self->parts_.splits.erase(request.split);
               done(std::unexpected(lent.error()));
             });
}

Result<void> JobRunner::add_segment(Handle handle) {
  HandleClaims::Claimed region = TRY(claim_memory(services_.claims, handle, client_));
  if (machine_.over()) return {};
  if (parts_.segments.size() == max_segments)
    return error(Code::quota, "the job has all its segments");
  JobParts::Segment segment;
  segment.mapping = TRY(map_region(services_.kernel, region, Mapping::Access::read_write));
  segment.stored = std::make_shared<StoredRegion>();
  segment.stored->handle = region.handle.get();
  segment.handle = std::move(region.handle);
  const std::size_t number = parts_.segments.size();
  parts_.segments.push_back(std::move(segment));
  everywhere([number](TaskPlace& place,
                      TaskPlace::Done one) { place.add_segment(number, std::move(one)); },
             [self = shared_from_this(), number] {
               const auto added =
                   self->machine_.segment_added(self->parts_.segments[number].mapping.bytes());
               if (!added) return self->abort(added.error());
               self->perform();
             });
  return {};
}

Result<void> JobRunner::add_spare(Handle handle) {
  HandleClaims::Claimed job = TRY(claim_job(services_.claims, handle, client_));
  TRY(machine_.spare_added());
  jobs_[spare_place] = std::move(job.handle);
  perform();
  return {};
}

Result<void> JobRunner::written(std::uint64_t output) {
  TRY(machine_.written(output));
  perform();
  return {};
}

void JobRunner::abort(const Status& why) {
  if (!machine_.over()) machine_.abort(why);
  perform();
}

void JobRunner::scheduler_failed(const Status& why) {
  if (why.code() == Code::peer_closed)
    abort(Status(Code::peer_closed, "the scheduler died again and again; run the job again"));
  else
    abort(why);
}

// ---- tasks --------------------------------------------------------------------------------------

void JobRunner::complete(Place place, const proto::scheduler::Completion& completion) {
  if (completion.status == 0) {
    TaskOutcome outcome;
    std::copy(std::begin(completion.result), std::end(completion.result), outcome.words.begin());
    outcome.duration_ns = completion.end_ns - std::min(completion.start_ns, completion.end_ns);
    return machine_.task_done(completion.tag, completion.attempts, outcome);
  }
  if (places_[place] == nullptr) return;
  places_[place]->failure(
      completion.tag, [self = shared_from_this(), completion](const Result<std::string>& text) {
        const auto code = static_cast<Code>(completion.status);
        self->machine_.task_failed(completion.tag, completion.attempts,
                                   Status(code, text.value_or("a task failed")));
        self->perform();
      });
}

void JobRunner::perform() {
  for (const Action& action : machine_.take_actions())
    std::visit([this](const auto& what) { act(what); }, action);
  submit_tasks();
  if (machine_.over()) finish();
  changed_();
}

void JobRunner::submit_tasks() {
  for (const auto& place : places_)
    if (place != nullptr && place->is_open()) place->submit(submitted_);
}

void JobRunner::act(const StartTask& task) {
  places_[task.place]->add(task);
}

void JobRunner::act(const CancelTask& task) {
  if (places_[task.place] != nullptr) places_[task.place]->cancel(task.tag);
}

void JobRunner::act(const OpenPlace& what) {
  open(what.place);
}

void JobRunner::act(const ClosePlace& what) {
  close(what.place);
}

void JobRunner::act(const ReleaseSplit& split) {
  for (const auto& place : places_)
    if (place != nullptr && place->is_open()) place->release_split(split.split);
  parts_.splits.erase(split.split);
}

// ---- storage ------------------------------------------------------------------------------------

std::string JobRunner::object_name(std::uint64_t object) const {
  return prefix_ + std::to_string(object);
}

void JobRunner::act(const PutRun& put) {
  ++transfers_;
  spilled_ = true;
  services_.spills.put(
      parts_.segments[put.slice.segment].stored,
      {put.slice.offset, put.slice.bytes, 0, 0, storage::ObjectName::from(object_name(put.object))},
      [self = shared_from_this(), object = put.object](const Result<storage::Put::Reply>& reply) {
        Result<void> result;
        if (!reply) result = std::unexpected(reply.error());
        --self->transfers_;
        self->machine_.put_done(object, result);
        self->perform();
      });
}

void JobRunner::act(const GetRun& get) {
  ++transfers_;
  services_.spills.get(parts_.segments[get.slice.segment].stored,
                       {get.slice.offset, get.bytes, get.offset, 0, 0, 0,
                        storage::ObjectName::from(object_name(get.object))},
                       [self = shared_from_this(), get](const Result<storage::Get::Reply>& reply) {
                         Result<std::uint64_t> bytes = error(Code::internal);
                         if (reply)
                           bytes = reply->length;
                         else
                           bytes = std::unexpected(reply.error());
                         --self->transfers_;
                         self->machine_.get_done(get.tag, bytes, get.bytes);
                         self->perform();
                       });
}

// ---- the end ------------------------------------------------------------------------------------

/// Ends the tasks, then removes what was spilled.
void JobRunner::finish() {
  if (finished_) return remove_spills();
  finished_ = true;
  for (auto& place : places_)
    if (place != nullptr) std::exchange(place, {})->close([self = shared_from_this()] {});
  remove_spills();
}

void JobRunner::remove_spills() {
  if (transfers_ != 0 || !std::exchange(spilled_, false)) return;
  services_.spills.remove_all(prefix_);
  for (const JobParts::Segment& segment : parts_.segments) services_.spills.detach(*segment.stored);
}

}  // namespace aios::mapreduce
