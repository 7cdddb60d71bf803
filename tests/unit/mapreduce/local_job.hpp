// Runs a job's codelets in this process, without any server: what the service does with tasks, done
// in a plain loop. For tests of the engine.
#pragma once

#include <aios/mapreduce.hpp>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "abi/runtime/fd.hpp"

namespace aios::test {

namespace engine = aios::mapreduce::engine;

/// A temporary file with these contents, already unlinked.
inline Fd file_with(const std::string& contents) {
  char path[] = "/tmp/aios-mapreduce-XXXXXX";
  Fd fd(::mkstemp(path));
  ::unlink(path);
  std::size_t written = 0;
  while (written < contents.size())
    written +=
        static_cast<std::size_t>(::pwrite(fd.get(), contents.data() + written,
                                          contents.size() - written, static_cast<off_t>(written)));
  return fd;
}

inline aios_file_piece piece_of(const Fd& fd, std::uint64_t offset, std::uint64_t length,
                                std::uint64_t file_size) {
  return {fd.get(), 0, offset, length, file_size};
}

struct LocalOptions {
  std::uint32_t partitions = 1;
  std::uint64_t table_bytes = 8u << 20;
  std::uint64_t run_bytes = 4u << 20;
  std::uint64_t window_bytes = 0;  ///< 0: every window is a whole run's partition
  std::uint64_t output_bytes = 1u << 20;
  std::vector<std::string> arguments;
  engine::InputFormat format{};
};

template <class Job>
class LocalJob {
 public:
  using Split = std::vector<aios_file_piece>;

  explicit LocalJob(LocalOptions options)
      : options_(std::move(options)), parameters_(job_header(), '\0') {
    std::memcpy(parameters_.data() + engine::input_format_offset, &options_.format,
                sizeof options_.format);
    for (const std::string& argument : options_.arguments) {
      parameters_ += argument;
      parameters_ += '\0';
    }
  }

  /// The contents of the parts; empty when a task failed: see `message`.
  std::vector<std::string> run(const std::vector<Split>& splits) {
    if (!sample(splits)) return {};
    for (const Split& split : splits)
      if (!map(split)) return {};
    std::vector<std::string> parts;
    for (std::uint32_t p = 0; p < options_.partitions; ++p) {
      std::string part;
      if (!reduce(p, 0, 0, false, part)) return {};
      parts.push_back(std::move(part));
    }
    return parts;
  }

  /// Whether the job takes its arguments and input.
  bool describe() {
    engine::DescribeArguments arguments{job_header(), parameter_bytes(), 0, 0};
    aios_buffer buffers[] = {parameters(),
                             {parameters_.data(), parameters_.size(), AIOS_MODE_WRITE, 0, nullptr}};
    return call(0, buffers, 2, &arguments, sizeof arguments);
  }

  /// Chooses boundaries from all of the input, for a job that needs them.
  bool sample(const std::vector<Split>& splits) {
    if (!engine::TotalOrder<Job> || options_.partitions == 1) return true;
    Split all;
    for (const Split& split : splits) all.insert(all.end(), split.begin(), split.end());
    engine::DescribeArguments arguments{job_header(), parameter_bytes(), 0, options_.partitions};
    aios_buffer buffers[] = {
        parameters(),
        {parameters_.data(), parameters_.size(), AIOS_MODE_WRITE, 0, nullptr},
        {nullptr, 0, AIOS_MODE_READ, static_cast<std::uint32_t>(all.size()), all.data()}};
    return call(0, buffers, 3, &arguments, sizeof arguments);
  }

  bool map(const Split& split) {
    std::uint32_t piece = 0;
    std::uint64_t offset = 0, run_bytes = options_.run_bytes, table_bytes = options_.table_bytes;
    while (piece < split.size()) {
      if (run_.size() < run_bytes) run_.resize(run_bytes);
      engine::MapArguments arguments{0,     run_bytes,           table_bytes,  offset,
                                     piece, options_.partitions, job_header(), parameter_bytes()};
      aios_buffer buffers[] = {
          parameters(),
          {run_.data(), run_.size(), AIOS_MODE_WRITE, 0, nullptr},
          {nullptr, 0, AIOS_MODE_READ, static_cast<std::uint32_t>(split.size()), split.data()}};
      if (!call(1, buffers, 3, &arguments, sizeof arguments)) return false;
      ++map_tasks;
      if (result[3] == 0) {
        run_bytes = 2 * (result[2] + run_bytes);
        table_bytes = 8 * (result[2] + table_bytes);
        continue;
      }
      piece = static_cast<std::uint32_t>(result[0]);
      offset = result[1];
      records += result[2];
      runs.emplace_back(run_.begin(), run_.begin() + static_cast<std::ptrdiff_t>(result[3]));
    }
    return true;
  }

