#include "services/supervisor/server_machine.hpp"

#include <doctest/doctest.h>

#include <csignal>

using namespace aios::supervisor;

namespace {

constexpr std::uint64_t ms = 1'000'000;

struct Life {
  explicit Life(const RestartRule& rule = {}) : machine(Timing{}, rule) {}
  ServerMachine machine;
  std::uint64_t now = 1'000 * ms;
  std::uint64_t epoch = 0;

  void start() {
    REQUIRE(machine.step(now) == Action::spawn);
    machine.spawned(now, ++epoch);
  }
  void run() {
    start();
    now += 5 * ms;
    machine.answered(2 * ms);
    REQUIRE(machine.state() == ServerState::running);
  }
  void die(int signal_number) { machine.exited(now, {signal_number, true}); }
  std::uint64_t delay() const { return machine.wake_ns() - now; }
};

}  // namespace

TEST_CASE("A server is spawned at once and runs with its first answer") {
  Life life;
  CHECK(life.machine.state() == ServerState::waiting);
  life.start();
  CHECK(life.machine.state() == ServerState::starting);
  CHECK(life.machine.step(life.now) == Action::none);
  CHECK(life.machine.wake_ns() == never_ns);
  life.machine.answered(3 * ms);
  CHECK(life.machine.state() == ServerState::running);
  CHECK(life.machine.heartbeat_ns() == 3 * ms);
  CHECK(life.machine.restarts() == 0);
  CHECK(life.machine.last_end().empty());
}

TEST_CASE("A server that dies is started again at once") {
  Life life;
  life.run();
  life.now += 1'000 * ms;
  life.die(SIGSEGV);
  CHECK(life.machine.state() == ServerState::waiting);
  CHECK(life.machine.last_end() == "killed by signal 11");
  CHECK(life.delay() == 0);
  life.run();
  CHECK(life.machine.restarts() == 1);
}

TEST_CASE("Ends within the window delay the restart, doubling to five seconds") {
  Life life({.count = 100});
  life.run();
  std::vector<std::uint64_t> delays;
  for (int i = 0; i < 12; ++i) {
    life.machine.exited(life.now, {1, false});
    delays.push_back(life.delay() / ms);
    if (life.delay() != 0) CHECK(life.machine.step(life.now + life.delay() - 1) == Action::none);
    REQUIRE(life.machine.step(life.now + life.delay()) == Action::spawn);
    life.now += 1'000 * ms;
    life.machine.spawned(life.now, ++life.epoch);
    life.machine.answered(ms);
  }
  CHECK(delays ==
        std::vector<std::uint64_t>{0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000});
  CHECK(life.machine.last_end() == "exited with code 1");
}

TEST_CASE("Ends that lie a window apart delay nothing and never end in quarantine") {
  Life life({.count = 1});
  for (int i = 0; i < 100; ++i) {
    life.run();
    life.now += 60'000 * ms;
    life.die(SIGABRT);
    REQUIRE(life.machine.state() == ServerState::waiting);
    CHECK(life.delay() == 0);
  }
}

