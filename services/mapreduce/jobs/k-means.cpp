// k-means: its points, one a line. What is done with them is led by the client
// (abi/lib/mapreduce_kmeans_job.cpp) and computed by the codelets of kmeans.kc, which this module
// brings along.
#include <aios/mapreduce.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "services/mapreduce/jobs/point_line.hpp"

[[gnu::section(".aios.device_job"), gnu::used]] static const char device_job[] = "k-means";

namespace {

namespace engine = aios::mapreduce::engine;
using aios::mapreduce::Failure;

struct MeasureArguments {
  std::uint64_t reserved;
};
struct ReadArguments {
  std::uint64_t points;
  std::uint32_t dimensions;
  std::uint32_t reserved;
};

/// Reads lines of the pieces from the buffer `first_files` on; a sink of the engine's LineReader.
template <class OnLine>
class Lines {
 public:
  Lines(const aios_task& task, std::uint32_t first_files, OnLine on_line)
      : on_line_(std::move(on_line)) {
    std::vector<const aios_file_piece*> pieces;
    for (std::uint32_t i = first_files; i < task.buffer_count; ++i)
      for (std::uint32_t j = 0; j < task.buffers[i].file_count; ++j)
        pieces.push_back(&task.buffers[i].files[j]);
    engine::read_pieces<engine::LineReader>(pieces, {}, *this);
  }

  void enter(std::uint32_t piece) { piece_ = piece; }
  void release() {}
  bool record(std::string_view line, std::uint64_t offset) {
    try {
      on_line_(line);
    } catch (const aios::points::BadPoint& bad) {
      engine::fail_at({piece_, offset + bad.at}, Failure::invalid_argument, bad.what());
    }
    return true;
  }

 private:
  OnLine on_line_;
  std::uint32_t piece_ = 0;
};

bool is_point(std::string_view line) {
  return aios::points::skip_blanks(line, 0) != line.size();
}

/// Buffers: files. Results: points, and the numbers of the first one.
void measure(const aios_task& task, const MeasureArguments&) {
  std::uint64_t points = 0, dimensions = 0;
  Lines(task, 0, [&](std::string_view line) {
    if (!is_point(line)) return;
    if (points++ == 0) dimensions = aios::points::read_point(line, [](float) {});
  });
  task.result[0] = points;
  task.result[1] = dimensions;
}

/// Buffers: room for `points` rows of `dimensions` numbers (write), files.
void read(const aios_task& task, const ReadArguments& arguments) {
  auto* at = static_cast<float*>(task.buffers[0].data);
  const std::uint64_t numbers = arguments.points * arguments.dimensions;
  if (task.buffers[0].size != numbers * sizeof(float))
    throw Failure("the room for the points has another size");
  float* const end = at + numbers;
  constexpr const char* changed = "the input changed while it was read";
  Lines(task, 1, [&](std::string_view line) {
    if (!is_point(line)) return;
    if (at == end) throw Failure(Failure::source_changed, changed);
    float* const row_end = at + arguments.dimensions;
    const std::size_t count = aios::points::read_point(line, [&](float number) {
      if (at != row_end) *at++ = number;
    });
    if (count != arguments.dimensions)
      throw aios::points::BadPoint(
          0, "a point of " + std::to_string(count) + (count == 1 ? " number" : " numbers") +
                 ", where the first one of the input has " + std::to_string(arguments.dimensions));
  });
  if (at != end) throw Failure(Failure::source_changed, changed);
}

std::int32_t measure_task(const aios_task* task) {
  return engine::guarded<MeasureArguments>(task, 1, measure);
}
std::int32_t read_task(const aios_task* task) {
  return engine::guarded<ReadArguments>(task, 2, read);
}

constexpr aios_codelet codelets[] = {{"measure", measure_task}, {"read", read_task}};

}  // namespace

extern "C" AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 2, codelets};
