#include "tools/aiosctl/graphs/graph_file.hpp"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "abi/include/aios/codelet.h"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_graph.hpp"
#include "tools/aiosctl/common/install_paths.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t most_file_bytes = 256ull << 20;
constexpr std::uint64_t most_buffer_bytes = 1ull << 40;
constexpr std::size_t most_name_bytes = 200;
constexpr int most_amount_depth = 8;
/// Of a task's grid (the scheduler's rule).
constexpr std::uint64_t most_blocks = 1u << 24;
constexpr const char* input_bytes_name = "input_bytes";

/// What is known of an input, by name; nothing in a plain graph.
using Amounts = std::map<std::string, std::uint64_t>;

/// Where a path of the file leads, which it names from its folder.
std::string beside(const std::string& file, const std::string& path) {
  std::error_code failed;
  return (fs::absolute(file, failed).parent_path() / path).lexically_normal().string();
}

/// Whether a module is a file of the user's, not one of AIOS's own.
bool is_users(const std::string& file, const std::string& module) {
  std::error_code failed;
  return module.find('/') != std::string::npos || fs::exists(beside(file, module), failed);
}

class Reader {
 public:
  Reader(const json& root, std::string path, const Amounts& known)
      : root_(root), path_(std::move(path)), known_(known) {}

  /// What it does with inputs; nothing where it is no template.
  Result<std::optional<GraphInput>> read_input() {
    if (!root_.is_object()) return wrong("", "is no object");
    const json* input = member(root_, "input");
    if (input == nullptr) return std::optional<GraphInput>();
    if (!input->is_object()) return wrong("input", "is no object");
    TRY(only(*input, "input", {"buffer", "probe", "arguments", "results"}));
    TRY(read_codelets());
    GraphInput made;
    made.buffer = TRY(text(*input, "buffer", "input"));
    if (input->contains("probe")) {
      const std::string probe = TRY(text(*input, "probe", "input"));
      if (!codelets_.contains(probe))
        return wrong("input.probe", "names no codelet: '" + probe + "'");
      made.codelet = codelets_[probe];
      made.record = make_task(0, *made.codelet);
      TRY(read_arguments(*input, "input", made.record));
      TRY(read_results(*input, made.results));
    } else if (input->contains("arguments") || input->contains("results")) {
      return wrong("input", "has arguments or results, and no probe");
    }
    return std::optional(std::move(made));
  }

  /// `input` is what read_input said.
  Result<GraphFile> read(const std::optional<GraphInput>& input) {
    if (!root_.is_object()) return wrong("", "is no object");
    TRY(only(root_, "", {"codelets", "buffers", "tasks", "input"}));
    TRY(read_codelets());
    TRY(read_buffers());
    if (input) TRY(add_input(input->buffer));
    const json* tasks = member(root_, "tasks");
    if (tasks == nullptr || !tasks->is_array() || tasks->empty())
      return wrong("tasks", "is missing, empty or no list");
    for (std::size_t i = 0; i < tasks->size(); ++i)
      TRY(read_task((*tasks)[i], "tasks[" + std::to_string(i) + "]"));
    for (const auto& [task, name, where] : edges_) {
      const auto before = tasks_.find(name);
      task_ = file_.tasks[task].name;
      if (before == tasks_.end()) return wrong(where, "names no task: '" + name + "'");
      file_.tasks[task].after.push_back(before->second);
    }
    task_.clear();
    TRY(check_kept());
    for (auto& [name, tasks] : gangs_) file_.gangs.push_back(std::move(tasks));
    return std::move(file_);
  }

 private:
  struct Edge {
    std::size_t task;
    std::string before;
    std::string where;
  };

