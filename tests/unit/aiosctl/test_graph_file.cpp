#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tools/aiosctl/graphs/graph_file.hpp"
#include "tools/aiosctl/graphs/graph_partition.hpp"

using namespace aios::ctl;
using aios::Result;
using nlohmann::json;

namespace {

/// A folder with a module and a graph file in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/aios-graph-XXXXXX";
    path_ = ::mkdtemp(name);
    std::ofstream(path_ / "m.so") << "not looked into";
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(path_ / name) << text;
  }
  Result<GraphSource> read(const json& graph) {
    write("graph.json", graph.dump());
    return GraphSource::read(path("graph.json"));
  }
  std::string path(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

json graph_of(const json& tasks) {
  json graph{{"codelets", {{"work", {{"module", "m.so"}, {"function", "f"}}}}},
             {"buffers", json::object()},
             {"tasks", json::array()}};
  for (const json& task : tasks) {
    json made = task;
    made["name"] = "t" + std::to_string(graph["tasks"].size());
    made["codelet"] = "work";
    for (const json& use : task.value("buffers", json::array()))
      graph["buffers"][use[0].get<std::string>()] = {{"bytes", 64}};
    graph["tasks"].push_back(made);
  }
  return graph;
}

json use(const char* buffer, const char* mode) {
  return json::array({buffer, mode});
}

/// A task with one buffer.
json uses(const char* buffer, const char* mode) {
  json task = json::object();
  task["buffers"] = json::array({use(buffer, mode)});
  return task;
}

json picture_template() {
  json graph = graph_of(json::array({uses("colours", "write")}));
  json& task = graph["tasks"][0];
  task["arguments"] = json::parse(R"([{"u32": "width"}, {"u64": "input_bytes"}])");
  task["grid"] = json::parse(R"([{"of": ["width", "height"], "per": 256}])");
  task["buffers"].push_back(use("picture", "read"));
  graph["buffers"]["colours"] = {{"bytes", {"width", "height", 3}}, {"keep", true}};
  graph["input"] = {{"buffer", "picture"}, {"probe", "work"}, {"results", {"width", "height"}}};
  return graph;
}

using Partitions = std::vector<std::vector<std::uint32_t>>;

}  // namespace

TEST_CASE("Tasks that share what one of them writes are one partition") {
  Folder folder;
  const auto source = folder.read(graph_of(json::array(
      {uses("a", "write"), uses("b", "read_write"), uses("a", "read"), uses("b", "read")})));
  REQUIRE(source.has_value());
  CHECK(partitions_of(source->graph()) == Partitions{{0, 2}, {1, 3}});
}

TEST_CASE("What is only read, or only scratch, joins no partitions") {
  Folder folder;
  const auto source = folder.read(graph_of(json::array(
      {uses("a", "read"), uses("a", "read"), uses("s", "scratch"), uses("s", "scratch")})));
  REQUIRE(source.has_value());
  CHECK(partitions_of(source->graph()) == Partitions{{0}, {1}, {2}, {3}});
}

TEST_CASE("Edges join partitions, whatever the order of the file") {
  Folder folder;
  json graph = graph_of(json::array({uses("a", "write"), uses("b", "write"), uses("c", "write")}));
  graph["tasks"][0]["after"] = {"t2"};
  const auto source = folder.read(graph);
  REQUIRE(source.has_value());
  CHECK(partitions_of(source->graph()) == Partitions{{0, 2}, {1}});
}

TEST_CASE("A part of a graph is a graph file that means the same elsewhere") {
  Folder folder, elsewhere;
  folder.write("data", "12345");
  json graph =
      graph_of(json::array({uses("a", "read_write"), uses("b", "write"), uses("a", "read")}));
  graph["buffers"]["a"] = {{"load", "data"}};
  const auto source = folder.read(graph);
  REQUIRE(source.has_value());
  const std::uint32_t tasks[] = {0, 2};
  const auto part = elsewhere.read(source->portable(tasks));
  REQUIRE(part.has_value());
  CHECK(part->graph().tasks.size() == 2);
  CHECK(part->graph().tasks[1].name == "t2");
  REQUIRE(part->graph().buffers.size() == 1);
  CHECK(part->graph().buffers[0].load == folder.path("data"));
  CHECK(part->graph().buffers[0].bytes == 5);
  CHECK(part->graph().codelets[0].module == folder.path("m.so"));
}

TEST_CASE("A template's amounts come from its input") {
  Folder folder;
  const auto source = folder.read(picture_template());
  REQUIRE(source.has_value());
  REQUIRE(source->input().has_value());
  const std::uint64_t results[] = {100, 7, 0, 0};
  const auto made = source->graph_for(5000, results);
  REQUIRE(made.has_value());
  CHECK(made->buffers[0].bytes == 2100);
  CHECK(made->buffers[1].is_input);
  const auto& record = made->tasks[0].record;
  CHECK(record.grid[0] == 3);  // 700 pixels, 256 to a block
  CHECK(record.arguments[0] == 100);
  CHECK(record.argument_bytes == 16);
  CHECK(record.arguments[8] == 5000 % 256);
}

