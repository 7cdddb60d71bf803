#include "abi/runtime/standard_streams.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace aios {

namespace {

bool nobody_reads() {
  pollfd output{STDOUT_FILENO, 0, 0};
  return ::poll(&output, 1, 0) == 1 && (output.revents & POLLERR) != 0;
}

}  // namespace

void hold_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) >= 0) continue;
    // It is the lowest number that is free.
    if (::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDWR) != number) ::_exit(1);
  }
}

int finish_output(const char* program, int code) {
  errno = 0;
  const bool flushed = std::fflush(stdout) == 0;
  const int reason = flushed ? 0 : errno;
  if ((flushed && std::ferror(stdout) == 0) || nobody_reads()) return code;
  // What failed earlier has not left its reason.
  std::fprintf(stderr, "%s: cannot write standard output%s%s\n", program, reason == 0 ? "" : ": ",
               reason == 0 ? "" : std::strerror(reason));
  return code == 0 ? 1 : code;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto byte = static_cast<unsigned char>(out[i]);
    if (byte < 0x20 || byte == 0x7F) out[i] = '?';
    // U+0080 to U+009F, which some terminals obey as well.
    const auto next = static_cast<unsigned char>(i + 1 < out.size() ? out[i + 1] : 0);
    if (byte == 0xC2 && next >= 0x80 && next < 0xA0) out.replace(i, 2, "?");
  }
  return out;
}

}  // namespace aios
