#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tools/protodump/dump.hpp"

using namespace aios::protodump;

namespace {

const std::string one =
    "# a comment\n\nprotocol echo version 1\n  method 1 echo\n    request 8\n      0 8 value\n";

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

}  // namespace

TEST_CASE("The recorded layouts are those this build was compiled with") {
  std::ifstream file(PROTOCOLS_LOCK, std::ios::binary);
  REQUIRE(file);
  const std::string lock(std::istreambuf_iterator<char>(file), {});
  for (const std::string& sentence : compare(lock, dump_all())) FAIL_CHECK(sentence);
}

TEST_CASE("A dump has a block for every protocol, each with text") {
  const auto blocks = parse(dump_all());
  CHECK(blocks.size() >= 8);
  for (const Block& block : blocks) {
    CAPTURE(block.name);
    CHECK(block.version >= 1);
    CHECK_FALSE(block.text.empty());
  }
}

TEST_CASE("Equal layouts have nothing wrong with them") {
  CHECK(compare(one, one).empty());
}

TEST_CASE("A layout that changed under its version is drift, and names the protocol and field") {
  const std::string changed = with(one, "0 8 value", "0 8 number");
  const auto wrong = compare(one, changed);
  REQUIRE(wrong.size() == 1);
  CHECK(wrong[0].find("protocol echo") != std::string::npos);
  CHECK(wrong[0].find("'0 8 number'") != std::string::npos);
  CHECK(drifted(one, changed).size() == 1);
}

TEST_CASE("A layout that ends earlier under its version is drift") {
  const std::string shorter = with(one, "      0 8 value\n", "");
  CHECK(drifted(one, shorter).size() == 1);
  CHECK(drifted(shorter, one).size() == 1);
}

TEST_CASE("A raised version only wants to be recorded") {
  const std::string raised = with(with(one, "version 1", "version 2"), "value", "number");
  CHECK(drifted(one, raised).empty());
  REQUIRE(compare(one, raised).size() == 1);
  CHECK(compare(one, raised)[0].find("protocols-lock") != std::string::npos);
}

TEST_CASE("A version never goes back") {
  CHECK(drifted(with(one, "version 1", "version 2"), one).size() == 1);
}

TEST_CASE("Protocols that came or went want to be recorded") {
  CHECK(compare("", one).size() == 1);
  CHECK(compare(one, "").size() == 1);
  CHECK(drifted("", one).empty());
}