  static const json* member(const json& of, const char* name) {
    const auto at = of.find(name);
    return at == of.end() ? nullptr : &*at;
  }
  std::unexpected<Status> wrong(const std::string& where, const std::string& what) const {
    const std::string whose = task_.empty() ? "" : " of task '" + task_ + "'";
    return error(Code::invalid_argument,
                 path_ + ": " + (where.empty() ? "it" : where) + whose + " " + what);
  }
  Result<void> only(const json& of, const std::string& where,
                    const std::set<std::string>& known) const {
    for (const auto& [key, value] : of.items())
      if (!known.contains(key))
        return wrong(where, "has a member '" + key + "', which means nothing");
    return {};
  }
  Result<std::string> text(const json& of, const char* name, const std::string& where) const {
    const json* found = member(of, name);
    if (found == nullptr || !found->is_string() || found->get<std::string>().empty())
      return wrong(where + "." + name, "is missing or no text");
    return found->get<std::string>();
  }
  /// A whole number, or what is to become one: see graph_file_help.
  Result<std::uint64_t> amount(const json& value, const std::string& where, int depth = 0) const {
    if (value.is_number_unsigned()) return value.get<std::uint64_t>();
    if (depth == most_amount_depth) return wrong(where, "has amounts within amounts, too deep");
    if (value.is_string()) {
      const auto known = known_.find(value.get<std::string>());
      if (known != known_.end()) return known->second;
      return wrong(where,
                   "names nothing that is known of an input: '" + value.get<std::string>() + "'");
    }
    if (value.is_array() && !value.empty()) {
      std::uint64_t product = 1;
      for (const json& factor : value)
        if (__builtin_mul_overflow(product, TRY(amount(factor, where, depth + 1)), &product))
          return wrong(where, "is more than 64 bits hold");
      return product;
    }
    if (value.is_object() && value.size() == 2 && value.contains("of") && value.contains("per")) {
      const std::uint64_t all = TRY(amount(value["of"], where, depth + 1));
      const std::uint64_t per = TRY(amount(value["per"], where, depth + 1));
      if (per != 0) return all / per + (all % per != 0);
    }
    return wrong(where, "is no whole number, and no amount (`aiosctl graph run --help`)");
  }

  template <class T>
  Result<T> integer(const json& value, const std::string& where, T least, T most) const {
    const json number = value.is_number() ? value : json(TRY(amount(value, where)));
    if (number.is_number_integer()) {
      const bool fits = number.is_number_unsigned() ? std::in_range<T>(number.get<std::uint64_t>())
                                                    : std::in_range<T>(number.get<std::int64_t>());
      if (fits && number.get<T>() >= least && number.get<T>() <= most) return number.get<T>();
    }
    return wrong(where, "is " + number.dump() + ", and no whole number from " +
                            std::to_string(least) + " to " + std::to_string(most));
  }

  Result<void> read_codelets() {
    if (!file_.codelets.empty()) return {};
    const json* codelets = member(root_, "codelets");
    if (codelets == nullptr || !codelets->is_object())
      return wrong("codelets", "is missing or no object");
    for (const auto& [name, codelet] : codelets->items()) {
      const std::string where = "codelets." + name;
      if (!codelet.is_object()) return wrong(where, "is no object");
      TRY(only(codelet, where, {"module", "function", "cheaper"}));
      codelets_[name] = static_cast<std::uint32_t>(file_.codelets.size());
      std::string module = TRY(module_path(TRY(text(codelet, "module", where)), where));
      std::string function = TRY(text(codelet, "function", where));
      file_.codelets.push_back({name, std::move(module), std::move(function)});
    }
    for (const auto& [name, codelet] : codelets->items()) {
      if (!codelet.contains("cheaper")) continue;
      const std::string where = "codelets." + name;
      const auto cheaper = codelets_.find(TRY(text(codelet, "cheaper", where)));
      if (cheaper == codelets_.end() || cheaper->first == name)
        return wrong(where + ".cheaper", "names no other codelet");
      file_.codelets[codelets_[name]].cheaper = cheaper->second;
    }
    return {};
  }

  Result<std::string> module_path(const std::string& module, const std::string& where) const {
    std::error_code failed;
    const auto found = [&](const std::string& path) { return fs::exists(path, failed); };
    if (is_users(path_, module)) {
      const std::string path = beside(path_, module);
      if (found(path)) return path;
      return error(Code::not_found, path_ + ": " + where + ".module: there is no file " + path);
    }
    const std::string own = TRY(find_libexec());
    for (const char* folder : {"/modules/", "/codelets/"})
      if (found(own + folder + module)) return own + folder + module;
    return error(
        Code::not_found,
        path_ + ": " + where + ".module is '" + module +
            "', which is no file beside this one and no module of AIOS's own: those are in " + own +
            "/modules and " + own + "/codelets");
  }

