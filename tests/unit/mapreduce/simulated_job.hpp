// A job machine with everything around it simulated: a scheduler that runs the codelets of a real
// module's class, a store that keeps objects in a map, and a client. What happens next is drawn
// from a seed, so a test can go through many orders of events and repeat each.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "services/mapreduce/job_machine.hpp"
#include "tests/unit/mapreduce/local_job.hpp"

namespace aios::test {

using mapreduce::JobMachine;
using mapreduce::JobSettings;
using proto::mapreduce::EventKind;

class SimulatedJob {
 public:
  using Split = std::vector<aios_file_piece>;
  using Step = std::function<void()>;

  SimulatedJob(const aios_codelet* codelets, JobSettings settings, std::vector<Split> splits,
               std::uint64_t seed)
      : codelets_(codelets),
        splits_(std::move(splits)),
        random_(seed),
        header_(engine::job_header_bytes(settings.reducers)),
        machine(complete(settings), std::span(header_).first(engine::description_bytes)) {
    parts.resize(settings.reducers);
  }

  /// Goes on until the job is over, or nothing is left to do; `before_step` sees every step's
  /// number.
  void run(const std::function<void(std::size_t)>& before_step = [](std::size_t) {}) {
    machine.start();
    collect();
    for (std::size_t step = 0; !pending_.empty() || wait_for_held(); ++step) {
      before_step(step);
      collect();
      if (pending_.empty()) break;
      const std::size_t chosen = random_() % pending_.size();
      Step next = std::move(pending_[chosen]);
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(chosen));
      next();
      collect();
      ++steps;
    }
  }

  std::uint64_t spilled_objects() const { return stored_; }

 private:
  JobSettings complete(JobSettings& settings) {
    settings.split_count = splits_.size();
    for (const Split& split : splits_)
      for (const aios_file_piece& piece : split) settings.input_bytes += piece.length;
    return settings;
  }

  void collect() {
    for (mapreduce::Action& action : machine.take_actions())
      std::visit([this](auto& what) { add(what); }, action);
    while (machine.has_event()) obey(machine.take_event());
    most_running = std::max(most_running, running_);
  }

  void add(const mapreduce::StartTask& task) {
    ++running_;
    pending_.push_back([this, task, life = lives_[task.place]] {
      if (life == lives_[task.place] && still == task.place) return hold(task);
      --running_;
      if (life == lives_[task.place]) run_task(task);
    });
  }
  void add(const mapreduce::CancelTask&) {}  // they have all begun
  void add(const mapreduce::OpenPlace& what) {
    pending_.push_back([this, what] { machine.place_ready(what.place); });
  }
  void add(const mapreduce::ClosePlace& what) {
    ++lives_[what.place];
    ++closed_places;
    std::erase_if(held_, [&](const auto& task) { return task.place == what.place; });
    if (still == what.place) still.reset();
    pending_.push_back([this, what] { machine.place_closed(what.place); });
  }

  /// It has begun, and does not go on.
  void hold(const mapreduce::StartTask& task) {
    std::uint64_t segment = task.buffers[1].number, offset = 0;
    if (task.kind == mapreduce::TaskKind::map) {
      engine::MapArguments arguments;
      std::memcpy(&arguments, task.arguments.data(), sizeof arguments);
      offset = arguments.run_offset;
    } else if (task.kind == mapreduce::TaskKind::reduce) {
      engine::ReduceArguments arguments;
      std::memcpy(&arguments, task.arguments.data(), sizeof arguments);
      segment = arguments.output_buffer - 1;
      offset = arguments.output_offset;
    }
    if (task.kind == mapreduce::TaskKind::map || task.kind == mapreduce::TaskKind::reduce)
      std::fill_n(segments_[segment].begin() + static_cast<std::ptrdiff_t>(offset), 8,
                  std::byte{0});
    held_.push_back(task);
  }
  /// Time passes while all stand still. False: for ever.
  bool wait_for_held() {
    while (pending_.empty() && !held_.empty() && !machine.over() && looks < most_looks) {
      ++looks;
      machine.look(now_ns += 100'000'000);
      collect();
      if (looks == goes_on_after) {
        still.reset();
        for (const auto& task : std::exchange(held_, {})) {
          --running_;
          add(task);
        }
      }
    }
    return !pending_.empty();
  }
  void add(const mapreduce::PutRun& put) {
    pending_.push_back([this, put] {
      const auto bytes = memory(put.slice);
      objects_[put.object].assign(bytes.begin(), bytes.end());
      ++stored_;
      machine.put_done(put.object, put_result);
    });
  }
  void add(const mapreduce::GetRun& get) {
    pending_.push_back([this, get] {
      const auto& object = objects_.at(get.object);
      std::copy_n(
          object.begin() + static_cast<std::ptrdiff_t>(get.offset), get.bytes,
          segments_[get.slice.segment].begin() + static_cast<std::ptrdiff_t>(get.slice.offset));
      machine.get_done(get.tag, get.bytes, get.bytes);
    });
  }
  void add(const mapreduce::ReleaseSplit& split) { released.push_back(split.split); }

