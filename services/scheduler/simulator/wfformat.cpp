// WfFormat 1.5: what tasks there are and which files link them is under workflow.specification, how
// long they took under workflow.execution.
#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "services/scheduler/core/parts/limits.hpp"
#include "services/scheduler/simulator/graph.hpp"

namespace aios::scheduler::sim {
namespace {

using Json = nlohmann::json;

class Reader {
 public:
  Reader(const Json& root, std::string path) : root_(root), path_(std::move(path)) {}

  Result<Graph> read() {
    const Json* version = member(root_, "schemaVersion");
    if (version == nullptr || !version->is_string())
      return wrong("schemaVersion", "is missing: is this a WfFormat file?");
    if (!version->get<std::string>().starts_with("1.5"))
      return wrong("schemaVersion", "is " + version->get<std::string>() +
                                        "; version 1.5 is read, convert it with wfcommons");
    const Json* workflow = member(root_, "workflow");
    const Json* specification = workflow == nullptr ? nullptr : member(*workflow, "specification");
    const Json* execution = workflow == nullptr ? nullptr : member(*workflow, "execution");
    if (specification == nullptr || array(*specification, "tasks") == nullptr)
      return wrong("workflow.specification.tasks", "is missing or no list");
    if (execution == nullptr || array(*execution, "tasks") == nullptr)
      return wrong("workflow.execution.tasks",
                   "is missing or no list: without run times there is nothing to simulate");
    graph_.name = path_.substr(path_.find_last_of('/') + 1);
    TRY(read_files(*specification));
    TRY(read_tasks(*array(*specification, "tasks")));
    TRY(read_runs(*array(*execution, "tasks")));
    TRY(name_types(*array(*specification, "tasks"), *array(*execution, "tasks")));
    TRY(link_tasks(*array(*specification, "tasks")));
    keep_data_within_limits();
    if (const Json* system = member(root_, "runtimeSystem");
        system != nullptr && text(*system, "name") == "AIOS")
      TRY(read_record(*execution));
    if (const Result<void> fits = check_size(graph_); !fits)
      return error(fits.error().code(), path_ + ": " + fits.error().message());
    if (const Result<void> sorted = sort_topologically(graph_); !sorted)
      return error(sorted.error().code(), path_ + ": " + sorted.error().message());
    return std::move(graph_);
  }

 private:
  static const Json* member(const Json& of, const char* name) {
    if (!of.is_object()) return nullptr;
    const auto at = of.find(name);
    return at == of.end() ? nullptr : &*at;
  }
  static const Json* array(const Json& of, const char* name) {
    const Json* found = member(of, name);
    return found != nullptr && found->is_array() ? found : nullptr;
  }
  static std::string text(const Json& of, const char* name) {
    const Json* found = member(of, name);
    return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
  }
  std::unexpected<Status> wrong(const std::string& where, const std::string& what) const {
    return error(Code::invalid_argument, path_ + ": " + where + " " + what);
  }
  /// Numbers that are not there are 0.
  Result<double> number(const Json& of, const char* name, const std::string& where) const {
    const Json* found = member(of, name);
    if (found == nullptr || found->is_null()) return 0.0;
    if (!found->is_number() || found->get<double>() < 0 || found->get<double>() > 1e15)
      return wrong(where + "." + name, "is no number from 0 to 10^15");
    return found->get<double>();
  }

  Result<void> read_files(const Json& specification) {
    const Json* files = array(specification, "files");
    if (files == nullptr) return {};
    for (std::size_t i = 0; i < files->size(); ++i) {
      const std::string where = "workflow.specification.files[" + std::to_string(i) + "]";
      const std::string id = text((*files)[i], "id");
      if (id.empty()) return wrong(where, "has no id");
      bytes_[id] = static_cast<std::uint64_t>(TRY(number((*files)[i], "sizeInBytes", where)));
    }
    return {};
  }

