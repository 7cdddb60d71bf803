#include "abi/runtime/sleep.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "abi/runtime/ring.hpp"

using namespace aios;

namespace {

/// Waits that sleep at once until the next one that looks.
std::uint32_t waits_at_rest(SpinPolicy& policy) {
  std::uint32_t waits = 0;
  while (policy.budget_ns() == 0) ++waits;
  return waits;
}

std::uint32_t waits_without_yield(YieldPolicy& policy) {
  std::uint32_t waits = 0;
  while (!policy.pays()) ++waits;
  return waits;
}

void miss_until_rest(SpinPolicy& policy) {
  for (std::uint32_t i = 0; i < SpinPolicy::misses_to_stop; ++i) {
    REQUIRE(policy.budget_ns() != 0);
    policy.missed();
  }
}

}  // namespace

TEST_CASE("Looking that pays goes on for the longest time") {
  SpinPolicy policy;
  for (int i = 0; i < 1000; ++i) {
    CHECK(policy.budget_ns() == SpinPolicy::longest_ns);
    policy.hit();
  }
}

TEST_CASE("A few misses in a row end the looking, one hit before does not let it come to that") {
  SpinPolicy policy;
  for (int round = 0; round < 100; ++round) {
    for (std::uint32_t i = 1; i < SpinPolicy::misses_to_stop; ++i) policy.missed();
    CHECK(policy.budget_ns() != 0);
    policy.hit();
  }
  miss_until_rest(policy);
  CHECK(policy.budget_ns() == 0);
}

TEST_CASE("Rests double, up to the longest, while their ends find nothing") {
  SpinPolicy policy;
  miss_until_rest(policy);
  std::uint32_t expected = SpinPolicy::shortest_rest;
  for (int i = 0; i < 12; ++i) {
    CHECK(waits_at_rest(policy) == expected);
    policy.missed();
    expected = std::min(expected * 2, SpinPolicy::longest_rest);
  }
}

TEST_CASE("A hit at the end of a rest ends the resting") {
  SpinPolicy policy;
  miss_until_rest(policy);
  while (policy.budget_ns() == 0) {
  }
  policy.missed();
  std::uint64_t budget = 0;
  while (budget == 0) budget = policy.budget_ns();
  CHECK(budget == SpinPolicy::longest_ns);
  policy.hit();
  CHECK(policy.budget_ns() == SpinPolicy::longest_ns);
}

TEST_CASE("Being put off the core rests at once") {
  SpinPolicy policy;
  policy.preempted();
  CHECK(waits_at_rest(policy) == SpinPolicy::shortest_rest);
}

TEST_CASE("Rests begin at their shortest again when looking has gone well for long") {
  SpinPolicy policy;
  for (int i = 0; i < 5; ++i) policy.preempted();
  while (policy.budget_ns() == 0) {
  }
  for (std::uint32_t i = 0; i < SpinPolicy::hits_to_forget; ++i) policy.hit();
  policy.preempted();
  CHECK(waits_at_rest(policy) == SpinPolicy::shortest_rest);
}

TEST_CASE("A policy that is not allowed to look never does") {
  SpinPolicy policy;
  policy.allow(false);
  CHECK(policy.budget_ns() == 0);
  policy.hit();
  CHECK(policy.budget_ns() == 0);
}

TEST_CASE("A policy that is not allowed to yield never does") {
  YieldPolicy policy;
  CHECK(policy.pays());
  policy.allow(false);
  CHECK_FALSE(policy.pays());
}

TEST_CASE("Yields that find nothing end, and are tried ever more seldom") {
  YieldPolicy policy;
  for (std::uint32_t i = 0; i < YieldPolicy::misses_to_stop; ++i) {
    REQUIRE(policy.pays());
    policy.missed();
  }
  std::uint32_t expected = YieldPolicy::shortest_rest;
  for (int i = 0; i < 12; ++i) {
    CHECK(waits_without_yield(policy) == expected);
    policy.missed();
    expected = std::min(expected * 2, YieldPolicy::longest_rest);
  }
}

TEST_CASE("One yield that found what was awaited forgives the misses before") {
  YieldPolicy policy;
  for (int round = 0; round < 100; ++round) {
    for (std::uint32_t i = 1; i < YieldPolicy::misses_to_stop; ++i) {
      REQUIRE(policy.pays());
      policy.missed();
    }
    REQUIRE(policy.pays());
    policy.hit();
  }
}

