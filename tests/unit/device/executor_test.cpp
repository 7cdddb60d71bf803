#include "drivers/device/executor.hpp"

#include <doctest/doctest.h>
#include <sched.h>

#include <atomic>
#include <barrier>
#include <latch>
#include <mutex>
#include <numeric>
#include <set>

#include "abi/runtime/time.hpp"
#include "tests/unit/device/executor_owner.hpp"

using namespace aios;
using namespace aios::device;

namespace {

/// An executor on `threads` threads, and the owner's side of it.
class Fixture : public ExecutorOwner {
 public:
  explicit Fixture(std::size_t threads) {
    const std::vector<int> cpus = usable_cpus();
    std::vector<int> chosen;
    for (std::size_t i = 0; i < threads; ++i) chosen.push_back(cpus[i % cpus.size()]);
    auto created = Executor::create(chosen, bell());
    REQUIRE(created);
    executor = *std::move(created);
  }

  void submit(std::uint64_t id, std::uint32_t blocks,
              std::function<Result<>(std::uint32_t)> run_block, std::uint64_t limit_ns = 0) {
    REQUIRE(executor->submit({.id = id,
                              .block_count = blocks,
                              .limit_ns = limit_ns,
                              .brief = false,
                              .run_block = std::move(run_block)}));
    executor->kick();
  }
};

}  // namespace

TEST_CASE("Every block of a grid runs exactly once") {
  Fixture fixture(3);
  constexpr std::uint32_t blocks = 10'000;
  std::vector<std::atomic<int>> runs(blocks);
  fixture.submit(42, blocks, [&](std::uint32_t block) -> Result<> {
    ++runs[block];
    return {};
  });
  const auto finished = fixture.wait_for(1);
  CHECK(finished[0].id == 42);
  CHECK(finished[0].outcome);
  CHECK(finished[0].start_ns != 0);
  CHECK(finished[0].end_ns >= finished[0].start_ns);
  CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& count) { return count == 1; }));
}

TEST_CASE("A job's threads count each for as long as it had blocks of that job") {
  Fixture fixture(2);
  std::barrier both(2);
  std::atomic<std::uint64_t> within_ns = 0;
  fixture.submit(1, 2, [&](std::uint32_t) -> Result<> {
    both.arrive_and_wait();
    const std::uint64_t begin_ns = now_ns();
    while (now_ns() < begin_ns + ns_per_ms) {
    }
    within_ns += now_ns() - begin_ns;
    return {};
  });
  const auto finished = fixture.wait_for(1);
  CHECK(within_ns >= 2 * ns_per_ms);
  CHECK(finished[0].busy_ns >= within_ns);
  CHECK(finished[0].busy_ns <= 2 * (finished[0].end_ns - finished[0].start_ns));
}

TEST_CASE("Blocks of one job run on several threads at once") {
  Fixture fixture(2);
  std::barrier both(2);  // would wait for ever if one thread ran both blocks
  fixture.submit(1, 2, [&](std::uint32_t) -> Result<> {
    both.arrive_and_wait();
    return {};
  });
  CHECK(fixture.wait_for(1)[0].outcome);
}

TEST_CASE("Several jobs run at once") {
  Fixture fixture(2);
  std::barrier both(2);
  for (const std::uint64_t id : {1, 2})
    fixture.submit(id, 1, [&](std::uint32_t) -> Result<> {
      both.arrive_and_wait();
      return {};
    });
  CHECK(fixture.wait_for(2).size() == 2);
}

TEST_CASE("Jobs start in the order of their submission") {
  Fixture fixture(1);
  std::vector<std::uint64_t> order;
  std::latch submitted(1);
  for (std::uint64_t id = 0; id < 50; ++id)
    fixture.submit(id, 2, [&, id](std::uint32_t block) -> Result<> {
      submitted.wait();
      if (block == 0) order.push_back(id);
      return {};
    });
  submitted.count_down();
  fixture.wait_for(50);
  std::vector<std::uint64_t> expected(50);
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
}

