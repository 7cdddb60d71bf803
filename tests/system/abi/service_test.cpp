// Services, calls and waiting, and what each answers when it cannot.
#include <sys/eventfd.h>
#include <unistd.h>

#include <vector>

#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

TEST_CASE("A call through the library is answered") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  for (std::uint64_t i = 0; i < 1000; ++i) REQUIRE(echo_once(echo.get(), i) == i);
}

TEST_CASE("Names of codes are those of the runtime and unknown ones are no crash") {
  CHECK(std::string(aios_code_name(AIOS_OK)) == "ok");
  CHECK(std::string(aios_code_name(AIOS_PEER_CLOSED)) == "peer_closed");
  CHECK(aios_code_name(static_cast<aios_code>(4711)) != nullptr);
  CHECK(std::string(aios_version()) == "0.2.0");
}

TEST_CASE("Attaching where nothing answers is unreachable") {
  aios_attach_options options{};
  options.socket_path = "/nowhere/aios.sock";
  aios_instance* instance = nullptr;
  CHECK(aios_attach(&options, &instance) == AIOS_UNREACHABLE);
  CHECK(instance == nullptr);
  CHECK(std::string(aios_last_error()).find("/nowhere") != std::string::npos);
  options.reserved[2] = 1;
  CHECK(aios_attach(&options, &instance) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_attach(&options, nullptr) == AIOS_INVALID_ARGUMENT);
}

TEST_CASE("A name that nobody published is not found") {
  const auto instance = attach();
  aios_service* service = nullptr;
  CHECK(aios_connect(instance.get(), "nobody", 1, &service) == AIOS_NOT_FOUND);
  CHECK(aios_connect(instance.get(), "root", 1, &service) == AIOS_NOT_FOUND);
  CHECK(aios_connect(nullptr, "echo", 1, &service) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_connect(instance.get(), nullptr, 1, &service) == AIOS_INVALID_ARGUMENT);
  CHECK(service == nullptr);
}

TEST_CASE("A request or reply of the wrong size is refused") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  Echo::Request request{};
  std::byte room[512];
  CHECK(aios_call_method(echo.get(), Echo::opcode, &request, 441, room, sizeof request, long_ns) ==
        AIOS_TOO_LARGE);
  CHECK(aios_call_method(echo.get(), Echo::opcode, &request, sizeof request, room, 8, long_ns) ==
        AIOS_INVALID_ARGUMENT);
  CHECK(aios_call_method(echo.get(), 999, &request, 8, room, 8, long_ns) == AIOS_NOT_SUPPORTED);
  CHECK(aios_call_method(echo.get(), Echo::opcode, nullptr, 8, room, 8, long_ns) ==
        AIOS_INVALID_ARGUMENT);
  CHECK(echo_once(echo.get(), 5) == 5);
}

TEST_CASE("A server of another version is a version mismatch") {
  const auto instance = attach();
  const auto echo = connect(instance.get(), "echo", 77);
  const Release::Request request{1};
  Release::Reply reply{};
  CHECK(aios_call_method(echo.get(), Release::opcode, &request, sizeof request, &reply,
                         sizeof reply, long_ns) == AIOS_VERSION_MISMATCH);
}

TEST_CASE("A call that is not answered times out, blocking and started") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const Hold::Request request{1};
  proto::Empty reply{};
  CHECK(aios_call_method(echo.get(), Hold::opcode, &request, sizeof request, &reply, sizeof reply,
                         20 * ns_per_ms) == AIOS_TIMED_OUT);
  const auto call = hold(echo.get(), 2, 20 * ns_per_ms);
  auto item = wait_item(call.get());
  ok(aios_wait(&item, 1, long_ns));
  CHECK(item.ready == 1);
  CHECK(aios_call_result(call.get(), &reply, sizeof reply) == AIOS_TIMED_OUT);
  CHECK(echo_once(echo.get(), 3) == 3);
}

TEST_CASE("A started call is busy until it is answered, then gives its reply any number of times") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto call = hold(echo.get(), 10);
  proto::Empty reply{};
  std::size_t bytes = 0;
  CHECK(aios_call_result(call.get(), &reply, sizeof reply) == AIOS_BUSY);
  CHECK(aios_call_reply_bytes(call.get(), &bytes) == AIOS_BUSY);
  int done = 1;
  ok(aios_call_is_done(call.get(), &done));
  CHECK(done == 0);
  CHECK(release(echo.get(), 10) == 1);
  auto item = wait_item(call.get());
  ok(aios_wait(&item, 1, long_ns));
  ok(aios_call_is_done(call.get(), &done));
  CHECK(done == 1);
  ok(aios_call_reply_bytes(call.get(), &bytes));
  CHECK(bytes == sizeof reply);
  CHECK(aios_call_result(call.get(), &reply, 3) == AIOS_INVALID_ARGUMENT);
  ok(aios_call_result(call.get(), &reply, sizeof reply));
  ok(aios_call_result(call.get(), &reply, sizeof reply));
}

