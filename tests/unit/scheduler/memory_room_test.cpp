// Whose data has room in a device's memory, who waits for it, and who makes room.
#include <algorithm>
#include <random>

#include "tests/unit/scheduler/memory_rig.hpp"

namespace aios::scheduler {

using namespace memory_rig;

TEST_CASE("Data that a device's memory cannot hold runs where it can, and is refused if nowhere") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId anywhere = r.tenant(1, both);
    REQUIRE(r.submit(anywhere, {Rig::use(1, {r.buffer(anywhere, 1001)})}));
    CHECK(r.on.at(1) == cpu);
    const TenantId there = r.tenant(2, only_gpu);
    const std::uint32_t half = r.buffer(there, 600);
    const auto refused = r.submit(there, {Rig::use(2, {half, r.buffer(there, 401)})});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code() == Code::no_memory);
    CHECK(refused.error().message() ==
          "task 2: its buffers have 1001 bytes, and gpu1, of those that can run it the device with "
          "most memory, has 1000; give it smaller pieces, or a module with code for the CPU");
    // Named twice it lies there once.
    CHECK(r.submit(there, {Rig::use(3, {half, half})}));
    CHECK(r.on.at(3) == gpu);
  }
}

TEST_CASE("A task waits for the memory of one that runs, where that comes free soon enough") {
  Rig r("learned");
  const TenantId t = r.tenant(1, both);
  const std::uint32_t a = r.buffer(t, 600), b = r.buffer(t, 600);
  REQUIRE(r.submit(t, {Rig::use(1, {a})}));
  REQUIRE(r.submit(t, {Rig::use(2, {b})}));
  CHECK(r.on.at(1) == gpu);
  // There is a slot, but no room; the processor would take ten times as long.
  CHECK_FALSE(r.running.contains(2));
  CHECK(r.resident() == 600);
  r.end(1);
  CHECK(r.on.at(2) == gpu);
  CHECK(r.reason(2) == Reason::memory_freed);
  // The copy that nobody uses has left before.
  REQUIRE(r.evicted.size() == 1);
  CHECK(r.evicted.front().buffer == a);
  CHECK(r.resident() == 1200);
  r.let_go();
  CHECK(r.resident() == 600);
}

TEST_CASE(
    "What leaves for a task of its own job is free for others when its context has answered") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId first = r.tenant(1, only_gpu);
    const TenantId second = r.tenant(2, only_gpu);
    const std::uint32_t a = r.buffer(first, 600), b = r.buffer(first, 500),
                        c = r.buffer(first, 200);
    REQUIRE(r.submit(first, {Rig::use(1, {a})}));
    r.end(1);
    REQUIRE(r.submit(first, {Rig::use(2, {b})}));
    CHECK(r.running.contains(2));
    REQUIRE(r.evicted.size() == 1);
    // The other one could not have it yet, and nothing more is asked to leave for it.
    REQUIRE(r.submit(second, {Rig::use(3, {r.buffer(second, 200)})}));
    CHECK_FALSE(r.running.contains(3));
    CHECK(r.evicted.size() == 1);
    r.let_go();
    CHECK(r.running.contains(3));
    CHECK(r.resident() == 700);
    // In its own job's context it is gone before the next task begins.
    r.end(3);
    r.end(2);
    REQUIRE(r.submit(first, {Rig::use(4, {a})}));
    REQUIRE(r.running.contains(4));
    CHECK(r.resident() == 1300);
    REQUIRE(r.submit(first, {Rig::use(5, {c})}));
    CHECK(r.running.contains(5));
    CHECK(r.evicted.size() == 1);
    CHECK(r.resident() == 1500);
    r.let_go();
    CHECK(r.resident() == 1000);
  }
}

TEST_CASE("A task goes where there is room at once when the wait for memory is longer") {
  Rig r("learned");
  const TenantId t = r.tenant(1, both);
  r.tell("work", gpu, 95 * ToldCore::ms);
  const std::uint32_t a = r.buffer(t, 600), b = r.buffer(t, 600);
  REQUIRE(r.submit(t, {Rig::use(1, {a})}));
  CHECK(r.on.at(1) == gpu);
  REQUIRE(r.submit(t, {Rig::use(2, {b})}));
  REQUIRE(r.running.contains(2));
  CHECK(r.on.at(2) == cpu);
  CHECK(r.reason(2) == Reason::memory);
}

