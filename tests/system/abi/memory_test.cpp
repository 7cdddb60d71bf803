// What the library does where there is no memory: every call ends, says so, and the host lives.
#include <signal.h>

#include "tests/support/failing_memory.hpp"
#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

namespace {

bool none_or(aios_code code, aios_code expected) {
  return code == expected || code == AIOS_NO_MEMORY || code == AIOS_QUOTA;
}

aios_code call_echo(aios_service* echo) {
  Echo::Request request{};
  request.value = 5;
  Echo::Reply reply{};
  const aios_code code =
      aios_call_method(echo, Echo::opcode, &request, sizeof request, &reply, sizeof reply, long_ns);
  return code == AIOS_OK && reply.value != 5 ? AIOS_INTERNAL : code;
}

/// Of a method that only answers when somebody releases it.
aios_code call_hold(aios_service* echo, std::uint64_t timeout_ns) {
  const Hold::Request request{8000};
  proto::Empty reply{};
  return aios_call_method(echo, Hold::opcode, &request, sizeof request, &reply, sizeof reply,
                          timeout_ns);
}

}  // namespace

TEST_CASE("A blocking call with too little memory ends with its answer or no_memory") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    const auto echo = connect_echo(instance.get());
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = call_echo(echo.get()); });
    REQUIRE(none_or(code, AIOS_OK));
    REQUIRE(echo_once(echo.get(), 6) == 6);
  });
}

TEST_CASE("An error that is answered is never told as success for want of memory") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  REQUIRE(echo_once(echo.get(), 1) == 1);
  with_each_failure([&](auto with_failure) {
    aios_code code = AIOS_INTERNAL;
    std::uint64_t nothing = 0;
    with_failure([&] {
      code = aios_call_method(echo.get(), 999, &nothing, sizeof nothing, &nothing, sizeof nothing,
                              long_ns);
    });
    REQUIRE(none_or(code, AIOS_NOT_SUPPORTED));
    Echo::Request request{};
    with_failure([&] {
      code = aios_call_method(echo.get(), Echo::opcode, &request, sizeof request, &nothing,
                              sizeof nothing, long_ns);
    });
    REQUIRE(none_or(code, AIOS_INVALID_ARGUMENT));
  });
}

TEST_CASE("A call ends at its timeout, however little memory there is") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  REQUIRE(echo_once(echo.get(), 1) == 1);
  with_each_failure([&](auto with_failure) {
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = call_hold(echo.get(), 2 * ns_per_ms); });
    REQUIRE(none_or(code, AIOS_TIMED_OUT));
  });
}

TEST_CASE("A call that was begun with too little memory ends, and gives its result later") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    const auto echo = connect_echo(instance.get());
    aios_call* made = nullptr;
    Echo::Request request{};
    Echo::Reply reply{};
    aios_code code = AIOS_INTERNAL;
    with_failure([&] {
      code = aios_call_start(echo.get(), Echo::opcode, &request, sizeof request, long_ns, &made);
    });
    REQUIRE(none_or(code, AIOS_OK));
    CHECK((code == AIOS_OK) == (made != nullptr));
    if (made == nullptr) return;
    const Owned<aios_call> call(made);
    auto item = wait_item(made);
    with_failure([&] { code = aios_wait(&item, 1, long_ns); });
    REQUIRE(none_or(code, AIOS_OK));
    ok(aios_wait(&item, 1, long_ns));
    with_failure([&] { code = aios_call_result(made, &reply, sizeof reply); });
    REQUIRE(none_or(code, AIOS_OK));
  });
}

TEST_CASE("An answer needs no memory to be kept until it is asked for") {
  const auto instance = attach();
  const auto echo = connect_echo(instance.get());
  with_each_failure([&](auto with_failure) {
    Echo::Request request{};
    request.value = 7;
    aios_call* made = nullptr;
    ok(aios_call_start(echo.get(), Echo::opcode, &request, sizeof request, long_ns, &made));
    const Owned<aios_call> call(made);
    int done = 0;
    aios_code code = AIOS_OK;
    with_failure([&] {
      while (done == 0 && code == AIOS_OK) code = aios_call_is_done(made, &done);
    });
    REQUIRE(code == AIOS_OK);
    Echo::Reply reply{};
    ok(aios_call_result(made, &reply, sizeof reply));
    REQUIRE(reply.value == 7);
  });
}

TEST_CASE("Closing a service needs no memory, and ends its calls") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    auto echo = connect_echo(instance.get());
    REQUIRE(echo_once(echo.get(), 1) == 1);
    const auto sent = hold(echo.get(), 8001);
    with_failure([&] { echo.reset(); });
    proto::Empty reply{};
    REQUIRE(aios_call_result(sent.get(), &reply, sizeof reply) == AIOS_CANCELLED);
    auto unconnected = connect_echo(instance.get());
    const auto unsent = hold(unconnected.get(), 8002);
    with_failure([&] { unconnected.reset(); });
    REQUIRE(aios_call_result(unsent.get(), &reply, sizeof reply) == AIOS_CANCELLED);
  });
}

TEST_CASE("A region that is refused to be frozen for good says what it is, whatever the memory") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    const auto region = create_region(instance.get(), 4096);
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = aios_region_freeze(region.get()); });
    REQUIRE(none_or(code, AIOS_NOT_SUPPORTED));
    // Where it says that it may be written, it may.
    if (aios_region_is_writable(region.get()) == 1)
      static_cast<volatile char*>(aios_region_data(region.get()))[0] = 7;
    REQUIRE(static_cast<volatile char*>(aios_region_data(region.get()))[1] == 0);
  });
}