  /// Names of what the probe says.
  Result<void> read_results(const json& input, std::vector<std::string>& names) const {
    const json* results = member(input, "results");
    if (results == nullptr) return {};
    if (!results->is_array() || results->size() > proto::context::result_words)
      return wrong("input.results", "is no list of at most " +
                                        std::to_string(proto::context::result_words) + " names");
    for (const json& one : *results) {
      const std::string name = one.is_string() ? one.get<std::string>() : input_bytes_name;
      if (name == input_bytes_name || std::ranges::find(names, name) != names.end())
        return wrong("input.results", "has something that is no name, or a name twice");
      names.push_back(name);
    }
    return {};
  }

  Result<void> read_buffers() {
    const json* buffers = member(root_, "buffers");
    if (buffers == nullptr) return {};
    if (!buffers->is_object()) return wrong("buffers", "is no object");
    for (const auto& [name, buffer] : buffers->items()) {
      const std::string where = "buffers." + name;
      if (!buffer.is_object()) return wrong(where, "is no object");
      TRY(only(buffer, where, {"bytes", "load", "file", "keep"}));
      buffers_[name] = static_cast<std::uint32_t>(file_.buffers.size());
      GraphFile::Buffer& made = file_.buffers.emplace_back();
      made.name = name;
      TRY(read_content(buffer, where, made));
      TRY(read_keep(buffer, where, made));
    }
    return {};
  }

  Result<void> read_content(const json& buffer, const std::string& where,
                            GraphFile::Buffer& made) const {
    if (buffer.contains("bytes") + buffer.contains("load") + buffer.contains("file") != 1)
      return wrong(where, "has no `bytes`, no file to `load` and no `file`, or several of these");
    if (buffer.contains("bytes")) {
      made.bytes =
          TRY(integer<std::uint64_t>(buffer["bytes"], where + ".bytes", 1, most_buffer_bytes));
      return {};
    }
    const bool load = buffer.contains("load");
    const std::string path = beside(path_, TRY(text(buffer, load ? "load" : "file", where)));
    (load ? made.load : made.file) = path;
    std::error_code failed;
    const auto bytes = fs::file_size(path, failed);
    if (failed) return errno_error(path_ + ": " + where + ": " + path, failed.value());
    if (bytes == 0 || bytes > most_buffer_bytes)
      return wrong(where, "is " + path + ", which is empty or above 1 TiB");
    made.bytes = load ? bytes : 0;
    return {};
  }

  Result<void> read_keep(const json& buffer, const std::string& where,
                         GraphFile::Buffer& made) const {
    const json* keep = member(buffer, "keep");
    if (keep == nullptr) return {};
    if (!keep->is_boolean()) return wrong(where + ".keep", "is not true or false");
    made.keep = keep->get<bool>();
    if (!made.keep) return {};
    if (!made.file.empty()) return wrong(where, "is a file that codelets read: nothing to keep");
    const bool plain = std::all_of(made.name.begin(), made.name.end(), [](unsigned char c) {
      return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
    });
    if (!plain || made.name.size() > most_name_bytes || made.name[0] == '_' ||
        made.name[0] == '.' || made.name == "manifest.json")
      return wrong(where,
                   "is kept, and its name is none for a file: letters, digits, - _ and . "
                   "(not first: _ and .), at most 200");
    return {};
  }

  Result<void> add_input(const std::string& name) {
    const auto number = static_cast<std::uint32_t>(file_.buffers.size());
    if (!buffers_.emplace(name, number).second)
      return wrong("input.buffer", "is one of `buffers`, too: '" + name + "'");
    file_.buffers.emplace_back().name = name;
    file_.buffers.back().is_input = true;
    return {};
  }

  /// What is kept has to be written by somebody.
  Result<void> check_kept() const {
    std::set<std::uint32_t> written;
    for (const GraphFile::Task& task : file_.tasks)
      for (std::uint32_t i = 0; i < task.record.buffer_count; ++i) {
        const std::uint32_t mode = GraphFile::mode_of(task.record.buffers[i]);
        if (mode == AIOS_MODE_WRITE || mode == AIOS_MODE_READ_WRITE)
          written.insert(GraphFile::buffer_of(task.record.buffers[i]));
      }
    for (std::uint32_t i = 0; i < file_.buffers.size(); ++i)
      if (file_.buffers[i].keep && !written.contains(i))
        return wrong("buffers." + file_.buffers[i].name, "is kept, and no task writes it");
    return {};
  }

