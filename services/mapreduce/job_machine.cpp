#include "services/mapreduce/job_machine.hpp"

#include <utility>

#include "abi/lib/mapreduce/place.hpp"

namespace aios::mapreduce {

namespace {

using proto::mapreduce::EventKind;
using proto::mapreduce::Phase;

JobFailure with_place(const Status& why) {
  const auto taken = mapreduce_client::take_place(why.message());
  JobFailure failure{Status(why.code(), taken.text)};
  if (taken.place) {
    failure.piece = taken.place->piece;
    failure.offset = taken.place->offset;
  }
  return failure;
}

}  // namespace

JobMachine::JobMachine(const JobSettings& settings, std::span<const std::byte> description)
    : job_(settings),
      description_(description),
      runs_(job_),
      map_(job_, runs_),
      reduce_(job_, runs_) {}

void JobMachine::start() {
  describe_tag_ = job_.next_tag();
  start_description(describe_tag_, TaskKind::describe, 0);
  pump();
}

void JobMachine::start_description(std::uint64_t tag, TaskKind kind, std::uint32_t partitions) {
  engine::DescribeArguments arguments{};
  arguments.parameter_offset = job_.settings.parameter_offset;
  arguments.parameter_bytes = job_.settings.parameter_bytes;
  arguments.partitions = partitions;
  std::vector<BufferUse> buffers = {{BufferKind::parameters, false, 0},
                                    {BufferKind::description, true, 0}};
  if (kind == TaskKind::sample)
    buffers.push_back({BufferKind::split, false, proto::mapreduce::sample_split});
  StartTask task = StartTask::of(kind, std::move(buffers), arguments);
  task.tag = tag;
  job_.start_task(std::move(task));
}

void JobMachine::pump() {
  if (over()) return;
  if (!ready_) return map_.prepare();
  if (!map_.finished()) map_.pump();
  if (job_.failed() || !map_.finished()) return;
  job_.progress.phase = static_cast<std::uint32_t>(Phase::reduce);
  reduce_.pump();
  if (job_.failed() || !reduce_.finished()) return;
  done_ = true;
  job_.progress.phase = static_cast<std::uint32_t>(Phase::done);
  job_.progress.merged_bytes = job_.progress.merge_bytes;
  job_.events.push_back({EventKind::done});
}

Result<void> JobMachine::split_lent(const LentSplit& split) {
  if (over()) return {};
  if (split.number == proto::mapreduce::sample_split)
    TRY(sample_lent(split.pieces));
  else
    TRY(map_.split_lent(split));
  pump();
  return {};
}

Result<void> JobMachine::segment_added(std::span<std::byte> memory) {
  if (over()) return {};
  TRY(job_.add_segment(memory));
  pump();
  return {};
}

Result<void> JobMachine::written(std::uint64_t output) {
  if (over()) return {};
  TRY(reduce_.written(output));
  pump();
  return {};
}

void JobMachine::described() {
  engine::Description description;
  std::memcpy(&description, description_.data(), sizeof description);
  if (description.version != engine::format_version ||
      description.counter_count > engine::max_counters)
    return job_.fail(Code::version_mismatch,
                     "the module was built with another version of "
                     "aios/mapreduce.hpp; build it again");
  sample_wanted_ = (description.flags & engine::total_order_flag) != 0 &&
                   job_.settings.reducers > 1 && job_.settings.split_count != 0;
  if (sample_wanted_)
    job_.events.push_back({EventKind::lend_sample});
  else
    ready_ = true;
}

Result<void> JobMachine::sample_lent(std::uint32_t pieces) {
  if (!sample_wanted_ || pieces == 0)
    return error(Code::invalid_argument, "a sample is lent that was not asked for");
  sample_wanted_ = false;
  sample_tag_ = job_.next_tag();
  start_description(sample_tag_, TaskKind::sample, job_.settings.reducers);
  return {};
}

/// A sample that failed has written no boundaries: the parts are less even, and what was wrong is
/// found again, and reported, by a map task.
void JobMachine::sampled() {
  job_.actions.emplace_back(ReleaseSplit{proto::mapreduce::sample_split});
  ready_ = true;
}

void JobMachine::task_done(std::uint64_t tag, std::uint32_t attempts, const TaskOutcome& outcome) {
  if (over()) return;
  job_.progress.attempts += attempts;
  if (tag == describe_tag_)
    described();
  else if (tag == sample_tag_)
    sampled();
  else
    job_.attempts.done(tag, outcome);
  deliver();
}

/// Hands tasks that are done to the phase they are of.
void JobMachine::deliver() {
  for (const Attempts::Ended& ended : job_.attempts.take_ended()) {
    if (job_.failed()) return;
    map_.owns(ended.tag) ? map_.task_done(ended) : reduce_.task_done(ended);
  }
  pump();
}

void JobMachine::look(std::uint64_t now_ns) {
  if (over()) return;
  job_.attempts.look(now_ns);
  if (job_.attempts.wanted_bytes() != 0 && !map_.finished())
    map_.make_room(job_.attempts.wanted_bytes());
}

void JobMachine::place_ready(Place place) {
  if (over()) return;
  job_.attempts.place_ready(place);
}

void JobMachine::place_refused(Place place, const Status& why) {
  if (over()) return;
  job_.attempts.place_refused(place, why);
}

void JobMachine::place_closed(Place place) {
  if (over()) return;
  job_.attempts.place_closed(place);
  deliver();
}

Result<void> JobMachine::spare_added() {
  if (over()) return {};
  return job_.attempts.spare_added();
}

void JobMachine::task_failed(std::uint64_t tag, std::uint32_t attempts, const Status& why) {
  if (over()) return;
  job_.progress.attempts += attempts;
  if (tag == describe_tag_) {
    JobFailure failure{why};
    failure.in_module = true;
    return job_.fail(failure);
  }
  if (tag == sample_tag_) {
    sampled();
    return pump();
  }
  const std::optional<Attempts::Ended> ended = job_.attempts.failed(tag);
  if (!ended) return deliver();
  const bool mapping = map_.owns(ended->tag);
  Status status = why;
  if (why.code() == Code::crashed || why.code() == Code::timed_out)
    status =
        Status(why.code(), std::string(mapping ? "a map task failed: " : "a reduce task failed: ") +
                               why.message());
  if (!mapping) return job_.fail(JobFailure{status});
  map_.task_failed(*ended, with_place(status));
  pump();
}

void JobMachine::put_done(std::uint64_t object, const Result<void>& result) {
  if (over()) return;
  --job_.progress.transfers;
  if (!result)
    return job_.fail(result.error().code(), "cannot spill to storage: " + result.error().message());
  runs_.put_done(object);
  pump();
}

void JobMachine::get_done(std::uint64_t tag, const Result<std::uint64_t>& bytes,
                          std::uint64_t wanted) {
  if (over()) return;
  --job_.progress.transfers;
  if (!bytes)
    return job_.fail(bytes.error().code(),
                     "cannot read back from storage: " + bytes.error().message());
  if (*bytes != wanted) return job_.fail(Code::corrupt, "a spilled run came back cut short");
  reduce_.got(tag);
  pump();
}

std::vector<Action> JobMachine::take_actions() {
  return std::exchange(job_.actions, {});
}

ClientEvent JobMachine::take_event() {
  const ClientEvent event = job_.events.front();
  job_.events.pop_front();
  return event;
}

}  // namespace aios::mapreduce
