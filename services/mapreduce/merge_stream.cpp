#include "services/mapreduce/merge_stream.hpp"

#include <algorithm>
#include <cassert>

namespace aios::mapreduce {

namespace {
using engine::ReduceStop;
}

void MergeStream::add_source(const Run& run) {
  const auto [begin, end] =
      run.info.extent(range_.partition, range_.begin_prefix, range_.has_end, range_.end_prefix);
  if (begin == end) return;
  MergeSource source;
  source.run = &run;
  source.cursor = begin;
  source.end = end;
  sources_.push_back(source);
}

std::size_t MergeStream::spilled_sources() const {
  return static_cast<std::size_t>(std::count_if(
      sources_.begin(), sources_.end(), [](const MergeSource& s) { return s.run->spilled(); }));
}

std::uint64_t MergeStream::output_bytes() const {
  const std::uint64_t lines = job_.plan.range_bytes + job_.plan.range_bytes / 4;
  return round_to_units(engine::output_header_bytes(sources_.size()) + lines);
}

std::uint64_t MergeStream::bytes_to_open(std::uint64_t window_bytes) const {
  const std::uint64_t plan =
      sizeof(engine::MergePlan) + sources_.size() * sizeof(engine::MergeWindow);
  return round_to_units(plan) + slots_.size() * output_bytes() + spilled_sources() * window_bytes;
}

bool MergeStream::open(std::uint64_t window_bytes) {
  assert(state_ == State::closed);
  state_ = State::waiting;
  const auto take = [this](Slice& into, std::uint64_t bytes) {
    const auto slice = job_.allocate(bytes);
    if (slice) into = *slice;
    return slice.has_value();
  };
  bool complete =
      take(plan_, sizeof(engine::MergePlan) + sources_.size() * sizeof(engine::MergeWindow));
  for (Slot& slot : slots_) complete = complete && take(slot.slice, output_bytes());
  for (MergeSource& source : sources_) {
    source.loaded_from = source.loaded_end = source.cursor;
    if (source.run->spilled())
      complete =
          complete && take(source.window, std::min(window_bytes, source.end - source.cursor));
  }
  if (!complete) reset();
  return complete;
}

void MergeStream::give_back() {
  assert(!busy());
  job_.pool.free(plan_);
  for (Slot& slot : slots_)
    if (!slot.used) job_.pool.free(slot.slice);
  for (MergeSource& source : sources_) job_.pool.free(source.window);
}

void MergeStream::release() {
  assert(state_ == State::finished && outputs_.empty());
  give_back();
  sources_.clear();
  state_ = State::released;
}

void MergeStream::written(std::size_t slot) {
  slots_[slot].used = false;
  if (state_ == State::released) job_.pool.free(slots_[slot].slice);
}

void MergeStream::reset() {
  for (Slot& slot : slots_) slot.used = false;
  give_back();
  for (MergeSource& source : sources_) {
    const Run* run = source.run;
    const auto [begin, end] =
        run->info.extent(range_.partition, range_.begin_prefix, range_.has_end, range_.end_prefix);
    source = {};
    source.run = run;
    source.cursor = begin;
    source.end = end;
  }
  outputs_.clear();
  keys_ = merged_bytes_ = wanted_output_bytes_ = 0;
  counters_ = {};
  state_ = State::closed;
}

bool MergeStream::pump() {
  if (state_ != State::waiting) return true;
  if (!enlarge()) return false;
  if (refill()) return true;
  return start_merge();
}

/// A window or an output that a record does not fit into is replaced by a larger one.
bool MergeStream::enlarge() {
  for (MergeSource& source : sources_) {
    if (source.wanted_window_bytes == 0) continue;
    const auto larger = job_.allocate(source.wanted_window_bytes);
    if (!larger) return false;
    job_.pool.free(source.window);
    source.window = *larger;
    source.wanted_window_bytes = 0;
    source.loaded_from = source.loaded_end = source.cursor;
  }
  const auto free =
      std::find_if(slots_.begin(), slots_.end(), [](const Slot& s) { return !s.used; });
  if (free == slots_.end() || free->slice.bytes >= wanted_output_bytes_) return true;
  const auto larger = job_.allocate(wanted_output_bytes_);
  if (!larger) return false;
  job_.pool.free(free->slice);
  free->slice = *larger;
  return true;
}

/// Fetches more of every run whose window is less than half full.
bool MergeStream::refill() {
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    MergeSource& source = sources_[i];
    if (source.all_loaded() ||
        (!source.used_up && source.loaded_end - source.cursor > source.window.bytes / 2))
      continue;
    source.used_up = false;
    source.loaded_from = source.cursor;
    source.loaded_end = std::min(source.end, source.cursor + source.window.bytes);
    const std::uint64_t tag = job_.next_tag();
    gets_.emplace(tag, i);
    ++job_.progress.transfers;
    job_.actions.emplace_back(
        GetRun{tag, source.run->object,
               source.run->info.partitions[range_.partition].offset + source.cursor,
               source.loaded_end - source.loaded_from, source.window});
  }
  if (gets_.empty()) return false;
  state_ = State::loading;
  return true;
}

void MergeStream::got(std::uint64_t tag) {
  gets_.erase(tag);
  if (gets_.empty()) state_ = State::waiting;
}

