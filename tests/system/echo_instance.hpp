// Instances with the echo server, and the calls that the tests make of it.
#pragma once

#include <doctest/doctest.h>
#include <signal.h>

#include <memory>
#include <string>

#include "abi/proto/echo.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::test {

inline const std::string echo_manifest = R"(
[server.echo]
binary = "aios-echo"
publish = true
)";

/// The value of a result, or a failed test with its error. An own copy: results are short-lived.
template <class T>
T need(Result<T> result) {
  if (!result) FAIL(result.error().to_string());
  return *std::move(result);
}
inline void need(const Result<void>& result) {
  if (!result) FAIL(result.error().to_string());
}

inline std::unique_ptr<TestInstance> boot_echo(const std::string& manifest = echo_manifest) {
  return need(TestInstance::boot_running(manifest));
}

inline std::unique_ptr<Client> echo_client(Visitor& visitor) {
  return need(visitor.client<proto::echo::Protocol>());
}

inline Result<std::uint64_t> echo(Client& client, std::uint64_t value) {
  proto::echo::Echo::Request request{};
  request.value = value;
  return TRY(client.call<proto::echo::Echo>(request, patience())).value;
}

/// A call that is not answered before `release` with the same key.
struct HeldCall {
  explicit HeldCall(Client& client, std::uint64_t key) : client_(client) {
    client_.start<proto::echo::Hold>({key}, patience(), [this](Result<proto::Empty> reply) {
      outcome_ = std::move(reply);
      done_ = true;
    });
  }
  bool done() const { return done_; }
  Result<proto::Empty> wait() {
    while (!done_)
      if (!client_.work() && !done_) client_.wait(patience());
    return outcome_;
  }
  /// Gives the client its turns until the request has left and the connection is open.
  void send() {
    need(TestInstance::wait_until([this] {
      client_.work();
      return client_.connected() || done_;
    }));
    client_.work();
  }

 private:
  Client& client_;
  bool done_ = false;
  Result<proto::Empty> outcome_ = error(Code::internal);
};

/// Kills the server that runs and waits until the kernel knows.
inline proto::supervisor::Server::Reply kill_echo(TestInstance& instance) {
  const auto before = need(instance.server("echo"));
  ::kill(static_cast<pid_t>(before.pid), SIGKILL);
  need(TestInstance::wait_until([&] { return process_gone(static_cast<pid_t>(before.pid)); }));
  return before;
}

}  // namespace aios::test
