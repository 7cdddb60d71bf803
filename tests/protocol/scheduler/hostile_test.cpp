// What a client may get wrong, on purpose or not.
#include <doctest/doctest.h>

#include "tests/protocol/scheduler/rig.hpp"

using namespace aios;
using namespace aios::scheduler::test;
namespace wire = proto::scheduler;

namespace {

/// A client of its own, which sends what it is told.
class Raw {
 public:
  explicit Raw(Rig& rig)
      : rig_(rig),
        client_(rig.kernel(), nullptr, rig.scheduler_port(), wire::Protocol::version, "scheduler") {
  }

  template <class M>
  Code call(const typename M::Request& request) {
    const auto reply = client_.call<M>(request, soon());
    return reply ? Code::ok : reply.error().code();
  }
  template <class M>
  Result<typename M::Reply> send(typename M::Request request, HandleToSend handle,
                                 Handle M::Request::*field) {
    return client_.call_with_handles<M>(
        request, {handle},
        [&](std::span<const Handle> numbers, auto& r) { r.*field = last_ = numbers[0]; }, soon());
  }
  Result<wire::OpenTenant::Reply> open(Handle job, std::uint32_t use, std::uint32_t grant) {
    return send<wire::OpenTenant>({0, 0}, {job, ObjectType::job, use, grant, false},
                                  &wire::OpenTenant::Request::job);
  }
  std::uint32_t open() {
    return open(rig_.make_job("raw"), rights::act | rights::send, rights::act | rights::info)
        ->tenant;
  }
  Result<proto::Empty> arena(const Region& region) {
    return send<wire::SetArena>(
        {0}, {region.handle(), ObjectType::region, rights::map_read | rights::map_write, 0, false},
        &wire::SetArena::Request::region);
  }
  Result<wire::RegisterBuffer::Reply> buffer(std::uint32_t tenant, const Region& region,
                                             std::uint64_t offset, std::uint64_t length,
                                             std::uint32_t grant = rights::map_read) {
    return send<wire::RegisterBuffer>(
        {0, offset, length, tenant, 0},
        {region.handle(), ObjectType::region, rights::send, grant, false},
        &wire::RegisterBuffer::Request::object);
  }
  Handle last() const { return last_; }
  Client& client() { return client_; }

 private:
  Rig& rig_;
  Client client_;
  Handle last_ = 0;
};

template <class T>
Code code_of(const Result<T>& result) {
  return result ? Code::ok : result.error().code();
}

}  // namespace

TEST_CASE("A tenant needs a job with the right to act and to pass it on") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const Handle job = rig.make_job("one");
  CHECK(raw.call<wire::OpenTenant>({0, 0}) == Code::invalid_argument);
  CHECK(raw.call<wire::OpenTenant>({12345, 0}) == Code::bad_handle);
  CHECK(code_of(raw.open(job, rights::send, rights::act | rights::info)) == Code::denied);
  CHECK(code_of(raw.open(job, rights::send | rights::act, 0)) == Code::denied);
  const Region region = *Region::create(rig.kernel(), 4096, "r");
  CHECK(code_of(raw.send<wire::OpenTenant>(
            {0, 0}, {region.handle(), ObjectType::region, rights::send, 0, false},
            &wire::OpenTenant::Request::job)) == Code::wrong_type);
}

TEST_CASE("Handles that were sent in vain are given back at once") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const std::uint32_t tenant = raw.open();
  const Region region = *Region::create(rig.kernel(), 4096, "r");
  const auto handles = [&rig] {
    const Handle root = rig.kernel().startup("root")->handle;
    for (std::uint64_t after = 0;;) {
      const auto record = rig.kernel().call<proto::kernel::ProcessNext>({root, after})->reply;
      REQUIRE(record.process_id != 0);
      if (record.name.view() == "scheduler") return record.handles;
      after = record.process_id;
    }
  };
  const std::uint32_t before = handles();
  // Of the wrong type, without a right, and with a range outside of it.
  constexpr std::uint32_t rounds = 8;
  for (std::uint32_t i = 0; i < rounds; ++i) {
    CHECK(code_of(raw.send<wire::OpenTenant>(
              {0, 0}, {region.handle(), ObjectType::region, rights::send, 0, false},
              &wire::OpenTenant::Request::job)) == Code::wrong_type);
    CHECK(code_of(raw.buffer(tenant, region, 0, 4096, 0)) == Code::denied);
    CHECK(code_of(raw.buffer(tenant, region, 1, 4096)) == Code::invalid_argument);
  }
  // The scheduler may meanwhile have begun its own connection to a driver.
  CHECK(handles() < before + rounds);
}

TEST_CASE("Nobody can name a handle that another message has brought") {
  Rig rig(Rig::With::no_driver);
  Raw victim(rig), thief(rig);
  const Region secret = *Region::create(rig.kernel(), 4096, "secret");
  REQUIRE(victim.buffer(victim.open(), secret, 0, 4096));
  const std::uint32_t tenant = thief.open();
  CHECK(thief.call<wire::RegisterBuffer>({victim.last(), 0, 4096, tenant, 0}) == Code::bad_handle);
  CHECK(thief.call<wire::SetArena>({victim.last()}) == Code::bad_handle);
}

