#include "services/mapreduce/task_place.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "abi/include/aios/codelet.h"
#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/runtime/log.hpp"
#include "services/mapreduce/countdown.hpp"

namespace aios::mapreduce {

namespace {

constexpr std::uint64_t call_ns = 8 * ns_per_s;
constexpr const char* codelet_names[] = {"describe", "map", "reduce"};

}  // namespace

// ---- opening and closing ----------------------------------------------------------------------

/// What is called may close the place.
template <class Event, class Argument>
void TaskPlace::tell(Event event, const Argument& argument) {
  const auto call = events_.*event;
  if (call) call(argument);
}

void TaskPlace::open(Handle job) {
  opening_ = true;
  tenant_.open(job, Deadline::after(call_ns), [self = shared_from_this()](const Result<void>& r) {
    self->opening_ = false;
    if (self->closing_) return self->close(std::exchange(self->closed_, {}));
    if (!r) return self->tell(&Events::opened, r);
    self->register_all();
  });
}

void TaskPlace::register_all() {
  Countdown all([self = shared_from_this()] {
    if (self->closing_) return;
    self->ready_ = true;
    self->wait_for_completions();
    self->tell(&Events::opened, Result<void>());
  });
  Done guard = all.one();
  const Deadline deadline = Deadline::after(call_ns);
  const proto::mapreduce::Submit::Request& request = parts_.request;
  // The next job with the same module is predicted by what is learned in this one.
  const std::span<const std::byte> module =
      parts_.region_mapping.bytes().subspan(request.module_offset, request.module_bytes);
  const std::uint64_t hash = std::max<std::uint64_t>(XXH3_64bits(module.data(), module.size()), 1);
  const Handle region = parts_.region.get();
  for (std::size_t i = 0; i < codelets_.size(); ++i)
    tenant_.register_codelet(
        region, request.module_offset, request.module_bytes, codelet_names[i],
        std::string(request.label.view()) + "." + codelet_names[i], proto::driver::backend::cpu,
        deadline, registered([this, i](std::uint32_t id) { codelets_[i] = id; }, all.one()), hash);
  tenant_.register_buffer(region, 0, request.parameter_offset + request.parameter_bytes, false,
                          deadline,
                          registered([this](std::uint32_t id) { parameters_ = id; }, all.one()));
  tenant_.register_buffer(region, 0, engine::job_header_bytes(request.reducers), true, deadline,
                          registered([this](std::uint32_t id) { description_ = id; }, all.one()));
  for (std::size_t i = 0; i < parts_.segments.size(); ++i) add_segment(i, all.one());
  for (const auto& [number, channels] : parts_.splits) add_split(number, all.one());
  guard();
}

/// Keeps the number that something got. What fails while it is being closed is of no interest.
TaskCallback<std::uint32_t> TaskPlace::registered(std::function<void(std::uint32_t)> keep,
                                                  Done done) {
  return [self = shared_from_this(), keep = std::move(keep),
          done = std::move(done)](const Result<std::uint32_t>& result) mutable {
    if (result)
      keep(*result);
    else if (!self->closing_ && self->ready_)
      self->tell(&Events::failed, result.error());
    else if (!self->closing_)
      self->tell(&Events::opened, Result<void>(std::unexpected(result.error())));
    // Also then: the client may wait for it before it asks how the job goes.
    done();
  };
}

void TaskPlace::add_segment(std::size_t number, Done done) {
  if (segments_.size() <= number) segments_.resize(number + 1);
  const JobParts::Segment& segment = parts_.segments[number];
  tenant_.register_buffer(
      segment.handle.get(), 0, segment.mapping.size(), true, Deadline::after(call_ns),
      registered([this, number](std::uint32_t id) { segments_[number] = id; }, std::move(done)));
}

void TaskPlace::add_split(std::uint64_t number, Done done) {
  const std::vector<ClaimedHandle>& channels = parts_.splits.at(number);
  splits_[number].resize(channels.size());
  Countdown all(std::move(done));
  Done guard = all.one();
  for (std::size_t i = 0; i < channels.size(); ++i)
    tenant_.register_files(
        channels[i].get(), Deadline::after(call_ns),
        registered([this, number, i](std::uint32_t id) { keep_channel(number, i, id); },
                   all.one()));
  guard();
}

/// While a place is being opened another one may be done with the split already.
void TaskPlace::keep_channel(std::uint64_t split, std::size_t channel, std::uint32_t buffer) {
  const auto found = splits_.find(split);
  if (found == splits_.end()) return release(buffer);
  found->second[channel] = buffer;
}

void TaskPlace::release_split(std::uint64_t number) {
  for (const std::optional<std::uint32_t> buffer : splits_[number])
    if (buffer) release(*buffer);
  splits_.erase(number);
}

/// An attempt that lost may still read it: then it goes with the place.
void TaskPlace::release(std::uint32_t buffer) {
  tenant_.release_buffer(buffer, Deadline::after(call_ns),
                         [self = shared_from_this()](const Result<void>& result) {
                           if (!result && !self->closing_ && result.error().code() != Code::busy)
                             log_line("cannot release a split: " + result.error().to_string());
                         });
}

void TaskPlace::close(Done done) {
  closing_ = true;
  records_.clear();
  if (opening_) {
    closed_ = std::move(done);
    return;
  }
  // What these hold may hold this.
  events_ = {};
  if (!tenant_.is_open()) return done();
  tenant_.close(Deadline::never(), [self = shared_from_this(), done = std::move(done)](
                                       const Result<void>&) mutable { done(); });
}

// ---- tasks ------------------------------------------------------------------------------------

void TaskPlace::add(const StartTask& task) {
  const auto codelet =
      static_cast<std::size_t>(task.kind == TaskKind::sample ? TaskKind::describe : task.kind);
  TaskTenant::TaskRecord record = make_task(task.tag, codelets_[codelet]);
  record.limit_ns = parts_.request.limit_ns;
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
        add_buffer(record, segments_[use.number], mode);
        break;
      case BufferKind::split:
        for (const auto& buffer : splits_.at(use.number)) add_buffer(record, *buffer, mode);
        break;
    }
  }
  record.argument_bytes = task.argument_bytes;
  std::memcpy(record.arguments, task.arguments.data(), task.argument_bytes);
  records_.push_back(record);
}

