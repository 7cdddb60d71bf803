#include "tools/aiosctl/graph_file.hpp"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "abi/include/aios/codelet.h"
#include "abi/lib/task_client.hpp"
#include "abi/lib/task_graph.hpp"
#include "tools/aiosctl/install_paths.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t most_file_bytes = 256ull << 20;
constexpr std::uint64_t most_buffer_bytes = 1ull << 40;

class Reader {
 public:
  Reader(const json& root, fs::path path) : root_(root), path_(std::move(path)) {}

  Result<GraphFile> read() {
    if (!root_.is_object()) return wrong("", "is no object");
    TRY(only(root_, "", {"codelets", "buffers", "tasks"}));
    TRY(read_codelets());
    TRY(read_buffers());
    const json* tasks = member(root_, "tasks");
    if (tasks == nullptr || !tasks->is_array() || tasks->empty())
      return wrong("tasks", "is missing, empty or no list");
    for (std::size_t i = 0; i < tasks->size(); ++i)
      TRY(read_task((*tasks)[i], "tasks[" + std::to_string(i) + "]"));
    for (const auto& [task, name, where] : edges_) {
      const auto before = tasks_.find(name);
      if (before == tasks_.end()) return wrong(where, "names no task: '" + name + "'");
      file_.tasks[task].after.push_back(before->second);
    }
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
    return error(Code::invalid_argument,
                 path_.string() + ": " + (where.empty() ? "it" : where) + " " + what);
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
  template <class T>
  Result<T> integer(const json& value, const std::string& where, T least, T most) const {
    if (value.is_number_integer()) {
      const bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<std::uint64_t>())
                                                   : std::in_range<T>(value.get<std::int64_t>());
      if (fits && value.get<T>() >= least && value.get<T>() <= most) return value.get<T>();
    }
    return wrong(
        where, "is no whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }

  Result<void> read_codelets() {
    const json* codelets = member(root_, "codelets");
    if (codelets == nullptr || !codelets->is_object())
      return wrong("codelets", "is missing or no object");
    for (const auto& [name, codelet] : codelets->items()) {
      const std::string where = "codelets." + name;
      if (!codelet.is_object()) return wrong(where, "is no object");
      TRY(only(codelet, where, {"module", "function", "cheaper"}));
      codelets_[name] = static_cast<std::uint32_t>(file_.codelets.size());
      file_.codelets.push_back({name, TRY(module_path(TRY(text(codelet, "module", where)))),
                                TRY(text(codelet, "function", where))});
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

  Result<std::string> module_path(const std::string& module) const {
    const fs::path own = path_.parent_path() / module;
    if (module.find('/') != std::string::npos || fs::exists(own)) return own.string();
    return TRY(find_libexec()) + "/codelets/" + module;
  }

  Result<void> read_buffers() {
    const json* buffers = member(root_, "buffers");
    if (buffers == nullptr) return {};
    if (!buffers->is_object()) return wrong("buffers", "is no object");
    for (const auto& [name, buffer] : buffers->items()) {
      const std::string where = "buffers." + name;
      if (!buffer.is_object() || !buffer.contains("bytes")) return wrong(where, "has no `bytes`");
      TRY(only(buffer, where, {"bytes"}));
      buffers_[name] = static_cast<std::uint32_t>(file_.buffers.size());
      file_.buffers.push_back({name, TRY(integer<std::uint64_t>(buffer["bytes"], where + ".bytes",
                                                                1, most_buffer_bytes))});
    }
    return {};
  }

  Result<void> read_task(const json& task, const std::string& where) {
    if (!task.is_object()) return wrong(where, "is no object");
    TRY(only(task, where,
             {"name", "codelet", "buffers", "arguments", "grid", "after", "device", "priority",
              "limit_s", "idempotent", "may_be_cheaper"}));
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
      if (!argument.is_object() || argument.size() != 1 || !argument.begin()->is_number())
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
        record.grid[i] = TRY(integer<std::uint32_t>((*grid)[i], where + ".grid", 1, 1u << 24));
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
  fs::path path_;
  GraphFile file_;
  std::map<std::string, std::uint32_t> codelets_, buffers_, tasks_;
  std::vector<Edge> edges_;
};

}  // namespace

Result<GraphFile> read_graph_file(const std::string& path) {
  std::error_code failed;
  // A pipe or a device would be read without end.
  if (fs::exists(path, failed) && !fs::is_regular_file(path, failed))
    return error(Code::invalid_argument, path + " is not a regular file");
  const auto bytes = fs::file_size(path, failed);
  if (failed) return errno_error(path, failed.value());
  if (bytes > most_file_bytes) return error(Code::too_large, path + " is larger than 256 MiB");
  std::ifstream in(path, std::ios::binary);
  if (!in) return errno_error(path, errno);
  const json root = json::parse(in, nullptr, false);
  if (root.is_discarded()) return error(Code::invalid_argument, path + " is no JSON");
  return Reader(root, path).read();
}

}  // namespace aios::ctl
