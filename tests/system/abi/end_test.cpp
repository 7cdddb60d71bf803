// What happens to a program when its instance ends.
#include <signal.h>
#include <sys/wait.h>

#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

TEST_CASE("When the instance ends everything under way ends, and nothing hangs") {
  auto doomed =
      TestInstance::boot_running("[server.echo]\nbinary = \"aios-echo\"\npublish = true\n");
  REQUIRE(doomed.has_value());
  const auto instance = attach(nullptr, **doomed);
  aios_instance* const raw = instance.get();
  const auto echo = connect_echo(raw);
  const auto server = serve(raw, "doomed");
  CHECK(echo_once(echo.get(), 1) == 1);
  const auto call = hold(echo.get(), 1);
  ::kill((*doomed)->kernel_pid(), SIGKILL);

  auto item = wait_item(call.get());
  const aios_code waited = aios_wait(&item, 1, long_ns);
  CHECK((waited == AIOS_OK || waited == AIOS_UNREACHABLE));
  const Hold::Request request{1};
  proto::Empty reply{};
  CHECK(aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply, sizeof reply,
                         long_ns) == AIOS_PEER_CLOSED);
  CHECK(aios_call_result(call.get(), &reply, sizeof reply) == AIOS_PEER_CLOSED);
  aios_request* none = nullptr;
  CHECK(aios_server_next(server.get(), long_ns, &none) == AIOS_UNREACHABLE);
  int ready = 0;
  CHECK(aios_arm(raw, &ready) == AIOS_UNREACHABLE);
  CHECK(aios_dispatch(raw) == AIOS_UNREACHABLE);
  aios_region* region = nullptr;
  CHECK(aios_region_create(raw, 4096, "", 0, &region) == AIOS_PEER_CLOSED);
}

TEST_CASE("Who attaches to an instance whose kernel is stopped is told, and can when it goes on") {
  auto stopped =
      TestInstance::boot_running("[server.echo]\nbinary = \"aios-echo\"\npublish = true\n");
  REQUIRE(stopped.has_value());
  const pid_t kernel = (*stopped)->kernel_pid();
  ::kill(kernel, SIGSTOP);
  siginfo_t change{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(kernel), &change, WSTOPPED) == 0);
  const std::string socket = (*stopped)->socket_path();
  aios_attach_options options{};
  options.socket_path = socket.c_str();
  aios_instance* instance = nullptr;
  const aios_code code = aios_attach(&options, &instance);
  const std::string why = aios_last_error();
  ::kill(kernel, SIGCONT);
  CHECK(code == AIOS_UNREACHABLE);
  CHECK(why.find(socket + ": the kernel did not answer within 5 s; is it stopped?") == 0);
  CHECK(echo_once(connect_echo(attach(nullptr, **stopped).get()).get(), 1) == 1);
}
