// The reduce task: windows of sorted runs in, lines out.
#pragma once

#include <aios/codelet.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/map_task.hpp>
#include <aios/mapreduce/merge.hpp>

namespace aios::mapreduce {

class ReduceOutput;

namespace engine {
/// A stretch of one window, all of the same key.
struct Extent {
  std::uint32_t run;
  const char* begin;
  std::uint64_t records;
};

template <class Job>
concept TakesPairs = requires(Job job, std::string_view bytes, ReduceOutput& out) {
  job.each(bytes, bytes, out);
};
}  // namespace engine

/// The values of one key, in the order of the input they came from. A view lives until the end of
/// reduce().
class Values {
 public:
  std::optional<std::string_view> next() {
    while (extent_ < extents_.size() && taken_ == extents_[extent_].records) {
      ++extent_;
      taken_ = 0;
    }
    if (extent_ == extents_.size()) return std::nullopt;
    const engine::Extent& extent = extents_[extent_];
    auto& cursor = cursors_[extent.run];
    if (taken_++ == 0)
      cursor.seek(extent.begin);
    else
      cursor.advance();
    return cursor.value();
  }

  Values(const std::vector<engine::Extent>& extents, std::vector<engine::WindowCursor<0>>& cursors)
      : extents_(extents), cursors_(cursors) {}

 private:
  const std::vector<engine::Extent>& extents_;
  std::vector<engine::WindowCursor<0>>& cursors_;
  std::size_t extent_ = 0;
  std::uint64_t taken_ = 0;
};

/// What a job's reduce() or each() sees as `out`. Every emit is one line of the key.
class ReduceOutput {
 public:
  /// `names`: engine::DocumentNames, or nullptr.
  ReduceOutput(char* at, const char* end, const char* names) : at_(at), end_(end), names_(names) {}

  void emit(std::string_view value) {
    if (value.find('\n') != value.npos) throw Failure("the job emitted a value with a newline");
    if (!room(value.size())) return;
    begin_line();
    append(value);
    *at_++ = '\n';
  }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void emit(Number value) {
    constexpr std::size_t most = 64;
    if (!room(most)) return;
    begin_line();
    at_ = std::to_chars(at_, at_ + most - 1, value).ptr;
    *at_++ = '\n';
  }
  /// A line as it is, without the key.
  void line(std::string_view bytes) {
    if (bytes.find('\n') != bytes.npos) throw Failure("the job emitted a line with a newline");
    const auto left = static_cast<std::size_t>(end_ - at_);
    overflowed_ = overflowed_ || left <= bytes.size();
    if (overflowed_) return;
    append(bytes);
    *at_++ = '\n';
  }
  void count(std::size_t counter, std::uint64_t by = 1) {
    engine::check_counter(counter);
    counters_[counter] += by;
  }
  /// How many input files are not empty: what document_name() has names of.
  std::uint64_t documents() const {
    std::uint64_t count = 0;
    if (names_ == nullptr)
      throw Failure(Failure::too_large, "the input has too many files to hand out their names");
    std::memcpy(&count, names_, sizeof count);
    return count;
  }
  /// The path of the input file that map() saw as this number.
  std::string_view document_name(std::uint32_t number) const {
    if (number >= documents()) throw Failure("the job asks for a document that is not there");
    std::uint64_t at[2];
    std::memcpy(at, names_ + sizeof(std::uint64_t) + number * sizeof at[0], sizeof at);
    return {names_ + at[0], static_cast<std::size_t>(at[1] - at[0])};
  }

 private:
  template <class>
  friend class ReduceWork;

  bool room(std::size_t value_bytes) {
    const auto left = static_cast<std::size_t>(end_ - at_);
    overflowed_ =
        overflowed_ || left < 2 || left - 2 < key_.size() || left - 2 - key_.size() < value_bytes;
    return !overflowed_;
  }
  void begin_line() {
    append(key_);
    *at_++ = '\t';
  }
  void append(std::string_view bytes) {
    std::copy_n(bytes.data(), bytes.size(), at_);
    at_ += bytes.size();
  }

