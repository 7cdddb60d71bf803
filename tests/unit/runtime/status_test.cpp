#include "abi/runtime/status.hpp"

#include <doctest/doctest.h>

#include <cerrno>

#include "abi/include/aios/aios.h"

using namespace aios;

namespace {
Result<int> half(int value) {
  if (value % 2 != 0) return error(Code::invalid_argument, "odd");
  return value / 2;
}
Result<int> quarter(int value) {
  return TRY(half(TRY(half(value))));
}
}  // namespace

TEST_CASE("TRY yields the value or returns the error") {
  CHECK(quarter(8).value() == 2);
  CHECK(quarter(6).error().code() == Code::invalid_argument);
  CHECK(quarter(6).error().to_string() == "invalid_argument: odd");
}

TEST_CASE("Every code has a name of its own, the C header's numbers are the same") {
  for (std::uint32_t i = 0; i <= AIOS_TOO_LATE; ++i) {
    CHECK(code_name(static_cast<Code>(i)) != "unknown");
    for (std::uint32_t j = 0; j < i; ++j)
      CHECK(code_name(static_cast<Code>(i)) != code_name(static_cast<Code>(j)));
  }
  CHECK(static_cast<int>(Code::peer_closed) == AIOS_PEER_CLOSED);
  CHECK(static_cast<int>(Code::internal) == AIOS_INTERNAL);
  CHECK(static_cast<int>(Code::too_late) == AIOS_TOO_LATE);
  CHECK(code_name(static_cast<Code>(AIOS_TOO_LATE + 1)) == "unknown");
}

TEST_CASE("An errno becomes the code a caller can act on") {
  CHECK(errno_error("x", ENOENT).error().code() == Code::not_found);
  CHECK(errno_error("x", EACCES).error().code() == Code::denied);
  CHECK(errno_error("x", ENOSPC).error().code() == Code::no_space);
  CHECK(errno_error("x", EMFILE).error().code() == Code::quota);
  CHECK(errno_error("open file", EIO).error().message().starts_with("open file: "));
}
