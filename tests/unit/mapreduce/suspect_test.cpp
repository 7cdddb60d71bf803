// Bad records: found one by one, whatever the tasks say, and passed over.
#include <doctest/doctest.h>

#include <set>

#include "services/mapreduce/suspect.hpp"
#include "tests/unit/mapreduce/simulated_job.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;
using aios::Code;

/// Maps `count` records, of which some are bad; what a failing task says of itself is `told`.
/// The records skipped.
std::set<std::uint64_t> map_all(std::uint64_t count, const std::set<std::uint64_t>& bad,
                                std::mt19937_64& random,
                                const std::function<std::uint64_t(std::uint64_t)>& told,
                                std::uint64_t& failures) {
  std::set<std::uint64_t> skipped;
  mr::Suspect suspect;
  for (std::uint64_t at = 0; at < count;) {
    if (suspect.skipping()) {
      CHECK(suspect.record_limit() == mr::engine::skip_one_record);
      skipped.insert(at++);
      suspect.succeeded(1);
      continue;
    }
    const std::uint64_t room = 1 + random() % 5000;
    const std::uint64_t limit = suspect.record_limit() == 0 ? room : suspect.record_limit();
    const std::uint64_t taken = std::min({room, limit, count - at});
    const auto first = bad.lower_bound(at);
    if (first != bad.end() && *first < at + taken) {
      ++failures;
      suspect.failed(told(*first - at + 1));
      continue;
    }
    at += taken;
    suspect.succeeded(taken);
  }
  return skipped;
}

struct Picky : mr::Lines {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"lines"};
  void map(std::string_view line, auto& out) {
    out.count(0);
    if (line.starts_with("bad")) throw std::runtime_error("cannot use this line");
    out.emit(line, 1);
  }
};

mr::JobSettings settings(std::uint64_t max_bad_records) {
  mr::JobSettings chosen;
  chosen.threads = 2;
  chosen.memory_bytes = 8u << 20;
  chosen.max_bad_records = max_bad_records;
  return chosen;
}

Input picky_input() {
  Input input;
  std::string text;
  for (int i = 0; i < 3000; ++i)
    text += (i % 1000 == 7 ? "bad" : "line") + std::to_string(i % 20) + "\n";
  input.add(text + "bad");
  input.add("bad\nbad\nfine");
  input.cut(7000, 2);
  return input;
}

}  // namespace

TEST_CASE("Exactly the bad records are skipped, whether tasks say the truth, nothing or anything") {
  std::mt19937_64 random(5);
  for (int round = 0; round < 60; ++round) {
    const std::uint64_t count = 1 + random() % 200000;
    std::set<std::uint64_t> bad;
    for (std::uint64_t n = random() % 6; n != 0; --n) bad.insert(random() % count);
    if (round % 7 == 0) bad.insert({0, count - 1, count / 2});
    std::uint64_t failures = 0;
    const auto truth = [](std::uint64_t record) { return record; };
    CHECK(map_all(count, bad, random, truth, failures) == bad);
    CHECK(failures <= 2 * bad.size());
    failures = 0;
    CHECK(map_all(
              count, bad, random, [](std::uint64_t) { return 0; }, failures) == bad);
    CHECK(failures <= 24 * bad.size());
    failures = 0;
    const auto lie = [&](std::uint64_t) { return random() >> (random() % 64); };
    CHECK(map_all(count, bad, random, lie, failures) == bad);
  }
}

TEST_CASE("A job told to skip bad records writes all others and reports these") {
  const Input input = picky_input();
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SimulatedJob job(mr::engine::Codelets<Picky>::table, settings(10), input.splits, seed);
    job.run();
    REQUIRE_MESSAGE(job.done, (job.failed ? job.machine.failure()->status.message() : "stuck"));
    CHECK(job.skipped.size() == 6);
    CHECK(job.machine.progress().skipped_records == 6);
    CHECK(job.machine.progress().records == 2998);
    CHECK(job.machine.counters()[0] == 2998);
    CHECK(job.parts[0].find("bad") == std::string::npos);
    CHECK(job.parts[0].find("line7\t147\n") != std::string::npos);
    CHECK(job.parts[0].starts_with("fine\t1\nline0\t150\n"));
    for (const auto& [split, offset] : job.skipped)
      CHECK((split == input.splits.size() - 1 || offset > 30));
  }
}

TEST_CASE("One bad record more than may be skipped fails the job with its place") {
  const Input input = picky_input();
  for (const std::uint64_t most : {0u, 5u}) {
    SimulatedJob job(mr::engine::Codelets<Picky>::table, settings(most), input.splits, 1);
    job.run();
    REQUIRE(job.failed);
    CHECK(job.skipped.size() == most);
    const mr::JobFailure& failure = *job.machine.failure();
    CHECK(failure.status.message().ends_with("cannot use this line"));
    CHECK(failure.piece != aios::proto::mapreduce::Failure::no_piece);
  }
}

TEST_CASE("A task that crashes fails the job at the record that it was at") {
  Input input;
  input.add("one\ntwo\nbad\nthree\n");
  input.cut(100, 1);
  SimulatedJob job(mr::engine::Codelets<Picky>::table, settings(0), input.splits, 1);
  job.crash_on_failure = true;
  job.run();
  REQUIRE(job.failed);
  const mr::JobFailure& failure = *job.machine.failure();
  CHECK(failure.status.code() == Code::crashed);
  CHECK(failure.split == 0);
  CHECK(failure.piece == 0);
  CHECK(failure.offset == 8);
}
