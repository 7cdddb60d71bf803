#include "tools/bench/peer.hpp"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace aios::bench {

Cores two_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof allowed, &allowed);
  std::vector<int> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  if (cores.empty()) cores.push_back(0);
  return {cores.front(), cores.back()};
}

Result<void> pin(int core, pid_t pid) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(core), &one);
  if (::sched_setaffinity(pid, sizeof one, &one) == 0) return {};
  return errno_error("keep process " + std::to_string(pid) + " on core " + std::to_string(core),
                     errno);
}

Result<void> unpin(pid_t pid) {
  cpu_set_t all;
  std::memset(&all, 0xff, sizeof all);
  if (::sched_setaffinity(pid, sizeof all, &all) == 0) return {};
  return errno_error("let process " + std::to_string(pid) + " run on every core", errno);
}

Result<Peer> Peer::start(int core, const std::function<void()>& body) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("start a second process", errno);
  if (pid > 0) return Peer(pid);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() == parent && (core == any_core ? unpin(0) : pin(core))) body();
  ::_exit(0);
}

Peer::~Peer() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace aios::bench
