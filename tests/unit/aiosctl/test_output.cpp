#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <string>

#include "abi/runtime/time.hpp"
#include "tools/aiosctl/common/output.hpp"

using namespace aios::ctl;

TEST_CASE("A table aligns its columns and leaves no trailing blanks") {
  Table table({{"NAME"}, {"PID", Align::right}, {"NOTE"}});
  CHECK(table.empty());
  table.add({"storage", "7", ""});
  table.add({"cpu", "12345", "busy"});
  CHECK(table.to_string() ==
        "NAME       PID  NOTE\n"
        "storage      7\n"
        "cpu      12345  busy\n");
}

TEST_CASE("A table counts characters, not bytes") {
  Table table({{"A"}, {"B"}});
  table.add({"\xC3\xA4\xC3\xB6", "x"});
  table.add({"ab", "y"});
  CHECK(table.to_string() == "A   B\n\xC3\xA4\xC3\xB6  x\nab  y\n");
}

TEST_CASE("Control bytes of a cell do not reach the terminal") {
  Table table({{"A"}});
  table.add({"x\x1B[2Jy\n"});
  CHECK(table.to_string() == "A\nx?[2Jy?\n");
  Table others({{"A"}});
  // U+009B begins a control sequence, too; U+00A0 is a letter's neighbour.
  others.add(
      {"x\xC2\x9B"
       "2Jy\xC2\xA0z\xC2"});
  CHECK(others.to_string() == "A\nx?2Jy\xC2\xA0z\xC2\n");
}

TEST_CASE("Bytes are shown with the unit that people would choose") {
  CHECK(human_bytes(0) == "0 B");
  CHECK(human_bytes(1023) == "1023 B");
  CHECK(human_bytes(1024) == "1.0 KiB");
  CHECK(human_bytes(1536) == "1.5 KiB");
  CHECK(human_bytes(150 * 1024) == "150 KiB");
  CHECK(human_bytes(1024 * 1024 - 1) == "1.0 MiB");
  CHECK(human_bytes(~0ull) == "16.0 EiB");
}

TEST_CASE("Durations are shown with the unit that people would choose") {
  CHECK(human_duration(0) == "0 ns");
  CHECK(human_duration(850) == "850 ns");
  CHECK(human_duration(12'345) == "12 us");
  CHECK(human_duration(3'450'000) == "3.5 ms");
  CHECK(human_duration(12'500'000'000) == "12.5 s");
  CHECK(human_duration(245 * aios::ns_per_s) == "4 min 5 s");
  CHECK(human_duration((3 * 60 + 7) * 60 * aios::ns_per_s) == "3 h 7 min");
  CHECK(human_duration((2 * 24 + 3) * 3600 * aios::ns_per_s) == "2 d 3 h");
}

TEST_CASE("Sizes are read with and without units") {
  CHECK(parse_size("64") == 64);
  CHECK(parse_size("64K") == 64 << 10);
  CHECK(parse_size("64m") == 64 << 20);
  CHECK(parse_size("2G") == 2ull << 30);
  CHECK(parse_size("64MiB") == 64 << 20);
  CHECK(parse_size("64 MB") == 64 << 20);
}

TEST_CASE("What is no size is read as 0") {
  for (const char* text : {"", "x", "-1", "12Q", "1.5G", "64MiBs", "99999999999999999999", "K",
                           "18446744073709551615T"}) {
    CAPTURE(text);
    CHECK(parse_size(text) == 0);
  }
}

TEST_CASE("A span of time is a number and a unit, and nothing else") {
  CHECK(parse_duration("2") == 2'000'000'000);
  CHECK(parse_duration("1.5s") == 1'500'000'000);
  CHECK(parse_duration("200 ms") == 200'000'000);
  CHECK(parse_duration("0") == 0);
  CHECK(parse_duration("2min") == 120'000'000'000);
  for (const char* wrong : {"", "s", "1 day", "1.5.5s", "nan", "inf", "1e300s", "2ms2", "-3us"})
    CHECK_FALSE(parse_duration(wrong));
}
