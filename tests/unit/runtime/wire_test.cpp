#include "abi/proto/wire.hpp"

#include <doctest/doctest.h>

using namespace aios::proto;

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
