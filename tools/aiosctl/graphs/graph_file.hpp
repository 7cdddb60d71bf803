// A graph of tasks as a JSON file, for `aiosctl graph run`; or a template of one, which becomes a
// graph for each of its inputs.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
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
   "buffers": {"a": {"load": "a.bin"}, "b": {"bytes": 4096}, "c": {"bytes": 4096, "keep": true}},
   "tasks": [{"name": "first", "codelet": "add", "grid": [4], "arguments": [{"u32": 1024}],
              "buffers": [["a", "read"], ["b", "read"], ["c", "write"]]},
             {"name": "next", "codelet": "add", "grid": [4], "arguments": [{"u32": 1024}],
              "buffers": [["a", "read"], ["c", "read"], ["b", "write"]], "after": ["first"]}]}

where a.bin, beside FILE, holds 4096 bytes.

A module is a path, from the file's folder, or the name of one of AIOS's own. A buffer is "bytes" of
memory that begin as zeros, memory that begins as what it is to "load", or a "file" that codelets
read in place; one to "keep" becomes a file of --output. Tasks depend on one another by what they do
to buffers, in the order of the file, and by "after". Optional in a task: grid, arguments (u32, i32,
u64, i64, f32, f64), buffers, after, device (its index), priority, limit_s, idempotent (true),
may_be_cheaper (false), gang (a name: the tasks of one gang start together). In a codelet: "cheaper":
"NAME", another codelet that does the same sooner and not as well. Tasks that may be cheaper run so,
all of them, when the graph would be too late otherwise.

Tasks that share nothing but what they only read are partitions of their own: --engine spark runs
each on any of its hosts. An attempt at a partition that may have half run begins anew, from new
buffers.

A file with "input" is a template, and becomes a partition for each file of --input:

  "input": {"buffer": "picture", "probe": "probe", "arguments": [{"u64": 0}],
            "results": ["width", "height"]}

The buffer is the input. The codelet "probe", if there is one, is run with the input to be read, and
its result words get these names. Then whole numbers may be such a name, or input_bytes; a list, whose
product they are; or {"of": AMOUNT, "per": N}, divided and rounded up: "bytes": ["width", "height", 3].
abi/examples/pictures.json is one.)";

struct GraphFile {
  struct Codelet {
    std::string name;
    std::string module;  ///< a path
    std::string function;
    std::optional<std::uint32_t> cheaper = {};  ///< the place of its cheaper variant
  };
  /// Memory of `bytes`, but for a file that codelets read.
  struct Buffer {
    std::string name;
    std::uint64_t bytes = 0;
    std::string load{};  ///< a path: the memory begins as this file
    std::string file{};  ///< a path: the file to be read
    bool keep = false;
    bool is_input = false;  ///< of a template: a file to be read, which the graph does not name
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
  std::vector<std::vector<std::uint32_t>> gangs;  ///< places in `tasks`

  static constexpr std::uint32_t buffer_bits = 28;
  static std::uint32_t buffer_of(std::uint32_t use) { return use & ((1u << buffer_bits) - 1); }
  static std::uint32_t mode_of(std::uint32_t use) { return use >> buffer_bits; }
};

/// What a template does with an input first.
struct GraphInput {
  std::string buffer;                     ///< its name
  std::optional<std::uint32_t> codelet;   ///< the probe's place in `codelets`
  proto::scheduler::TaskRecord record{};  ///< with the probe's arguments
  std::vector<std::string> results;       ///< names of its first result words
};

/// A graph file, read and checked.
class GraphSource {
 public:
  /// not_found, invalid_argument: the text names the file, and the place in it.
  static Result<GraphSource> read(const std::string& path);

  /// Of a template.
  const std::optional<GraphInput>& input() const { return input_; }
  /// Its graph; a template's with ones for what is known of an input only.
  const GraphFile& graph() const { return graph_; }
  /// A template's graph for an input of so many bytes, of which the probe said these words.
  /// invalid_argument, too_large: it makes none.
  Result<GraphFile> graph_for(std::uint64_t input_bytes,
                              std::span<const std::uint64_t> results) const;
  /// A graph file of these tasks alone, that means the same in any folder.
  nlohmann::json portable(std::span<const std::uint32_t> tasks) const;

 private:
  GraphSource(nlohmann::json root, std::string path)
      : root_(std::move(root)), path_(std::move(path)) {}

  nlohmann::json root_;
  std::string path_;
  std::optional<GraphInput> input_;
  GraphFile graph_;
};

}  // namespace aios::ctl
