// aios-brittle: see protocol.hpp.
#include <algorithm>
#include <csignal>

#include "abi/runtime/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "tests/support/brittle/protocol.hpp"

namespace {

using namespace aios;
using proto::brittle::Work;

class Brittle {
 public:
  Brittle(Kernel& kernel, EventLoop& loop) : loop_(loop), server(kernel, loop, *this) {}

  Answer<Work::Reply> handle(Work, const Work::Request& request, CallContext& context) {
    most_at_once_ = std::max(most_at_once_, ++at_once_);
    if (request.crash != 0) std::raise(SIGABRT);
    while (request.endless != 0) std::raise(0);
    loop_.after(request.delay_ns, [this, token = context.token(), value = request.value] {
      --at_once_;
      server.reply<Work>(token, Work::Reply{value, most_at_once_});
    });
    return deferred;
  }

 private:
  EventLoop& loop_;
  std::uint64_t at_once_ = 0;
  std::uint64_t most_at_once_ = 0;

 public:
  Server<proto::brittle::Protocol, Brittle> server;
};

Result<int> run(int argc, char** argv) {
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  Brittle brittle(*process.kernel, *process.loop);
  brittle.server.guard_by(*TRY(process.in_flight()));
  TRY(brittle.server.listen(process.port));
  return process.run();
}

}  // namespace

int main(int argc, char** argv) {
  return server_main(argc, argv, run);
}
