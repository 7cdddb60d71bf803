// An executor of jobs for a device with a queue of its own.
#include <doctest/doctest.h>

#include <atomic>
#include <latch>
#include <map>
#include <set>

#include "abi/runtime/time.hpp"
#include "tests/unit/device/executor_owner.hpp"

using namespace aios;
using namespace aios::device;

namespace {

/// Jobs on a device's queue of `depth`.
class QueueFixture : public ExecutorOwner {
 public:
  explicit QueueFixture(std::size_t depth) {
    executor = Executor::create_queue(depth, bell()).value();
  }
  std::vector<Executor::Finished> wait_for(std::size_t count) {
    executor->kick();
    return ExecutorOwner::wait_for(count);
  }
};

}  // namespace

TEST_CASE("On a queue the next job begins before the one before it has ended") {
  QueueFixture queue(2);
  std::latch second_began(1);
  REQUIRE(queue.executor->submit({.id = 1, .block_count = 1, .limit_ns = 0, .run_block = [&](auto) {
                                    second_began.wait();  // for ever, if it were not so
                                    return Result<>();
                                  }}));
  REQUIRE(queue.executor->submit({.id = 2,
                                  .block_count = 1,
                                  .limit_ns = 0,
                                  .run_block = [](auto) { return Result<>(); },
                                  .begin =
                                      [&] {
                                        second_began.count_down();
                                        return Result<>();
                                      }}));
  for (const auto& finished : queue.wait_for(2)) CHECK(!finished.alone);
}