TEST_CASE("Without predictions memory decides too") {
  Rig r("eager");
  const TenantId t = r.tenant(1, only_gpu);
  const std::uint32_t a = r.buffer(t, 600), b = r.buffer(t, 600), c = r.buffer(t, 300);
  REQUIRE(r.submit(t, {Rig::use(1, {a}), Rig::use(2, {b}), Rig::use(3, {c})}));
  CHECK(r.running.contains(1));
  CHECK_FALSE(r.running.contains(2));
  // What is free is kept for the first that waits.
  CHECK_FALSE(r.running.contains(3));
  r.end(1);
  CHECK(r.running.contains(2));
  CHECK(r.reason(2) == Reason::memory_freed);
  CHECK(r.running.contains(3));
}

TEST_CASE("Copies of another job leave first, and are waited for") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId first = r.tenant(1, only_gpu);
    const TenantId second = r.tenant(2, only_gpu);
    const std::uint32_t old = r.buffer(first, 300), newer = r.buffer(first, 300),
                        used = r.buffer(first, 300);
    REQUIRE(r.submit(first, {Rig::use(1, {old})}));
    r.end(1);
    REQUIRE(r.submit(first, {Rig::use(2, {newer})}));
    r.end(2);
    REQUIRE(r.submit(first, {Rig::use(3, {used})}));
    CHECK(r.resident() == 900);
    REQUIRE(r.submit(second, {Rig::use(4, {r.buffer(second, 400)})}));
    CHECK_FALSE(r.running.contains(4));
    // As much as is needed, what was used longest ago.
    REQUIRE(r.evicted.size() == 1);
    CHECK(r.evicted.front().job == 1);
    CHECK(r.evicted.front().buffer == old);
    r.let_go();
    CHECK(r.running.contains(4));
    CHECK(r.resident() == 1000);
  }
}

TEST_CASE("What leaves and comes back meanwhile stays counted") {
  Rig r("eager");
  const TenantId first = r.tenant(1, only_gpu);
  const TenantId second = r.tenant(2, only_gpu);
  const std::uint32_t a = r.buffer(first, 600);
  REQUIRE(r.submit(first, {Rig::use(1, {a})}));
  r.end(1);
  const std::uint32_t b = r.buffer(second, 600);
  REQUIRE(r.submit(second, {Rig::use(2, {b})}));
  REQUIRE(r.evicted.size() == 1);
  // The job's context is lost, and what it had with it: the other one starts at once.
  r.end_context(1);
  CHECK(r.running.contains(2));
  CHECK(r.resident() == 600);
  r.let_go();
  CHECK(r.resident() == 600);
  r.end(2);
  REQUIRE(r.release(second, b));
  r.let_go();
  CHECK(r.resident() == 0);
}

TEST_CASE("What is released takes room until its context has let go of it") {
  for (const char* policy : {"eager", "learned"}) {
    CAPTURE(policy);
    Rig r(policy);
    const TenantId first = r.tenant(1, only_gpu);
    const TenantId second = r.tenant(2, only_gpu);
    const std::uint32_t a = r.buffer(first, 600);
    REQUIRE(r.submit(first, {Rig::use(1, {a})}));
    r.end(1);
    REQUIRE(r.release(first, a));
    // Its number is another's, of which nothing is there yet.
    CHECK(r.buffer(first, 100) == a);
    REQUIRE(r.submit(second, {Rig::use(2, {r.buffer(second, 600)})}));
    CHECK_FALSE(r.running.contains(2));
    CHECK(r.evicted.empty());
    r.let_go();
    CHECK(r.running.contains(2));
    CHECK(r.resident() == 600);
  }
}

TEST_CASE("What a closed tenant had takes room until its context has ended") {
  Rig r("eager");
  const TenantId first = r.tenant(1, only_gpu);
  const TenantId second = r.tenant(2, only_gpu);
  REQUIRE(r.submit(first, {Rig::use(1, {r.buffer(first, 600)})}));
  r.end(1);
  r.core.close_tenant(first);
  REQUIRE(r.submit(second, {Rig::use(2, {r.buffer(second, 300)})}));
  CHECK(r.running.contains(2));
  REQUIRE(r.submit(second, {Rig::use(3, {r.buffer(second, 600)})}));
  CHECK_FALSE(r.running.contains(3));
  r.end_context(1, false);
  CHECK(r.running.contains(3));
  CHECK(r.resident() == 900);
}