TEST_CASE("One end more within the window than there may be restarts means quarantine") {
  Life life({.count = 3, .window_ns = 1'000 * ms});
  for (int i = 0; i < 3; ++i) {
    life.run();
    life.die(SIGSEGV);
    REQUIRE(life.machine.state() == ServerState::waiting);
    life.now += life.delay();
  }
  life.run();
  life.die(SIGSEGV);
  CHECK(life.machine.state() == ServerState::quarantined);
  CHECK(life.machine.given_up());
  CHECK(life.machine.ended());
  CHECK(life.machine.wake_ns() == never_ns);
  CHECK(life.machine.last_end() == "killed by signal 11");
  CHECK(life.machine.step(life.now + 100'000 * ms) == Action::none);
}

TEST_CASE("An operator's restart revives what is in quarantine and forgets its ends") {
  Life life({.count = 1});
  for (int round = 0; round < 3; ++round) {
    life.run();
    life.die(SIGKILL);
    life.run();
    life.die(SIGKILL);
    REQUIRE(life.machine.state() == ServerState::quarantined);
    REQUIRE(life.machine.restart(life.now));
    CHECK(life.machine.state() == ServerState::waiting);
    CHECK(life.delay() == 0);
  }
}

TEST_CASE("An operator's restart ends a server in order and counts as no end") {
  Life life({.count = 0});
  life.run();
  REQUIRE(life.machine.restart(life.now));
  CHECK(life.machine.restarting());
  CHECK(life.machine.step(life.now) == Action::terminate);
  CHECK(life.machine.step(life.now + 1'000 * ms) == Action::kill);
  life.die(SIGKILL);
  CHECK(!life.machine.restarting());
  CHECK(life.machine.last_end_from_outside());
  life.run();
  life.machine.stop(life.now);
  CHECK(!life.machine.restart(life.now));
}

TEST_CASE("A server that an earlier supervisor gave up stays down until it is restarted") {
  Life life;
  life.machine.found_down();
  CHECK(life.machine.given_up());
  CHECK(life.machine.step(life.now) == Action::none);
  REQUIRE(life.machine.restart(life.now));
  life.run();
}

TEST_CASE("Being killed from outside delays nothing once the server has answered") {
  Life life({.count = 100});
  for (int i = 0; i < 20; ++i) {
    life.run();
    life.die(SIGKILL);
    CHECK(life.delay() == 0);
    CHECK(life.machine.last_end_from_outside());
  }
  life.run();
  life.die(SIGABRT);
  CHECK(!life.machine.last_end_from_outside());
}

TEST_CASE("Being killed from outside before the first answer is no failure to start") {
  Life life({.count = 100});
  for (int i = 0; i < 20; ++i) {
    life.start();
    life.die(SIGKILL);
    CHECK(life.delay() == 50 * ms);
    life.now += life.delay();
  }
  life.run();
  CHECK(life.machine.restarts() == 20);
}

TEST_CASE("Being killed from outside too often means quarantine as well") {
  Life life;
  for (int i = 0; i <= 10; ++i) {
    REQUIRE(!life.machine.given_up());
    life.run();
    life.die(SIGKILL);
  }
  CHECK(life.machine.state() == ServerState::quarantined);
}

TEST_CASE("A server that never answered has failed after three retries") {
  Life life;
  for (std::uint32_t i = 0; i <= max_early_retries; ++i) {
    CHECK(!life.machine.ended());
    life.start();
    life.machine.exited(life.now, {1, false});
    if (life.machine.wake_ns() != never_ns) life.now += life.delay();
  }
  CHECK(life.machine.state() == ServerState::failed);
  CHECK(life.machine.ended());
  CHECK(life.machine.wake_ns() == never_ns);
  CHECK(life.machine.step(life.now + 100'000 * ms) == Action::none);
}

TEST_CASE("A server that cannot be spawned has failed after three retries") {
  Life life;
  for (std::uint32_t i = 0; i <= max_early_retries; ++i) {
    REQUIRE(life.machine.step(life.now) == Action::spawn);
    life.machine.spawn_failed(life.now, "cannot start: not_found");
    if (life.machine.wake_ns() != never_ns) life.now += life.delay();
  }
  CHECK(life.machine.state() == ServerState::failed);
  CHECK(life.machine.last_end() == "cannot start: not_found");
}

TEST_CASE("A server that once answered has not failed to start, however often it ends") {
  Life life({.count = 1000});
  life.run();
  for (int i = 0; i < 50; ++i) {
    life.machine.exited(life.now, {1, false});
    REQUIRE(!life.machine.ended());
    life.now += life.delay();
    life.start();
  }
}

TEST_CASE("Three missed heartbeats in a row end a server, first kindly") {
  Life life;
  life.run();
  life.machine.missed(life.now);
  life.machine.missed(life.now);
  life.machine.answered(ms);
  CHECK(life.machine.missed_heartbeats() == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(life.machine.step(life.now) == Action::none);
    life.now += 1'000 * ms;
    life.machine.missed(life.now);
  }
  CHECK(life.machine.missed_heartbeats() == 3);
  CHECK(life.machine.step(life.now) == Action::terminate);
  CHECK(life.machine.step(life.now) == Action::none);
  CHECK(life.machine.wake_ns() == life.now + 1'000 * ms);
  life.machine.missed(life.now + 500 * ms);
  life.now += 1'000 * ms;
  CHECK(life.machine.step(life.now) == Action::kill);
  CHECK(life.machine.step(life.now) == Action::none);
  life.die(SIGKILL);
  CHECK(life.machine.state() == ServerState::waiting);
  CHECK(life.delay() == 0);
}

TEST_CASE("A new server has the start timeout for its first answer") {
  Life life;
  life.start();
  for (int i = 0; i < 9; ++i) {
    life.now += 1'000 * ms;
    life.machine.missed(life.now);
    CHECK(life.machine.step(life.now) == Action::none);
  }
  life.now += 1'000 * ms;
  life.machine.missed(life.now);
  CHECK(life.machine.step(life.now) == Action::terminate);
}

TEST_CASE("A server that hangs from its birth on is given up as well") {
  Life life;
  for (std::uint32_t i = 0; i <= max_early_retries; ++i) {
    life.start();
    life.now += 10'000 * ms;
    life.machine.missed(life.now);
    REQUIRE(life.machine.step(life.now) == Action::terminate);
    life.now += 1'000 * ms;
    REQUIRE(life.machine.step(life.now) == Action::kill);
    life.die(SIGKILL);
    if (life.machine.wake_ns() != never_ns) life.now += life.delay();
  }
  CHECK(life.machine.state() == ServerState::failed);
}

TEST_CASE("Stopping sends SIGTERM, then SIGKILL when the time is over") {
  Life life;
  life.run();
  life.machine.stop(life.now);
  CHECK(life.machine.state() == ServerState::stopping);
  CHECK(life.machine.step(life.now) == Action::terminate);
  life.machine.stop(life.now);
  CHECK(life.machine.step(life.now + 999 * ms) == Action::none);
  CHECK(life.machine.step(life.now + 1'000 * ms) == Action::kill);
  life.die(SIGKILL);
  CHECK(life.machine.state() == ServerState::stopped);
  CHECK(life.machine.wake_ns() == never_ns);
}

TEST_CASE("Stopping a server without a process ends it at once") {
  Life life;
  life.run();
  life.die(SIGSEGV);
  life.machine.stop(life.now);
  CHECK(life.machine.state() == ServerState::stopped);
  CHECK(life.machine.step(life.now + 10'000 * ms) == Action::none);
}

TEST_CASE("Stopping does not give a hung server its time again") {
  Life life;
  life.run();
  for (int i = 0; i < 3; ++i) life.machine.missed(life.now);
  REQUIRE(life.machine.step(life.now) == Action::terminate);
  life.machine.stop(life.now + 600 * ms);
  CHECK(life.machine.step(life.now + 600 * ms) == Action::none);
  CHECK(life.machine.step(life.now + 1'000 * ms) == Action::kill);
}

TEST_CASE("A server found alive goes on with its count of restarts") {
  Life life;
  life.machine.spawned(life.now, 7);
  CHECK(life.machine.restarts() == 6);
  CHECK(life.machine.state() == ServerState::starting);
  CHECK(life.machine.step(life.now) == Action::none);
}
