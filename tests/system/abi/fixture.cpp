#include "tests/system/abi/fixture.hpp"

#include "tests/support/whole_instance.hpp"

namespace aios::test {

TestInstance& the_instance() {
  static const auto instance = TestInstance::boot_running(whole_instance);
  if (!instance) FAIL(instance.error().to_string());
  return **instance;
}

Attached attach(const char* job, TestInstance& running) {
  const std::string socket = running.socket_path();
  aios_attach_options options{};
  options.socket_path = socket.c_str();
  options.job_name = job;
  aios_instance* instance = nullptr;
  ok(aios_attach(&options, &instance));
  return Attached(instance);
}

Owned<aios_service> connect(aios_instance* instance, const char* name, std::uint64_t version) {
  aios_service* service = nullptr;
  ok(aios_connect(instance, name, version, &service));
  return Owned<aios_service>(service);
}

Owned<aios_service> connect_echo(aios_instance* instance) {
  return connect(instance, proto::echo::Protocol::name, proto::echo::Protocol::version);
}

Owned<aios_server> serve(aios_instance* instance, const char* label, std::uint64_t version) {
  aios_server* server = nullptr;
  ok(aios_server_create(instance, label, version, &server));
  return Owned<aios_server>(server);
}

Owned<aios_region> create_region(aios_instance* instance, std::uint64_t size_bytes) {
  aios_region* region = nullptr;
  ok(aios_region_create(instance, size_bytes, "test", 0, &region));
  return Owned<aios_region>(region);
}

Owned<aios_call> hold(aios_service* echo, std::uint64_t key, std::uint64_t timeout_ns) {
  const Hold::Request request{key};
  aios_call* call = nullptr;
  ok(aios_call_start(echo, Hold::opcode, &request, sizeof request, timeout_ns, &call));
  return Owned<aios_call>(call);
}

std::uint64_t release(aios_service* echo, std::uint64_t key) {
  const Release::Request request{key};
  Release::Reply reply{};
  ok(aios_call_method(echo, Release::opcode, &request, sizeof request, &reply, sizeof reply,
                      long_ns));
  return reply.released;
}

std::uint64_t echo_once(aios_service* echo, std::uint64_t value) {
  Echo::Request request{};
  request.value = value;
  Echo::Reply reply{};
  ok(aios_call_method(echo, Echo::opcode, &request, sizeof request, &reply, sizeof reply, long_ns));
  return reply.value;
}

aios_wait_item wait_item(aios_call* call) {
  aios_wait_item item{};
  item.kind = AIOS_WAIT_CALL;
  item.what.call = call;
  return item;
}

}  // namespace aios::test
