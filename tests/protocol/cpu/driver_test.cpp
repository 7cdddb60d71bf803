// The driver's side of the device protocol, over a real kernel.

#include <doctest/doctest.h>

#include "tests/protocol/cpu/rig.hpp"

using namespace aios;
using namespace aios::cpu::test;
using proto::driver::ContextEnd;

namespace {

Result<proto::driver::Device::Reply> device(Rig& rig, std::uint64_t index = 0) {
  return rig.driver().call<proto::driver::Device>({.index = index}, soon());
}

ContextEnd end_of(const proto::driver::OpenContext::Reply& opened) {
  return static_cast<ContextEnd>(opened.previous_end);
}

}  // namespace

TEST_CASE("The driver shows one CPU") {
  Rig rig;
  const auto cpu = device(rig);
  REQUIRE(cpu);
  CHECK(cpu->count == 1);
  CHECK(cpu->kind.view() == "cpu");
  CHECK(cpu->backend.view() == "cpu");
  CHECK(cpu->uuid.view().size() == 36);
  CHECK(cpu->threads >= 1);
  CHECK(cpu->contexts == 0);
  CHECK(device(rig, 1).error().code() == Code::not_found);
}

TEST_CASE("A tenant gets one context however often it asks, another tenant another") {
  Rig rig;
  const Handle one = rig.make_tenant("one"), two = rig.make_tenant("two");
  const auto first = rig.open_context(one), again = rig.open_context(one);
  const auto other = rig.open_context(two);
  REQUIRE(first);
  REQUIRE(again);
  REQUIRE(other);
  CHECK(first->generation == 1);
  CHECK(end_of(*first) == ContextEnd::none);
  CHECK(first->threads == device(rig)->threads);
  CHECK(again->process_id == first->process_id);
  CHECK(other->process_id != first->process_id);
  CHECK(device(rig)->contexts == 2);
}

TEST_CASE("A context that nobody is connected to ends, however long its tenant lives") {
  Rig rig;
  Handle port = 0;
  rig.await_exit(rig.spawn_unknown_context({"--threads", "1", "--lonely-ms", "1"}, port));
  const std::uint64_t served =
      rig.spawn_unknown_context({"--threads", "1", "--lonely-ms", "2000"}, port);
  {
    const auto client = rig.connect(port);
    REQUIRE(client->call<proto::Null>({}, soon()));
  }
  rig.await_exit(served);
  CHECK(rig.context_log().find("nobody is connected to this context: it ends") !=
        std::string::npos);
}

TEST_CASE("What is no job of a tenant is refused") {
  Rig rig;
  const auto open = [&rig](std::uint64_t tenant) {
    return rig.driver()
        .call<proto::driver::OpenContext>({.tenant = tenant, .device = 0}, soon())
        .error()
        .code();
  };
  CHECK(open(0) == Code::bad_handle);
  CHECK(open(UINT64_MAX) == Code::bad_handle);
  const auto region = Region::create(rig.kernel(), 4096, "no-job");
  const auto sent = rig.driver().call_with_handles<proto::driver::OpenContext>(
      {.tenant = 0, .device = 0},
      {{.handle = region->handle(),
        .type = ObjectType::region,
        .use = rights::info,
        .grant = 0,
        .move = false}},
      [](std::span<const Handle> numbers, auto& request) { request.tenant = numbers[0]; }, soon());
  CHECK(sent.error().code() == Code::wrong_type);
}

TEST_CASE("A killed tenant gets no context") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  REQUIRE(rig.kernel().call<proto::kernel::JobKill>({.job = tenant}));
  CHECK(rig.open_context(tenant).error().code() == Code::denied);
}

TEST_CASE("A device that is not there is not_found") {
  Rig rig;
  const auto closed =
      rig.driver().call<proto::driver::CloseContext>({.tenant_job_id = 1, .device = 1}, soon());
  CHECK(closed.error().code() == Code::not_found);
}

TEST_CASE("A killed context has a successor when the tenant asks again") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink first(rig, tenant);
  REQUIRE(first.load("good", "count"));
  rig.kill_process(first.opened().process_id);
  rig.await_exit(first.opened().process_id);
  CHECK(first.client().call<proto::Null>({}, soon()).error().code() == Code::peer_closed);
  const auto opened = rig.open_context(tenant);
  REQUIRE(opened);
  CHECK(opened->process_id != first.opened().process_id);
  CHECK(opened->generation == 2);
  CHECK(end_of(*opened) == ContextEnd::killed);
  CHECK(rig.connect(opened->port)->call<proto::Null>({}, soon()));
  CHECK(device(rig)->contexts == 1);
  CHECK(device(rig)->context_restarts == 1);
}

TEST_CASE("A restarted driver adopts contexts, and knows how those ended that it did not see") {
  Rig rig;
  const Handle one = rig.make_tenant("one"), two = rig.make_tenant("two");
  ContextLink living(rig, one);
  const auto codelet = living.load("good", "count");
  REQUIRE(codelet);
  const auto dying = rig.open_context(two);
  REQUIRE(dying);
  rig.restart_driver();
  CHECK(living.run(*codelet));  // did not notice
  CHECK(rig.open_context(one)->process_id == living.opened().process_id);
  CHECK(rig.open_context(one)->generation == 1);
  CHECK(device(rig)->contexts == 2);

  rig.kill_process(dying->process_id);
  rig.await_exit(dying->process_id);
  rig.restart_driver();
  const auto successor = rig.open_context(two);
  REQUIRE(successor);
  CHECK(successor->generation == 2);
  CHECK(end_of(*successor) == ContextEnd::killed);
  CHECK(living.run(*codelet));
}

TEST_CASE("Closing a context ends it, and the tenant starts afresh") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  const auto first = rig.open_context(tenant);
  REQUIRE(first);
  const proto::driver::CloseContext::Request request{.tenant_job_id = rig.job_id(tenant),
                                                     .device = 0};
  CHECK(rig.driver().call<proto::driver::CloseContext>(request, soon()));
  CHECK(rig.has_ended(first->process_id));
  CHECK(rig.driver().call<proto::driver::CloseContext>(request, soon()));
  CHECK(device(rig)->contexts == 0);
  const auto second = rig.open_context(tenant);
  REQUIRE(second);
  CHECK(second->generation == 1);
  CHECK(end_of(*second) == ContextEnd::none);
}

TEST_CASE("Connecting to a context that has died ends at once") {
  Rig rig;
  const auto opened = rig.open_context(rig.make_tenant("tenant"));
  REQUIRE(opened);
  rig.kill_process(opened->process_id);
  rig.await_exit(opened->process_id);
  const auto answer = rig.connect(opened->port)->call<proto::Null>({}, soon());
  REQUIRE(!answer);
  CHECK(answer.error().code() != Code::timed_out);
}
