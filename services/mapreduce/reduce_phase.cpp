#include "services/mapreduce/reduce_phase.hpp"

#include <algorithm>

namespace aios::mapreduce {

namespace {

using proto::mapreduce::EventKind;

constexpr std::uint64_t least_window_bytes = 16u << 10;
constexpr std::uint64_t good_window_bytes = 64u << 10;
constexpr std::uint64_t most_window_bytes = 1u << 20;

}  // namespace

void ReducePhase::pump() {
  if (!prepared_ && !prepare()) return;
  deliver();
  open_streams();
  for (std::size_t i = head_; i < opened_ && !job_.failed(); ++i)
    if (!streams_[i].pump() && i == head_) starve();
}

/// Decides what stays in memory and how large windows are. False while runs are being spilled.
bool ReducePhase::prepare() {
  if (runs_.spilling()) return false;
  if (streams_.empty()) {
    job_.use_all_memory();
    make_streams();
  }
  if (!streams_.empty() && !choose_windows()) return false;
  prepared_ = true;
  return true;
}

void ReducePhase::make_streams() {
  const std::vector<Run*> runs = runs_.in_order();
  std::vector<const RunInfo*> infos;
  for (const Run* run : runs) infos.push_back(&run->info);
  for (std::uint32_t p = 0; p < job_.settings.reducers; ++p) {
    std::vector<std::uint64_t> boundaries = choose_boundaries(infos, p, job_.plan.range_bytes);
    std::uint64_t begin = 0;
    for (std::size_t i = 0; i <= boundaries.size(); ++i) {
      const bool has_end = i < boundaries.size();
      MergeStream stream(job_, {p, begin, has_end ? boundaries[i] : 0, has_end});
      for (const Run* run : runs) stream.add_source(*run);
      if (!stream.empty()) streams_.push_back(std::move(stream));
      if (has_end) begin = boundaries[i];
    }
    for (const RunInfo* info : infos) job_.progress.merge_bytes += info->partitions[p].bytes;
  }
}

/// With the smallest windows one stream must fit beside what is in memory; more is spilled until it
/// does. Then as many streams as there are threads, or as have windows of a good size.
bool ReducePhase::choose_windows() {
  const std::uint64_t held = runs_.memory_bytes();
  const std::uint64_t left = job_.pool_limit() - std::min(job_.pool_limit(), held);
  const auto most = [this](std::uint64_t window_bytes) {
    std::uint64_t bytes = 0;
    for (const MergeStream& stream : streams_)
      bytes = std::max(bytes, stream.bytes_to_open(window_bytes));
    return bytes;
  };
  // Segments end where slices may not: some of the memory cannot be used.
  const std::uint64_t usable = left - left / 8;
  const std::uint64_t least = most(least_window_bytes);
  if (usable < least) {
    if (runs_.spill(least - usable)) return false;
    job_.fail(Code::no_memory,
              "the job made " + std::to_string(runs_.size()) +
                  " sorted runs, too many to merge in its memory; run it with a --memory-mb of at "
                  "least " +
                  std::to_string(((least + least / 4) >> 20) + 1));
    return false;
  }
  active_ = std::clamp<std::size_t>(usable / most(good_window_bytes), 1, job_.settings.threads);
  const std::uint64_t fixed = most(0);
  std::size_t spilled = 1;
  for (const MergeStream& stream : streams_) spilled = std::max(spilled, stream.spilled_sources());
  const std::uint64_t window = (usable / active_ - std::min(usable / active_, fixed)) / spilled;
  window_bytes_ = std::clamp(window / engine::unit_bytes * engine::unit_bytes, least_window_bytes,
                             most_window_bytes);
  return true;
}

void ReducePhase::open_streams() {
  const std::size_t end = std::min(head_ + active_, streams_.size());
  for (std::size_t i = head_; i < end; ++i) {
    if (streams_[i].state() != MergeStream::State::closed) continue;
    if (!streams_[i].open(window_bytes_)) {
      if (i == head_) starve();
      return;
    }
    opened_ = std::max(opened_, i + 1);
  }
}

/// The head cannot get memory. The others give theirs back, and if that is not enough the job
/// fails.
void ReducePhase::starve() {
  if (job_.growing() || !written_.empty()) return;
  bool waiting = false;
  for (std::size_t i = head_ + 1; i < opened_; ++i) {
    if (streams_[i].busy())
      waiting = true;
    else
      streams_[i].reset();
  }
  if (waiting) return;
  if (active_ > 1) {
    active_ = 1;
    return pump();
  }
  job_.fail(Code::no_memory,
            "the values of one key need more memory than the job has; run it with a larger "
            "--memory-mb than " +
                std::to_string(job_.settings.memory_bytes >> 20));
}

void ReducePhase::deliver() {
  while (head_ < opened_) {
    MergeStream& stream = streams_[head_];
    for (const OutputPiece& piece : stream.outputs()) {
      const std::uint64_t number = ++last_output_;
      written_.emplace(number, Written{head_, piece.slot});
      job_.events.push_back({EventKind::write_output, stream.range().partition, number, piece.bytes,
                             piece.offset, stream.segment_of(piece.slot)});
    }
    stream.outputs().clear();
    if (stream.state() != MergeStream::State::finished) return;
    stream.count();
    stream.release();
    ++head_;
  }
}

bool ReducePhase::owns(std::uint64_t tag) const {
  return std::any_of(streams_.begin() + static_cast<std::ptrdiff_t>(head_),
                     streams_.begin() + static_cast<std::ptrdiff_t>(opened_),
                     [tag](const MergeStream& stream) { return stream.owns(tag); });
}

void ReducePhase::task_done(const Attempts::Ended& ended) {
  for (std::size_t i = head_; i < opened_; ++i)
    if (streams_[i].owns(ended.tag)) return streams_[i].task_done(ended);
}

void ReducePhase::got(std::uint64_t tag) {
  for (std::size_t i = head_; i < opened_; ++i)
    if (streams_[i].owns(tag)) return streams_[i].got(tag);
}

Result<void> ReducePhase::written(std::uint64_t number) {
  const auto found = written_.find(number);
  if (found == written_.end())
    return error(Code::invalid_argument,
                 "output " + std::to_string(number) + " is not with the client");
  streams_[found->second.stream].written(found->second.slot);
  written_.erase(found);
  return {};
}

}  // namespace aios::mapreduce