TEST_CASE("On a queue jobs begin in the order of submission, one at a time") {
  QueueFixture queue(4);
  std::vector<std::uint64_t> order;
  std::atomic<int> inside = 0;
  bool together = false;
  constexpr std::uint64_t jobs = 500;
  for (std::uint64_t id = 0; id < jobs; ++id)
    REQUIRE(queue.executor->submit({.id = id,
                                    .block_count = 1,
                                    .limit_ns = 0,
                                    .run_block = [](auto) { return Result<>(); },
                                    .begin =
                                        [&, id] {
                                          together = together || ++inside != 1;
                                          order.push_back(id);
                                          --inside;
                                          return Result<>();
                                        }}));
  (void)queue.wait_for(jobs);
  CHECK(!together);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("A job that cannot begin is not waited for, and was alone") {
  QueueFixture queue(2);
  bool waited = false;
  REQUIRE(queue.executor->submit({.id = 1,
                                  .block_count = 1,
                                  .limit_ns = 0,
                                  .run_block =
                                      [&](auto) {
                                        waited = true;
                                        return Result<>();
                                      },
                                  .begin = [] { return error(Code::no_memory, "full"); }}));
  const auto finished = queue.wait_for(1);
  CHECK(finished[0].outcome.error().code() == Code::no_memory);
  CHECK(finished[0].alone);
  CHECK(!waited);
}

TEST_CASE(
    "On a queue one that can tell its end does not hold up those that begin, nor is it lost") {
  QueueFixture queue(2);
  // The first ends when the second has begun, which it does while the first is looked at.
  std::atomic<bool> second_began = false;
  std::atomic<int> asked = 0;
  REQUIRE(queue.executor->submit({.id = 1,
                                  .block_count = 1,
                                  .run_block =
                                      [&](auto) {
                                        second_began.wait(false);
                                        return Result<>();
                                      },
                                  .has_ended =
                                      [&] {
                                        ++asked;
                                        return second_began.load();
                                      }}));
  REQUIRE(queue.executor->submit({.id = 2,
                                  .block_count = 1,
                                  .run_block = [](auto) { return error(Code::crashed, "second"); },
                                  .begin =
                                      [&] {
                                        second_began = true;
                                        second_began.notify_all();
                                        return Result<>();
                                      },
                                  .has_ended = [] { return true; }}));
  std::set<std::uint64_t> failed;
  for (const auto& finished : queue.wait_for(2))
    if (!finished.outcome) failed.insert(finished.id);
  CHECK(failed == std::set<std::uint64_t>{2});
  CHECK(asked > 0);
}

TEST_CASE("On a queue no more jobs are on their way than it is deep") {
  constexpr std::size_t depth = 3;
  QueueFixture queue(depth);
  std::atomic<int> on_way = 0, most = 0, countdown = 0;
  constexpr std::uint64_t jobs = 2000;
  for (std::uint64_t id = 0; id < jobs; ++id)
    REQUIRE(queue.executor->submit({.id = id,
                                    .block_count = 1,
                                    .run_block =
                                        [&](auto) {
                                          --on_way;
                                          return Result<>();
                                        },
                                    .begin =
                                        [&] {
                                          most = std::max(most.load(), ++on_way);
                                          return Result<>();
                                        },
                                    // Some are seen to end, some are waited for.
                                    .has_ended = [&] { return ++countdown % 7 == 0; }}));
  CHECK(queue.wait_for(jobs).size() == jobs);
  CHECK(most <= static_cast<int>(depth));
  CHECK(on_way == 0);
}

TEST_CASE("What begins after a crash was not alone, and the one that crashed was") {
  QueueFixture queue(1);
  const auto crash = [] { return error(Code::crashed, "an illegal address"); };
  REQUIRE(queue.executor->submit({.id = 1, .block_count = 1, .limit_ns = 0, .run_block = [&](auto) {
                                    return Result<>(crash());
                                  }}));
  REQUIRE(queue.executor->submit({.id = 2,
                                  .block_count = 1,
                                  .limit_ns = 0,
                                  .run_block = [](auto) { return Result<>(); },
                                  .begin = [&] { return Result<>(crash()); }}));
  const auto finished = queue.wait_for(2);
  CHECK(finished[0].id == 1);
  CHECK(finished[0].alone);
  CHECK(!finished[1].alone);
}

TEST_CASE("One that crashed in vain, cancelled, leaves nothing behind it alone either") {
  QueueFixture queue(2);
  std::latch second_began(1);
  const auto job = [](std::uint64_t id, std::function<Result<>(std::uint32_t)> run,
                      std::function<Result<>()> begin, std::vector<std::uint64_t> after = {}) {
    return Executor::Job{.id = id,
                         .brief = true,
                         .run_block = std::move(run),
                         .begin = std::move(begin),
                         .after = std::move(after)};
  };
  const auto well = [] { return Result<>(); };
  const auto crash = [] { return error(Code::crashed, "an illegal address"); };
  const auto fail_late = [&](auto) {
    second_began.wait();
    return error(Code::no_memory, "full");
  };
  const auto begin_second = [&] { return second_began.count_down(), Result<>(); };
  REQUIRE(queue.executor->submit(job(1, fail_late, well)));
  REQUIRE(queue.executor->submit(job(2, [&](auto) { return crash(); }, begin_second, {1})));
  for (const auto& finished : queue.wait_for(2)) CHECK(finished.cancelled == (finished.id == 2));
  REQUIRE(queue.executor->submit(job(
      3, [&](auto) { return well(); }, crash)));
  CHECK(!queue.wait_for(1)[0].alone);
}

TEST_CASE("What comes after one of which it is known that it will fail does not begin") {
  QueueFixture queue(2);
  std::latch second_is_over(1);
  bool begun = false;
  REQUIRE(queue.executor->submit({.id = 1,
                                  .brief = true,
                                  .run_block =
                                      [&](auto) {
                                        second_is_over.wait();
                                        return error(Code::no_memory, "full");
                                      },
                                  .begin = [] { return Result<>(); },
                                  .will_fail = [] { return true; }}));
  REQUIRE(queue.executor->submit({.id = 2,
                                  .brief = true,
                                  .run_block = [](auto) { return Result<>(); },
                                  .begin =
                                      [&] {
                                        begun = true;
                                        second_is_over.count_down();
                                        return Result<>();
                                      },
                                  .after = {1}}));
  const auto first = queue.wait_for(1);
  CHECK(first[0].id == 2);
  CHECK(first[0].cancelled);
  CHECK(!begun);
  if (!begun) second_is_over.count_down();
  (void)queue.wait_for(1);
}

TEST_CASE("On a queue what comes after one that fails is cancelled, whenever that is known") {
  const auto outcomes = [](bool fails_at_begin, bool tells_end) {
    QueueFixture queue(3);
    std::latch second_began(1);
    const auto job = [&](std::uint64_t id, std::vector<std::uint64_t> after) {
      Executor::Job one{.id = id,
                        .brief = true,
                        .run_block = [](auto) { return Result<>(); },
                        .after = std::move(after)};
      if (tells_end) one.has_ended = [] { return true; };
      return one;
    };
    const auto fail = [] { return error(Code::no_memory, "full"); };
    Executor::Job first = job(1, {}), second = job(2, {1});
    if (fails_at_begin)
      first.begin = fail;
    else if (!tells_end)
      // The device is given the second before the first has failed.
      second.begin = [&] { return second_began.count_down(), Result<>(); };
    if (!fails_at_begin)
      first.run_block = [&, fail](auto) {
        if (!tells_end) second_began.wait();
        return fail();
      };
    REQUIRE(queue.executor->submit(std::move(first)));
    REQUIRE(queue.executor->submit(std::move(second)));
    REQUIRE(queue.executor->submit(job(3, {})));
    REQUIRE(queue.executor->submit(job(4, {3, 2})));
    std::map<std::uint64_t, std::pair<Code, bool>> all;
    for (const auto& f : queue.wait_for(4))
      all[f.id] = {f.outcome ? Code::ok : f.outcome.error().code(), f.cancelled};
    return all;
  };
  const std::map<std::uint64_t, std::pair<Code, bool>> expected{{1, {Code::no_memory, false}},
                                                                {2, {Code::cancelled, true}},
                                                                {3, {Code::ok, false}},
                                                                {4, {Code::cancelled, true}}};
  for (const bool fails_at_begin : {false, true})
    for (const bool tells_end : {false, true})
      for (int i = 0; i < 50; ++i) CHECK((outcomes(fails_at_begin, tells_end) == expected));
}

TEST_CASE("The limit of a job on a queue counts from the end of the one before it") {
  QueueFixture queue(2);
  std::latch both(2), release(1);
  const auto hold = [&](auto) {
    release.wait();
    return Result<>();
  };
  const auto begin = [&] {
    both.count_down();
    return Result<>();
  };
  const std::uint64_t limit_ns = 1'000'000'000'000;
  REQUIRE(queue.executor->submit(
      {.id = 1, .block_count = 1, .limit_ns = 0, .run_block = hold, .begin = begin}));
  REQUIRE(queue.executor->submit(
      {.id = 2, .block_count = 1, .limit_ns = limit_ns, .run_block = hold, .begin = begin}));
  queue.executor->kick();
  both.wait();
  // Long after both have begun: the second is not worked on.
  const std::uint64_t later_ns = UINT64_MAX / 2;
  CHECK(!queue.executor->check_limits(later_ns).exceeded);
  release.count_down();
  (void)queue.wait_for(2);
}

TEST_CASE("The limit of the first in a queue does not count anew when one behind it ends") {
  QueueFixture queue(2);
  std::latch began(1), release(1);
  const std::uint64_t limit_ns = 1'000'000'000'000;
  REQUIRE(queue.executor->submit({.id = 1,
                                  .block_count = 1,
                                  .limit_ns = limit_ns,
                                  .run_block =
                                      [&](auto) {
                                        release.wait();
                                        return Result<>();
                                      },
                                  .begin = [&] { return began.count_down(), Result<>(); }}));
  queue.executor->kick();
  began.wait();
  const std::uint64_t begun_ns = now_ns();
  while (now_ns() == begun_ns) {
  }
  REQUIRE(queue.executor->submit({.id = 2,
                                  .block_count = 1,
                                  .limit_ns = 0,
                                  .run_block = [](auto) { return Result<>(); },
                                  .begin = [] { return error(Code::no_memory, "full"); }}));
  (void)queue.wait_for(1);
  CHECK(queue.executor->check_limits(begun_ns + limit_ns).exceeded == 1);
  release.count_down();
  (void)queue.wait_for(1);
}
