// What a job's machine wants to be done, and what comes of a task. Plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "services/mapreduce/pool.hpp"

namespace aios::mapreduce {

enum class BufferKind : std::uint8_t { parameters, description, segment, split };
struct BufferUse {
  BufferKind kind;
  bool write;
  std::uint64_t number;  ///< of the segment or split; a split stands for all its channels
};

/// `sample` is the describe codelet with a sample of the input.
enum class TaskKind : std::uint8_t { describe, map, reduce, sample };

/// Where tasks run: in contexts of the client's job, or of a job below it.
using Place = std::uint32_t;
inline constexpr Place main_place = 0;
inline constexpr Place spare_place = 1;
inline constexpr std::size_t place_count = 2;

struct StartTask {
  std::uint64_t tag = 0;
  TaskKind kind{};
  std::vector<BufferUse> buffers;
  std::array<std::byte, 64> arguments{};
  std::uint32_t argument_bytes = 0;
  Place place = main_place;

  /// Tag and place are filled in later.
  template <class Arguments>
  static StartTask of(TaskKind kind, std::vector<BufferUse> buffers, const Arguments& arguments) {
    static_assert(std::is_trivially_copyable_v<Arguments> && sizeof(Arguments) <= 64);
    StartTask task;
    task.kind = kind;
    task.buffers = std::move(buffers);
    std::memcpy(task.arguments.data(), &arguments, sizeof arguments);
    task.argument_bytes = sizeof arguments;
    return task;
  }
};
/// If it has not begun; what comes of it is of no interest.
struct CancelTask {
  Place place;
  std::uint64_t tag;
};
/// Answered by place_ready or place_refused.
struct OpenPlace {
  Place place;
};
/// Ends what runs there; answered by place_closed when nothing does any more.
struct ClosePlace {
  Place place;
};
/// Store the slice as object `object`.
struct PutRun {
  std::uint64_t object;
  Slice slice;
};
/// Fill the beginning of the slice with `bytes` of the object from `offset` on.
struct GetRun {
  std::uint64_t tag;
  std::uint64_t object;
  std::uint64_t offset;
  std::uint64_t bytes;
  Slice slice;
};
struct ReleaseSplit {
  std::uint64_t split;
};
using Action =
    std::variant<StartTask, CancelTask, OpenPlace, ClosePlace, PutRun, GetRun, ReleaseSplit>;

struct TaskOutcome {
  std::array<std::uint64_t, 4> words{};
  std::uint64_t duration_ns = 0;
};

}  // namespace aios::mapreduce
