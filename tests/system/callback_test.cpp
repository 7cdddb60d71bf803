// What the callbacks of calls may do: throw for want of memory, close the connection, start more.
#include <new>
#include <vector>

#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;

namespace pe = proto::echo;

namespace {

/// A few calls of which each callback throws, and how they ended.
class Throwing {
 public:
  explicit Throwing(Client& client) : client_(client) {}
  template <class M>
  void start(const typename M::Request& request, Deadline deadline = patience()) {
    ++started_;
    client_.start<M>(request, deadline, [this](Result<typename M::Reply> reply) {
      ends_.push_back(reply ? Code::ok : reply.error().code());
      throw std::bad_alloc();
    });
  }
  /// Drives the client until all have ended.
  const std::vector<Code>& wait() {
    const Deadline end = patience();
    while (ends_.size() < started_ && !end.passed())
      if (!client_.work() && ends_.size() < started_) client_.wait(end);
    return ends_;
  }
  const std::vector<Code>& ends() const { return ends_; }

 private:
  Client& client_;
  std::size_t started_ = 0;
  std::vector<Code> ends_;
};

/// Until the server has read what was sent over this client's connection.
void settle(Client& client) {
  CHECK(need(echo(client, 1)) == 1);
}

}  // namespace

TEST_CASE("A callback that finds no memory keeps no other from its answer") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  Throwing calls(*client);
  for (int i = 0; i < 3; ++i) calls.start<pe::Echo>({});
  CHECK(calls.wait() == std::vector(3, Code::ok));
  settle(*client);
}

TEST_CASE("A callback that finds no memory keeps no other from learning that the server died") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  settle(*client);
  Throwing calls(*client);
  for (std::uint64_t key = 1; key <= 3; ++key) calls.start<pe::Hold>({key});
  settle(*client);
  kill_echo(*instance);
  CHECK(calls.wait() == std::vector(3, Code::peer_closed));
  settle(*client);
}

TEST_CASE("A callback that finds no memory keeps no other from its deadline") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  settle(*client);
  Throwing calls(*client);
  const Deadline soon = Deadline::after(2 * ns_per_ms);
  for (std::uint64_t key = 1; key <= 3; ++key) calls.start<pe::Hold>({key}, soon);
  CHECK(calls.wait() == std::vector(3, Code::timed_out));
}

TEST_CASE("A client whose callbacks find no memory is closed, and tells all of them") {
  const auto instance = boot_echo();
  auto client = echo_client(instance->visitor());
  settle(*client);
  Throwing calls(*client);
  // Two that are sent, and two that wait for a connection.
  for (std::uint64_t key = 1; key <= 2; ++key) calls.start<pe::Hold>({key});
  settle(*client);
  client->disconnect();
  CHECK(calls.ends() == std::vector(2, Code::cancelled));
  for (std::uint64_t key = 3; key <= 4; ++key) calls.start<pe::Hold>({key});
  client.reset();
  CHECK(calls.ends() == std::vector(4, Code::cancelled));
}

TEST_CASE("A callback of a call that cannot be sent may close the connection and start another") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  settle(*client);
  std::vector<Code> ends;
  bool done = false;
  const auto started_anew = [&](Result<pe::Echo::Reply> reply) {
    ends.push_back(reply ? Code::ok : reply.error().code());
    done = true;
  };
  const auto refused = [&](Result<pe::Sum::Reply> reply) {
    ends.push_back(reply ? Code::ok : reply.error().code());
    client->disconnect();
    client->start<pe::Echo>({}, patience(), started_anew);
  };
  constexpr Handle nothing = 0x7fffffff;
  client->start_with_handles<pe::Sum>(
      {}, {{nothing, ObjectType::region, rights::info, 0, false}},
      [](std::span<const Handle>, pe::Sum::Request&) {}, patience(), refused);
  while (!done)
    if (!client->work() && !done) client->wait(patience());
  CHECK(ends == std::vector{Code::bad_handle, Code::ok});
}

TEST_CASE(
    "In a loop what a callback throws goes through it, and later calls have their deadlines") {
  const auto instance = boot_echo();
  Kernel& kernel = instance->visitor().kernel();
  const auto loop = need(EventLoop::create(&kernel));
  const Handle port = need(kernel.startup("echo")).handle;
  Client client(kernel, loop.get(), port, pe::Protocol::version, "echo");
  Throwing throwing(client);
  throwing.start<pe::Hold>({1}, Deadline::after(ns_per_ms));
  const auto turn_until = [&](const bool& done) {
    const Deadline end = patience();
    while (!done && !end.passed()) need(loop->turn(end));
  };
  const bool never = false;
  CHECK_THROWS_AS(turn_until(never), std::bad_alloc);
  CHECK(throwing.ends() == std::vector(1, Code::timed_out));
  bool done = false;
  client.start<pe::Hold>({2}, Deadline::after(ns_per_ms), [&](Result<proto::Empty> reply) {
    CHECK((!reply && reply.error().code() == Code::timed_out));
    done = true;
  });
  turn_until(done);
  CHECK(done);
}