  Result<void> read_task(const json& task, const std::string& where) {
    task_.clear();
    if (!task.is_object()) return wrong(where, "is no object");
    if (const json* name = member(task, "name"); name != nullptr && name->is_string())
      task_ = name->get<std::string>();
    TRY(only(task, where,
             {"name", "codelet", "buffers", "arguments", "grid", "after", "device", "priority",
              "limit_s", "idempotent", "may_be_cheaper", "gang"}));
    const std::string name = TRY(text(task, "name", where));
    const std::string codelet = TRY(text(task, "codelet", where));
    if (!codelets_.contains(codelet))
      return wrong(where + ".codelet", "names no codelet: '" + codelet + "'");
    if (!tasks_.emplace(name, static_cast<std::uint32_t>(file_.tasks.size())).second)
      return wrong(where + ".name", "is that of another task: '" + name + "'");
    GraphFile::Task& made = file_.tasks.emplace_back();
    made.name = name;
    made.record = make_task(0, codelets_[codelet]);
    TRY(read_uses(task, where, made.record));
    TRY(read_arguments(task, where, made.record));
    TRY(read_shape(task, where, made.record));
    if (task.contains("gang")) gangs_[TRY(text(task, "gang", where))].push_back(tasks_[name]);
    if (const json* after = member(task, "after")) {
      if (!after->is_array()) return wrong(where + ".after", "is no list");
      for (const json& before : *after) {
        if (!before.is_string()) return wrong(where + ".after", "has something that is no name");
        edges_.push_back({file_.tasks.size() - 1, before.get<std::string>(), where + ".after"});
      }
    }
    return {};
  }

  Result<void> read_uses(const json& task, const std::string& where,
                         proto::scheduler::TaskRecord& record) {
    static const std::map<std::string, std::uint32_t> modes = {{"read", AIOS_MODE_READ},
                                                               {"write", AIOS_MODE_WRITE},
                                                               {"read_write", AIOS_MODE_READ_WRITE},
                                                               {"scratch", AIOS_MODE_SCRATCH}};
    const json* uses = member(task, "buffers");
    if (uses == nullptr) return {};
    if (!uses->is_array() || uses->size() > proto::context::max_task_buffers)
      return wrong(where + ".buffers", "is no list of at most 16");
    for (const json& use : *uses) {
      if (!use.is_array() || use.size() != 2 || !use[0].is_string() || !use[1].is_string())
        return wrong(where + ".buffers", "has something that is not [name, mode]");
      const auto buffer = buffers_.find(use[0].get<std::string>());
      const auto mode = modes.find(use[1].get<std::string>());
      if (buffer == buffers_.end())
        return wrong(where + ".buffers", "names no buffer: '" + use[0].get<std::string>() + "'");
      if (mode == modes.end())
        return wrong(where + ".buffers", "has the mode '" + use[1].get<std::string>() +
                                             "'; it is read, write, read_write or scratch");
      const GraphFile::Buffer& used = file_.buffers[buffer->second];
      if ((used.is_input || !used.file.empty()) && mode->second != AIOS_MODE_READ)
        return wrong(where + ".buffers", "writes a file: '" + used.name + "' can be read only");
      for (std::uint32_t i = 0; i < record.buffer_count; ++i)
        if (GraphFile::buffer_of(record.buffers[i]) == buffer->second &&
            (mode->second | GraphFile::mode_of(record.buffers[i])) != AIOS_MODE_READ)
          return wrong(where + ".buffers", "names '" + used.name +
                                               "' twice, and not only to read it: name it once, "
                                               "with read_write");
      add_buffer(record, buffer->second, mode->second);
    }
    return {};
  }

