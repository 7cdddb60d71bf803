#include "services/storage/names.hpp"

#include <doctest/doctest.h>

using namespace aios;
using namespace aios::storage;

TEST_CASE("Names that look like relative paths are accepted") {
  for (const char* name :
       {"a", "a/b", "runs/0001/part-0", "...", ".hidden", "a b", "gr\xc3\xbc\xc3\x9f"})
    CHECK(check_object_name(name));
  CHECK(check_object_name(std::string(199, 'x')));
}

TEST_CASE("Names with empty, dot or control components return invalid_argument") {
  for (const std::string& name :
       {std::string(), std::string("/"), std::string("/a"), std::string("a/"), std::string("a//b"),
        std::string("."), std::string(".."), std::string("a/../b"), std::string("./a"),
        std::string("a\nb"), std::string("a\0b", 3), std::string("\x7f"), std::string(200, 'x')}) {
    const Result<> checked = check_object_name(name);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code() == Code::invalid_argument);
    CHECK_FALSE(checked.error().message().empty());
  }
}

TEST_CASE("A prefix is any beginning of a name") {
  for (const char* prefix : {"", "a", "a/", "a/b", "a/."}) CHECK(check_prefix(prefix));
  for (const char* prefix : {"/", "a//", "../", "\t"}) CHECK_FALSE(check_prefix(prefix));
}

TEST_CASE("A folder prefix ends in one slash") {
  CHECK(check_folder_prefix("a/"));
  CHECK(check_folder_prefix("a/b/"));
  for (const char* prefix : {"", "a", "/", "a//", "../"}) CHECK_FALSE(check_folder_prefix(prefix));
}

TEST_CASE("Servers have a namespace each, programs and contexts one per user") {
  using proto::kernel::PeerRole;
  const auto space = [](PeerRole role, std::uint32_t uid, const char* name, const char* job_name) {
    PeerInfo peer;
    peer.role = role;
    peer.uid = uid;
    peer.name = name;
    peer.job_name = job_name;
    return namespace_of(peer);
  };
  CHECK(space(PeerRole::child, 1000, "mapreduce", "mapreduce") == "s:mapreduce");
  CHECK(space(PeerRole::program, 1000, "outside", "user:1000") == "u1000");
  CHECK(space(PeerRole::program, 1001, "outside", "user:1001") == "u1001");
  CHECK(space(PeerRole::operator_program, 0, "outside", "user:0") == "u0");
  CHECK(space(PeerRole::program, 1000, "outside", "mapreduce") == "u1000");
  CHECK(space(PeerRole::operator_program, 1000, "outside", "outside") == "u1000");
  CHECK(space(PeerRole::program, 1001, "mapreduce", "mapreduce") == "u1001");
  CHECK(space(PeerRole::child, 1000, "cpu-0", ":contexts") == "u1000");
}