  char* at_;
  const char* end_;
  const char* names_;
  std::string_view key_;
  bool overflowed_ = false;
  engine::Counters counters_{};
};

/// One reduce task's run; used by the engine alone.
template <class Job>
class ReduceWork {
 public:
  ReduceWork(const aios_task& task, const engine::ReduceArguments& arguments)
      : task_(task),
        arguments_(arguments),
        job_(engine::make_job<Job>(engine::split_arguments(
            static_cast<const char*>(task.buffers[0].data) + arguments.parameter_offset,
            arguments.parameter_bytes))) {
    const char* plan = data(arguments.plan_buffer) + arguments.plan_offset;
    std::memcpy(&plan_, plan, sizeof plan_);
    open_windows(plan + sizeof plan_);
  }

  void run() {
    char* output = data(arguments_.output_buffer) + arguments_.output_offset;
    char* lines = output + engine::output_header_bytes(plan_.window_count);
    ReduceOutput out(lines, output + arguments_.output_bytes,
                     arguments_.names_offset != 0 ? data(0) + arguments_.names_offset : nullptr);
    write_header(output, out);  // whoever waits sees by it that the task has begun
    engine::LoserTree tree(cursors_);
    engine::ReduceStop stop = engine::ReduceStop::done;
    const std::optional<std::uint32_t> used_up = first_used_up();
    if (used_up) {
      stop = engine::ReduceStop::window_used;
      stopped_run_ = *used_up;
    } else if constexpr (takes_pairs) {
      stop = merge_pairs(tree, out);
    } else {
      stop = merge(tree, out);
    }
    write_header(output, out);
    task_.result[0] = static_cast<std::uint64_t>(stop);
    task_.result[1] = static_cast<std::uint64_t>(out.at_ - output);
    task_.result[2] = keys_;
    task_.result[3] = stopped_run_;
  }

 private:
  static constexpr std::size_t value_bytes = [] {
    if constexpr (engine::CombinesValues<Job>)
      return sizeof(typename Job::Value);
    else
      return std::size_t{0};
  }();
  static constexpr bool takes_pairs = engine::TakesPairs<Job>;
  static_assert(!takes_pairs || !engine::CombinesValues<Job>,
                "each() is for byte-string values: it goes without `Value`");
  using Cursor = engine::WindowCursor<value_bytes>;
  using State = typename Cursor::State;

  char* data(std::uint32_t buffer) const { return static_cast<char*>(task_.buffers[buffer].data); }

  void open_windows(const char* at) {
    cursors_.reserve(plan_.window_count);
    for (std::uint32_t i = 0; i < plan_.window_count; ++i, at += sizeof(engine::MergeWindow)) {
      engine::MergeWindow window;
      std::memcpy(&window, at, sizeof window);
      cursors_.emplace_back(data(window.buffer) + window.offset, window.bytes, window.last != 0);
      Cursor& cursor = cursors_.back();
      while (cursor.advance() == State::record && cursor.prefix() < plan_.begin_prefix) continue;
    }
  }

  std::optional<std::uint32_t> first_used_up() const {
    for (std::uint32_t i = 0; i < cursors_.size(); ++i)
      if (cursors_[i].state() == State::used_up) return i;
    return std::nullopt;
  }

  engine::ReduceStop merge(engine::LoserTree<Cursor>& tree, ReduceOutput& out) {
    std::string_view previous;
    while (!tree.at_end()) {
      const Cursor& first = cursors_[tree.winner()];
      if (plan_.has_end && first.prefix() >= plan_.end_prefix) break;
      out.key_ = first.key();
      const std::uint64_t prefix = first.prefix();
      if (keys_ != 0 && out.key_ <= previous)
        throw Failure(Failure::corrupt, "a sorted run is not in order");
      char* const line = out.at_;
      const engine::Counters counted = out.counters_;
      extents_.clear();
      const bool complete = take_key(tree, prefix, out);
      if (!complete || out.overflowed_) {  // the unfinished key is left to the next task
        out.at_ = line;
        out.counters_ = counted;
        for (const engine::Extent& extent : extents_) cursors_[extent.run].seek(extent.begin);
        return complete ? engine::ReduceStop::output_full : engine::ReduceStop::window_used;
      }
      previous = out.key_;
      ++keys_;
      for (const engine::Extent& extent : extents_) records_ += extent.records;
    }
    return engine::ReduceStop::done;
  }