TEST_CASE("A failing block fails its job and no other, and the rest is not begun") {
  Fixture fixture(1);
  std::uint32_t begun = 0;
  fixture.submit(1, 1000, [&](std::uint32_t block) -> Result<> {
    ++begun;
    if (block == 3) return error(Code::io_error, "block 3 broke");
    return {};
  });
  fixture.submit(2, 10, [](std::uint32_t) -> Result<> { return {}; });
  const auto finished = fixture.wait_for(2);
  CHECK(finished[0].outcome.error().to_string() == "io_error: block 3 broke");
  CHECK(begun == 4);
  CHECK(finished[1].outcome);
}

TEST_CASE("Of several failures the lowest block's is reported") {
  Fixture fixture(2);
  std::barrier both(2);
  fixture.submit(1, 2, [&](std::uint32_t block) -> Result<> {
    both.arrive_and_wait();
    return error(Code::io_error, std::to_string(block));
  });
  CHECK(fixture.wait_for(1)[0].outcome.error().message() == "0");
}

TEST_CASE("One thread a processor, each pinned to its own") {
  const std::vector<int> cpus = usable_cpus();
  Fixture fixture(cpus.size());
  std::barrier all(static_cast<std::ptrdiff_t>(cpus.size()));
  std::mutex mutex;
  std::multiset<int> used;
  fixture.submit(1, static_cast<std::uint32_t>(cpus.size()), [&](std::uint32_t) -> Result<> {
    all.arrive_and_wait();
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    const std::lock_guard lock(mutex);
    if (CPU_COUNT(&set) == 1) used.insert(sched_getcpu());
    return {};
  });
  fixture.wait_for(1);
  CHECK(used == std::multiset<int>(cpus.begin(), cpus.end()));
}

TEST_CASE("A job that runs past its limit is found, one that only waits is not") {
  Fixture fixture(1);
  std::latch begun(1), end(1);
  fixture.submit(
      1, 1,
      [&](std::uint32_t) -> Result<> {
        begun.count_down();
        end.wait();
        return {};
      },
      1000);
  fixture.submit(
      2, 1, [](std::uint32_t) -> Result<> { return {}; }, 10);
  begun.wait();

  constexpr std::uint64_t far_ns = UINT64_MAX / 2;
  const auto late = fixture.executor->check_limits(far_ns);
  REQUIRE(late.exceeded);
  CHECK(*late.exceeded == 1);
  const auto early = fixture.executor->check_limits(1);
  CHECK(!early.exceeded);
  CHECK(early.next_ns == 11);  // job 2, if it began now
  end.count_down();
  fixture.wait_for(2);
  CHECK(fixture.executor->check_limits(far_ns).next_ns == 0);
}

TEST_CASE("A limit beyond the end of time is none") {
  Fixture fixture(1);
  std::latch end(1);
  fixture.submit(
      1, 1,
      [&](std::uint32_t) -> Result<> {
        end.wait();
        return {};
      },
      UINT64_MAX);
  CHECK(!fixture.executor->check_limits(UINT64_MAX - 1).exceeded);
  end.count_down();
  fixture.wait_for(1);
}

TEST_CASE("Too many jobs are refused with quota") {
  Fixture fixture(1);
  std::latch end(1);
  const auto run = [&](std::uint32_t) -> Result<> {
    end.wait();
    return {};
  };
  for (std::size_t i = 0; i < Executor::max_jobs; ++i) fixture.submit(i, 1, run);
  CHECK(fixture.executor
            ->submit({.id = 0, .block_count = 1, .limit_ns = 0, .brief = false, .run_block = run})
            .error()
            .code() == Code::quota);
  end.count_down();
  CHECK(fixture.wait_for(Executor::max_jobs).size() == Executor::max_jobs);
}