TEST_CASE("That a task waited for memory is forgotten when it starts, wherever that is") {
  Rig r("learned");
  const TenantId t = r.tenant(1, both);
  const std::uint32_t a = r.buffer(t, 600), b = r.buffer(t, 600);
  REQUIRE(r.submit(t, {Rig::use(1, {a})}));
  REQUIRE(r.submit(t, {Rig::use(2, {b})}));
  CHECK_FALSE(r.running.contains(2));
  r.tell("work", gpu, 1000 * ToldCore::ms);
  r.run();
  REQUIRE(r.running.contains(2));
  CHECK(r.on.at(2) == cpu);
  CHECK(r.reason(2) == Reason::memory);
  r.tell("work", gpu, 10 * ToldCore::ms);
  r.end(1);
  r.core.context_lost(1, cpu);
  r.core.context_ended(1, cpu, {How::killed, "", true});
  r.core.context_ready(1, cpu);
  r.run();
  CHECK(r.on.at(2) == gpu);
  CHECK(r.reason(2) == Reason::earliest_finish);
}

TEST_CASE("What a context holds that does not go on is not free before it goes on or ends") {
  using namespace std::string_view_literals;
  for (const char* policy : {"eager", "learned"})
    for (const bool ends : {false, true}) {
      CAPTURE(policy);
      CAPTURE(ends);
      Rig r(policy);
      const TenantId first = r.tenant(1, only_gpu);
      const TenantId second = r.tenant(2, only_gpu);
      const TenantId third = r.tenant(3, both);
      REQUIRE(r.submit(first, {Rig::use(1, {r.buffer(first, 600)})}));
      r.end(1);
      REQUIRE(r.submit(second, {Rig::use(2, {r.buffer(second, 600)})}));
      REQUIRE(r.evicted.size() == 1);
      r.stall(1);
      r.let_go();
      CHECK_FALSE(r.running.contains(2));
      CHECK(r.core.memory_awaited_by(2, 1000, false) ==
            "it needs 600 of the 1000 bytes of memory of gpu1, of which contexts that do not go on "
            "keep 600; resume those that are suspended (`aiosctl resume`), or end their jobs");
      CHECK(r.core.memory_awaited_by(2, 1001, false).empty());
      // Others may have what is free, and where there is a choice it falls elsewhere.
      REQUIRE(r.submit(second, {Rig::use(3, {r.buffer(second, 300)})}));
      CHECK(r.running.contains(3));
      REQUIRE(r.submit(third, {Rig::use(4, {r.buffer(third, 600)})}));
      REQUIRE(r.running.contains(4));
      CHECK(r.on.at(4) == cpu);
      // Who does not look ahead opens one context at a time, the processor's first.
      CHECK(r.reason(4) == (policy == "eager"sv ? Reason::first_free : Reason::memory));
      if (ends) {
        r.end_context(1);
      } else {
        r.resume(1);
        CHECK_FALSE(r.running.contains(2));
        r.let_go();
      }
      CHECK(r.running.contains(2));
      CHECK(r.core.memory_awaited_by(2, 1000, false).empty());
      CHECK(r.resident() == 900);
    }
}

TEST_CASE("Whatever happens, the room that is counted as taken is what lies there") {
#ifdef __SANITIZE_ADDRESS__  // where each takes twenty times as long
  constexpr std::uint64_t seeds = 5;
#else
  constexpr std::uint64_t seeds = 20;
#endif
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    Rig r(seed % 2 == 0 ? "eager" : "learned");
    std::mt19937_64 random(seed);
    const auto any = [&](std::uint64_t below) { return random() % below; };
    std::vector<TenantId> tenants;
    for (JobId job = 1; job <= 3; ++job) tenants.push_back(r.tenant(job, any(2) ? both : only_gpu));
    std::vector<std::pair<TenantId, std::uint32_t>> buffers;
    std::uint64_t tag = 0;
    std::size_t ended = 0;
    for (int step = 0; step < 2000; ++step) {
      const TenantId tenant = tenants[any(3)];
      switch (any(11)) {
        case 0:
          if (buffers.size() < 30) buffers.emplace_back(tenant, r.buffer(tenant, 1 + any(500)));
          break;
        case 1:
          if (const std::size_t at = any(buffers.size() + 1); at < buffers.size())
            if (r.release(buffers[at].first, buffers[at].second))
              buffers.erase(buffers.begin() + static_cast<std::ptrdiff_t>(at));
          break;
        case 2:
          r.let_go();
          // No more is counted than there can be, but for what leaves for its own job's tasks.
          if (r.stalled.empty() && r.evicted.empty()) REQUIRE(r.resident() <= Rig::room);
          break;
        case 3:
          r.end_context(1 + any(3));
          break;
        case 7:
          if (const JobId job = 1 + any(3); r.stalled.contains(job))
            r.resume(job);
          else
            r.stall(job);
          break;
        case 4:
        case 5:
        case 6:
          if (!r.running.empty()) {
            r.end(std::next(r.running.begin(), static_cast<long>(any(r.running.size())))->first);
            ++ended;
          }
          break;
        default: {
          std::vector<std::uint32_t> own;
          for (const auto& [of, id] : buffers)
            if (of == tenant && own.size() < 3 && any(2) == 0) own.push_back(id);
          TaskRecord record = task(++tag);
          for (const std::uint32_t id : own) record.buffers[record.buffer_count++] = id | 3u << 28;
          (void)r.submit(tenant, {record});
        }
      }
      // No more is there than is counted.
      REQUIRE(r.used() <= r.resident());
    }
    CHECK(ended > 100);
    for (JobId job = 1; job <= 3; ++job) r.resume(job);
    for (int i = 0; i < 3000 && !r.core.idle(); ++i) {
      r.let_go();
      if (!r.running.empty()) r.end(r.running.begin()->first);
    }
    // None waits for ever.
    CHECK(r.core.idle());
    for (const auto& [tenant, id] : buffers) CHECK(r.release(tenant, id));
    r.let_go();
    CHECK(r.resident() == 0);
    CHECK(r.core.devices()[gpu].scratch_bytes == 0);
  }
}

