#include "drivers/gpu/look/gauge_helper.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/time.hpp"
#include "drivers/gpu/look/helper_process.hpp"
#include "drivers/gpu/look/nvml.hpp"

namespace aios::gpu {

namespace {

constexpr std::size_t most_text_bytes = 64u << 10;
constexpr std::string_view end_line = "\x04\n";
constexpr std::uint64_t rest_ns = 30 * ns_per_s;

/// Up to and with `end`, or nothing when there is no more or it takes too long.
std::optional<std::string> read_until(int fd, std::string_view end, Deadline deadline) {
  std::string text;
  while (!text.ends_with(end)) {
    pollfd polled{fd, POLLIN, 0};
    const int ready = ::poll(&polled, 1, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    char buffer[4096];
    const ssize_t count = ready > 0 ? ::read(fd, buffer, sizeof buffer) : 0;
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0 || text.size() > most_text_bytes) return std::nullopt;
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

std::string no_gauges(std::string why) {
  for (char& c : why)
    if (c < ' ' || c > '~') c = ' ';
  return "none\t" + why + "\n" + std::string(end_line);
}

// ---- the child that has the library ------------------------------------------------------------

void add_gauge(std::ostream& out, const std::string& uuid, const Gauge& gauge) {
  out << "gauge\t" << uuid << '\t';
  gauge.busy_percent ? out << *gauge.busy_percent : out << '-';
  out << '\t';
  gauge.celsius ? out << *gauge.celsius : out << '-';
  out << '\n';
}

std::string answer(const Nvml& nvml, const std::string& question) {
  std::istringstream words(question.substr(0, question.size() - 1));
  std::ostringstream out;
  std::string why;
  bool any = false;
  for (std::string address, uuid;
       std::getline(words, address, '\t') && std::getline(words, uuid, '\t');) {
    const auto gauge = nvml.read(address, uuid);
    if (gauge) add_gauge(out, uuid, *gauge);
    if (!gauge) why = gauge.error().message();
    any = any || gauge;
  }
  if (!any) return no_gauges(why);
  return out.str() + std::string(end_line);
}

[[noreturn]] void read_in_child(int socket) {
  become_child(socket);
  find_own_threads();
  const auto nvml = Nvml::load();
  while (const auto question = read_until(STDIN_FILENO, "\n", Deadline::never()))
    write_all(STDIN_FILENO, nvml ? answer(**nvml, *question) : no_gauges(nvml.error().message()));
  ::_exit(0);
}

// ---- the helper --------------------------------------------------------------------------------

class Reader {
 public:
  explicit Reader(unsigned limit_ms) : limit_ms_(limit_ms) {}
  ~Reader() { end(); }
  Reader(const Reader&) = delete;

  std::string ask(const std::string& question) {
    if (now_ns() < not_before_ns_) return no_gauges(why_);
    if (!socket_.valid() && !start()) return give_up("there is no process to do it");
    write_all(socket_.get(), question);
    const Deadline deadline = Deadline::after(limit_ms_ * ns_per_ms);
    if (const auto text = read_until(socket_.get(), end_line, deadline)) return *text;
    return give_up(deadline.passed() ? "NVIDIA's management library does not answer within " +
                                           std::to_string(limit_ms_) + " ms"
                                     : "NVIDIA's management library crashed");
  }

 private:
  bool start() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
    socket_ = Fd(ends[0]);
    const Fd other(ends[1]);
    process_ = ::fork();
    if (process_ == 0) read_in_child(other.get());
    return process_ > 0;
  }

  std::string give_up(std::string why) {
    end();
    why_ = std::move(why);
    not_before_ns_ = now_ns() + rest_ns;
    return no_gauges(why_);
  }

  /// One that cannot be ended, in the middle of a call that never returns, is left to Linux.
  void end() {
    socket_.reset();
    if (process_ <= 0) return;
    ::kill(process_, SIGKILL);
    const Deadline deadline = Deadline::after(ns_per_s);
    while (::waitpid(process_, nullptr, WNOHANG) == 0 && !deadline.passed()) ::poll(nullptr, 0, 1);
    process_ = -1;
  }

  const unsigned limit_ms_;
  Fd socket_;
  pid_t process_ = -1;
  std::string why_;
  std::uint64_t not_before_ns_ = 0;
};

}  // namespace

void serve_gauges(unsigned limit_ms) {
  Reader reader(limit_ms);
  while (const auto question = read_until(STDIN_FILENO, "\n", Deadline::never()))
    write_all(STDIN_FILENO, reader.ask(*question));
}

}  // namespace aios::gpu
