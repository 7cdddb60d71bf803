#include <cstring>

#include "tests/system/echo_instance.hpp"

using namespace aios;
using namespace aios::test;

namespace pe = proto::echo;

TEST_CASE("Echo answers what it was sent") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  pe::Echo::Request request{};
  request.value = 42;
  std::memset(request.bytes, 7, sizeof request.bytes);
  const auto reply = need(client->call<pe::Echo>(request, patience()));
  CHECK(std::memcmp(&reply, &request, sizeof reply) == 0);
}

TEST_CASE("A thousand calls get a thousand answers, one by one and at once") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  for (std::uint64_t i = 0; i < 1000; ++i) REQUIRE(need(echo(*client, i)) == i);
  std::uint64_t answered = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    pe::Echo::Request request{};
    request.value = i;
    client->start<pe::Echo>(request, patience(), [&answered, i](Result<pe::Echo::Reply> reply) {
      if (reply && reply->value == i) ++answered;
    });
  }
  const Deadline end = patience();
  while (answered < 1000 && !end.passed())
    if (!client->work() && answered < 1000) client->wait(end);
  CHECK(answered == 1000);
}

TEST_CASE("A held call is answered when another client releases it") {
  const auto instance = boot_echo();
  const auto other = need(instance->attach());
  const auto holder = echo_client(instance->visitor());
  const auto releaser = echo_client(*other);
  HeldCall held(*holder, 5);
  HeldCall apart(*holder, 6);
  held.send();
  // The server has read both once it has answered a later call of the same link.
  CHECK(need(echo(*holder, 1)) == 1);
  CHECK(!held.done());
  CHECK(need(releaser->call<pe::Release>({5}, patience())).released == 1);
  CHECK(held.wait().has_value());
  CHECK(!apart.done());
  CHECK(need(releaser->call<pe::Release>({5}, patience())).released == 0);
  CHECK(need(releaser->call<pe::Release>({6}, patience())).released == 1);
  CHECK(apart.wait().has_value());
}

TEST_CASE("A call that is not answered ends at its deadline") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  const auto reply = client->call<pe::Hold>({1}, Deadline::after(20 * ns_per_ms));
  REQUIRE(!reply.has_value());
  CHECK(reply.error().code() == Code::timed_out);
  CHECK(need(echo(*client, 2)) == 2);
}

TEST_CASE("A region sent over a link is summed and given back") {
  const auto instance = boot_echo();
  Visitor& visitor = instance->visitor();
  const auto client = echo_client(visitor);
  const std::uint64_t before = need(instance->info()).region_bytes;
  Region region = need(Region::create(visitor.kernel(), 1 << 20, "numbers"));
  std::uint64_t expected = 0;
  for (std::uint64_t i = 0; i < region.size() / 8; ++i) {
    const std::uint64_t word = i * i;
    std::memcpy(region.data() + 8 * i, &word, 8);
    expected += word;
  }
  for (int round = 0; round < 3; ++round) {
    const auto reply = client->call_with_handles<pe::Sum>(
        {}, {{region.handle(), ObjectType::region, rights::info | rights::map_read, 0, false}},
        [](std::span<const Handle> handles, pe::Sum::Request& request) {
          request.region = handles[0];
        },
        patience());
    CHECK(need(reply).sum == expected);
  }
  region.reset();
  // The halves of the client's link were made after the first look.
  CHECK(need(instance->info()).region_bytes < before + (1 << 20));
}

TEST_CASE("Summing what is not a region is refused and harms nobody") {
  const auto instance = boot_echo();
  const auto client = echo_client(instance->visitor());
  for (std::uint64_t index = 0; index < 16; ++index) {
    for (std::uint64_t generation = 0; generation < 4; ++generation) {
      const auto either_half = {index << 32 | generation, generation << 32 | index};
      for (const std::uint64_t handle : either_half)
        CHECK(!client->call<pe::Sum>({handle}, patience()).has_value());
    }
  }
  CHECK(need(echo(*client, 3)) == 3);
  const auto other = need(instance->attach());
  CHECK(need(echo(*echo_client(*other), 4)) == 4);
  CHECK(need(instance->server("echo")).restarts == 0);
}

TEST_CASE("A client of another version may make null calls only") {
  const auto instance = boot_echo();
  const auto client = need(instance->visitor().client("echo", 77));
  CHECK(client->call<proto::Null>({}, patience()).has_value());
  const auto reply = echo(*client, 1);
  REQUIRE(!reply.has_value());
  CHECK(reply.error().code() == Code::version_mismatch);
  CHECK(reply.error().message().ends_with(
      "speaks version " + std::to_string(pe::Protocol::version) + ", its client version 77"));
}

namespace {

Result<pe::Attach::Reply> attach(Client& client, const Region& region) {
  return client.call_with_handles<pe::Attach>(
      {}, {{region.handle(), ObjectType::region, rights::info | rights::map_read, 0, false}},
      [](std::span<const Handle> handles, pe::Attach::Request& request) {
        request.region = handles[0];
      },
      patience());
}

}  // namespace

TEST_CASE("An attached region is read until it is detached, by its client alone") {
  const auto instance = boot_echo();
  Visitor& visitor = instance->visitor();
  const auto client = echo_client(visitor);
  const Region region = need(Region::create(visitor.kernel(), 8192, "words"));
  const std::uint64_t word = 42;
  std::memcpy(region.data() + 8184, &word, sizeof word);
  const std::uint64_t id = need(attach(*client, region)).region;
  CHECK(need(client->call<pe::Read>({id, 8184, 8}, patience())).sum == 42);
  CHECK(need(client->call<pe::Read>({id, 0, 8192}, patience())).sum == 42);
  for (const auto& [offset, length] :
       std::initializer_list<std::pair<std::uint64_t, std::uint64_t>>{
           {0, 8200}, {8192, 8}, {8, 8192}, {~0ull - 7, 16}, {0, ~0ull - 7}, {0, 4}}) {
    const auto reply = client->call<pe::Read>({id, offset, length}, patience());
    REQUIRE(!reply.has_value());
    CHECK(reply.error().code() == Code::invalid_argument);
  }
  const auto other = need(instance->attach());
  const auto stranger = echo_client(*other);
  CHECK(stranger->call<pe::Read>({id, 0, 8}, patience()).error().code() == Code::not_found);
  CHECK(stranger->call<pe::Detach>({id}, patience()).error().code() == Code::not_found);
  need(client->call<pe::Detach>({id}, patience()));
  CHECK(client->call<pe::Read>({id, 0, 8}, patience()).error().code() == Code::not_found);
}

TEST_CASE("A client may attach four regions and its regions go with its link") {
  const auto instance = boot_echo();
  const auto other = need(instance->attach());
  {
    const auto client = echo_client(*other);
    const Region region = need(Region::create(other->kernel(), 4096, "page"));
    for (std::uint32_t i = 0; i < pe::max_attached_regions; ++i) need(attach(*client, region));
    CHECK(attach(*client, region).error().code() == Code::quota);
  }
  const auto client = echo_client(*other);
  const Region region = need(Region::create(other->kernel(), 4096, "page"));
  CHECK(attach(*client, region).has_value());
}
