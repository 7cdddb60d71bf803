// Jobs with total order: the parts after one another are the sorted input, however it is cut.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/unit/mapreduce/simulated_job.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;

struct SortLines : mr::Lines {
  static constexpr bool total_order = true;
  void map(std::string_view line, auto& out) {
    if (line == "throw") throw std::runtime_error("this line is not liked");
    out.emit(line, std::string_view());
  }
  void each(std::string_view line, std::string_view, auto& out) { out.line(line); }
};
const aios_codelet* const sorting = mr::engine::Codelets<SortLines>::table;

/// The number of the line behind every first letter: values of equal keys keep their order.
struct Numbered : mr::Lines {
  static constexpr bool total_order = true;
  static constexpr const char* counters[] = {"pairs"};
  void map(std::string_view line, auto& out) { out.emit(line.substr(0, 1), line.substr(1)); }
  void each(std::string_view, std::string_view value, auto& out) {
    out.emit(value);
    out.count(0);
  }
};

std::string sorted_lines(const std::vector<std::string>& texts) {
  std::vector<std::string> lines;
  for (const std::string& text : texts)
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t end = std::min(text.find('\n', i), text.size());
      lines.push_back(text.substr(i, end - i));
      i = end + 1;
    }
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

mr::JobSettings settings(std::uint32_t threads, std::uint64_t memory_bytes,
                         std::uint32_t reducers) {
  mr::JobSettings chosen;
  chosen.threads = threads;
  chosen.memory_bytes = memory_bytes;
  chosen.reducers = reducers;
  return chosen;
}

}  // namespace

TEST_CASE("Sorted parts after one another are the sorted lines for every way to cut the input") {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Input input = random_input(seed, 3, seed < 4 ? 1500 : 30000);
    const std::string expected = sorted_lines(input.texts);
    for (const std::uint64_t piece_bytes : {7u, 64u, 1000u, 100000u}) {
      if (piece_bytes < 64 && seed > 3) continue;
      for (const std::uint32_t partitions : {1u, 2u, 7u, 512u}) {
        input.cut(piece_bytes, 5);
        LocalOptions options;
        options.partitions = partitions;
        options.window_bytes = seed % 2 == 0 ? 100 : 0;
        options.output_bytes = seed % 2 == 0 ? 3000 : 1u << 20;
        LocalJob<SortLines> job(options);
        const auto parts = job.run(input.splits);
        REQUIRE_MESSAGE(parts.size() == partitions, job.message);
        CHECK(joined(parts) == expected);
        CHECK(job.keys ==
              static_cast<std::uint64_t>(std::count(expected.begin(), expected.end(), '\n')));
      }
    }
  }
}

TEST_CASE("Partitions of different lines are about as large") {
  std::mt19937_64 random(3);
  std::string text;
  while (text.size() < 400000) text += std::to_string(random()) + "\n";
  Input input;
  input.add(text);
  input.cut(50000, 1);
  LocalOptions options;
  options.partitions = 8;
  LocalJob<SortLines> job(options);
  const auto parts = job.run(input.splits);
  REQUIRE(parts.size() == 8);
  for (const std::string& part : parts) {
    CHECK(part.size() > text.size() / 16);
    CHECK(part.size() < text.size() / 4);
  }
}

TEST_CASE("One line very often, with more of it than the job has memory, is sorted") {
  std::string text;
  while (text.size() < 6u << 20) text += std::string(80, 'x') + "\n";
  Input input;
  input.add(text + "b");
  input.add("a\n" + text);
  input.cut(1u << 20, 1);
  SimulatedJob job(sorting, settings(2, 3u << 20, 3), input.splits, 1);
  job.run();
  REQUIRE_MESSAGE(job.done, (job.failed ? job.machine.failure()->status.message() : "stuck"));
  CHECK(job.sampled);
  CHECK(job.spilled_objects() != 0);
  CHECK(joined(job.parts) == sorted_lines(input.texts));
}