  /// Appends the lines of partition `p` with prefixes in [begin, end) to `part`.
  bool reduce(std::uint32_t p, std::uint64_t begin, std::uint64_t end, bool has_end,
              std::string& part) {
    std::vector<std::uint64_t> at(runs.size()), size(runs.size());
    std::vector<std::uint64_t> window(runs.size(), options_.window_bytes);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const engine::PartitionEntry entry = partition(i, p);
      at[i] = entry.offset;
      size[i] = entry.offset + entry.bytes;
    }
    std::uint64_t output_bytes = options_.output_bytes;
    const std::uint64_t header_bytes = engine::output_header_bytes(runs.size());
    while (true) {
      std::vector<char> plan = make_plan(at, size, window, {begin, end, has_end, 0});
      std::vector<char> output(header_bytes + output_bytes);
      engine::ReduceArguments arguments{1, 2, 0, 0, output.size(), job_header(), parameter_bytes()};
      std::vector<aios_buffer> buffers = {
          parameters(),
          {plan.data(), plan.size(), AIOS_MODE_READ, 0, nullptr},
          {output.data(), output.size(), AIOS_MODE_WRITE, 0, nullptr}};
      for (std::vector<char>& run : runs)
        buffers.push_back({run.data(), run.size(), AIOS_MODE_READ, 0, nullptr});
      if (!call(2, buffers.data(), static_cast<std::uint32_t>(buffers.size()), &arguments,
                sizeof arguments))
        return false;
      ++reduce_tasks;
      keys += result[2];
      part.append(output.data() + header_bytes, result[1] - header_bytes);
      std::vector<std::uint64_t> consumed(runs.size());
      std::memcpy(consumed.data(), output.data() + sizeof(engine::OutputHeader),
                  consumed.size() * sizeof(std::uint64_t));
      for (std::size_t i = 0; i < runs.size(); ++i) at[i] += consumed[i];
      const auto stop = static_cast<engine::ReduceStop>(result[0]);
      if (stop == engine::ReduceStop::done) return true;
      if (stop == engine::ReduceStop::window_used && consumed[result[3]] == 0)
        window[result[3]] *= 2;
      if (stop == engine::ReduceStop::output_full && result[2] == 0) output_bytes *= 2;
    }
  }

  engine::PartitionEntry partition(std::size_t run, std::uint32_t p) const {
    engine::PartitionEntry entry;
    std::memcpy(&entry, runs[run].data() + sizeof(engine::RunHeader) + p * sizeof entry,
                sizeof entry);
    return entry;
  }

  std::string message;
  std::int32_t code = 0;
  std::uint64_t result[AIOS_RESULT_WORDS] = {};
  std::uint64_t records = 0;
  std::uint64_t keys = 0;
  std::uint64_t map_tasks = 0;
  std::uint64_t reduce_tasks = 0;
  std::vector<std::vector<char>> runs;

 private:
  aios_buffer parameters() {
    return {parameters_.data(), parameters_.size(), AIOS_MODE_READ, 0, nullptr};
  }

  std::uint64_t job_header() const { return engine::job_header_bytes(options_.partitions); }
  std::uint64_t parameter_bytes() const { return parameters_.size() - job_header(); }

  std::vector<char> make_plan(const std::vector<std::uint64_t>& at,
                              const std::vector<std::uint64_t>& size,
                              const std::vector<std::uint64_t>& window, engine::MergePlan plan) {
    plan.window_count = static_cast<std::uint32_t>(runs.size());
    std::vector<char> bytes(sizeof plan + runs.size() * sizeof(engine::MergeWindow));
    std::memcpy(bytes.data(), &plan, sizeof plan);
    for (std::uint32_t i = 0; i < runs.size(); ++i) {
      const std::uint64_t left = size[i] - at[i];
      const bool last = window[i] == 0 || left <= window[i];
      const engine::MergeWindow entry{i + 3, last, at[i], last ? left : window[i]};
      std::memcpy(bytes.data() + sizeof plan + i * sizeof entry, &entry, sizeof entry);
    }
    return bytes;
  }

  bool call(std::size_t codelet, aios_buffer* buffers, std::uint32_t count, const void* arguments,
            std::uint32_t argument_bytes) {
    char text[400] = {};
    for (std::uint64_t& word : result) word = 0;
    const aios_task task{{0, 0, 0}, {1, 1, 1}, count, argument_bytes, buffers,
                         arguments, result,    text,  sizeof text,    0};
    code = engine::Codelets<Job>::table[codelet].run(&task);
    message = text;
    return code == 0;
  }

  LocalOptions options_;
  std::string parameters_;
  std::vector<char> run_;
};

}  // namespace aios::test
