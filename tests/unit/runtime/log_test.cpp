#include "abi/runtime/log.hpp"
#include "abi/runtime/log_stamp.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <string>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/time.hpp"

using namespace aios;

TEST_CASE("A burst of lines is written, then so many a second, and what is left out is counted") {
  LogLimit limit;
  const std::uint64_t start = 1000 * ns_per_s;
  for (std::uint64_t i = 0; i < LogLimit::burst; ++i) REQUIRE(limit.allows(start));
  for (int i = 0; i < 7; ++i) CHECK_FALSE(limit.allows(start));
  CHECK(limit.take_left_out() == 7);
  CHECK(limit.take_left_out() == 0);
  std::uint64_t written = 0;
  for (std::uint64_t i = 1; i <= 100; ++i)
    if (limit.allows(start + i * ns_per_s / 100)) ++written;
  CHECK(written == LogLimit::lines_per_s);
  CHECK(limit.take_left_out() == 100 - LogLimit::lines_per_s);
}

TEST_CASE("After a long silence the whole burst is there again, and no more") {
  LogLimit limit;
  const std::uint64_t start = 5 * ns_per_s;
  while (limit.allows(start)) {
  }
  const std::uint64_t later = start + 3600 * ns_per_s;
  std::uint64_t written = 0;
  while (limit.allows(later)) ++written;
  CHECK(written == LogLimit::burst);
}

TEST_CASE("A line's stamp is the date and time in UTC, and the seconds that the machine has run") {
  CHECK(log_stamp(0, 0) == "1970-01-01T00:00:00.000Z 0.000 ");
  CHECK(log_stamp(1'795'711'032'345'678'901, 71'317'797'000'000) ==
        "2026-11-26T16:37:12.345Z 71317.797 ");
  // A leap day.
  CHECK(log_stamp(1'709'251'199'999'999'999, ns_per_ms) == "2024-02-29T23:59:59.999Z 0.001 ");
}

TEST_CASE("The stamp is taken off a line that has one") {
  CHECK(without_log_stamp(log_stamp(1'795'711'032'345'678'901, 71'317'797'000'000) +
                          "up: 7 of 7") == "up: 7 of 7");
  CHECK(without_log_stamp(log_stamp(0, 0)) == "");
  for (const char* plain : {"", "terminate called", "12 angry men", "2026-11-26T16:37:12.345Z",
                            "2026-11-26T16:37:12.345Z 1.0", "2026-11-26 16:37:12.345Z 1.0 x"})
    CHECK(without_log_stamp(plain) == plain);
}

namespace {

/// A process whose log is one end of a pipe, as a server's is a file. It answers each call, a byte,
/// once it has logged a line with the call's number.
class ChattyServer {
 public:
  ChattyServer() {
    int pipe[2], sockets[2];
    REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    log_ = Fd(pipe[0]);
    const Fd its_log(pipe[1]);
    fill(its_log.get());
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0);
    calls_ = Fd(sockets[0]);
    const Fd its_calls(sockets[1]);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) serve(its_log.get(), its_calls.get());
  }
  ~ChattyServer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ChattyServer(const ChattyServer&) = delete;

  /// False: it does not answer.
  bool call() {
    char byte = 0;
    pollfd answer{calls_.get(), POLLIN, 0};
    return ::write(calls_.get(), &byte, 1) == 1 && ::poll(&answer, 1, 20'000) == 1 &&
           ::read(calls_.get(), &byte, 1) == 1;
  }

  /// Lets it end by itself, and does not read its log for 200 ms or until it has: what then came
  /// into the log.
  std::string end() {
    const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    ::shutdown(calls_.get(), SHUT_WR);
    pollfd ended{process.get(), POLLIN, 0};
    ::poll(&ended, 1, 200);
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = ::read(log_.get(), buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(got));
    return text;
  }

  /// What lies in its log.
  std::string take_log() {
    std::string text;
    char buffer[4096];
    for (pollfd more{log_.get(), POLLIN, 0}; ::poll(&more, 1, 0) == 1;) {
      const ssize_t got = ::read(log_.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
  }

 private:
  /// Whoever writes to it now would wait for ever.
  static void fill(int fd) {
    const std::string page(4096, '#');
    ::fcntl(fd, F_SETFL, O_NONBLOCK);
    while (::write(fd, page.data(), page.size()) > 0) {
    }
    ::fcntl(fd, F_SETFL, 0);
  }

  [[noreturn]] static void serve(int log, int calls) {
    ::dup2(log, STDERR_FILENO);
    log_in_background();
    char byte = 0;
    for (int number = 1; ::read(calls, &byte, 1) == 1; ++number) {
      log_line("call " + std::to_string(number) + " " + std::string(300, 'x'));
      if (::write(calls, &byte, 1) != 1) break;
    }
    end_process(0);
  }

  Fd log_, calls_;
  pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("A log that nobody takes stops no server, and what it left out is counted") {
  ChattyServer server;
  constexpr int calls = 600;
  for (int i = 0; i < calls; ++i) REQUIRE_MESSAGE(server.call(), "call " << i);
  // What had come before it is there, and the next line says what has not.
  std::string text = server.take_log();
  const Deadline deadline = Deadline::after(20 * ns_per_s);
  while (text.find(" lines left out) ") == std::string::npos) {
    REQUIRE_MESSAGE(!deadline.passed(),
                    text.substr(text.size() - std::min<std::size_t>(text.size(), 500)));
    ::poll(nullptr, 0, 20);
    REQUIRE(server.call());
    text += server.take_log();
  }
  text.erase(0, text.find_first_not_of('#'));
  std::istringstream lines(text);
  std::string line;
  int written = 0;
  while (std::getline(lines, line) && line.find(" lines left out) ") == std::string::npos)
    ++written;
  const std::size_t open = line.find('('), named = line.find("call ");
  REQUIRE_MESSAGE((open != line.npos && named != line.npos), line);
  const int left_out = std::stoi(line.substr(open + 1));
  CHECK(written > 0);
  CHECK(left_out > 0);
  CHECK(written + left_out + 1 == std::stoi(line.substr(named + 5)));
}

TEST_CASE("A process that ends at once still waits for its lines") {
  // It waits for a second, which a busy machine may take for itself: hence several tries.
  std::string text;
  for (int i = 0; i < 5 && text.find("call 2") == std::string::npos; ++i) {
    ChattyServer server;
    REQUIRE(server.call());
    REQUIRE(server.call());
    text = server.end();
  }
  text.erase(0, text.find_first_not_of('#'));
  CHECK(text.find("call 1") != std::string::npos);
  CHECK(text.find("call 2") != std::string::npos);
}