TEST_CASE("Nobody can use another link's tenant") {
  Rig rig(Rig::With::no_driver);
  Raw one(rig), two(rig);
  const std::uint32_t tenant = one.open();
  CHECK(two.call<wire::Submit>({0, 1, tenant}) == Code::not_found);
  CHECK(two.call<wire::Completions>({0, 1, 1, tenant, 0}) == Code::not_found);
  CHECK(two.call<wire::Failure>({1, tenant, 0}) == Code::not_found);
  CHECK(two.call<wire::Cancel>({1, tenant, 0}) == Code::not_found);
  CHECK(two.call<wire::CloseTenant>({tenant, 0}) == Code::not_found);
  CHECK(two.call<wire::ReleaseBuffer>({tenant, 0}) == Code::not_found);
  CHECK(one.call<wire::CloseTenant>({tenant, 0}) == Code::ok);
}

TEST_CASE("Records must lie within the arena") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const std::uint32_t tenant = raw.open();
  CHECK(raw.call<wire::Submit>({0, 1, tenant}) == Code::invalid_argument);  // no arena yet
  const Region arena = *Region::create(rig.kernel(), 4096, "arena");
  REQUIRE(raw.arena(arena));
  for (const std::uint64_t offset : {4096 - 255ull, ~0ull, ~0ull - 255, 1ull << 63})
    CHECK(raw.call<wire::Submit>({offset, 1, tenant}) == Code::invalid_argument);
  CHECK(raw.call<wire::Submit>({0, 17, tenant}) == Code::invalid_argument);
  CHECK(raw.call<wire::Submit>({0, 0, tenant}) == Code::invalid_argument);
  CHECK(raw.call<wire::Submit>({0, ~0u, tenant}) == Code::invalid_argument);
  // All zero: an empty grid.
  CHECK(raw.call<wire::Submit>({0, 16, tenant}) == Code::invalid_argument);
}

TEST_CASE("An arena over 64 MiB is too large") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const Region arena = *Region::create(rig.kernel(), (64ull << 20) + 4096, "arena");
  CHECK(code_of(raw.arena(arena)) == Code::too_large);
}

TEST_CASE("Buffers and modules must lie within their regions and carry their rights") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const std::uint32_t tenant = raw.open();
  const Region region = *Region::create(rig.kernel(), 8192, "r");
  CHECK(code_of(raw.buffer(tenant, region, 4096, 4097)) == Code::invalid_argument);
  CHECK(code_of(raw.buffer(tenant, region, ~0ull, 2)) == Code::invalid_argument);
  CHECK(code_of(raw.buffer(tenant, region, 0, 0)) == Code::invalid_argument);
  CHECK(code_of(raw.buffer(tenant, region, 0, 8192, 0)) == Code::denied);
  CHECK(code_of(raw.buffer(tenant, region, 4096, 4096)) == Code::ok);
  wire::RegisterCodelet::Request request{0,  4096, 8192, tenant, proto::driver::backend::cpu,
                                         {}, {}};
  request.function.bytes[0] = 'f';
  const HandleToSend handle{region.handle(), ObjectType::region, rights::send, rights::map_read,
                            false};
  const auto field = &wire::RegisterCodelet::Request::region;
  CHECK(code_of(raw.send<wire::RegisterCodelet>(request, handle, field)) == Code::invalid_argument);
  request.length = 4096;
  CHECK(code_of(raw.send<wire::RegisterCodelet>(request, handle, field)) == Code::ok);
  request.function.bytes[63] = 'x';  // not terminated
  CHECK(code_of(raw.send<wire::RegisterCodelet>(request, handle, field)) == Code::invalid_argument);
}

TEST_CASE("A link may have 64 tenants") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const Handle job = rig.make_job("one");
  for (int i = 0; i < 64; ++i)
    REQUIRE(raw.open(job, rights::act | rights::send, rights::act | rights::info));
  CHECK(code_of(raw.open(job, rights::act | rights::send, rights::act | rights::info)) ==
        Code::quota);
}

TEST_CASE("A request of the wrong size closes the link and others are served") {
  Rig rig(Rig::With::no_driver);
  Raw rude(rig), polite(rig);
  const std::uint32_t tenant = polite.open();
  Code outcome = Code::ok;
  bool done = false;
  const std::byte bytes[3]{};
  rude.client().start_raw(wire::Submit::opcode, bytes, {}, {}, soon(), [&](auto result) {
    outcome = result ? Code::ok : result.error().code();
    done = true;
  });
  while (!done)
    if (!rude.client().work() && !done) rude.client().wait(soon());
  CHECK((outcome == Code::protocol_error || outcome == Code::peer_closed));
  CHECK(polite.call<wire::CloseTenant>({tenant, 0}) == Code::ok);
}

TEST_CASE("Waiting completions of a tenant that is closed are cancelled") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  const std::uint32_t tenant = raw.open();
  Code outcome = Code::ok;
  const Region arena = *Region::create(rig.kernel(), 4096, "arena");
  REQUIRE(raw.arena(arena));
  raw.client().start<wire::Completions>({0, 1, 1, tenant, 0}, soon(), [&](const auto& result) {
    outcome = result ? Code::ok : result.error().code();
  });
  CHECK(raw.call<wire::CloseTenant>({tenant, 0}) == Code::ok);
  CHECK(outcome == Code::cancelled);
}

TEST_CASE("Without a driver that answers there is no device") {
  Rig rig(Rig::With::no_driver);
  Raw raw(rig);
  CHECK(raw.call<wire::DeviceNext>({0}) == Code::not_found);
}
