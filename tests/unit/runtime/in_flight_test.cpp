#include "abi/runtime/in_flight.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

using namespace aios;
using Verdict = InFlight::Verdict;

namespace {

/// The memory, and the lives of the server that has it.
struct Lives {
  alignas(8) std::byte memory[InFlight::memory_bytes] = {};
  std::uint64_t now_ns = 1'000'000'000;
  InFlight next(bool crashed) { return InFlight(memory, crashed, now_ns); }
};

constexpr RequestId bad{1, 77};
constexpr RequestId good{2, 78};

}  // namespace

TEST_CASE("Without a crash nobody is suspected") {
  Lives lives;
  InFlight first = lives.next(false);
  first.end(first.begin(bad));
  CHECK(first.running() == 0);
  InFlight second = lives.next(true);
  CHECK(second.judge(bad) == Verdict::run);
  CHECK(!second.suspects_any());
}

TEST_CASE("What was in flight at a crash runs alone, until it is answered") {
  Lives lives;
  InFlight first = lives.next(false);
  first.begin(bad);
  first.begin(good);
  InFlight second = lives.next(true);
  CHECK(second.judge(bad) == Verdict::alone);
  CHECK(second.judge(good) == Verdict::alone);
  CHECK(second.judge({3, 79}) == Verdict::run);
  CHECK(second.running() == 0);
  second.end(second.begin(good));
  CHECK(second.judge(good) == Verdict::run);
  second.begin(bad);
  InFlight third = lives.next(true);
  CHECK(third.judge(bad) == Verdict::alone);
  third.begin(bad);
  CHECK(lives.next(true).judge(bad) == Verdict::poison);
}

TEST_CASE("Crashing beside others condemns nobody, crashing alone twice does") {
  Lives lives;
  InFlight first = lives.next(false);
  first.begin(bad);
  InFlight second = lives.next(true);
  CHECK(second.judge(bad) == Verdict::alone);
  second.begin(bad);
  second.begin(good);
  InFlight third = lives.next(true);
  CHECK(third.judge(bad) == Verdict::alone);
  third.begin(bad);
  CHECK(lives.next(true).judge(bad) == Verdict::poison);
  CHECK(lives.next(false).judge(good) == Verdict::alone);
}

TEST_CASE("A kill from outside makes nobody run alone, but not for ever") {
  Lives lives;
  for (std::uint32_t kill = 0; kill < InFlight::max_attempts; ++kill) {
    InFlight life = lives.next(false);
    CHECK(life.judge(bad) == Verdict::run);
    life.begin(bad);
  }
  CHECK(lives.next(false).judge(bad) == Verdict::exhausted);
}

TEST_CASE("Suspicion and verdicts are forgotten after a while") {
  Lives lives;
  lives.next(false).begin(bad);
  lives.next(true).begin(bad);
  CHECK(lives.next(true).judge(bad) == Verdict::poison);
  lives.now_ns += InFlight::memory_ns + 1;
  CHECK(lives.next(false).judge(bad) == Verdict::run);
}

TEST_CASE("More requests than there are places are run and not tracked") {
  Lives lives;
  InFlight life = lives.next(false);
  std::vector<std::uint32_t> slots;
  for (std::uint64_t i = 0; i < InFlight::max_running; ++i) slots.push_back(life.begin({1, i}));
  CHECK(life.begin({1, 5000}) == InFlight::untracked);
  CHECK(life.running() == InFlight::max_running + 1);
  life.end(InFlight::untracked);
  for (const std::uint32_t slot : slots) life.end(slot);
  CHECK(life.running() == 0);
  CHECK(life.begin({1, 1}) != InFlight::untracked);
}

TEST_CASE("More suspects than there are places push out the oldest") {
  Lives lives;
  InFlight first = lives.next(false);
  first.begin({1, 1});
  InFlight second = lives.next(true);
  lives.now_ns += 1;
  for (std::uint64_t i = 0; i < InFlight::max_suspects; ++i) second.begin({2, i});
  InFlight third = lives.next(true);
  CHECK(third.judge({1, 1}) == Verdict::run);
  CHECK(third.judge({2, 0}) == Verdict::alone);
}

TEST_CASE("Memory that makes no sense is begun anew") {
  Lives lives;
  std::memset(lives.memory, 0xa5, sizeof lives.memory);
  InFlight life = lives.next(true);
  CHECK(life.judge(bad) == Verdict::run);
  life.end(life.begin(bad));
}