/// When all places for batches are taken this comes again as soon as one is free.
void TaskPlace::submit(const std::function<void()>& submitted) {
  if (records_.empty() || closing_) return;
  const std::vector<TaskTenant::TaskRecord> batch = std::exchange(records_, {});
  tenant_.submit(batch, Deadline::after(call_ns),
                 [self = shared_from_this(), batch, submitted](const Result<void>& result) {
                   if (!result && result.error().code() == Code::busy) {
                     self->records_.insert(self->records_.begin(), batch.begin(), batch.end());
                     return;
                   }
                   if (!result) self->tell(&Events::failed, result.error());
                   submitted();
                 });
}

/// One that runs already is let run.
void TaskPlace::cancel(std::uint64_t tag) {
  tenant_.cancel(tag, Deadline::after(call_ns), [](const Result<void>&) {});
}

void TaskPlace::failure(std::uint64_t tag, TaskCallback<std::string> done) {
  tenant_.failure(tag, Deadline::after(call_ns),
                  [self = shared_from_this(), done = std::move(done)](
                      Result<std::string> text) mutable { done(std::move(text)); });
}

void TaskPlace::wait_for_completions() {
  tenant_.completions(Deadline::never(),
                      [self = shared_from_this()](const Result<TaskTenant::Completions>& reply) {
                        if (self->closing_) return;
                        if (!reply) return self->tell(&Events::failed, reply.error());
                        self->tell(&Events::completed, *reply);
                        if (!self->closing_) self->wait_for_completions();
                      });
}

}  // namespace aios::mapreduce