  template <class T>
  Result<void> append(T value, const std::string& where, proto::scheduler::TaskRecord& record) {
    // Where a C structure would have it.
    const std::uint32_t at = (record.argument_bytes + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    if (at + sizeof(T) > proto::context::max_argument_bytes)
      return wrong(where, "is more than 64 bytes");
    std::memcpy(record.arguments + at, &value, sizeof value);
    record.argument_bytes = at + static_cast<std::uint32_t>(sizeof value);
    return {};
  }

  Result<void> read_arguments(const json& task, const std::string& in,
                              proto::scheduler::TaskRecord& record) {
    const json* arguments = member(task, "arguments");
    if (arguments == nullptr) return {};
    const std::string where = in + ".arguments";
    if (!arguments->is_array()) return wrong(where, "is no list");
    const auto whole = [&]<class T>(const json& value, T) -> Result<void> {
      using Limits = std::numeric_limits<T>;
      return append(TRY(integer<T>(value, where, Limits::min(), Limits::max())), where, record);
    };
    for (const json& argument : *arguments) {
      if (!argument.is_object() || argument.size() != 1)
        return wrong(where, "has something that is not {type: number}");
      const std::string type = argument.begin().key();
      const json& value = *argument.begin();
      if (type == "u32") {
        TRY(whole(value, std::uint32_t{}));
      } else if (type == "i32") {
        TRY(whole(value, std::int32_t{}));
      } else if (type == "u64") {
        TRY(whole(value, std::uint64_t{}));
      } else if (type == "i64") {
        TRY(whole(value, std::int64_t{}));
      } else if ((type == "f32" || type == "f64") && !value.is_number()) {
        return wrong(where, "has an " + type + " that is no number");
      } else if (type == "f32") {
        TRY(append(value.get<float>(), where, record));
      } else if (type == "f64") {
        TRY(append(value.get<double>(), where, record));
      } else {
        return wrong(where, "has the type '" + type + "'; it is u32, i32, u64, i64, f32 or f64");
      }
    }
    return {};
  }

  Result<void> read_shape(const json& task, const std::string& where,
                          proto::scheduler::TaskRecord& record) {
    if (const json* grid = member(task, "grid")) {
      if (!grid->is_array() || grid->empty() || grid->size() > std::size(record.grid))
        return wrong(where + ".grid", "has one to three directions");
      for (std::size_t i = 0; i < grid->size(); ++i)
        record.grid[i] = TRY(integer<std::uint32_t>((*grid)[i], where + ".grid", 1, most_blocks));
      std::uint64_t blocks = 1;
      for (const std::uint32_t side : record.grid)
        blocks = std::min(blocks * side, most_blocks + 1);
      if (blocks > most_blocks)
        return wrong(where + ".grid", "is " + std::to_string(record.grid[0]) + " by " +
                                          std::to_string(record.grid[1]) + " by " +
                                          std::to_string(record.grid[2]) +
                                          ", over 2^24 blocks in all");
    }
    if (const json* device = member(task, "device"))
      record.device = 1 + TRY(integer<std::uint32_t>(*device, where + ".device", 0, 1023));
    if (const json* priority = member(task, "priority"))
      record.priority = TRY(integer<std::int32_t>(*priority, where + ".priority",
                                                  std::numeric_limits<std::int32_t>::min(),
                                                  std::numeric_limits<std::int32_t>::max()));
    if (const json* limit = member(task, "limit_s")) {
      if (!limit->is_number() || !(limit->get<double>() > 0) || limit->get<double>() > 1e9)
        return wrong(where + ".limit_s", "is no time in seconds");
      record.limit_ns = static_cast<std::uint64_t>(limit->get<double>() * 1e9);
    }
    namespace flag = proto::scheduler::task_flag;
    TRY(read_flag(task, "idempotent", where, flag::idempotent, record));
    return read_flag(task, "may_be_cheaper", where, flag::may_be_cheaper, record);
  }

  Result<void> read_flag(const json& task, const char* name, const std::string& where,
                         std::uint32_t flag, proto::scheduler::TaskRecord& record) {
    const json* value = member(task, name);
    if (value == nullptr) return {};
    if (!value->is_boolean()) return wrong(where + "." + name, "is not true or false");
    record.flags = value->get<bool>() ? record.flags | flag : record.flags & ~flag;
    return {};
  }

  const json& root_;
  std::string path_;
  const Amounts& known_;
  GraphFile file_;
  std::map<std::string, std::uint32_t> codelets_, buffers_, tasks_;
  std::map<std::string, std::vector<std::uint32_t>> gangs_;
  std::vector<Edge> edges_;
  std::string task_;  ///< that is looked at
};

Result<json> read_json(const std::string& path) {
  std::error_code failed;
  // A pipe or a device would be read without end.
  if (fs::exists(path, failed) && !fs::is_regular_file(path, failed))
    return error(Code::invalid_argument, path + " is not a regular file");
  const auto bytes = fs::file_size(path, failed);
  if (failed) return errno_error(path, failed.value());
  if (bytes > most_file_bytes) return error(Code::too_large, path + " is larger than 256 MiB");
  std::ifstream in(path, std::ios::binary);
  if (!in) return errno_error(path, errno);
  try {
    return json::parse(in);
  } catch (const json::exception& failure) {
    // "[json.exception.parse_error.101] parse error at line 3, column 7: ..."
    const std::string text = failure.what();
    return error(Code::invalid_argument,
                 path + " is no JSON: " + text.substr(std::min(text.size(), text.find("] ") + 2)));
  }
}

/// Whether its tasks can run in any order at all, and its gangs together.
Result<void> check_order(const GraphFile& graph, const std::string& path) {
  const auto name = [&](std::uint32_t task) { return "'" + graph.tasks[task].name + "'"; };
  const auto named = [&](const std::string& what, const Status& why) {
    return error(why.code(), path + ": " + what + why.message());
  };
  TaskGraph order;
  for (const GraphFile::Task& task : graph.tasks)
    if (const auto added = order.add(task.record); !added)
      return named("task '" + task.name + "': ", added.error());
  for (std::uint32_t task = 0; task < graph.tasks.size(); ++task)
    for (const std::uint32_t before : graph.tasks[task].after) TRY(order.add_edge(before, task));
  for (const std::vector<std::uint32_t>& gang : graph.gangs)
    if (const auto added = order.add_gang(gang); !added)
      return named("the gang of task " + name(gang.front()) + ": ", added.error());
  if (const auto plan = order.plan(0, name); !plan) return named("", plan.error());
  return {};
}

}  // namespace