TEST_CASE("Brief jobs that were long of late are taken and reported one at a time") {
  Fixture fixture(1);
  const auto submit = [&](std::uint64_t id, std::function<Result<>(std::uint32_t)> run) {
    REQUIRE(fixture.executor->submit(
        {.id = id, .block_count = 1, .limit_ns = 0, .brief = true, .run_block = std::move(run)}));
  };
  const auto long_one = [](std::uint32_t) -> Result<> {
    const auto enough = static_cast<std::uint64_t>(4 * Executor::brief_chunk_ns);
    for (const std::uint64_t begin = now_ns(); now_ns() < begin + enough;) continue;
    return {};
  };
  for (std::uint64_t id = 1; id <= 8; ++id) submit(id, long_one);
  fixture.executor->kick();
  CHECK(fixture.wait_for(8).size() == 8);
  std::latch reported(1);
  submit(9, long_one);
  submit(10, [&](std::uint32_t) -> Result<> {
    reported.wait();  // for ever, if the one before it were reported with it
    return {};
  });
  fixture.executor->kick();
  CHECK(fixture.wait_for(1).front().id == 9);
  reported.count_down();
  CHECK(fixture.wait_for(1).front().id == 10);
}

TEST_CASE("The ends of brief jobs are reported before a thread turns to a job that is not brief") {
  Fixture fixture(1);
  constexpr std::size_t count = 100;
  for (std::uint64_t id = 1; id <= count; ++id)
    REQUIRE(fixture.executor->submit(
        {.id = id, .brief = true, .run_block = [](std::uint32_t) -> Result<> { return {}; }}));
  std::latch reported(1);
  fixture.submit(count + 1, 1, [&](std::uint32_t) -> Result<> {
    reported.wait();  // for ever, if something were kept back
    return {};
  });
  CHECK(fixture.wait_for(count).size() == count);
  reported.count_down();
  CHECK(fixture.wait_for(1).front().id == count + 1);
}

TEST_CASE("What a thread keeps back can be taken while the next brief job does not end") {
  Fixture fixture(1);
  std::latch taken(1);
  std::vector<std::uint64_t> before;
  for (std::uint64_t id = 1; id <= 4; ++id) {
    before.push_back(id);
    REQUIRE(fixture.executor->submit(
        {.id = id, .brief = true, .run_block = [](std::uint32_t) -> Result<> { return {}; }}));
  }
  const auto wait = [&](std::uint32_t) -> Result<> {
    taken.wait();
    return {};
  };
  REQUIRE(fixture.executor->submit({.id = 5, .brief = true, .run_block = wait, .after = before}));
  fixture.executor->kick();
  // Not told of, perhaps: so it asks.
  for (std::size_t count = 0; count < before.size(); std::this_thread::yield())
    count += fixture.executor->take_finished().size();
  taken.count_down();
  CHECK(fixture.wait_for(1).front().id == 5);
}

TEST_CASE("Threads that take brief jobs wake others, until none is left") {
  constexpr std::size_t threads = 8;
  static_assert(threads > Executor::most_woken);
  Fixture fixture(threads);
  // So long that they are taken one at a time from then on, by threads that slept.
  const auto slow = [](std::uint32_t) -> Result<> {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    return {};
  };
  for (std::uint64_t id = 1; id <= 32; ++id)
    REQUIRE(fixture.executor->submit({.id = id, .brief = true, .run_block = slow}));
  fixture.executor->kick();
  CHECK(fixture.wait_for(32).size() == 32);
  std::latch together(threads);
  const auto meet = [&](std::uint32_t) -> Result<> {
    together.arrive_and_wait();
    return {};
  };
  for (std::uint64_t id = 101; id < 101 + threads; ++id)
    REQUIRE(fixture.executor->submit({.id = id, .brief = true, .run_block = meet}));
  fixture.executor->kick();
  CHECK(fixture.wait_for(threads).size() == threads);
}