TEST_CASE("A core that comes back late ends the yielding at once") {
  YieldPolicy policy;
  policy.slow();
  CHECK(waits_without_yield(policy) == YieldPolicy::shortest_rest);
  policy.slow();
  CHECK(waits_without_yield(policy) == 2 * YieldPolicy::shortest_rest);
  for (std::uint32_t i = 0; i < YieldPolicy::hits_to_forget; ++i) policy.hit();
  policy.slow();
  CHECK(waits_without_yield(policy) == YieldPolicy::shortest_rest);
}

TEST_CASE("Yielding looks first, then after each yield, and ends by itself") {
  YieldPolicy policy;
  int looks = 0;
  CHECK(yield_until(policy, [&] { return ++looks == 1; }));
  CHECK(looks == 1);
  looks = 0;
  CHECK(yield_until(policy, [&] { return ++looks == 2; }));
  CHECK(looks == 2);
  CHECK_FALSE(yield_until(policy, [] { return false; }));
}

TEST_CASE("Peers are shown the core on which a wait begins") {
  proto::StatusPage page{};
  show_core(page);
  const std::uint64_t shown = page.core.load();
  CHECK(shown != 0);
  CHECK(shown <= static_cast<std::uint64_t>(::sysconf(_SC_NPROCESSORS_CONF)));
}

TEST_CASE("What is there at the first look needs no second one") {
  SpinPolicy policy;
  int looks = 0;
  CHECK(spin_until(
      policy, [&] { return ++looks == 1; }, [] { return false; }));
  CHECK(looks == 1);
}

TEST_CASE("Looking in vain ends by itself and glances at what is costly meanwhile") {
  SpinPolicy policy;
  int glances = 0;
  CHECK_FALSE(spin_until(
      policy, [] { return false; },
      [&] {
        ++glances;
        return false;
      }));
  // At most one every four microseconds; none when the thread was put off its core at once.
  CHECK(glances <= 13);
}

TEST_CASE("A glance that finds something ends the looking") {
  // A busy machine may put the thread off its core before the first glance, which is then right.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    SpinPolicy policy;
    if (spin_until(
            policy, [] { return false; }, [] { return true; }))
      return;
  }
  FAIL("no glance in 1000 attempts");
}

TEST_CASE("A sleeper sees the message, or its sender sees the sleeper: never neither") {
  // The whole protocol in one process: a sender that publishes and looks for sleepers, a sleeper
  // that raises its count and looks for messages, at the same moment, again and again.
  const auto aligned = [](std::size_t bytes) {
    return std::unique_ptr<std::byte[], void (*)(std::byte*)>(
        new (std::align_val_t{proto::page_bytes}) std::byte[bytes]{}, [](std::byte* memory) {
          ::operator delete[](memory, std::align_val_t{proto::page_bytes});
        });
  };
  const auto halves = aligned(2 * proto::half_bytes);
  const auto page = aligned(proto::page_bytes);
  auto& status = *reinterpret_cast<proto::StatusPage*>(page.get());
  RingSender sender(halves.get(), halves.get() + proto::half_bytes);
  RingReceiver receiver(halves.get() + proto::half_bytes, halves.get());
  constexpr std::uint32_t rounds = 400'000;
  const Deadline end = Deadline::after(3 * ns_per_s);
  std::atomic<std::uint32_t> round{0}, sent{0};
  std::atomic<bool> seen{false}, stopping{false};
  std::thread sending([&] {
    for (std::uint32_t i = 1; i <= rounds; ++i) {
      for (std::uint32_t looks = 1; round.load(std::memory_order_acquire) < i; ++looks) {
        if (stopping) return;
        // The other thread may not have a core.
        if (looks % 256 == 0) std::this_thread::yield();
      }
      for (std::uint32_t pause = i % 61; pause != 0; --pause) cpu_relax();
      // A sender that has not rung for this sleep.
      Waker waker;
      (void)sender.push({0, 0, i}, {});
      seen.store(waker.sees_sleeper(status), std::memory_order_relaxed);
      sent.store(i, std::memory_order_release);
    }
  });
  std::uint32_t missed = 0;
  bool taken = true;
  std::uint32_t i = 1;
  for (; i <= rounds && missed == 0 && !end.passed(); ++i) {
    round.store(i, std::memory_order_release);
    for (std::uint32_t pause = i % 53; pause != 0; --pause) cpu_relax();
    bool ready = false;
    {
      const Asleep asleep(status);
      ready = receiver.ready();
      for (std::uint32_t looks = 1; sent.load(std::memory_order_acquire) != i; ++looks)
        if (looks % 256 == 0) std::this_thread::yield();
    }
    if (!ready && !seen.load(std::memory_order_relaxed)) ++missed;
    Message message;
    taken = taken && receiver.pop(message) == RingResult::done;
  }
  stopping = true;
  sending.join();
  CHECK(taken);
  CHECK(missed == 0);
  CHECK(i > 1);
}
