#include "tools/aiosctl/graphs/graph_spark.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "abi/runtime/fd.hpp"
#include "tools/aiosctl/graphs/graph_partition.hpp"
#include "tools/aiosctl/mapreduce/spark_driver.hpp"

namespace aios::ctl {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

json plan_of(const GraphSource& source, std::span<const mapreduce_client::InputFile> inputs) {
  json parts = json::array();
  if (!source.input()) {
    for (const std::vector<std::uint32_t>& tasks : partitions_of(source.graph()))
      parts.push_back(source.portable(tasks));
    return {{"template", nullptr}, {"parts", parts}};
  }
  std::vector<std::uint32_t> all(source.graph().tasks.size());
  std::iota(all.begin(), all.end(), 0u);
  for (const mapreduce_client::InputFile& input : inputs)
    parts.push_back(fs::absolute(input.path).string());
  return {{"template", source.portable(all)}, {"parts", parts}};
}

/// A descriptor of a file without a name, which the program that this one becomes inherits.
Result<int> hand_over(const std::string& text) {
  Fd file(::memfd_create("aios-graph", 0));
  if (!file.valid()) return errno_error("memfd_create", errno);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t put = ::write(file.get(), text.data() + at, text.size() - at);
    if (put < 0 && errno != EINTR) return errno_error("a graph's partitions", errno);
    at += static_cast<std::size_t>(std::max<ssize_t>(put, 0));
  }
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return errno_error("lseek", errno);
  return file.release();
}

Result<std::string> plan_text(const json& plan) {
  try {
    return plan.dump();
  } catch (const json::exception&) {
    return error(Code::invalid_argument,
                 "a file's name is not UTF-8; such files are of the local engine");
  }
}

Result<std::vector<std::string>> command_of(const GraphSource& source,
                                            std::span<const mapreduce_client::InputFile> inputs,
                                            const SparkGraph& graph) {
  const int plan = TRY(hand_over(TRY(plan_text(plan_of(source, inputs)))));
  std::vector<std::string> command = {"graph",    "--plan-fd",  std::to_string(plan),
                                      "--master", graph.master, "--label",
                                      graph.file, "--output",   graph.output};
  if (graph.memory_mb != 0) {
    command.emplace_back("--memory-mb");
    command.push_back(std::to_string(graph.memory_mb));
  }
  if (graph.max_bad_records != 0) {
    command.emplace_back("--skip-bad-records");
    command.push_back(std::to_string(graph.max_bad_records));
  }
  for (const std::string& setting : graph.settings) {
    command.emplace_back("--conf");
    command.push_back(setting);
  }
  if (graph.json) command.emplace_back("--json");
  return command;
}

}  // namespace

Status become_spark_driver(const GraphSource& source,
                           std::span<const mapreduce_client::InputFile> inputs,
                           const SparkGraph& graph) {
  const auto command = command_of(source, inputs, graph);
  return command ? become_spark_driver(*command) : command.error();
}

}  // namespace aios::ctl
