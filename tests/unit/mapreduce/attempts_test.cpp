// Tasks that take far longer than others: when they get a second attempt, and what becomes of both.
#include <doctest/doctest.h>

#include "tests/unit/mapreduce/simulated_job.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;

struct Counting : mr::Words {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"words"};
  void map(std::string_view word, auto& out) {
    out.emit(word, 1);
    out.count(0);
  }
};
const aios_codelet* const counting = mr::engine::Codelets<Counting>::table;

JobSettings settings(std::uint32_t threads, std::uint64_t memory_bytes) {
  JobSettings chosen;
  chosen.threads = threads;
  chosen.memory_bytes = memory_bytes;
  chosen.reducers = 2;
  return chosen;
}

const Input& input() {
  static const Input made = [] {
    Input some;
    std::mt19937_64 random(3);
    for (int file = 0; file < 2; ++file) {
      std::string text;
      while (text.size() < 700000) text += "word-" + std::to_string(random() % 90000) + " ";
      some.add(std::move(text));
    }
    some.cut(60000, 1);
    return some;
  }();
  return made;
}

struct Unharmed {
  explicit Unharmed(std::uint64_t memory_bytes)
      : job(counting, settings(2, memory_bytes), input().splits, 1) {
    job.run();
  }
  SimulatedJob job;
};

void same_as(const SimulatedJob& expected, const SimulatedJob& job) {
  REQUIRE_MESSAGE(job.done, (job.failed ? job.machine.failure()->status.message() : "stuck"));
  CHECK(job.parts == expected.parts);
  CHECK(job.machine.counters() == expected.machine.counters());
  CHECK(job.machine.progress().records == expected.machine.progress().records);
  CHECK(job.machine.progress().distinct_keys == expected.machine.progress().distinct_keys);
  CHECK_FALSE(job.refused);
}

#ifdef __SANITIZE_ADDRESS__  // where each job takes eight times as long
constexpr std::size_t apart = 29;
#else
constexpr std::size_t apart = 7;
#endif

/// From some step on the main place stands still.
void stop_at(SimulatedJob& job, std::size_t stop) {
  job.run([&](std::size_t step) {
    if (step == stop) job.still = mr::main_place;
  });
}

}  // namespace

TEST_CASE("A place that stands still from any step on is left, and the output is the same") {
  for (const std::uint64_t memory : {2u << 20, 16u << 20}) {
    Unharmed whole(memory);
    REQUIRE(whole.job.done);
    std::size_t rescued = 0;
    // Until three tasks of a kind have ended nobody knows how long they take.
    for (std::size_t stop = 30; stop < whole.job.steps; stop += 1 + stop / 12) {
      SimulatedJob job(counting, settings(2, memory), input().splits, stop);
      stop_at(job, stop);
      if (job.machine.progress().second_attempts == 0 && !job.done) continue;
      same_as(whole.job, job);
      if (job.machine.progress().second_attempts == 0) continue;  // it ended before that step
      ++rescued;
      CHECK(job.machine.progress().second_attempts_won >= 1);
      CHECK(job.closed_places == 1);
    }
    CHECK(rescued > 4);
  }
}

TEST_CASE("A place that goes on after all, at any time, does no harm") {
  Unharmed whole(4u << 20);
  for (std::size_t stop = 40; stop < whole.job.steps; stop += apart)
    for (const std::size_t looks : {3u, 10u, 11u, 12u, 14u}) {
      SimulatedJob job(counting, settings(2, 4u << 20), input().splits, stop + looks);
      job.goes_on_after = looks;
      stop_at(job, stop);
      same_as(whole.job, job);
    }
}

TEST_CASE("Tasks that wait to begin for a while get no second attempt") {
  SimulatedJob job(counting, settings(2, 4u << 20), input().splits, 9);
  job.run([&](std::size_t) { job.machine.look(job.now_ns += 1'000'000); });
  REQUIRE(job.done);
  CHECK(job.machine.progress().second_attempts == 0);
  CHECK(job.closed_places == 0);
}

TEST_CASE("How long is too long follows from how long others took, and how much is done") {
  const auto looks_until_second = [](std::uint64_t task_ns, bool late) {
    SimulatedJob job(counting, settings(1, 16u << 20), input().splits, 1);
    job.task_ns = task_ns;
    std::uint64_t maps = 0;
    job.tamper = [&](const mr::StartTask& task, mr::TaskOutcome&) {
      maps += task.kind == mr::TaskKind::map ? 1 : 0;
      const std::size_t all = input().splits.size();
      if (maps == (late ? all - 2 : 4)) job.still = mr::main_place;
    };
    std::size_t looks = 0;
    job.run([&](std::size_t) {
      if (looks == 0 && job.machine.progress().second_attempts != 0) looks = job.looks;
    });
    REQUIRE(job.done);
    return looks;
  };
  // Never before a second has passed; then 1.5 or 3 times the median. The first look sees it begin.
  CHECK(looks_until_second(1'000'000, false) == doctest::Approx(11).epsilon(0.2));
  CHECK(looks_until_second(2'000'000'000, true) == doctest::Approx(31).epsilon(0.1));
  CHECK(looks_until_second(2'000'000'000, false) == doctest::Approx(61).epsilon(0.1));
}

TEST_CASE("Without a spare job a place that stands still is waited for") {
  Unharmed whole(16u << 20);
  SimulatedJob job(counting, settings(2, 16u << 20), input().splits, 5);
  job.gives_spare = false;
  job.goes_on_after = 50;
  stop_at(job, 60);
  same_as(whole.job, job);
  CHECK(job.machine.progress().second_attempts == 0);
}

TEST_CASE("A job that is given a spare job unasked refuses it") {
  std::vector<std::byte> description(aios::proto::mapreduce::description_bytes);
  mr::JobMachine machine(settings(1, 8u << 20), description);
  machine.start();
  CHECK_FALSE(machine.spare_added());
}
