#include "abi/runtime/standard_streams.hpp"

#include <fcntl.h>
#include <unistd.h>

namespace aios {

void hold_standard_streams() {
  for (const int number : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(number, F_GETFD) >= 0) continue;
    // It is the lowest number that is free.
    if (::open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDWR) != number) ::_exit(1);
  }
}

}  // namespace aios
