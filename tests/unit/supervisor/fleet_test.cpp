#include "services/supervisor/fleet.hpp"

#include <doctest/doctest.h>

#include <csignal>

using namespace aios::supervisor;

namespace {

constexpr std::uint64_t ms = 1'000'000;

/// storage(0), cpu(1), scheduler(2) needs cpu, mapreduce(3) needs scheduler and storage.
Plan plan() {
  Plan out;
  out.servers.resize(4);
  out.servers[2].needs = {1};
  out.servers[3].needs = {2, 0};
  return out;
}

struct Running {
  Fleet fleet{plan()};
  std::uint64_t now = 1'000 * ms;

  Running() {
    while (const auto due = fleet.step(now)) {
      REQUIRE(due->action == Action::spawn);
      fleet.machine(due->server).spawned(now, 1);
      fleet.machine(due->server).answered(ms);
    }
  }
  std::vector<std::size_t> asked_to_end(Action action) {
    std::vector<std::size_t> out;
    while (const auto due = fleet.step(now)) {
      CHECK(due->action == action);
      out.push_back(due->server);
    }
    return out;
  }
  void end(std::size_t server) { fleet.machine(server).exited(now, {0, false}); }
};

using Servers = std::vector<std::size_t>;

}  // namespace

TEST_CASE("All servers start at once, in the order of the plan") {
  Fleet fleet(plan());
  Servers order;
  while (const auto due = fleet.step(0)) {
    REQUIRE(due->action == Action::spawn);
    order.push_back(due->server);
    fleet.machine(due->server).spawned(0, 1);
  }
  CHECK(order == Servers{0, 1, 2, 3});
  CHECK(!fleet.all_running());
  for (const std::size_t server : order) fleet.machine(server).answered(ms);
  CHECK(fleet.all_running());
  CHECK(fleet.wake_ns() == never_ns);
}

TEST_CASE("Servers stop after all that need them have ended, independent ones together") {
  Running running;
  running.fleet.stop(0);
  CHECK(running.asked_to_end(Action::terminate) == Servers{3});
  running.end(3);
  CHECK(running.asked_to_end(Action::terminate) == Servers{0, 2});
  running.end(2);
  CHECK(running.asked_to_end(Action::terminate) == Servers{1});
  running.end(1);
  CHECK(!running.fleet.ended());
  running.end(0);
  CHECK(running.fleet.ended());
  CHECK(running.fleet.wake_ns() == never_ns);
}

TEST_CASE("Nobody is asked to stop before all have drained, or the time for it is over") {
  Running running;
  const std::uint64_t until = running.now + 500 * ms;
  running.fleet.stop(until);
  CHECK(running.fleet.stopping());
  CHECK(running.asked_to_end(Action::terminate).empty());
  CHECK(running.fleet.wake_ns() == until);
  for (const std::size_t server : {0, 1, 2}) running.fleet.drained(server);
  CHECK(running.asked_to_end(Action::terminate).empty());
  SUBCASE("The last one has drained") {
    running.fleet.drained(3);
  }
  SUBCASE("The time is over") {
    running.now = until;
  }
  SUBCASE("The last one is no more") {
    running.end(3);
    CHECK(running.asked_to_end(Action::terminate) == Servers{0, 2});
    return;
  }
  CHECK(running.asked_to_end(Action::terminate) == Servers{3});
}

TEST_CASE("A server that dies while the others drain is not started again") {
  Running running;
  running.fleet.stop(running.now + 500 * ms);
  running.fleet.machine(1).exited(running.now, {SIGSEGV, true});
  CHECK(!running.fleet.step(running.now).has_value());
  CHECK(running.fleet.wake_ns() == running.now + 500 * ms);
}

TEST_CASE("One that does not stop in time is killed and the others go on") {
  Running running;
  running.fleet.stop(0);
  CHECK(running.asked_to_end(Action::terminate) == Servers{3});
  CHECK(running.fleet.wake_ns() == running.now + 1'000 * ms);
  running.now += 1'000 * ms;
  CHECK(running.asked_to_end(Action::kill) == Servers{3});
  running.fleet.machine(3).exited(running.now, {SIGKILL, true});
  CHECK(running.asked_to_end(Action::terminate) == Servers{0, 2});
}

TEST_CASE("A server that dies during the shutdown is not started again") {
  Running running;
  running.fleet.stop(0);
  CHECK(running.asked_to_end(Action::terminate) == Servers{3});
  running.fleet.machine(1).exited(running.now, {SIGSEGV, true});
  CHECK(running.asked_to_end(Action::terminate).empty());
  for (const std::size_t server : {3, 2, 0}) {
    running.end(server);
    while (running.fleet.step(running.now)) {
    }
  }
  CHECK(running.fleet.ended());
}

TEST_CASE("A fleet whose servers never started stops at once") {
  Fleet fleet(plan());
  fleet.stop(0);
  CHECK(!fleet.step(0).has_value());
  CHECK(fleet.ended());
}

TEST_CASE("The failed server is told, and it does not hold up the shutdown") {
  Running running;
  CHECK(!running.fleet.first_given_up().has_value());
  Fleet fleet(plan());
  for (std::uint32_t i = 0; i <= max_early_retries; ++i) {
    running.now += 10'000 * ms;
    while (const auto due = fleet.step(running.now)) {
      if (due->server == 3)
        fleet.machine(3).spawn_failed(running.now, "no such file");
      else
        fleet.machine(due->server).spawned(running.now, 1);
      if (due->server == 3) break;
    }
  }
  CHECK(fleet.first_given_up() == 3);
  CHECK(!fleet.all_running());
  fleet.stop(0);
  CHECK(fleet.step(running.now)->server == 0);
}