TEST_CASE("An input of which a template makes no graph is refused") {
  Folder folder;
  const auto source = folder.read(picture_template());
  REQUIRE(source.has_value());
  const std::uint64_t nothing[] = {0, 7, 0, 0};
  const std::uint64_t huge[] = {~0ull, ~0ull, 0, 0};
  CHECK(source->graph_for(1, nothing).error().message().find("colours.bytes is 0") !=
        std::string::npos);
  CHECK(source->graph_for(1, huge).error().message().find("64 bits") != std::string::npos);
}

TEST_CASE("What makes no sense in a graph is named") {
  const auto said = [](const auto& change) {
    Folder folder;
    folder.write("empty", "");
    json graph = picture_template();
    change(graph);
    const auto source = folder.read(graph);
    return source ? std::string("nothing") : source.error().message();
  };
  const auto says = [&](const auto& change, const char* words) {
    const std::string text = said(change);
    CHECK_MESSAGE(text.find(words) != std::string::npos, text);
  };
  json deep = 1;
  for (int i = 0; i < 20; ++i) deep = json::array({deep});
  says([](json& g) { g["buffers"]["colours"]["bytes"] = "depth"; }, "known of an input: 'depth'");
  says([](json& g) { g["buffers"]["colours"]["bytes"] = json::array(); }, "no amount");
  says([&](json& g) { g["buffers"]["colours"]["bytes"] = deep; }, "too deep");
  says([](json& g) { g["tasks"][0]["grid"][0]["per"] = 0; }, "no amount");
  says([](json& g) { g["tasks"][0]["grid"][0] = -1; }, "tasks[0].grid of task 't0' is -1");
  says(
      [](json& g) {
        g["tasks"][0]["arguments"][0] = {{"f32", "width"}};
      },
      "f32 that is no number");
  says([](json& g) { g["tasks"][0]["buffers"][1][1] = "write"; }, "can be read only");
  says([](json& g) { g["tasks"][0]["buffers"][0][1] = "read"; }, "no task writes it");
  says([](json& g) { g["tasks"][0]["buffers"][0][1] = "scratch"; }, "no task writes it");
  says([](json& g) { g["buffers"]["picture"] = {{"bytes", 1}}; }, "is one of `buffers`, too");
  says([](json& g) { g["buffers"]["x/y"] = {{"bytes", 1}, {"keep", true}}; }, "none for a file");
  says([](json& g) { g["buffers"]["x"] = {{"load", "none"}}; }, "none: No such file");
  says([](json& g) { g["buffers"]["x"] = {{"file", "empty"}}; }, "which is empty");
  says([](json& g) { g["buffers"]["x"] = {{"file", "m.so"}, {"keep", true}}; }, "nothing to keep");
  says([](json& g) { g["buffers"]["x"] = {{"file", "m.so"}, {"bytes", 1}}; }, "several of these");
  says([](json& g) { g["input"]["probe"] = "look"; }, "input.probe names no codelet");
  says([](json& g) { g["input"].erase("probe"); }, "and no probe");
  says([](json& g) { g["input"]["results"] = {"a", "b", "c", "d", "e"}; }, "at most 4 names");
  says([](json& g) { g["input"]["results"] = {"a", "a"}; }, "or a name twice");
  says([](json& g) { g["input"]["results"] = {"input_bytes"}; }, "or a name twice");
  says([](json& g) { g.erase("input"); }, "known of an input: 'width'");
  says([](json& g) { g["codelets"]["work"]["module"] = "./none.so"; },
       "codelets.work.module: there is no file");
  says([](json& g) { g["tasks"][0]["after"] = {"t7"}; },
       "tasks[0].after of task 't0' names no task: 't7'");
  says([](json& g) { g["tasks"][0]["gang"] = "alone"; },
       "the gang of task 't0': a gang has 2 to 256 members");
  says([](json& g) { g["tasks"][0]["buffers"].push_back(use("colours", "read")); },
       "names 'colours' twice");
}

TEST_CASE("Tasks that wait for one another are named") {
  Folder folder;
  json graph = graph_of(json::array({uses("a", "write"), uses("b", "write"), uses("a", "read")}));
  graph["tasks"][0]["after"] = {"t1"};
  graph["tasks"][1]["after"] = {"t2"};
  const auto source = folder.read(graph);
  REQUIRE_FALSE(source.has_value());
  CHECK(source.error().message() ==
        folder.path("graph.json") +
            ": tasks wait for one another in a circle: 't0' before 't2' before 't1' before 't0'");
}

TEST_CASE("What is no JSON is told with its line") {
  Folder folder;
  folder.write("graph.json", "{\n \"tasks\": [,]\n}");
  const auto source = GraphSource::read(folder.path("graph.json"));
  REQUIRE_FALSE(source.has_value());
  CHECK(source.error().message().starts_with(folder.path("graph.json") +
                                             " is no JSON: parse error at line 2, column 12"));
}
