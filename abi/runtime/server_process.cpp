#include "abi/runtime/server_process.hpp"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/signals.hpp"

namespace aios {

Result<ServerProcess> ServerProcess::start(int argc, char** argv) {
  // As the first process of a namespace it would survive SIGABRT.
  install_fault_handlers("this server", "; it ends");
  ServerProcess process;
  bool spin = true;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--crashed") process.crashed = true;
    if (i + 1 == argc) break;
    if (option == "--state")
      process.state = argv[++i];
    else if (option == "--libexec")
      process.libexec = argv[++i];
    else if (option == "--require")
      process.require = argv[++i];
    else if (option == "--spin")
      spin = std::string_view(argv[++i]) != "never";
  }
  process.signals_ = TRY(make_signal_fd({SIGTERM}));
  process.kernel = TRY(Kernel::attach_child());
  process.loop = TRY(EventLoop::create(process.kernel.get()));
  process.loop->allow_spinning(spin);
  EventLoop* loop = process.loop.get();
  TRY(loop->watch(process.signals_.get(), EPOLLIN, [loop](std::uint32_t) { loop->stop(); }));
  process.port = TRY(process.kernel->startup("port")).handle;
  return process;
}

Result<InFlight*> ServerProcess::in_flight() {
  constexpr const char* label = "in-flight";
  if (const auto kept = kernel->startup(label)) {
    in_flight_memory_ = TRY(Region::map(*kernel, kept->handle, Mapping::Access::read_write));
  } else {
    in_flight_memory_ = TRY(Region::create(*kernel, InFlight::memory_bytes, label));
    TRY(kernel->call<proto::kernel::HandleKeep>(
        {in_flight_memory_.handle(), proto::kernel::Label::from(label)}));
  }
  in_flight_ = std::make_unique<InFlight>(in_flight_memory_.bytes(), crashed, now_ns());
  return in_flight_.get();
}

Result<std::unique_ptr<Client>> ServerProcess::client_of(const std::string& service,
                                                         std::uint64_t protocol_version) {
  const StartupHandle route = TRY(kernel->startup(service));
  return std::make_unique<Client>(*kernel, loop.get(), route.handle, protocol_version, service);
}

int ServerProcess::run() {
  // An error means that the kernel is gone: the instance has ended, and so does this server.
  (void)loop->run();
  return 0;
}

int server_main(int argc, char** argv, Result<int> (*body)(int, char**)) {
  const Result<int> result = body(argc, argv);
  if (result) return *result;
  log_line("cannot run: " + result.error().to_string());
  return 1;
}

}  // namespace aios
