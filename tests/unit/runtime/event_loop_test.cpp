#include "abi/runtime/event_loop.hpp"

#include <doctest/doctest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <vector>

using namespace aios;

namespace {
std::unique_ptr<EventLoop> new_loop() {
  auto loop = EventLoop::create(nullptr);
  REQUIRE(loop);
  return std::move(*loop);
}
}  // namespace

TEST_CASE("Timers run in the order of their times, each once") {
  auto loop = new_loop();
  std::vector<int> order;
  loop->after(2 * ns_per_ms, [&] {
    order.push_back(2);
    loop->stop();
  });
  loop->after(1 * ns_per_ms, [&] { order.push_back(1); });
  REQUIRE(loop->run());
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("A cancelled timer does not run") {
  auto loop = new_loop();
  bool ran = false;
  const TimerId timer = loop->after(0, [&] { ran = true; });
  loop->cancel(timer);
  loop->after(ns_per_ms, [&] { loop->stop(); });
  REQUIRE(loop->run());
  CHECK_FALSE(ran);
}

TEST_CASE("A readable descriptor wakes the loop") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const Fd reader(ends[0]);
  const Fd writer(ends[1]);
  auto loop = new_loop();
  REQUIRE(loop->watch(reader.get(), EPOLLIN, [&](std::uint32_t events) {
    CHECK((events & EPOLLIN) != 0);
    loop->stop();
  }));
  REQUIRE(::write(writer.get(), "x", 1) == 1);
  REQUIRE(loop->run());
}

TEST_CASE("A callback may remove the watch of another that fired in the same turn") {
  int a[2];
  int b[2];
  REQUIRE(::pipe(a) == 0);
  REQUIRE(::pipe(b) == 0);
  const Fd fds[4] = {Fd(a[0]), Fd(a[1]), Fd(b[0]), Fd(b[1])};
  REQUIRE(::write(a[1], "x", 1) == 1);
  REQUIRE(::write(b[1], "x", 1) == 1);
  auto loop = new_loop();
  int fired = 0;
  REQUIRE(loop->watch(a[0], EPOLLIN, [&](std::uint32_t) {
    ++fired;
    loop->unwatch(b[0]);
    loop->stop();
  }));
  REQUIRE(loop->watch(b[0], EPOLLIN, [&](std::uint32_t) {
    ++fired;
    loop->unwatch(a[0]);
    loop->stop();
  }));
  REQUIRE(loop->run());
  CHECK(fired == 1);
}

TEST_CASE("A source may remove itself while it works") {
  struct Once : Source {
    EventLoop* loop = nullptr;
    int worked = 0;
    bool work() override {
      ++worked;
      loop->remove_source(this);
      return true;
    }
    bool ready() const override { return true; }
  } source;
  auto loop = new_loop();
  source.loop = loop.get();
  loop->add_source(&source);
  loop->after(ns_per_ms, [&] { loop->stop(); });
  REQUIRE(loop->run());
  CHECK(source.worked == 1);
}