  Result<void> read_tasks(const Json& tasks) {
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const std::string where = "workflow.specification.tasks[" + std::to_string(i) + "]";
      const std::string id = text(tasks[i], "id");
      if (id.empty()) return wrong(where, "has no id");
      if (!index_.emplace(id, static_cast<std::uint32_t>(i)).second)
        return wrong(where, "has the id " + id + ", which an earlier one has");
      graph_.tasks.push_back({});
      graph_.tasks.back().name = id;
    }
    return {};
  }

  Result<void> read_runs(const Json& runs) {
    std::vector<bool> known(graph_.tasks.size());
    for (std::size_t i = 0; i < runs.size(); ++i) {
      const std::string where = "workflow.execution.tasks[" + std::to_string(i) + "]";
      const auto at = index_.find(text(runs[i], "id"));
      if (at == index_.end()) return wrong(where, "names no task of the specification");
      SimTask& task = graph_.tasks[at->second];
      const double run_s = TRY(number(runs[i], "runtimeInSeconds", where));
      // A task that takes no time at all is below what the recorder can tell.
      task.work_s = run_s == 0 ? 1e-3 : std::max(run_s, 1e-6);
      task.memory_bytes = static_cast<std::uint64_t>(TRY(number(runs[i], "memoryInBytes", where)));
      known[at->second] = true;
    }
    const auto missing = std::ranges::find(known, false);
    if (missing != known.end())
      return wrong("workflow.execution.tasks",
                   "has no run of task " +
                       graph_.tasks[static_cast<std::size_t>(missing - known.begin())].name);
    return {};
  }

  /// By their names, or where these tell every task from every other, by the program that they run.
  Result<void> name_types(const Json& tasks, const Json& runs) {
    std::set<std::string> names;
    for (const Json& task : tasks) names.insert(text(task, "name"));
    std::vector<std::string> type_of(tasks.size());
    for (std::size_t i = 0; i < tasks.size(); ++i) type_of[i] = text(tasks[i], "name");
    if (names.size() == tasks.size())
      for (const Json& run : runs)
        if (const Json* command = member(run, "command"); command != nullptr)
          if (const std::string program = text(*command, "program"); !program.empty())
            type_of[index_.at(text(run, "id"))] = program;
    std::map<std::string, std::uint32_t> types;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      const auto [at, is_new] =
          types.emplace(type_of[i], static_cast<std::uint32_t>(graph_.types.size()));
      if (is_new) graph_.types.push_back({type_of[i]});
      graph_.tasks[i].type = at->second;
    }
    return {};
  }

