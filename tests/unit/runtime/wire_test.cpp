#include "abi/proto/wire.hpp"

#include <doctest/doctest.h>

#include <algorithm>

using namespace aios::proto;

namespace {

/// Of its request and reply only as many numbers are sent as `count` says.
struct Trim {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "trim";
  struct Request {
    std::uint32_t count;
    std::uint32_t numbers[3];
  };
  using Reply = Request;
  static constexpr std::size_t used_bytes(const Request& request) {
    return (1 + std::min(request.count, 3u)) * sizeof(std::uint32_t);
  }
  static constexpr std::size_t most_reply_bytes(const Request& request) {
    return used_bytes(request);
  }
};
static_assert(Method<Trim> && Trimmed<Trim> && !Trimmed<Null>);

}  // namespace

TEST_CASE("Of a message that is trimmed what it uses is sent, and zeros come behind it") {
  const Trim::Request sent{2, {7, 8, 9}};
  const auto bytes = bytes_to_send<Trim>(sent);
  CHECK(bytes.size() == 12);
  Trim::Request got{99, {99, 99, 99}};
  REQUIRE(take_bytes<Trim>(bytes, got));
  CHECK(got.count == 2);
  CHECK(got.numbers[1] == 8);
  CHECK(got.numbers[2] == 0);
}

TEST_CASE("A trimmed message of another length than its fields say is not taken") {
  const Trim::Request sent{2, {7, 8, 9}};
  const auto all = std::as_bytes(std::span(&sent, 1));
  Trim::Request got{};
  for (std::size_t bytes = 0; bytes <= all.size(); ++bytes)
    CHECK(take_bytes<Trim>(all.first(bytes), got) == (bytes == 12));
  // What it claims to have beyond its end does not make it longer.
  const Trim::Request claims{4'000'000'000, {1, 2, 3}};
  CHECK(bytes_to_send<Trim>(claims).size() == sizeof claims);
  CHECK(take_bytes<Trim>(std::as_bytes(std::span(&claims, 1)), got));
  const std::array<std::byte, 20> longer{};
  CHECK_FALSE(take_bytes<Trim>(longer, got));
}

TEST_CASE("A message that is not trimmed has the length of its struct") {
  const Empty nothing{};
  Empty got{};
  const auto bytes = bytes_to_send<Null>(nothing);
  CHECK(bytes.size() == sizeof nothing);
  CHECK(take_bytes<Null>(bytes, got));
  CHECK_FALSE(take_bytes<Null>(bytes.first(4), got));
}

TEST_CASE("A text field keeps what fits and is always terminated") {
  CHECK(Text<8>::from("abc").view() == "abc");
  CHECK(Text<4>::from("abcdef").view() == "abc");
  CHECK(Text<4>::from("abcdef").valid());
  CHECK_FALSE(Text<4>::fits("abcd"));
  CHECK(Text<4>::fits("abc"));
}

TEST_CASE("A text field without terminator or with bytes after it is not valid") {
  Text<4> full{{'a', 'b', 'c', 'd'}};
  CHECK_FALSE(full.valid());
  CHECK(full.view() == "abcd");
  Text<4> tail{{'a', '\0', 'c', '\0'}};
  CHECK_FALSE(tail.valid());
  CHECK_FALSE(Text<8>::fits(std::string_view("a\0b", 3)));
}
