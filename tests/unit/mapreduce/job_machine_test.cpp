// A whole job, every part of it simulated but the engine.
#include <doctest/doctest.h>

#include "tests/unit/mapreduce/simulated_job.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;
using aios::Code;
using aios::Status;

struct Counting : mr::Words {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"words"};
  void map(std::string_view word, auto& out) {
    if (word == "throw") throw std::runtime_error("this word is not liked");
    out.emit(word, 1);
    out.count(0);
  }
  void reduce(std::string_view, std::uint64_t count, auto& out) { out.emit(count); }
};
const aios_codelet* const counting = mr::engine::Codelets<Counting>::table;

/// All values of a key, joined: one key may have very many.
struct Joining : mr::Lines {
  void map(std::string_view line, auto& out) { out.emit(line.substr(0, 1), line.substr(1)); }
  void reduce(std::string_view, mr::Values& values, auto& out) {
    std::uint64_t count = 0, hash = 0;
    while (auto value = values.next()) {
      ++count;
      for (const char c : *value) hash = hash * 31 + static_cast<unsigned char>(c);
    }
    out.emit(std::to_string(count) + " " + std::to_string(hash));
  }
};
const aios_codelet* const joining = mr::engine::Codelets<Joining>::table;

std::string distinct_words(std::uint64_t seed, std::size_t bytes) {
  std::mt19937_64 random(seed);
  std::string text;
  while (text.size() < bytes) {
    const std::uint64_t number = random() % 4 == 0 ? random() % 1000 : random() % 10000000;
    text += "word-" + std::to_string(number) + (random() % 10 == 0 ? "\n" : " ");
  }
  return text;
}

Input distinct_input(std::size_t files, std::size_t bytes, std::uint64_t piece_bytes) {
  Input input;
  for (std::size_t i = 0; i < files; ++i) input.add(distinct_words(i + 1, bytes));
  input.cut(piece_bytes, 2);
  return input;
}

JobSettings settings(std::uint32_t threads, std::uint64_t memory_bytes,
                     std::uint32_t reducers = 1) {
  JobSettings chosen;
  chosen.threads = threads;
  chosen.memory_bytes = memory_bytes;
  chosen.reducers = reducers;
  return chosen;
}

}  // namespace

TEST_CASE("A job writes the same lines for every number of threads, memory and order of events") {
  const Input input = distinct_input(3, 900000, 300000);
  const std::string expected = count_words(input.texts);
  for (const std::uint64_t memory : {2u << 20, 3u << 20, 8u << 20, 64u << 20}) {
    for (const std::uint32_t threads : {1u, 2u, 4u}) {
      for (std::uint64_t seed = 1; seed <= 2; ++seed) {
        SimulatedJob job(counting, settings(threads, memory), input.splits, seed);
        job.run();
        REQUIRE_MESSAGE(job.done, (job.failed ? job.machine.failure()->status.message() : "stuck"));
        CHECK(job.parts[0] == expected);
        CHECK(job.most_running <= threads);
        CHECK(job.memory_bytes <= memory);
        if (memory <= 3u << 20) CHECK(job.spilled_objects() != 0);
        if (memory >= 64u << 20) CHECK(job.spilled_objects() == 0);
        CHECK(job.released.size() == input.splits.size());
        CHECK_FALSE(job.refused);
        const auto& progress = job.machine.progress();
        CHECK(progress.mapped_bytes ==
              input.texts[0].size() + input.texts[1].size() + input.texts[2].size());
        CHECK(job.machine.counters()[0] == progress.records);
        CHECK(progress.distinct_keys ==
              static_cast<std::uint64_t>(std::count(expected.begin(), expected.end(), '\n')));
      }
    }
  }
}

TEST_CASE("Every part of a job with reducers is the same with and without spills") {
  const Input input = distinct_input(2, 900000, 250000);
  SimulatedJob plenty(counting, settings(4, 64u << 20, 5), input.splits, 1);
  plenty.run();
  REQUIRE(plenty.done);
  SimulatedJob little(counting, settings(2, 3u << 20, 5), input.splits, 2);
  little.run();
  REQUIRE(little.done);
  CHECK(little.spilled_objects() != 0);
  CHECK(plenty.parts == little.parts);
  CHECK(std::none_of(plenty.parts.begin(), plenty.parts.end(),
                     [](const std::string& part) { return part.empty(); }));
}

TEST_CASE("A job without input is done with empty parts") {
  SimulatedJob job(counting, settings(2, 8u << 20, 3), {}, 1);
  job.run();
  CHECK(job.done);
  CHECK(job.parts == std::vector<std::string>(3));
}

TEST_CASE("Empty files and files of white space give empty parts") {
  Input input;
  input.add("");
  input.add(" \n\n ");
  input.cut(2, 1);
  SimulatedJob job(counting, settings(2, 8u << 20), input.splits, 1);
  job.run();
  CHECK(job.done);
  CHECK(job.parts[0].empty());
}

TEST_CASE("The values of one key may need more than a window") {
  std::mt19937_64 random(5);
  std::string text;
  for (int i = 0; i < 60000; ++i)
    text += static_cast<char>('a' + (random() % 20 == 0 ? random() % 20 : 0)) +
            std::to_string(random() % 100000) + "\n";
  Input input;
  input.add(text);
  input.cut(200000, 1);
  SimulatedJob plenty(joining, settings(2, 64u << 20), input.splits, 1);
  plenty.run();
  REQUIRE(plenty.done);
  CHECK(plenty.spilled_objects() == 0);
  SimulatedJob little(joining, settings(1, 2u << 20), input.splits, 1);
  little.run();
  REQUIRE_MESSAGE(little.done,
                  (little.failed ? little.machine.failure()->status.message() : "stuck"));
  CHECK(plenty.parts == little.parts);
}