namespace {

/// A tenant, a codelet of it, and one task.
struct Tenant {
  explicit Tenant(aios_instance* instance) {
    aios_tenant* made = nullptr;
    ok(aios_tenant_open(instance, long_ns, &made));
    tenant.reset(made);
    std::uint32_t codelet = 0;
    ok(aios_codelet_register_file(made, TEST_MODULES "/good.so", "count", long_ns, &codelet));
    ok(aios_task_init(&task, 1, codelet));
  }
  aios_code submit(std::uint64_t timeout_ns) {
    return aios_tasks_submit(tenant.get(), &task, 1, timeout_ns);
  }
  Owned<aios_tenant> tenant;
  aios_task_record task{};
};

/// Stops a server while it lives.
class Stopped {
 public:
  explicit Stopped(const char* name) {
    const auto server = the_instance().server(name);
    if (!server) FAIL(server.error().to_string());
    pid_ = static_cast<pid_t>(server->pid);
    REQUIRE(::kill(pid_, SIGSTOP) == 0);
  }
  Stopped(const Stopped&) = delete;
  ~Stopped() { ::kill(pid_, SIGCONT); }

 private:
  pid_t pid_ = 0;
};

}  // namespace

TEST_CASE("A tenant for which there is no memory is refused, and not waited for") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    aios_tenant* made = nullptr;
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = aios_tenant_open(instance.get(), long_ns, &made); });
    const Owned<aios_tenant> tenant(made);
    REQUIRE(none_or(code, AIOS_OK));
    REQUIRE((code == AIOS_OK) == (made != nullptr));
  });
}

TEST_CASE("A task for which there is no memory is not submitted, and another one is") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    Tenant one(instance.get());
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = one.submit(long_ns); });
    REQUIRE(none_or(code, AIOS_OK));
    // Its tag and its place are free again.
    if (code != AIOS_OK) ok(one.submit(long_ns));
    aios_completion done{};
    std::size_t count = 0;
    ok(aios_tenant_completions(one.tenant.get(), &done, 1, long_ns, &count));
    REQUIRE((done.tag == 1 && done.status == AIOS_OK));
  });
}

TEST_CASE("Submitting and waiting end when there is no memory to take in what has finished") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    Tenant one(instance.get());
    std::size_t taken = 0;
    aios_completion done{};
    std::size_t count = 0;
    aios_code code = AIOS_INTERNAL;
    with_failure([&] {
      code = aios_tasks_submit_many(one.tenant.get(), &one.task, 1, long_ns, &taken);
      if (code == AIOS_OK)
        code = aios_tenant_completions(one.tenant.get(), &done, 1, long_ns, &count);
    });
    REQUIRE(none_or(code, AIOS_OK));
    REQUIRE((code == AIOS_OK) == (count == 1));
    // Either the tenant has been given up, or what was taken ends.
    if (count == 1 || taken == 0) return;
    code = aios_tenant_completions(one.tenant.get(), &done, 1, long_ns, &count);
    REQUIRE(none_or(code, AIOS_OK));
  });
}

TEST_CASE("A task that is refused without memory is refused, and not waited for") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    Tenant one(instance.get());
    one.task.codelet = 77;
    aios_code code = AIOS_INTERNAL;
    with_failure([&] { code = one.submit(long_ns); });
    REQUIRE(none_or(code, AIOS_INVALID_ARGUMENT));
  });
}

TEST_CASE("A tenant that cannot be opened again for want of memory is given up, and says so") {
  const auto instance = attach();
  Tenant one(instance.get());
  const auto before = the_instance().server("scheduler");
  REQUIRE(before.has_value());
  aios_completion done{};
  std::size_t count = 0;
  REQUIRE(aios_tenant_completions(one.tenant.get(), &done, 1, 0, &count) == AIOS_TIMED_OUT);
  ::kill(static_cast<pid_t>(before->pid), SIGKILL);
  aios_code code = AIOS_INTERNAL;
  {
    const FailingMemory failing(0, true);
    code = aios_tenant_completions(one.tenant.get(), &done, 1, long_ns, &count);
  }
  CHECK(code == AIOS_NO_MEMORY);
  CHECK(one.submit(long_ns) == AIOS_NO_MEMORY);
  REQUIRE(the_instance().wait_restarted("scheduler", before->epoch).has_value());
}

TEST_CASE("A tenant whose batches are not answered yet is closed without memory") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    Tenant one(instance.get());
    const Stopped scheduler("scheduler");
    REQUIRE(one.submit(ns_per_ms) == AIOS_TIMED_OUT);
    one.task.tag = 2;
    REQUIRE(one.submit(ns_per_ms) == AIOS_TIMED_OUT);
    with_failure([&] { one.tenant.reset(); });
  });
}

TEST_CASE("A tenant, a server and a region are closed without memory") {
  const auto instance = attach();
  with_each_failure([&](auto with_failure) {
    aios_tenant* made = nullptr;
    ok(aios_tenant_open(instance.get(), long_ns, &made));
    Owned<aios_tenant> tenant(made);
    auto server = serve(instance.get(), "brief");
    auto region = create_region(instance.get(), 4096);
    with_failure([&] {
      tenant.reset();
      server.reset();
      region.reset();
    });
  });
}
