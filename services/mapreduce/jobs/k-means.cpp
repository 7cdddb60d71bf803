// k-means: its points, one a line. What is done with them is led by the client
// (abi/lib/mapreduce/kmeans_job.cpp) and computed by the codelets of kmeans.kc, which this module
// brings along. On a cluster (services/cluster) no client has all of the points, and what it would
// do between two steps is done by codelets, too.
#include <aios/mapreduce.hpp>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "abi/lib/mapreduce/kmeans.hpp"
#include "services/mapreduce/jobs/point_line.hpp"

[[gnu::section(".aios.device_job"), gnu::used]] static const char device_job[] = "k-means";

namespace {

namespace client = aios::mapreduce_client;
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

struct BeginArguments {
  std::uint64_t points;
  std::uint64_t seed;
  std::uint32_t dimensions;
  std::uint32_t centres;
};
struct MoveArguments {
  std::uint64_t points;
  std::uint32_t dimensions;
  std::uint32_t centres;
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

// ---- between steps ------------------------------------------------------------------------------

/// All of a buffer.
template <class T>
std::span<T> array(const aios_task& task, std::uint32_t buffer) {
  const aios_buffer& all = task.buffers[buffer];
  return {static_cast<T*>(all.data), all.size / sizeof(T)};
}

template <class T>
T value_of(aios::Result<T> result) {
  if (!result)
    throw Failure(static_cast<std::int32_t>(result.error().code()), result.error().message());
  if constexpr (!std::is_void_v<T>) return *std::move(result);
}

void check_room(bool enough) {
  if (!enough) throw Failure("a buffer of k-means has another size");
}

/// Buffers: the sample of `points` points, the first centres (write).
void begin(const aios_task& task, const BeginArguments& given) {
  value_of(client::check_centres(given.centres, given.points));
  const auto sample = array<const float>(task, 0);
  const auto room = array<float>(task, 1);
  const std::uint64_t samples = client::sample_count(given.points, given.centres);
  check_room(sample.size() == samples * given.dimensions &&
             room.size() == std::size_t{given.centres} * given.dimensions);
  const auto chosen = value_of(client::first_centres({sample.data(), samples, given.dimensions},
                                                     given.points, given.centres, given.seed));
  std::copy(chosen.begin(), chosen.end(), room.begin());
}

/// Buffers: sums and counts of all shares, the centres (read, write), the points of each (write).
/// Result: how far the one went that went farthest, a double.
void move(const aios_task& task, const MoveArguments& given) {
  const client::ShareSums shares{array<const float>(task, 0), array<const std::uint32_t>(task, 1),
                                 given.dimensions};
  const auto centres = array<float>(task, 2);
  const auto points_of = array<std::uint64_t>(task, 3);
  check_room(centres.size() == std::size_t{given.centres} * given.dimensions &&
             points_of.size() == given.centres && shares.counts.size() % given.centres == 0 &&
             shares.sums.size() == shares.counts.size() * given.dimensions);
  const auto found = value_of(client::points_of_centres(shares, given.centres, given.points));
  std::copy(found.begin(), found.end(), points_of.begin());
  task.result[0] = std::bit_cast<std::uint64_t>(client::move_centres(shares, found, centres));
}

/// Buffers: the centres, the points of each, text (write). Result: its bytes.
void show(const aios_task& task, const MoveArguments& given) {
  const auto centres = array<const float>(task, 0);
  const auto points_of = array<const std::uint64_t>(task, 1);
  const auto room = array<char>(task, 2);
  check_room(centres.size() == std::size_t{given.centres} * given.dimensions &&
             points_of.size() == given.centres);
  std::string text;
  for (std::uint32_t centre = 0; centre < given.centres; ++centre)
    client::append_centre(
        text, centre, points_of[centre],
        centres.subspan(std::size_t{centre} * given.dimensions, given.dimensions));
  check_room(text.size() <= room.size());
  text.copy(room.data(), text.size());
  task.result[0] = text.size();
}

std::int32_t measure_task(const aios_task* task) {
  return engine::guarded<MeasureArguments>(task, 1, measure);
}
std::int32_t read_task(const aios_task* task) {
  return engine::guarded<ReadArguments>(task, 2, read);
}

std::int32_t begin_task(const aios_task* task) {
  return engine::guarded<BeginArguments>(task, 2, begin);
}
std::int32_t move_task(const aios_task* task) {
  return engine::guarded<MoveArguments>(task, 4, move);
}
std::int32_t show_task(const aios_task* task) {
  return engine::guarded<MoveArguments>(task, 3, show);
}

constexpr aios_codelet codelets[] = {{"measure", measure_task},
                                     {"read", read_task},
                                     {"begin", begin_task},
                                     {"move", move_task},
                                     {"show", show_task}};

}  // namespace

extern "C" AIOS_EXPORT const aios_module_table aios_module = {AIOS_CODELET_ABI, 5, codelets};