TEST_CASE("Closing a service ends its calls as cancelled, and they may be freed afterwards") {
  const auto instance = attach();
  auto echo = connect_echo(instance.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  const auto call = hold(echo.get(), 11);
  echo.reset();
  proto::Empty reply{};
  CHECK(aios_call_result(call.get(), &reply, sizeof reply) == AIOS_CANCELLED);
}

TEST_CASE(
    "A call in flight when the server dies is peer closed; the next one finds its successor") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  const auto call = hold(echo.get(), 12);
  CHECK(echo_once(echo.get(), 2) == 2);
  aios_wait_item items[2] = {wait_item(call.get()), {}};
  items[1].kind = AIOS_WAIT_SERVICE;
  items[1].what.service = echo.get();
  CHECK(aios_wait(items, 2, 0) == AIOS_TIMED_OUT);
  const auto before = the_instance().server("echo");
  REQUIRE(before.has_value());
  ::kill(static_cast<pid_t>(before->pid), SIGKILL);
  ok(aios_wait(items, 2, long_ns));
  CHECK((items[0].ready == 1 || items[1].ready == 1));
  // Either may be told first.
  for (aios_wait_item& item : items) ok(aios_wait(&item, 1, long_ns));
  proto::Empty reply{};
  CHECK(aios_call_result(call.get(), &reply, sizeof reply) == AIOS_PEER_CLOSED);
  CHECK(echo_once(echo.get(), 3) == 3);
}

TEST_CASE("A service that was never used has no connection that could be gone") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  aios_wait_item item{};
  item.kind = AIOS_WAIT_SERVICE;
  item.what.service = echo.get();
  CHECK(aios_wait(&item, 1, 0) == AIOS_TIMED_OUT);
  CHECK(item.ready == 0);
}

TEST_CASE("Waiting takes descriptors and timers beside calls") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto call = hold(echo.get(), 13);
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  aios_wait_item items[3] = {wait_item(call.get()), {}, {}};
  items[1].kind = AIOS_WAIT_FD;
  items[1].what.fd.fd = event.get();
  items[1].what.fd.events = POLLIN;
  items[2].kind = AIOS_WAIT_TIMER;
  items[2].what.at_ns = now_ns() + 5 * ns_per_ms;
  ok(aios_wait(items, 3, long_ns));
  CHECK((items[0].ready == 0 && items[1].ready == 0 && items[2].ready == 1));
  items[2].what.at_ns = now_ns() + patience_ns;
  const std::uint64_t one = 1;
  REQUIRE(::write(event.get(), &one, sizeof one) == sizeof one);
  ok(aios_wait(items, 3, long_ns));
  CHECK((items[0].ready == 0 && items[1].ready == POLLIN && items[2].ready == 0));
  CHECK(release(echo.get(), 13) == 1);
  ok(aios_wait(items, 3, 0));
  CHECK((items[0].ready == 1 && items[1].ready == POLLIN));
}

TEST_CASE("Waiting for nothing, for too much or for no kind of thing is refused") {
  aios_wait_item item{};
  CHECK(aios_wait(&item, 0, 0) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_wait(nullptr, 1, 0) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_wait(&item, 1, 0) == AIOS_INVALID_ARGUMENT);
  item.kind = AIOS_WAIT_TENANT;
  CHECK(aios_wait(&item, 1, 0) == AIOS_INVALID_ARGUMENT);
  item.kind = static_cast<aios_wait_kind>(7);
  CHECK(aios_wait(&item, 1, 0) == AIOS_INVALID_ARGUMENT);
  std::vector<aios_wait_item> many(AIOS_MAX_WAIT_ITEMS + 1);
  CHECK(aios_wait(many.data(), many.size(), 0) == AIOS_INVALID_ARGUMENT);
}

TEST_CASE("Freeing nothing does nothing, and an instance may go before what was made of it") {
  aios_detach(nullptr);
  aios_service_close(nullptr);
  aios_call_free(nullptr);
  aios_region_close(nullptr);
  aios_server_close(nullptr);
  aios_storage_close(nullptr);
  aios_tenant_close(nullptr);
  auto instance = attach();
  const auto echo = connect_echo(instance.get());
  instance.reset();
  CHECK(echo_once(echo.get(), 4) == 4);
}

TEST_CASE("A call that finds no place at its server for those given up is told so") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  const auto other = connect_echo(instance.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  // Each keeps a slot of the ring of answers, until there is no room for the largest besides.
  constexpr std::uint64_t most = proto::slot_count - proto::max_message_slots + 1;
  for (std::uint64_t i = 0; i < most; ++i) (void)hold(echo.get(), 15);
  Echo::Request request{};
  Echo::Reply reply{};
  const auto late_echo = [&](aios_service* service) {
    return aios_call_method(service, Echo::opcode, &request, sizeof request, &reply, sizeof reply,
                            20 * ns_per_ms);
  };
  CHECK(late_echo(echo.get()) == AIOS_TIMED_OUT);
  CHECK(std::string(aios_last_error()).find("more than 64 calls") != std::string::npos);
  proto::Empty nothing{};
  CHECK(aios_call_method(other.get(), Hold::opcode, &request, sizeof(Hold::Request), &nothing,
                         sizeof nothing, 20 * ns_per_ms) == AIOS_TIMED_OUT);
  CHECK(std::string(aios_last_error()).find("64") == std::string::npos);
  // Held calls may still be on their way.
  for (std::uint64_t freed = 0; freed < most;) freed += release(other.get(), 15);
  CHECK(echo_once(echo.get(), 2) == 2);
}

TEST_CASE("More calls than may wait are refused with quota") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  std::vector<Owned<aios_call>> calls;
  aios_code last = AIOS_OK;
  // Held calls fill the server's credit for this link, then its ring, then the queue.
  for (int i = 0; i < 6000 && last != AIOS_QUOTA; ++i) {
    calls.push_back(hold(echo.get(), 14));
    proto::Empty reply{};
    last = aios_call_result(calls.back().get(), &reply, sizeof reply);
  }
  CHECK(last == AIOS_QUOTA);
}
