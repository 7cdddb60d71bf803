// The program that the kernel's tests run as supervisor and as children. The supervisor gets
// `--state DIR --manifest /MODE`, a child `MODE`. Modes:
//   serve       keeps a port under `kept-port`, publishes it as `served`, ends at `shutdown`
//   deaf        ignores everything, also `shutdown`
//   crash       aborts as soon as it was greeted
//   bad-config  exits with 78
//   wait        says hello, ends when the kernel socket closes
//   exit-7      exits with 7
//   hang-up     closes its kernel socket and sleeps for ever
//   fork        as wait, with a child of its own that sleeps for ever
//   report      prints what it sees of the system to its log, then waits
#include <fcntl.h>
#include <ifaddrs.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "abi/runtime/kernel.hpp"

namespace {

using namespace aios;
namespace wire = proto::kernel;

std::string mode_of(int argc, char** argv) {
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string(argv[i]) == "--manifest") return argv[i + 1] + 1;
  return argc > 1 ? argv[1] : "wait";
}

[[noreturn]] void sleep_for_ever() {
  for (;;) ::pause();
}

int wait_for_end(Kernel& kernel) {
  pollfd end{kernel.socket_fd(), 0, 0};
  while (::poll(&end, 1, -1) < 0) {
  }
  return 0;
}

int serve(Kernel& kernel) {
  const auto root = kernel.startup("root");
  if (!root) return 3;
  wire::Handle port = 0;
  if (const auto kept = kernel.startup("kept-port")) {
    port = kept->handle;
  } else {
    const auto made = kernel.call<wire::PortCreate>({wire::Name::from("kept")});
    if (!made) return 4;
    port = made->reply.port;
    if (!kernel.call<wire::HandleKeep>({port, wire::Label::from("kept-port")})) return 4;
  }
  // Tells the tests that the supervisor is there.
  if (!kernel.call<wire::PortPublish>({root->handle, port, wire::Label::from("served")})) return 5;
  for (;;) {
    pollfd events[2] = {{kernel.bell_fd(), POLLIN, 0}, {kernel.socket_fd(), 0, 0}};
    if (::poll(events, 2, -1) < 0) continue;
    if (events[1].revents != 0) return 5;
    kernel.drain_bell();
    for (;;) {
      const auto next = kernel.call<wire::SignalNext>({});
      if (!next) return 6;
      if (next->reply.handle == 0) break;
      if ((next->reply.signals & wire::signal::shutdown) != 0) return 0;
    }
  }
}

int report(Kernel& kernel, int argc, char** argv) {
  const proto::sandbox::Confined claim{proto::sandbox::Profile::driver, 5, 7};
  kernel.status_page().sandbox.store(claim.word());
  std::printf("pid %d uid %d pgid-own %d\n", ::getpid(), ::getuid(), ::getpgrp() == ::getpid());
  ifaddrs* list = nullptr;
  int addresses = 0;
  if (::getifaddrs(&list) == 0)
    for (ifaddrs* at = list; at != nullptr; at = at->ifa_next)
      addresses += at->ifa_addr != nullptr && (at->ifa_flags & 1u) != 0 ? 1 : 0;
  std::printf("interfaces-up %d\n", addresses);
  std::printf("no-new-privs %d\n", ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
  int death_signal = 0;
  ::prctl(PR_GET_PDEATHSIG, &death_signal);
  std::printf("death-signal %d\n", death_signal);
  rlimit core{};
  ::getrlimit(RLIMIT_CORE, &core);
  std::printf("core %llu\n", static_cast<unsigned long long>(core.rlim_max));
  int open_descriptors = 0;
  for (int fd = wire::child_socket_fd + 1; fd < 4096; ++fd) {
    // The runtime's own: the kernel doorbell.
    if (fd != kernel.bell_fd() && ::fcntl(fd, F_GETFD) >= 0) ++open_descriptors;
  }
  std::printf("stray-descriptors %d\n", open_descriptors);
  std::printf("name %s\n", std::getenv("AIOS_NAME"));
  std::printf("profile %s\n", std::getenv("AIOS_PROFILE"));
  for (int i = 1; i < argc; ++i) std::printf("argument %s\n", argv[i]);
  std::printf("done\n");
  std::fflush(stdout);
  return wait_for_end(kernel);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = mode_of(argc, argv);
  if (mode == "bad-config") return 78;
  if (mode == "exit-7") return 7;
  if (mode == "deaf") sleep_for_ever();
  if (mode == "hang-up") {
    ::close(wire::child_socket_fd);
    sleep_for_ever();
  }
  auto kernel = Kernel::attach_child();
  if (!kernel) {
    std::fprintf(stderr, "%s\n", kernel.error().to_string().c_str());
    return 2;
  }
  if (mode == "crash") std::abort();
  if (mode == "serve") return serve(**kernel);
  if (mode == "fork") {
    const pid_t grandchild = ::fork();
    if (grandchild == 0) sleep_for_ever();
    std::printf("grandchild %d\ndone\n", grandchild);
    std::fflush(stdout);
  }
  if (mode == "report") return report(**kernel, argc, argv);
  return wait_for_end(**kernel);
}