  /// Every pair by itself: neither a window nor an output has to hold all of a key.
  engine::ReduceStop merge_pairs(engine::LoserTree<Cursor>& tree, ReduceOutput& out) {
    std::uint64_t previous = 0;
    while (!tree.at_end()) {
      Cursor& cursor = cursors_[tree.winner()];
      if (plan_.has_end && cursor.prefix() >= plan_.end_prefix) break;
      if (cursor.prefix() < previous)
        throw Failure(Failure::corrupt, "a sorted run is not in order");
      previous = cursor.prefix();
      out.key_ = cursor.key();
      char* const line = out.at_;
      const engine::Counters counted = out.counters_;
      job_.each(cursor.key(), cursor.value(), out);
      if (out.overflowed_) {  // the pair is left to the next task
        out.at_ = line;
        out.counters_ = counted;
        return engine::ReduceStop::output_full;
      }
      ++keys_;
      ++records_;
      if (cursor.advance() == State::used_up) {
        stopped_run_ = tree.winner();
        return engine::ReduceStop::window_used;
      }
      tree.update();
    }
    return engine::ReduceStop::done;
  }

  /// Collects the records of the key and reduces them. False when a window was used up.
  bool take_key(engine::LoserTree<Cursor>& tree, std::uint64_t prefix, ReduceOutput& out) {
    Value combined{};
    do {
      const std::uint32_t run = tree.winner();
      Cursor& cursor = cursors_[run];
      if (!extents_.empty() && extents_.back().run == run) {
        ++extents_.back().records;
      } else {
        extents_.push_back({run, cursor.at(), 1});
      }
      if constexpr (engine::CombinesValues<Job>) add(combined, cursor);
      if (cursor.advance() == State::used_up) {
        stopped_run_ = run;
        return false;
      }
      tree.update();
    } while (!tree.at_end() && cursors_[tree.winner()].prefix() == prefix &&
             cursors_[tree.winner()].key() == out.key_);
    reduce(combined, out);
    return true;
  }

  struct Nothing {};
  template <class J>
  struct ValueOf {
    using Type = Nothing;
  };
  template <class J>
  requires engine::CombinesValues<J>
  struct ValueOf<J> {
    using Type = typename J::Value;
  };
  using Value = typename ValueOf<Job>::Type;

  void add(Value& combined, const Cursor& cursor) {
    Value value;
    std::memcpy(&value, cursor.value().data(), sizeof value);
    if (extents_.size() == 1 && extents_.back().records == 1)
      combined = value;
    else
      engine::combine<Job>(combined, value);
  }

  void reduce(const Value& combined, ReduceOutput& out) {
    if (out.key_.find('\n') != out.key_.npos) throw Failure("the job emitted a key with a newline");
    if constexpr (!engine::CombinesValues<Job>) {
      std::vector<const char*> resume;
      for (const engine::Extent& extent : extents_) resume.push_back(cursors_[extent.run].at());
      Values values(extents_, cursors_);
      job_.reduce(out.key_, values, out);
      for (std::size_t i = 0; i < extents_.size(); ++i) cursors_[extents_[i].run].seek(resume[i]);
    } else if constexpr (requires { job_.reduce(out.key_, combined, out); }) {
      job_.reduce(out.key_, combined, out);
    } else {
      out.emit(combined);
    }
  }

  void write_header(char* output, const ReduceOutput& out) const {
    engine::OutputHeader header{};
    header.records = records_;
    std::memcpy(header.counters, out.counters_.data(), sizeof header.counters);
    std::memcpy(output, &header, sizeof header);
    char* at = output + sizeof header;
    for (const Cursor& cursor : cursors_) {
      const std::uint64_t consumed = cursor.consumed();
      std::memcpy(at, &consumed, sizeof consumed);
      at += sizeof consumed;
    }
  }

  const aios_task& task_;
  engine::ReduceArguments arguments_;
  Job job_;
  engine::MergePlan plan_{};
  std::vector<Cursor> cursors_;
  std::vector<engine::Extent> extents_;
  std::uint64_t keys_ = 0;
  std::uint64_t records_ = 0;
  std::uint64_t stopped_run_ = 0;
};

}  // namespace aios::mapreduce