TEST_CASE("Brief jobs wait for those that they name, on whatever threads these run") {
  Fixture fixture(2);
  std::mutex mutex;
  std::vector<std::uint64_t> order;
  const auto submit = [&](std::uint64_t id, std::vector<std::uint64_t> after) {
    const auto run = [&, id](std::uint32_t) -> Result<> {
      const std::lock_guard lock(mutex);
      order.push_back(id);
      return {};
    };
    REQUIRE(fixture.executor->submit(
        {.id = id, .brief = true, .run_block = run, .after = std::move(after)}));
  };
  // Each in a row of eight waits for three of the row before; the first of all names one that has
  // never been.
  constexpr std::uint64_t width = 8;
  constexpr std::uint64_t count = 2000;
  for (std::uint64_t id = 0; id < count; ++id) {
    if (id == 0)
      submit(id, {99'999});
    else if (id < width)
      submit(id, {});
    else if (id % width == 0)
      submit(id, {id - width});
    else
      submit(id, {id - width, id - width - 1, id - width});
    if (id % 16 == 0) fixture.executor->kick();
  }
  fixture.executor->kick();
  CHECK(fixture.wait_for(count).size() == count);
  std::vector<std::size_t> place(count);
  for (std::size_t i = 0; i < order.size(); ++i) place[order[i]] = i;
  for (std::uint64_t id = width; id < count; ++id) {
    REQUIRE(place[id] > place[id - width]);
    if (id % width != 0) REQUIRE(place[id] > place[id - width - 1]);
  }
}

TEST_CASE("A brief job is not run when one that it waited for failed, even one that has ended") {
  Fixture fixture(2);
  std::atomic<bool> ran = false;
  std::latch go(1);
  const auto wait_and_fail = [&](std::uint32_t) -> Result<> {
    go.wait();
    return error(Code::io_error, "on purpose");
  };
  const auto run = [&](std::uint32_t) -> Result<> {
    ran = true;
    return {};
  };
  REQUIRE(fixture.executor->submit({.id = 1, .brief = true, .run_block = wait_and_fail}));
  REQUIRE(fixture.executor->submit({.id = 2, .brief = true, .run_block = run, .after = {1}}));
  REQUIRE(fixture.executor->submit({.id = 3, .brief = true, .run_block = run, .after = {2}}));
  fixture.executor->kick();
  go.count_down();
  const auto finished = fixture.wait_for(3);
  REQUIRE(finished.size() == 3);
  for (const auto& one : finished)
    CHECK(one.outcome.error().code() == (one.id == 1 ? Code::io_error : Code::cancelled));
  CHECK(!ran);
  // They have been fetched: what comes after them now may run, as its owner knows best.
  REQUIRE(fixture.executor->submit({.id = 4, .brief = true, .run_block = run, .after = {1}}));
  fixture.executor->kick();
  CHECK(fixture.wait_for(1).front().outcome);
  CHECK(ran);
}

TEST_CASE("What passes while it is paused counts for no limit") {
  Fixture fixture(1);
  std::latch go(1);
  std::latch started(1);
  constexpr std::uint64_t limit_ns = 1'000'000'000;
  fixture.submit(
      1, 1,
      [&](std::uint32_t) -> Result<> {
        started.count_down();
        go.wait();
        return {};
      },
      limit_ns);
  started.wait();
  const std::uint64_t start_ns = fixture.executor->check_limits(1).next_ns - limit_ns;
  fixture.executor->pause(start_ns + limit_ns / 2);
  const auto paused = fixture.executor->check_limits(start_ns + 100 * limit_ns);
  CHECK(!paused.exceeded);
  CHECK(paused.next_ns == 0);
  fixture.executor->resume(start_ns + 100 * limit_ns);
  const auto left = fixture.executor->check_limits(start_ns + 100 * limit_ns);
  CHECK(!left.exceeded);
  CHECK(left.next_ns == start_ns + 100 * limit_ns + limit_ns / 2);
  CHECK(fixture.executor->check_limits(left.next_ns).exceeded == 1);
  // Resuming what is not paused changes nothing.
  fixture.executor->resume(start_ns + 200 * limit_ns);
  CHECK(fixture.executor->check_limits(left.next_ns).exceeded == 1);
  go.count_down();
  fixture.wait_for(1);
}
