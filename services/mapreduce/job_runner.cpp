#include "services/mapreduce/job_runner.hpp"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "abi/include/aios/codelet.h"
#include "abi/runtime/log.hpp"

namespace aios::mapreduce {

namespace {

namespace wire = proto::mapreduce;
namespace storage = proto::storage;

constexpr std::uint64_t setup_ns = 8 * ns_per_s;
constexpr const char* codelet_names[] = {"describe", "map", "reduce"};
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

bool lies_within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return length <= size && offset <= size - length;
}

}  // namespace

Result<std::shared_ptr<JobRunner>> JobRunner::create(Services& services,
                                                     const Submit::Request& request,
                                                     std::uint64_t client, std::string prefix) {
  HandleClaims::Claimed region = TRY(claim_memory(services.claims, request.region, client));
  HandleClaims::Claimed job =
      TRY(services.claims.claim(request.job, client, {ObjectType::job}, rights::act | rights::send,
                                rights::info | rights::act | rights::send));
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
  return std::shared_ptr<JobRunner>(new JobRunner(services, settings, request, client,
                                                  std::move(region), std::move(job),
                                                  std::move(mapping), std::move(prefix)));
}

JobRunner::JobRunner(Services& services, const JobSettings& settings,
                     const Submit::Request& request, std::uint64_t client,
                     HandleClaims::Claimed region, HandleClaims::Claimed job, Mapping mapping,
                     std::string prefix)
    : services_(services),
      request_(request),
      client_(client),
      region_(std::move(region.handle)),
      job_(std::move(job.handle)),
      region_mapping_(std::move(mapping)),
      prefix_(std::move(prefix)),
      tenant_(services.tasks),
      machine_(settings, region_mapping_.bytes().first(wire::description_bytes)) {}

// ---- getting ready ------------------------------------------------------------------------------

void JobRunner::start(std::function<void()> changed, std::function<void()> submitted) {
  changed_ = std::move(changed);
  submitted_ = std::move(submitted);
  tenant_.open(job_.get(), Deadline::after(setup_ns),
               [self = shared_from_this()](const Result<void>& result) { self->opened(result); });
}

void JobRunner::opened(const Result<void>& result) {
  job_.reset();
  if (!result) return scheduler_failed(result.error());
  if (machine_.over()) return tenant_.close(Deadline::after(setup_ns), [](const Result<void>&) {});
  const Deadline deadline = Deadline::after(setup_ns);
  // The next job with the same module is predicted by what is learned in this one.
  const std::span<const std::byte> module =
      region_mapping_.bytes().subspan(request_.module_offset, request_.module_bytes);
  const std::uint64_t module_hash =
      std::max<std::uint64_t>(XXH3_64bits(module.data(), module.size()), 1);
  for (std::size_t i = 0; i < codelets_.size(); ++i)
    tenant_.register_codelet(
        region_.get(), request_.module_offset, request_.module_bytes, codelet_names[i],
        std::string(request_.label.view()) + "." + codelet_names[i], proto::driver::backend::cpu,
        deadline, setting_up(codelets_[i]), module_hash);
  tenant_.register_buffer(region_.get(), 0, request_.parameter_offset + request_.parameter_bytes,
                          false, deadline, setting_up(parameters_));
  tenant_.register_buffer(region_.get(), 0, engine::job_header_bytes(request_.reducers), true,
                          deadline, setting_up(description_));
}

TaskCallback<std::uint32_t> JobRunner::setting_up(std::uint32_t& into) {
  ++settings_up_;
  return [self = shared_from_this(), &into](const Result<std::uint32_t>& result) {
    if (!result) return self->scheduler_failed(result.error());
    into = *result;
    if (--self->settings_up_ != 0 || self->machine_.over()) return;
    self->machine_.start();
    self->wait_for_completions();
    self->perform();
  };
}

// ---- from the client ----------------------------------------------------------------------------

void JobRunner::lend(const Lend::Request& request,
                     std::move_only_function<void(Result<proto::Empty>)> done) {
  struct Lending {
    std::vector<ClaimedHandle> channels;
    std::vector<std::uint32_t> buffers;
    std::size_t left = 0;
    std::move_only_function<void(Result<proto::Empty>)> done;
  };
  auto lending = std::make_shared<Lending>();
  for (std::uint32_t i = 0; i < request.channel_count; ++i) {
    auto claimed =
        services_.claims.claim(request.channels[i], client_, {ObjectType::file},
                               rights::send | rights::info, rights::map_read | rights::info);
    if (!claimed) return done(std::unexpected(claimed.error()));
    lending->channels.push_back(std::move(claimed->handle));
  }
  lending->left = lending->channels.size();
  lending->buffers.resize(lending->left);
  lending->done = std::move(done);
  for (std::size_t i = 0; i < lending->buffers.size(); ++i)
    tenant_.register_files(
        lending->channels[i].get(), Deadline::after(setup_ns),
        [self = shared_from_this(), lending, i, request](const Result<std::uint32_t>& buffer) {
          if (buffer)
            lending->buffers[i] = *buffer;
          else
            self->scheduler_failed(buffer.error());
          if (--lending->left != 0) return;
          self->splits_[request.split] = std::move(lending->buffers);
          const auto lent =
              self->machine_.split_lent({request.split, request.bytes, request.pieces,
                                         static_cast<std::uint32_t>(request.first_document)});
          self->perform();
          if (!lent) return lending->done(std::unexpected(lent.error()));
          lending->done(proto::Empty{});
        });
}

