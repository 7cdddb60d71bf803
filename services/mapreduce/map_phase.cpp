#include "services/mapreduce/map_phase.hpp"

#include <algorithm>

namespace aios::mapreduce {

namespace {

using proto::mapreduce::EventKind;

/// Splits that wait beside those that are mapped.
constexpr std::uint64_t splits_ahead = 2;
/// Of one record that is larger than a usual run; a table must hold it whole.
constexpr std::uint64_t table_per_record_byte = 16;

/// Failures that one record may be the reason of, so that the job can go on without it.
bool is_of_record(const Status& why) {
  return why.code() == Code::crashed || why.code() == Code::timed_out ||
         why.code() == Code::invalid_argument;
}

std::string megabytes(std::uint64_t bytes) {
  return std::to_string((bytes >> 20) + 1);
}

}  // namespace

Result<void> MapPhase::split_lent(const LentSplit& lent) {
  if (lent.number != next_split_ || lent.number >= asked_splits_)
    return error(Code::invalid_argument,
                 "split " + std::to_string(lent.number) + " is lent, but not the one that is due");
  if (lent.pieces == 0) return error(Code::invalid_argument, "a split has at least one piece");
  splits_.emplace(lent.number, Split{lent.bytes, lent.pieces, lent.first_document});
  ++next_split_;
  return {};
}

void MapPhase::prepare() {
  ask_for_splits();
  if (job_.settings.split_count == 0 || job_.growing() || job_.pool.segment_count() != 0) return;
  auto first = job_.allocate(job_.plan.run_bytes);  // asks for the first segment
  if (first) job_.pool.free(*first);
}

void MapPhase::ask_for_splits() {
  const std::uint64_t wanted = std::min(
      job_.settings.split_count, next_split_ - splits_.size() + job_.plan.map_tasks + splits_ahead);
  if (wanted > asked_splits_) {
    asked_splits_ = wanted;
    job_.events.push_back({EventKind::lend_splits, 0, wanted});
  }
}

void MapPhase::pump() {
  ask_for_splits();
  while (!job_.failed() && tasks_.size() < job_.plan.map_tasks && start_next()) continue;
}

std::uint64_t MapPhase::run_bytes(const Split& split) const {
  constexpr std::uint64_t slack = 64u << 10;
  const std::uint32_t reducers = job_.settings.reducers;
  const std::uint64_t fixed =
      sizeof(engine::RunHeader) +
      reducers * (sizeof(engine::PartitionEntry) + 2 * sizeof(engine::IndexEntry));
  const std::uint64_t usual = std::min(job_.plan.run_bytes, split.bytes + split.bytes / 2 + slack);
  const std::uint64_t needed =
      split.need_bytes == 0 ? 0 : split.need_bytes + split.need_bytes / 64 + slack;
  return round_to_units(std::max(usual, needed) + fixed);
}

bool MapPhase::start_next() {
  const auto next = std::find_if(splits_.begin(), splits_.end(),
                                 [](const auto& entry) { return !entry.second.running; });
  if (next == splits_.end()) return false;
  Split& split = next->second;
  const std::uint64_t bytes = run_bytes(split);
  const auto slice = job_.allocate(bytes);
  if (!slice) {
    make_room(bytes);
    return false;
  }
  start(next->first, split, *slice);
  return true;
}

void MapPhase::start(std::uint64_t number, Split& split, const Slice& slice) {
  const std::uint64_t tag = job_.next_tag();
  tasks_.emplace(tag, number);
  split.running = true;
  engine::MapArguments arguments{};
  arguments.table_bytes = std::max(job_.plan.table_bytes, table_per_record_byte * split.need_bytes);
  arguments.offset = split.offset;
  arguments.piece = split.piece;
  arguments.partitions = job_.settings.reducers;
  arguments.parameter_offset = job_.settings.parameter_offset;
  arguments.parameter_bytes = job_.settings.parameter_bytes;
  arguments.first_document = split.first_document;
  arguments.record_limit = split.suspect.record_limit();
  job_.attempts.start(tag, TaskKind::map, slice, [arguments, number](const Slice& run) {
    engine::MapArguments complete = arguments;
    complete.run_offset = run.offset;
    complete.run_bytes = run.bytes;
    return StartTask::of(TaskKind::map,
                         {{BufferKind::parameters, false, 0},
                          {BufferKind::segment, true, run.segment},
                          {BufferKind::split, false, number}},
                         complete);
  });
}

void MapPhase::make_room(std::uint64_t bytes) {
  if (job_.growing() || runs_.spilling()) return;
  if (runs_.spill(std::max(bytes, job_.pool_limit() / 4)) || !tasks_.empty()) return;
  job_.fail(Code::no_memory,
            "one record of the input needs more memory than the job has; run it "
            "with a larger --memory-mb than " +
                megabytes(job_.settings.memory_bytes - 1));
}

MapPhase::Task MapPhase::take(const Attempts::Ended& ended) {
  const auto found = tasks_.find(ended.tag);
  const Task task{found->second, ended.output};
  tasks_.erase(found);
  return task;
}

void MapPhase::task_done(const Attempts::Ended& ended) {
  Task task = take(ended);
  const TaskOutcome& outcome = ended.outcome;
  const auto found = splits_.find(task.split);
  Split& split = found->second;
  split.running = false;
  const std::uint64_t piece = outcome.words[0], bytes = outcome.words[3];
  const bool forward =
      piece > split.piece || (piece == split.piece && outcome.words[1] > split.offset);
  if (piece > split.pieces || bytes > task.slice.bytes || (bytes != 0 && !forward)) {
    return job_.fail(Code::invalid_argument,
                     "the job's map task returned a result that makes no "
                     "sense; was it built with this aios/mapreduce.hpp?");
  }
  if (bytes == 0) {  // a single record does not fit
    job_.pool.free(task.slice);
    if (outcome.words[2] <= split.need_bytes || outcome.words[2] > job_.settings.memory_bytes / 4)
      return job_.fail(Code::no_memory,
                       "one record of the input makes " + megabytes(outcome.words[2]) +
                           " MB of output at once; run the job with a --memory-mb of at least " +
                           megabytes(4 * outcome.words[2]));
    split.need_bytes = outcome.words[2];
    return;
  }
  if (!take_run(task, bytes)) return;
  if (!split.suspect.skipping()) job_.progress.records += outcome.words[2];
  split.suspect.succeeded(outcome.words[2]);
  split.need_bytes = 0;
  advance(split, task.split, outcome);
}

void MapPhase::task_failed(const Attempts::Ended& ended, JobFailure why) {
  Task task = take(ended);
  Split& split = splits_.at(task.split);
  split.running = false;
  engine::MapHint hint;
  std::memcpy(&hint, job_.bytes(task.slice).data(), sizeof hint);
  job_.pool.free(task.slice);
  const bool hinted =
      hint.magic == engine::hint_magic && hint.records != 0 && hint.piece < split.pieces;
  const bool of_record = is_of_record(why.status);
  why.split = task.split;
  if (why.piece == proto::mapreduce::Failure::no_piece && hinted && of_record) {
    why.piece = hint.piece;
    why.offset = hint.offset;
  }
  if (job_.settings.max_bad_records == 0 || !of_record || split.suspect.skipping())
    return job_.fail(std::move(why));
  if (split.suspect.failed(hinted ? hint.records : 0)) skip(task.split, split, why);
}

/// The record that the split is at is bad: that is reported, and the next task passes over it.
void MapPhase::skip(std::uint64_t number, const Split& split, const JobFailure& why) {
  if (job_.progress.skipped_records == job_.settings.max_bad_records) {
    JobFailure failure = why;
    failure.status = Status(why.status.code(), "one bad record more than the " +
                                                   std::to_string(job_.settings.max_bad_records) +
                                                   " that may be skipped: " + why.status.message());
    return job_.fail(std::move(failure));
  }
  ++job_.progress.skipped_records;
  const bool placed = why.piece != proto::mapreduce::Failure::no_piece;
  job_.events.push_back({EventKind::record_skipped,
                         placed ? static_cast<std::uint32_t>(why.piece) : split.piece, number, 0,
                         placed ? why.offset : split.offset,
                         static_cast<std::uint64_t>(why.status.code())});
}

bool MapPhase::take_run(const Task& task, std::uint64_t bytes) {
  Slice slice = task.slice;
  auto info = read_run(job_.bytes(slice).first(bytes), job_.settings.reducers);
  if (!info) {
    job_.fail(JobFailure{info.error()});
    return false;
  }
  for (std::size_t i = 0; i < job_.counters.size(); ++i) job_.counters[i] += info->counters[i];
  if (info->records == 0) {
    job_.pool.free(slice);
    return true;
  }
  if (runs_.size() == max_runs) {
    job_.fail(Code::quota, "the job makes more than " + std::to_string(max_runs) +
                               " sorted runs; run it with a larger --memory-mb");
    return false;
  }
  job_.pool.shrink(slice, bytes);
  runs_.add(task.split, splits_.at(task.split).sequence++, *std::move(info), slice, bytes);
  return true;
}

void MapPhase::advance(Split& split, std::uint64_t number, const TaskOutcome& outcome) {
  const std::uint64_t before = split.bytes / split.pieces * split.piece;
  split.piece = static_cast<std::uint32_t>(outcome.words[0]);
  split.offset = outcome.words[1];
  if (split.piece < split.pieces) {
    job_.progress.mapped_bytes += split.bytes / split.pieces * split.piece - before;
    return;
  }
  job_.progress.mapped_bytes += split.bytes - before;
  job_.actions.emplace_back(ReleaseSplit{number});
  splits_.erase(number);
}

}  // namespace aios::mapreduce