  void obey(const mapreduce::ClientEvent& event) {
    switch (event.kind) {
      case EventKind::lend_splits:
        pending_.push_back([this, event] {
          for (; lent_ < event.number; ++lent_) {
            std::uint64_t bytes = 0;
            for (const auto& piece : splits_[lent_]) bytes += piece.length;
            good(machine.split_lent(
                {lent_, bytes, static_cast<std::uint32_t>(splits_[lent_].size())}));
          }
        });
        break;
      case EventKind::lend_sample:
        sampled = true;
        pending_.push_back([this] {
          for (const Split& split : splits_)
            sample_.insert(sample_.end(), split.begin(), split.end());
          good(machine.split_lent(
              {proto::mapreduce::sample_split, 1, static_cast<std::uint32_t>(sample_.size())}));
        });
        break;
      case EventKind::add_segment:
        memory_bytes += event.bytes;
        pending_.push_back([this, event] {
          segments_.emplace_back(event.bytes);
          good(machine.segment_added(segments_.back()));
        });
        break;
      case EventKind::write_output: {
        const auto* from =
            reinterpret_cast<const char*>(segments_[event.segment].data()) + event.offset;
        parts[event.partition].append(from, event.bytes);
        pending_.push_back([this, event] { good(machine.written(event.number)); });
        break;
      }
      case EventKind::add_spare:
        if (gives_spare) pending_.push_back([this] { good(machine.spare_added()); });
        break;
      case EventKind::record_skipped:
        skipped.emplace_back(event.number, event.offset);
        break;
      case EventKind::done:
        done = true;
        break;
      case EventKind::failed:
        failed = true;
        break;
      case EventKind::progress:
        break;
    }
  }

  void good(const Result<void>& result) { refused = refused || !result; }

  std::span<std::byte> memory(const mapreduce::Slice& slice) {
    return std::span(segments_[slice.segment]).subspan(slice.offset, slice.bytes);
  }

  void run_task(const mapreduce::StartTask& task) {
    static constexpr std::size_t index[] = {0, 1, 2, 0};
    std::vector<aios_buffer> buffers;
    for (const mapreduce::BufferUse& use : task.buffers) {
      const std::uint32_t mode = use.write ? AIOS_MODE_WRITE : AIOS_MODE_READ;
      switch (use.kind) {
        case mapreduce::BufferKind::parameters:
          buffers.push_back({header_.data(), header_.size(), mode, 0, nullptr});
          break;
        case mapreduce::BufferKind::description:
          buffers.push_back({header_.data(), header_.size(), mode, 0, nullptr});
          break;
        case mapreduce::BufferKind::segment:
          buffers.push_back(
              {segments_[use.number].data(), segments_[use.number].size(), mode, 0, nullptr});
          break;
        case mapreduce::BufferKind::split: {
          const Split& split =
              use.number == proto::mapreduce::sample_split ? sample_ : splits_[use.number];
          buffers.push_back(
              {nullptr, 0, mode, static_cast<std::uint32_t>(split.size()), split.data()});
          break;
        }
      }
    }
    mapreduce::TaskOutcome outcome;
    char text[400] = {};
    const aios_task call{{0, 0, 0},
                         {1, 1, 1},
                         static_cast<std::uint32_t>(buffers.size()),
                         task.argument_bytes,
                         buffers.data(),
                         task.arguments.data(),
                         outcome.words.data(),
                         text,
                         sizeof text,
                         0};
    const std::int32_t code = codelets_[index[static_cast<std::size_t>(task.kind)]].run(&call);
    outcome.duration_ns = task_ns;
    if (tamper) tamper(task, outcome);
    if (code == 0)
      machine.task_done(task.tag, 1, outcome);
    else if (crash_on_failure)
      machine.task_failed(task.tag, 2, Status(Code::crashed, "segmentation fault"));
    else
      machine.task_failed(task.tag, 1, Status(static_cast<Code>(code), text));
  }

  const aios_codelet* codelets_;
  std::vector<Split> splits_;
  std::mt19937_64 random_;
  std::vector<std::byte> header_;
  Split sample_;
  std::deque<std::vector<std::byte>> segments_;
  std::map<std::uint64_t, std::vector<std::byte>> objects_;
  std::vector<Step> pending_;
  std::vector<mapreduce::StartTask> held_;
  std::array<std::size_t, mapreduce::place_count> lives_{};
  std::uint64_t lent_ = 0;
  std::uint64_t stored_ = 0;
  std::size_t running_ = 0;

 public:
  JobMachine machine;
  std::vector<std::string> parts;
  std::vector<std::uint64_t> released;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> skipped;  ///< split and offset
  std::function<void(const mapreduce::StartTask&, mapreduce::TaskOutcome&)> tamper;
  Result<void> put_result;
  std::optional<mapreduce::Place> still;  ///< where tasks begin and do not go on
  std::size_t goes_on_after = 0;          ///< so many looks; 0: never
  std::size_t most_looks = 1000;
  std::size_t looks = 0;
  std::uint64_t now_ns = 1;
  std::uint64_t task_ns = 50'000'000;  ///< what tasks say they took
  bool gives_spare = true;
  std::size_t closed_places = 0;
  std::uint64_t memory_bytes = 0;
  std::size_t most_running = 0;
  std::size_t steps = 0;
  bool crash_on_failure = false;  ///< a task that fails tells nothing but that it crashed
  bool sampled = false;
  bool done = false;
  bool failed = false;
  bool refused = false;
};

}  // namespace aios::test
