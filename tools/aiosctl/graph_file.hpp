// A graph of tasks as a JSON file, for `aiosctl graph run`.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/status.hpp"

namespace aios::ctl {

/// What such a file holds, for those who write one.
inline constexpr const char* graph_file_help =
    R"(FILE, for example:

  {"codelets": {"add": {"module": "vector.so", "function": "vector_add"}},
   "buffers": {"a": {"bytes": 4096}, "b": {"bytes": 4096}, "c": {"bytes": 4096}},
   "tasks": [{"name": "first", "codelet": "add", "grid": [4], "arguments": [{"u32": 1024}],
              "buffers": [["a", "read"], ["b", "read"], ["c", "write"]]},
             {"name": "next", "codelet": "add", "after": ["first"]}]}

A module is a path, from the file's folder, or the name of one of AIOS's own. Buffers begin as
zeros. Tasks depend on one another by what they do to buffers, in the order of the file, and by
"after". Optional in a task: grid, arguments (u32, i32, u64, i64, f32, f64), buffers, after,
device (its index), priority, limit_s, idempotent (true), may_be_cheaper (false). In a codelet:
"cheaper": "NAME", another codelet that does the same sooner and not as well. Tasks that may be
cheaper run so, all of them, when the graph would be too late otherwise.)";

struct GraphFile {
  struct Codelet {
    std::string name;
    std::string module;  ///< a path
    std::string function;
    std::optional<std::uint32_t> cheaper = {};  ///< the place of its cheaper variant
  };
  struct Buffer {
    std::string name;
    std::uint64_t bytes = 0;
  };
  struct Task {
    std::string name;
    /// Codelets and buffers by their places in the lists here; the rest as it is submitted.
    proto::scheduler::TaskRecord record{};
    std::vector<std::uint32_t> after;  ///< places in `tasks`
  };
  std::vector<Codelet> codelets;
  std::vector<Buffer> buffers;
  std::vector<Task> tasks;
};

/// not_found, invalid_argument: the text names the file, and the place in it.
Result<GraphFile> read_graph_file(const std::string& path);

}  // namespace aios::ctl