Result<GraphSource> GraphSource::read(const std::string& path) {
  GraphSource source(TRY(read_json(path)), path);
  source.input_ = TRY(Reader(source.root_, path, {}).read_input());
  const std::vector<std::uint64_t> ones(proto::context::result_words, 1);
  source.graph_ = TRY(source.graph_for(1, ones));
  TRY(check_order(source.graph_, path));
  return source;
}

Result<GraphFile> GraphSource::graph_for(std::uint64_t input_bytes,
                                         std::span<const std::uint64_t> results) const {
  Amounts known;
  if (input_) known[input_bytes_name] = input_bytes;
  for (std::size_t i = 0; input_ && i < input_->results.size(); ++i)
    known[input_->results[i]] = results[i];
  return Reader(root_, path_, known).read(input_);
}

json GraphSource::portable(std::span<const std::uint32_t> tasks) const {
  json out{{"codelets", json::object()}, {"buffers", json::object()}, {"tasks", json::array()}};
  const auto use_codelet = [&](const std::string& name) {
    for (std::string next = name; !out["codelets"].contains(next);) {
      json& codelet = out["codelets"][next] = root_["codelets"][next];
      const auto module = codelet["module"].get<std::string>();
      if (is_users(path_, module)) codelet["module"] = beside(path_, module);
      if (codelet.contains("cheaper")) next = codelet["cheaper"].get<std::string>();
    }
  };
  const auto use_buffer = [&](const std::string& name) {
    json& buffer = out["buffers"][name] = root_["buffers"][name];
    for (const char* path : {"load", "file"})
      if (buffer.contains(path)) buffer[path] = beside(path_, buffer[path].get<std::string>());
  };
  for (const std::uint32_t number : tasks) {
    const proto::scheduler::TaskRecord& record = graph_.tasks[number].record;
    out["tasks"].push_back(root_["tasks"][number]);
    use_codelet(graph_.codelets[record.codelet].name);
    for (std::uint32_t i = 0; i < record.buffer_count; ++i) {
      const GraphFile::Buffer& buffer = graph_.buffers[GraphFile::buffer_of(record.buffers[i])];
      if (!buffer.is_input) use_buffer(buffer.name);
    }
  }
  if (!input_) return out;
  out["input"] = root_["input"];
  if (input_->codelet) use_codelet(graph_.codelets[*input_->codelet].name);
  return out;
}

}  // namespace aios::ctl