bool MergeStream::start_merge() {
  slot_ = 0;
  while (slot_ < slots_.size() &&
         (slots_[slot_].used || slots_[slot_].slice.bytes < wanted_output_bytes_))
    ++slot_;
  if (slot_ == slots_.size()) return true;  // until the client has taken an output
  slots_[slot_].used = true;
  state_ = State::running;
  write_plan();
  engine::ReduceArguments arguments{};
  arguments.plan_buffer = plan_.segment + 1;
  arguments.plan_offset = plan_.offset;
  arguments.parameter_offset = job_.settings.parameter_offset;
  arguments.parameter_bytes = job_.settings.parameter_bytes;
  arguments.names_offset = job_.settings.names_offset;
  task_ = job_.next_tag();
  job_.attempts.start(task_, TaskKind::reduce, slots_[slot_].slice,
                      [&job = job_, arguments](const Slice& output) {
                        std::vector<BufferUse> buffers = {{BufferKind::parameters, false, 0}};
                        for (std::uint32_t i = 0; i < job.pool.segment_count(); ++i)
                          buffers.push_back({BufferKind::segment, i == output.segment, i});
                        engine::ReduceArguments complete = arguments;
                        complete.output_buffer = output.segment + 1;
                        complete.output_offset = output.offset;
                        complete.output_bytes = output.bytes;
                        return StartTask::of(TaskKind::reduce, std::move(buffers), complete);
                      });
  return true;
}

void MergeStream::write_plan() {
  std::byte* at = job_.bytes(plan_).data();
  const engine::MergePlan plan{range_.begin_prefix, range_.end_prefix, range_.has_end ? 1u : 0u,
                               static_cast<std::uint32_t>(sources_.size())};
  std::memcpy(at, &plan, sizeof plan);
  at += sizeof plan;
  for (const MergeSource& source : sources_) {
    engine::MergeWindow window{};
    if (source.window.bytes == 0) {
      const std::uint64_t partition = source.run->info.partitions[range_.partition].offset;
      window = {source.run->slice.segment + 1, 1,
                source.run->slice.offset + partition + source.cursor, source.end - source.cursor};
    } else {
      window = {source.window.segment + 1, source.all_loaded() ? 1u : 0u,
                source.window.offset + source.cursor - source.loaded_from,
                source.loaded_end - source.cursor};
    }
    std::memcpy(at, &window, sizeof window);
    at += sizeof window;
  }
}

void MergeStream::nonsense() {
  job_.fail(Code::invalid_argument,
            "the job's reduce task returned a result that makes no sense; "
            "was it built with this aios/mapreduce.hpp?");
}

void MergeStream::task_done(const Attempts::Ended& ended) {
  const TaskOutcome& outcome = ended.outcome;
  slots_[slot_].slice = ended.output;
  task_ = 0;
  state_ = State::waiting;
  if (!take_header(outcome) || !stop_at(outcome)) return nonsense();
  Slot& slot = slots_[slot_];
  const std::uint64_t header = engine::output_header_bytes(sources_.size());
  if (outcome.words[1] == header) {
    slot.used = false;
  } else {
    outputs_.push_back({slot_, slot.slice.offset + header, outcome.words[1] - header});
  }
}

/// Copies the positions reached and checks the copy.
bool MergeStream::take_header(const TaskOutcome& outcome) {
  const std::span<const std::byte> output = job_.bytes(slots_[slot_].slice);
  const std::uint64_t bytes = outcome.words[1];
  if (bytes < engine::output_header_bytes(sources_.size()) || bytes > output.size()) return false;
  engine::OutputHeader header;
  std::memcpy(&header, output.data(), sizeof header);
  consumed_.resize(sources_.size());
  if (!consumed_.empty())
    std::memcpy(consumed_.data(), output.data() + sizeof header,
                consumed_.size() * sizeof(std::uint64_t));
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    MergeSource& source = sources_[i];
    const std::uint64_t given =
        (source.window.bytes == 0 ? source.end : source.loaded_end) - source.cursor;
    if (consumed_[i] > given) return false;
    source.cursor += consumed_[i];
    merged_bytes_ += consumed_[i];
  }
  for (std::size_t i = 0; i < counters_.size(); ++i) counters_[i] += header.counters[i];
  keys_ += outcome.words[2];
  return true;
}

bool MergeStream::stop_at(const TaskOutcome& outcome) {
  switch (static_cast<ReduceStop>(outcome.words[0])) {
    case ReduceStop::done:
      wanted_output_bytes_ = 0;
      state_ = State::finished;
      return true;
    case ReduceStop::output_full:
      wanted_output_bytes_ = outcome.words[2] == 0 ? 2 * slots_[slot_].slice.bytes : 0;
      return true;
    case ReduceStop::window_used: {
      if (outcome.words[3] >= sources_.size()) return false;
      MergeSource& source = sources_[outcome.words[3]];
      if (source.all_loaded()) return false;
      source.used_up = true;
      if (source.cursor == source.loaded_from)  // a full window is less than one key's records
        source.wanted_window_bytes = 2 * source.window.bytes;
      return true;
    }
    default:
      return false;
  }
}

void MergeStream::count() {
  job_.progress.distinct_keys += keys_;
  job_.progress.merged_bytes += merged_bytes_;
  for (std::size_t i = 0; i < counters_.size(); ++i) job_.counters[i] += counters_[i];
}

}  // namespace aios::mapreduce