Result<void> JobRunner::add_segment(Handle handle) {
  HandleClaims::Claimed region = TRY(claim_memory(services_.claims, handle, client_));
  if (machine_.over()) return {};
  Segment segment;
  segment.mapping = TRY(map_region(services_.kernel, region, Mapping::Access::read_write));
  segment.stored = std::make_shared<StoredRegion>();
  segment.stored->handle = region.handle.get();
  segment.handle = std::move(region.handle);
  if (segments_.size() == max_segments) return error(Code::quota, "the job has all its segments");
  const std::size_t number = segments_.size();
  segments_.push_back(std::move(segment));
  // The scheduler serves a link in order, but a task needs the number it gives the buffer.
  tenant_.register_buffer(
      segments_[number].handle.get(), 0, segments_[number].mapping.size(), true,
      Deadline::after(setup_ns),
      [self = shared_from_this(), number](const Result<std::uint32_t>& buffer) {
        if (!buffer) return self->scheduler_failed(buffer.error());
        self->segments_[number].buffer = *buffer;
        const auto added = self->machine_.segment_added(self->segments_[number].mapping.bytes());
        if (!added) return self->abort(added.error());
        self->perform();
      });
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

void JobRunner::wait_for_completions() {
  tenant_.completions(Deadline::never(),
                      [self = shared_from_this()](const Result<TaskTenant::Completions>& reply) {
                        if (!reply) {
                          if (!self->machine_.over()) self->scheduler_failed(reply.error());
                          return;
                        }
                        for (const auto& completion : *reply) self->complete(completion);
                        self->perform();
                        if (!self->machine_.over()) self->wait_for_completions();
                      });
}

void JobRunner::complete(const proto::scheduler::Completion& completion) {
  if (completion.status == 0) {
    TaskOutcome outcome;
    std::copy(std::begin(completion.result), std::end(completion.result), outcome.words.begin());
    return machine_.task_done(completion.tag, completion.attempts, outcome);
  }
  tenant_.failure(completion.tag, Deadline::after(setup_ns),
                  [self = shared_from_this(), completion](const Result<std::string>& text) {
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

void JobRunner::act(const StartTask& task) {
  const auto codelet =
      static_cast<std::size_t>(task.kind == TaskKind::sample ? TaskKind::describe : task.kind);
  TaskTenant::TaskRecord record = make_task(task.tag, codelets_[codelet]);
  record.limit_ns = request_.limit_ns;
  for (const BufferUse& use : task.buffers) {
    const std::uint32_t mode = use.write ? AIOS_MODE_WRITE : AIOS_MODE_READ;
    switch (use.kind) {
      case BufferKind::parameters:
        add_buffer(record, parameters_, mode);
        break;
      case BufferKind::description:
        add_buffer(record, description_, mode);
        break;
      case BufferKind::segment:
        add_buffer(record, segments_[use.number].buffer, mode);
        break;
      case BufferKind::split:
        for (const std::uint32_t buffer : splits_.at(use.number)) add_buffer(record, buffer, mode);
        break;
    }
  }
  record.argument_bytes = task.argument_bytes;
  std::memcpy(record.arguments, task.arguments.data(), task.argument_bytes);
  records_.push_back(record);
}

void JobRunner::submit_tasks() {
  if (records_.empty() || machine_.over()) return;
  // When all places for batches are taken this comes again as soon as one is free.
  const std::vector<TaskTenant::TaskRecord> batch = std::exchange(records_, {});
  tenant_.submit(batch, Deadline::after(setup_ns),
                 [self = shared_from_this(), batch](const Result<void>& result) {
                   if (!result && result.error().code() == Code::busy) {
                     self->records_.insert(self->records_.begin(), batch.begin(), batch.end());
                     return;
                   }
                   if (!result) self->scheduler_failed(result.error());
                   self->submitted_();
                 });
}

void JobRunner::act(const ReleaseSplit& split) {
  for (const std::uint32_t buffer : splits_.at(split.split))
    tenant_.release_buffer(buffer, Deadline::after(setup_ns),
                           [self = shared_from_this()](const Result<void>& result) {
                             if (!result && !self->machine_.over())
                               log_line("cannot release a split: " + result.error().to_string());
                           });
  splits_.erase(split.split);
}

// ---- storage ------------------------------------------------------------------------------------

std::string JobRunner::object_name(std::uint64_t object) const {
  return prefix_ + std::to_string(object);
}

void JobRunner::act(const PutRun& put) {
  ++transfers_;
  spilled_ = true;
  services_.spills.put(
      segments_[put.slice.segment].stored,
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
  services_.spills.get(segments_[get.slice.segment].stored,
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
  records_.clear();
  if (tenant_.is_open())
    tenant_.close(Deadline::never(), [self = shared_from_this()](const Result<void>&) {});
  remove_spills();
}

void JobRunner::remove_spills() {
  if (transfers_ != 0 || !std::exchange(spilled_, false)) return;
  services_.spills.remove_all(prefix_);
  for (const Segment& segment : segments_) services_.spills.detach(*segment.stored);
}

}  // namespace aios::mapreduce
