// What is said of a sandbox: the word in the status page, and names of protections.
#include "abi/runtime/sandbox/sandbox.hpp"

#include <doctest/doctest.h>

using namespace aios;
using proto::sandbox::all_protections;
using proto::sandbox::bit;
using proto::sandbox::Confined;
using proto::sandbox::Profile;
using proto::sandbox::Protection;

TEST_CASE("The word of a status page tells profile, protections and Landlock's version") {
  const Confined told{Profile::storage, bit(Protection::landlock) | bit(Protection::limits), 7};
  const auto read = Confined::from(told.word());
  REQUIRE(read.has_value());
  CHECK(read->profile == Profile::storage);
  CHECK(read->enforced == told.enforced);
  CHECK(read->landlock_abi == 7);
  CHECK(Confined::from(Confined{}.word()).has_value());
}

TEST_CASE("A word that nobody wrote, or that makes no sense, tells nothing") {
  CHECK(!Confined::from(0));
  const std::uint64_t good = Confined{Profile::server, all_protections, 7}.word();
  CHECK(!Confined::from(good & ~(1ull << 63)));
  CHECK(!Confined::from(good | 1ull << 31));     // a protection that there is not
  CHECK(!Confined::from(good | 0xffull << 32));  // a profile that there is not
  CHECK(!Confined::from(good | 1ull << 50));
  CHECK(!Confined::from(~0ull));
}

TEST_CASE("Lists of protections are read back as they are written") {
  for (const std::uint32_t some : {0u, 1u, 0x155u, all_protections}) {
    const auto read = sandbox::parse_protections(sandbox::protection_list(some));
    REQUIRE(read.has_value());
    CHECK(*read == some);
  }
  const auto wrong = sandbox::parse_protections("limits,walls");
  REQUIRE(!wrong.has_value());
  CHECK(wrong.error().code() == Code::invalid_argument);
  CHECK(wrong.error().message().find("\"walls\"; there are: namespaces,") != std::string::npos);
}

TEST_CASE("Every protection is explained, and what is missing says what that means") {
  for (std::size_t i = 0; i < proto::sandbox::protection_names.size(); ++i) {
    const auto protection = static_cast<Protection>(i);
    const sandbox::Explanation& text = sandbox::explain(protection);
    CHECK(!text.gives.empty());
    CHECK(!text.enable.empty());
    const std::string line = sandbox::describe({protection, "because"});
    CHECK(line.find(proto::sandbox::protection_names[i]) != std::string::npos);
    CHECK(line.find("(because)") != std::string::npos);
    CHECK(line.find(text.without) != std::string::npos);
  }
}

TEST_CASE("The profile `open` is not locked in") {
  const auto report = sandbox::lock_in({.profile = Profile::open});
  REQUIRE(report.has_value());
  CHECK(report->confined.enforced == 0);
  CHECK(report->missing.empty());
}