TEST_CASE("Sorted output is the same with and without spills, whatever happens first") {
  const Input input = [] {
    Input made = random_input(21, 3, 900000);
    made.cut(200000, 2);
    return made;
  }();
  const std::string expected = sorted_lines(input.texts);
  std::vector<std::string> first;
  for (const std::uint64_t memory : {2u << 20, 64u << 20}) {
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      SimulatedJob job(sorting, settings(1 + seed % 3, memory, 4), input.splits, seed);
      job.run();
      REQUIRE_MESSAGE(job.done, (job.failed ? job.machine.failure()->status.message() : "stuck"));
      CHECK(joined(job.parts) == expected);
      if (first.empty()) first = job.parts;
      CHECK(job.parts == first);
      CHECK(std::count(job.released.begin(), job.released.end(),
                       aios::proto::mapreduce::sample_split) == 1);
    }
  }
}

TEST_CASE("Pairs of a key reach each() in the order of the input") {
  std::string text, expected;
  for (int i = 0; i < 3000; ++i)
    text += std::string(1, static_cast<char>('c' - i % 3)) + std::to_string(i) + "\n";
  for (const int rest : {2, 1, 0})
    for (int i = rest; i < 3000; i += 3)
      expected += std::string(1, static_cast<char>('c' - rest)) + "\t" + std::to_string(i) + "\n";
  Input input;
  input.add(text);
  for (const std::uint64_t piece_bytes : {500u, 100000u}) {
    input.cut(piece_bytes, 1);
    LocalOptions options;
    options.partitions = 2;
    options.window_bytes = 50;
    options.output_bytes = 400;
    LocalJob<Numbered> job(options);
    CHECK(joined(job.run(input.splits)) == expected);
  }
}

TEST_CASE("A job of one part, or without input, takes no sample") {
  Input input;
  input.add("b\na");
  input.cut(100, 1);
  SimulatedJob one(sorting, settings(1, 8u << 20, 1), input.splits, 1);
  one.run();
  CHECK(one.done);
  CHECK_FALSE(one.sampled);
  CHECK(one.parts[0] == "a\nb\n");
  SimulatedJob none(sorting, settings(1, 8u << 20, 3), {}, 1);
  none.run();
  CHECK(none.done);
  CHECK_FALSE(none.sampled);
  CHECK(none.parts == std::vector<std::string>(3));
}

TEST_CASE("A sample that fails leaves the parts uneven, and the map task says what is wrong") {
  Input input;
  input.add("fine\nthrow\n");
  input.cut(100, 1);
  SimulatedJob thrown(sorting, settings(1, 8u << 20, 3), input.splits, 1);
  thrown.run();
  REQUIRE(thrown.failed);
  CHECK(thrown.machine.failure()->status.message() == "this line is not liked");
  CHECK(thrown.machine.failure()->offset == 5);

  Input good;
  good.add("b\na\nc\n");
  good.cut(100, 1);
  SimulatedJob crashed(sorting, settings(1, 8u << 20, 3), good.splits, 1);
  crashed.tamper = [&](const mr::StartTask& task, mr::TaskOutcome&) {
    if (task.kind == mr::TaskKind::sample)
      crashed.machine.task_failed(task.tag, 2, aios::Status(aios::Code::crashed, "SIGSEGV"));
  };
  crashed.run();
  CHECK(crashed.done);
  CHECK(joined(crashed.parts) == "a\nb\nc\n");
}

TEST_CASE("A sample that was not asked for is refused") {
  std::vector<std::byte> description(mr::engine::description_bytes);
  mr::JobSettings chosen = settings(1, 8u << 20, 2);
  chosen.split_count = 2;
  mr::JobMachine machine(chosen, description);
  machine.start();
  CHECK_FALSE(machine.split_lent({aios::proto::mapreduce::sample_split, 10, 1}));
}
