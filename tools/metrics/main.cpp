// aios-metrics: what `aiosctl metrics --listen` runs. Arguments: the instance's socket, and where
// to listen.
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "abi/runtime/standard_streams.hpp"
#include "tools/metrics/listener.hpp"

namespace {

using namespace aios;

Result<int> run(const std::string& instance, const std::string& address) {
  auto socket = metrics::listen_at(address);
  if (!socket && socket.error().code() == Code::invalid_argument) {
    print_to(stderr, "aiosctl: --listen: {}\n", printable(socket.error().message()));
    return ctl::exit_usage;
  }
  if (!socket) return std::unexpected(socket.error());
  const std::string where = TRY(metrics::address_of(*socket));
  // There is nothing to put in order at the end, and nothing that could keep it from ending.
  for (const int number : {SIGINT, SIGTERM}) ::signal(number, [](int) { ::_exit(0); });
  ctl::Session session;
  session.socket = instance;
  TRY(metrics::Listener::start(*std::move(socket), session));
  print_to(stdout, "metrics at http://{}/metrics, until Ctrl-C\n", where);
  std::fflush(stdout);
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  aios::hold_standard_streams();
  // Who goes away while he is answered ends nobody.
  ::signal(SIGPIPE, SIG_IGN);
  if (argc != 3) {
    std::fputs("usage: aios-metrics SOCKET ADDRESS; as aiosctl metrics --listen runs it\n", stderr);
    return aios::ctl::exit_usage;
  }
  const auto code = run(argv[1], argv[2]);
  if (code) return *code;
  print_to(stderr, "aiosctl: {}\n", aios::printable(code.error().message()));
  return aios::ctl::exit_failed;
}