TEST_CASE("The values of one key that exceed the memory fail the job with advice") {
  Input input;
  std::string text;
  for (int i = 0; i < 400000; ++i) text += "k" + std::to_string(i) + "\n";
  input.add(text);
  input.cut(500000, 1);
  SimulatedJob job(joining, settings(1, 2u << 20), input.splits, 1);
  job.run();
  REQUIRE(job.failed);
  CHECK(job.machine.failure()->status.code() == Code::no_memory);
  CHECK(job.machine.failure()->status.message().find("--memory-mb") != std::string::npos);
}

TEST_CASE("A failing record names the split, the piece and the offset") {
  Input input;
  input.add("all is well");
  input.add("but throw here");
  input.cut(100, 1);
  SimulatedJob job(counting, settings(1, 8u << 20), input.splits, 1);
  job.run();
  REQUIRE(job.failed);
  const mr::JobFailure& failure = *job.machine.failure();
  CHECK(failure.status.message() == "this word is not liked");
  CHECK(failure.split == 1);
  CHECK(failure.piece == 0);
  CHECK(failure.offset == 4);
}

TEST_CASE("A job that is ended at any step says so and asks for nothing more") {
  const Input input = distinct_input(2, 500000, 250000);
  SimulatedJob whole(counting, settings(2, 2u << 20), input.splits, 3);
  whole.run();
  REQUIRE(whole.done);
  for (std::size_t end = 0; end < whole.steps; end += 1 + end / 16) {
    SimulatedJob job(counting, settings(2, 2u << 20), input.splits, 3);
    job.run([&](std::size_t step) {
      if (step == end) job.machine.abort(Status(Code::cancelled, "ended"));
    });
    CHECK(job.failed);
    CHECK_FALSE(job.done);
    CHECK(job.machine.take_actions().empty());
    CHECK(job.machine.failure()->status.code() == Code::cancelled);
  }
}

TEST_CASE("A task that fails at any point fails the job with its message") {
  const Input input = distinct_input(1, 300000, 100000);
  SimulatedJob whole(counting, settings(2, 8u << 20), input.splits, 3);
  whole.run();
  const std::uint64_t tasks = whole.machine.progress().tasks;
  REQUIRE(tasks > 4);
  for (std::uint64_t failing = 1; failing <= tasks; ++failing) {
    SimulatedJob job(counting, settings(2, 8u << 20), input.splits, 3);
    std::uint64_t started = 0;
    job.tamper = [&](const mr::StartTask& task, mr::TaskOutcome&) {
      if (++started == failing)
        job.machine.task_failed(task.tag, 2, Status(Code::crashed, "segmentation fault"));
    };
    job.run();
    REQUIRE(job.failed);
    const mr::JobFailure& failure = *job.machine.failure();
    CHECK(failure.status.message().ends_with("segmentation fault"));
    CHECK(failure.in_module == (failing == 1));
    if (failing > 1) CHECK(failure.status.message().find(" task failed: ") != std::string::npos);
  }
}

TEST_CASE("Task results that make no sense fail the job and nothing else") {
  const Input input = distinct_input(1, 300000, 100000);
  std::mt19937_64 random(17);
  for (int round = 0; round < 100; ++round) {
    SimulatedJob job(counting, settings(2, 8u << 20), input.splits, 3);
    const std::uint64_t victim = random() % 6, word = random() % 4;
    const std::uint64_t value = random() % 3 == 0 ? random() : random() % 3;
    std::uint64_t started = 0;
    job.tamper = [&](const mr::StartTask&, mr::TaskOutcome& outcome) {
      if (++started == victim) outcome.words[word] = value;
    };
    job.run();
    CHECK((job.done || job.failed));
  }
}

TEST_CASE("Storage that fails fails the job") {
  const Input input = distinct_input(2, 700000, 250000);
  SimulatedJob job(counting, settings(2, 2u << 20), input.splits, 3);
  job.put_result = aios::error(Code::no_space, "the disk is full");
  job.run();
  REQUIRE(job.failed);
  CHECK(job.machine.failure()->status.code() == Code::no_space);
  CHECK(job.machine.failure()->status.message() == "cannot spill to storage: the disk is full");
}

TEST_CASE("A client that lends the wrong split or gives memory unasked is refused") {
  std::vector<std::byte> description(aios::proto::mapreduce::description_bytes);
  JobSettings chosen = settings(1, 8u << 20);
  chosen.split_count = 2;
  mr::JobMachine machine(chosen, description);
  machine.start();
  CHECK_FALSE(machine.split_lent({1, 10, 1}));
  CHECK_FALSE(machine.split_lent({0, 10, 0}));
  CHECK_FALSE(machine.written(1));
  std::vector<std::byte> tiny(4096);
  CHECK_FALSE(machine.segment_added(tiny));
  CHECK(machine.split_lent({0, 10, 1}));
  CHECK_FALSE(machine.split_lent({0, 10, 1}));
}

TEST_CASE("A module of another engine version is refused") {
  std::vector<std::byte> description(aios::proto::mapreduce::description_bytes);
  mr::JobMachine machine(settings(1, 8u << 20), description);
  machine.start();
  machine.task_done(1, 1, {});
  REQUIRE(machine.over());
  CHECK(machine.failure()->status.code() == Code::version_mismatch);
}