TEST_CASE("What tasks take beside their data is learned from peaks, and heeded") {
  Rig r("learned");
  const TenantId t = r.tenant(1, both);
  const std::uint32_t a = r.buffer(t, 300), b = r.buffer(t, 300);
  REQUIRE(r.submit(t, {Rig::use(1, {a})}));
  r.end(1, 10 * ToldCore::ms, 550);
  REQUIRE(r.costs->learned.size() == 1);
  CHECK(r.costs->learned.front().memory_bytes == 550);
  // The copy is there all the same: what it had is not what another one needs.
  REQUIRE(r.submit(t, {Rig::use(2, {b})}));
  r.end(2, 10 * ToldCore::ms, 850);
  CHECK(r.costs->learned.back().memory_bytes == 550);
  // What left before it began was not there at the same time.
  REQUIRE(r.submit(t, {Rig::use(11, {r.buffer(t, 800)})}));
  r.end(11, 10 * ToldCore::ms, 1000);
  CHECK(r.costs->learned.back().memory_bytes == 1000);
  r.let_go();
  Estimate& known = r.costs->estimates[{"work", gpu}];
  known.samples = 2;
  known.memory = {550, 600};
  REQUIRE(r.submit(t, {Rig::use(3, {a}), Rig::use(4, {b})}));
  CHECK(r.running.contains(3));
  CHECK_FALSE(r.running.contains(4));
  r.end(3);
  CHECK(r.running.contains(4));
  r.end(4);
  // More than there is, by prediction: another device is preferred, and alone it is tried.
  known.memory = {900, 1100};
  REQUIRE(r.submit(t, {Rig::use(5, {a})}));
  CHECK(r.on.at(5) == cpu);
  CHECK(r.reason(5) == Reason::memory);
  r.end(5);
  const TenantId there = r.tenant(2, only_gpu);
  REQUIRE(r.submit(there, {Rig::use(6, {r.buffer(there, 100)})}));
  r.let_go();
  CHECK(r.running.contains(6));
}

TEST_CASE("What tasks took of the host's memory counts against what their job may have") {
  Rig r("learned");
  const TenantId t = r.tenant(1, both);
  r.core.set_memory_size(cpu, 1'000'000);
  r.tell("work", cpu, ToldCore::ms);
  Estimate& known = r.costs->estimates[{"work", cpu}];
  known.samples = 5;
  known.memory = {4000, 5000};
  REQUIRE(r.submit(t, {Rig::use(1, {r.buffer(t, 500)})}));
  CHECK(r.on.at(1) == cpu);
  r.core.set_memory_quota(1, 4400);
  REQUIRE(r.submit(t, {Rig::use(2, {r.buffer(t, 500)})}));
  CHECK(r.on.at(2) == gpu);
  CHECK(r.reason(2) == Reason::memory);
  // Beside its data, which lies in regions.
  r.core.set_memory_quota(1, 4500);
  REQUIRE(r.submit(t, {Rig::use(3, {r.buffer(t, 500)})}));
  CHECK(r.on.at(3) == cpu);
}

}  // namespace aios::scheduler