  Result<void> link_tasks(const Json& tasks) {
    std::map<std::string, std::uint32_t> writer;
    for (std::size_t i = 0; i < tasks.size(); ++i)
      for (const std::string& file : TRY(names(tasks[i], "outputFiles", i)))
        writer[file] = static_cast<std::uint32_t>(i);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      SimTask& task = graph_.tasks[i];
      std::set<std::uint32_t> parents;
      for (const std::string& id : TRY(names(tasks[i], "parents", i))) {
        const auto at = index_.find(id);
        if (at == index_.end())
          return wrong("workflow.specification.tasks[" + std::to_string(i) + "].parents",
                       "names " + id + ", which is no task");
        parents.insert(at->second);
      }
      for (const std::string& file : TRY(names(tasks[i], "inputFiles", i))) {
        task.accesses.push_back({data_of(file), AIOS_MODE_READ});
        const auto from = writer.find(file);
        if (from != writer.end() && from->second != i) parents.insert(from->second);
      }
      for (const std::string& file : TRY(names(tasks[i], "outputFiles", i)))
        task.accesses.push_back({data_of(file), AIOS_MODE_WRITE});
      task.parents.assign(parents.begin(), parents.end());
    }
    return {};
  }

  Result<std::vector<std::string>> names(const Json& task, const char* list, std::size_t i) const {
    std::vector<std::string> out;
    const Json* found = member(task, list);
    if (found == nullptr) return out;
    const std::string where = "workflow.specification.tasks[" + std::to_string(i) + "]." + list;
    if (!found->is_array()) return wrong(where, "is no list");
    for (const Json& name : *found) {
      if (!name.is_string()) return wrong(where, "has an entry that is no text");
      out.push_back(name.get<std::string>());
    }
    return out;
  }

  std::uint32_t data_of(const std::string& file) {
    const auto [at, is_new] =
        data_.emplace(file, static_cast<std::uint32_t>(graph_.data_bytes.size()));
    if (is_new) graph_.data_bytes.push_back(bytes_.contains(file) ? bytes_.at(file) : 0);
    return at->second;
  }

  // ---- what AIOS writes besides: where tasks ran, and what else that took ----

  Result<void> read_record(const Json& execution) {
    graph_.recorded_makespan_s = TRY(number(execution, "makespanInSeconds", "workflow.execution"));
    if (const Json* aios = member(execution, "aios"))
      graph_.preparation_s = TRY(number(*aios, "preparationInSeconds", "workflow.execution.aios"));
    const Json* machines = array(execution, "machines");
    if (machines == nullptr || machines->empty()) return {};
    if (machines->size() >= max_devices)
      return wrong("workflow.execution.machines", "has more than 63 devices");
    std::map<std::string, std::uint32_t> devices;
    for (std::size_t i = 0; i < machines->size(); ++i) {
      const std::string where = "workflow.execution.machines[" + std::to_string(i) + "]";
      RecordedDevice device = TRY(read_device((*machines)[i], where));
      if (!devices.emplace(device.name, static_cast<std::uint32_t>(i)).second)
        return wrong(where, "is named " + device.name + ", as an earlier one is");
      TRY(read_loading((*machines)[i], static_cast<std::uint32_t>(i), where));
      graph_.recorded_devices.push_back(std::move(device));
    }
    const Json& runs = *array(execution, "tasks");
    for (std::size_t i = 0; i < runs.size(); ++i)
      TRY(read_place(runs[i], devices, "workflow.execution.tasks[" + std::to_string(i) + "]"));
    return {};
  }

  Result<RecordedDevice> read_device(const Json& machine, const std::string& where) {
    RecordedDevice device;
    device.name = text(machine, "nodeName");
    const Json* cpu = member(machine, "cpu");
    const Json* aios = member(machine, "aios");
    if (device.name.empty() || device.name.size() > 31 || cpu == nullptr || aios == nullptr)
      return wrong(where, "lacks nodeName, cpu or aios, which `graph run --record` writes");
    const double threads = TRY(number(*cpu, "coreCount", where + ".cpu"));
    if (!(threads >= 1 && threads <= max_slots_per_device))
      return wrong(where + ".cpu.coreCount", "is no number from 1 to 192");
    device.threads = static_cast<std::uint32_t>(threads);
    device.kind = text(*aios, "kind");
    device.backend = proto::driver::backend::from(text(*aios, "backend"));
    if (device.backend == 0) return wrong(where + ".aios.backend", "is none that AIOS has");
    device.opening_s = TRY(number(*aios, "openingInSeconds", where + ".aios"));
    device.latency_s = TRY(number(*aios, "latencyInSeconds", where + ".aios"));
    const double depth = TRY(number(*aios, "queueDepth", where + ".aios"));
    device.queue_depth = static_cast<std::uint32_t>(std::min<double>(depth, max_slots_per_device));
    return device;
  }

  Result<void> read_loading(const Json& machine, std::uint32_t device, const std::string& where) {
    const Json* loading = member(*member(machine, "aios"), "loadingInSeconds");
    if (loading == nullptr) return {};
    if (!loading->is_object()) return wrong(where + ".aios.loadingInSeconds", "is no object");
    for (std::uint32_t type = 0; type < graph_.types.size(); ++type)
      if (const double takes_s = TRY(
              number(*loading, graph_.types[type].name.c_str(), where + ".aios.loadingInSeconds"));
          takes_s > 0)
        graph_.loading_s[{type, device}] = takes_s;
    return {};
  }

  Result<void> read_place(const Json& run, const std::map<std::string, std::uint32_t>& devices,
                          const std::string& where) {
    const Json* machines = array(run, "machines");
    if (machines == nullptr || machines->empty()) return {};  // not known any more
    const Json& name = machines->front();
    const auto at = name.is_string() ? devices.find(name.get<std::string>()) : devices.end();
    if (at == devices.end()) return wrong(where + ".machines", "names none of execution.machines");
    SimTask& task = graph_.tasks[index_.at(text(run, "id"))];
    task.device = at->second;
    const double threads = TRY(number(run, "coreCount", where));
    const std::uint32_t most = graph_.recorded_devices[task.device].threads;
    task.threads = static_cast<std::uint32_t>(std::clamp<double>(threads, 1, most));
    const Json* aios = member(run, "aios");
    if (aios == nullptr) return {};
    const Json* pinned = member(*aios, "pinned");
    task.pinned = pinned != nullptr && pinned->is_boolean() && pinned->get<bool>();
    task.transfer_s = TRY(number(*aios, "transferInSeconds", where + ".aios"));
    task.ahead_s = TRY(number(*aios, "aheadInSeconds", where + ".aios"));
    return {};
  }

  /// A task has at most 16 buffers, a user 1,536. What is too much, the smallest, is left out: such
  /// files stay in the host's memory and cost no transfer.
  void keep_data_within_limits() {
    const auto larger = [&](const Access& a, const Access& b) {
      return graph_.data_bytes[a.data] > graph_.data_bytes[b.data];
    };
    for (SimTask& task : graph_.tasks) {
      std::erase_if(task.accesses, [&](const Access& a) { return graph_.data_bytes[a.data] == 0; });
      std::ranges::stable_sort(task.accesses, larger);
      std::set<std::uint32_t> seen;
      std::erase_if(task.accesses, [&](const Access& a) { return !seen.insert(a.data).second; });
      if (task.accesses.size() > proto::context::max_task_buffers)
        task.accesses.resize(proto::context::max_task_buffers);
    }
    std::vector<std::uint32_t> order(graph_.data_bytes.size());
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
      return graph_.data_bytes[a] > graph_.data_bytes[b];
    });
    if (order.size() > max_data_simulated) order.resize(max_data_simulated);
    std::vector<std::uint32_t> place(graph_.data_bytes.size(), ~0u);
    std::vector<std::uint64_t> kept;
    for (const std::uint32_t data : order) {
      place[data] = static_cast<std::uint32_t>(kept.size());
      kept.push_back(graph_.data_bytes[data]);
    }
    graph_.data_bytes = std::move(kept);
    for (SimTask& task : graph_.tasks) {
      for (Access& access : task.accesses) access.data = place[access.data];
      std::erase_if(task.accesses, [](const Access& a) { return a.data == ~0u; });
    }
  }

  const Json& root_;
  std::string path_;
  Graph graph_;
  std::map<std::string, std::uint32_t> index_;
  std::map<std::string, std::uint64_t> bytes_;
  std::map<std::string, std::uint32_t> data_;
};

}  // namespace

Result<Graph> parse_wfformat(const std::string& text, const std::string& path) {
  Json root;
  try {
    root = Json::parse(text);
  } catch (const Json::exception& failure) {  // also of numbers beyond any that there are
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    const std::string what = failure.what();
    return error(Code::invalid_argument, path + " is no JSON: " + what.substr(what.find("] ") + 2));
  }
  return Reader(root, path).read();
}

Result<Graph> read_wfformat(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return errno_error("read " + path, errno);
  std::ostringstream text;
  text << file.rdbuf();
  return parse_wfformat(text.str(), path);
}

}  // namespace aios::scheduler::sim
