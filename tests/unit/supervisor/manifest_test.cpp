#include "services/supervisor/manifest.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

using namespace aios;
using namespace aios::supervisor;

namespace {

std::string refusal(std::string_view text) {
  const auto manifest = parse_manifest(text, "m.toml");
  REQUIRE(!manifest.has_value());
  CHECK(manifest.error().code() == Code::invalid_argument);
  CHECK(manifest.error().message().find('\n') == std::string::npos);
  return manifest.error().message();
}

}  // namespace

TEST_CASE("Every key of a manifest is read") {
  const auto manifest = parse_manifest(R"(
[instance]
heartbeat_ms = 200
missed_heartbeats = 5
start_timeout_ms = 3000
stop_timeout_ms = 400
drain_ms = 0
restart = { count = 7, window_ms = 1000, first_delay_ms = 0, max_delay_ms = 20 }

[users]
quota = { memory = "8G", cpus = 2, handles = 99 }

[server.b]
binary = "aios-b"
profile = "context"
routes = ["a", "supervisor"]
depends = ["c"]
arguments = ["--x", "1"]
publish = true
spawner = { binary = "aios-ctx", profile = "server", label = "spawner:x" }
quota = { memory = "512M", cpus = 0.5, processes = 3, handles = 4, links = 5 }
restart = { count = 2 }

[server.a]
binary = "aios-a"

[server.c]
binary = "aios-c"
)",
                                       "m.toml");
  REQUIRE(manifest.has_value());
  CHECK(manifest->timing.heartbeat_ns == 200'000'000);
  CHECK(manifest->timing.missed_heartbeats == 5);
  CHECK(manifest->timing.start_timeout_ns == 3'000'000'000);
  CHECK(manifest->timing.stop_timeout_ns == 400'000'000);
  CHECK(manifest->timing.drain_ns == 0);
  CHECK(manifest->timing.restart.count == 7);
  CHECK(manifest->servers[0].restart.count == 2);
  CHECK(manifest->servers[0].restart.window_ns == 1'000'000'000);
  CHECK(manifest->servers[1].restart.count == 7);
  CHECK(manifest->servers[1].restart.first_delay_ns == 0);
  CHECK(manifest->servers[1].restart.max_delay_ns == 20'000'000);
  REQUIRE(manifest->servers.size() == 3);
  const ServerSpec& b = manifest->servers[0];
  CHECK(b.name == "b");
  CHECK(b.binary == "aios-b");
  CHECK(b.profile == proto::kernel::Profile::context);
  CHECK(b.routes == std::vector<std::string>{"a", "supervisor"});
  CHECK(b.depends == std::vector<std::string>{"c"});
  CHECK(b.arguments == std::vector<std::string>{"--x", "1"});
  CHECK(b.publish);
  REQUIRE(b.spawner.has_value());
  CHECK(b.spawner->binary == "aios-ctx");
  CHECK(b.spawner->label == "spawner:x");
  CHECK(b.spawner->profile == proto::kernel::Profile::server);
  CHECK(b.quota.memory_bytes == 512u << 20);
  CHECK(b.quota.processes == 3);
  CHECK(b.quota.handles == 4);
  CHECK(b.quota.links == 5);
  CHECK(b.quota.cpu_millis == 500);
  CHECK(b.line == 13);
  CHECK(manifest->user_quota.memory_bytes == 8ull << 30);
  CHECK(manifest->user_quota.cpu_millis == 2000);
  CHECK(manifest->user_quota.handles == 99);
  CHECK(manifest->user_quota.processes == 0);
}

TEST_CASE("A server keeps the place it has in the file and gets the defaults") {
  const auto manifest =
      parse_manifest("[server.z]\nbinary='aios-z'\n[server.a]\nbinary='aios-a'\n", "m.toml");
  REQUIRE(manifest.has_value());
  CHECK(manifest->servers[0].name == "z");
  CHECK(manifest->servers[1].name == "a");
  CHECK(manifest->servers[0].profile == proto::kernel::Profile::server);
  CHECK(!manifest->servers[0].publish);
  CHECK(!manifest->servers[0].spawner.has_value());
  CHECK(manifest->servers[0].quota.memory_bytes == 0);
  CHECK(manifest->timing.heartbeat_ns == 1'000'000'000);
}

TEST_CASE("The manifest that AIOS ships is valid") {
  std::ifstream file(AIOS_DEFAULT_MANIFEST);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto manifest = parse_manifest(text, "aios.toml");
  REQUIRE(manifest.has_value());
  CHECK(manifest->servers.size() == 7);
}

TEST_CASE(
    "A server has the profile that its binary is made for, unless the manifest says another") {
  const auto manifest = parse_manifest(
      "[server.a]\nbinary='aios-storage'\n[server.b]\nbinary='aios-cpu'\n"
      "[server.c]\nbinary='aios-storage'\nprofile='open'\n",
      "m.toml");
  REQUIRE(manifest.has_value());
  CHECK(manifest->servers[0].profile == proto::kernel::Profile::storage);
  CHECK(manifest->servers[1].profile == proto::kernel::Profile::driver);
  CHECK(manifest->servers[2].profile == proto::kernel::Profile::open);
}
TEST_CASE("Every server requires what the instance does, and what it names itself") {
  using proto::sandbox::bit;
  using proto::sandbox::Protection;
  const auto manifest = parse_manifest(
      "[instance]\nrequire=['landlock']\n[server.a]\nbinary='aios-a'\nrequire=['namespaces']\n"
      "[server.b]\nbinary='aios-b'\n",
      "m.toml");
  REQUIRE(manifest.has_value());
  CHECK(manifest->require == bit(Protection::landlock));
  CHECK(manifest->servers[0].require == (bit(Protection::landlock) | bit(Protection::namespaces)));
  CHECK(manifest->servers[1].require == bit(Protection::landlock));
  CHECK(refusal("[server.a]\nbinary='b'\nrequire=['safety']\n") ==
        "m.toml:3: server.a.require: no protection is named 'safety'; there are: namespaces,"
        "empty-root,no-new-privileges,no-capabilities,no-user-namespaces,landlock,landlock-scope,"
        "limits,syscall-filter,oom-order");
}

TEST_CASE("An unknown key is refused with its line and what is allowed") {
  CHECK(
      refusal("[server.a]\nbinary='aios-a'\nbinry='x'\n") ==
      "m.toml:3: unknown key 'binry' in [server.a]; allowed are: binary, profile, require, routes, "
      "depends, arguments, publish, spawner, quota, restart");
  CHECK(refusal("[sever.a]\nbinary='aios-a'\n") ==
        "m.toml:1: unknown key 'sever'; allowed are: instance, users, server");
  CHECK(refusal("[instance]\nheartbeat=1\n") ==
        "m.toml:2: unknown key 'heartbeat' in [instance]; allowed are: heartbeat_ms, "
        "missed_heartbeats, start_timeout_ms, stop_timeout_ms, drain_ms, restart, require");
  CHECK(refusal("[server.a]\nbinary='b'\nquota={memry='1M'}\n").starts_with("m.toml:3: unknown"));
  CHECK(refusal("[server.a]\nbinary='b'\nspawner={binary='c',x=1}\n")
            .starts_with("m.toml:3: unknown"));
}

TEST_CASE("A value of the wrong type is refused with its line and what is allowed") {
  CHECK(refusal("[server.a]\nbinary=1\n") == "m.toml:2: server.a.binary must be a string");
  CHECK(refusal("[server.a]\nbinary='b'\npublish='yes'\n") ==
        "m.toml:3: server.a.publish must be true or false");
  CHECK(refusal("[server.a]\nbinary='b'\nroutes='c'\n") ==
        "m.toml:3: server.a.routes must be a list of strings");
  CHECK(refusal("[server.a]\nbinary='b'\nroutes=[1]\n") ==
        "m.toml:3: server.a.routes must be a list of strings");
  CHECK(refusal("[server]\na=1\n") == "m.toml:2: server.a must be a table");
  CHECK(refusal("server=1\n") == "m.toml:1: server must be a table");
  CHECK(refusal("[instance]\nheartbeat_ms='1s'\n[server.a]\nbinary='b'\n") ==
        "m.toml:2: instance.heartbeat_ms must be a whole number from 1 to 3600000");
  CHECK(refusal("[instance]\nheartbeat_ms=0\n[server.a]\nbinary='b'\n")
            .starts_with("m.toml:2: instance.heartbeat_ms must be"));
  CHECK(refusal("[instance]\nheartbeat_ms=-1\n[server.a]\nbinary='b'\n")
            .starts_with("m.toml:2: instance.heartbeat_ms must be"));
  CHECK(refusal("[server.a]\nbinary='b'\nprofile='root'\n") ==
        "m.toml:3: server.a.profile 'root' must be one of: open, context, server, storage, driver, "
        "jit, tool, supervisor, streaming");
  CHECK(refusal("[server.a]\nbinary='b'\nquota={links=4294967296}\n")
            .starts_with("m.toml:3: server.a.quota.links must be"));
}

TEST_CASE("Memory is a number with a unit") {
  const auto memory = [](const std::string& text) {
    return parse_manifest("[server.a]\nbinary='b'\nquota={memory='" + text + "'}\n", "m.toml");
  };
  CHECK(memory("64K")->servers[0].quota.memory_bytes == 64u << 10);
  CHECK(memory("2G")->servers[0].quota.memory_bytes == 2ull << 30);
  for (const char* bad : {"", "M", "12", "0M", "1T", "1.5G", "-1M", "1M ", "9999999999G"})
    CHECK(!memory(bad).has_value());
  CHECK(memory("1T").error().message() ==
        "m.toml:3: server.a.quota.memory '1T' must be like \"512M\": a whole number and one of K, "
        "M, G");
}

TEST_CASE("Cores are a number, whole or not") {
  const auto cpus = [](const std::string& text) {
    return parse_manifest("[server.a]\nbinary='b'\nquota={cpus=" + text + "}\n", "m.toml");
  };
  CHECK(cpus("2")->servers[0].quota.cpu_millis == 2000);
  CHECK(cpus("0.01")->servers[0].quota.cpu_millis == 10);
  CHECK(cpus("1.25")->servers[0].quota.cpu_millis == 1250);
  for (const char* bad : {"0", "0.001", "-1", "'2'", "1e9", "nan", "true"})
    CHECK(!cpus(bad).has_value());
  CHECK(cpus("0").error().message() ==
        "m.toml:3: server.a.quota.cpus must be a number of cores from 0.01 to 4096");
}

TEST_CASE("A section that is there twice is refused") {
  CHECK(refusal("[server.a]\nbinary='b'\n[server.a]\nbinary='c'\n")
            .starts_with("m.toml:3: not valid TOML: "));
  CHECK(refusal("[server.a]\nbinary='b'\nbinary='c'\n").starts_with("m.toml:3: not valid TOML: "));
}

TEST_CASE("Text that is not TOML is refused with its line") {
  CHECK(refusal("[server.a\nbinary='b'\n").starts_with("m.toml:1: not valid TOML: "));
  CHECK(refusal("\n\n\xff\xfe").starts_with("m.toml:"));
}

TEST_CASE("A route or dependency to a server that is not there is refused") {
  CHECK(refusal("[server.a]\nbinary='b'\nroutes=['stroage']\n[server.storage]\nbinary='c'\n") ==
        "m.toml:3: server.a.routes: no server is named 'stroage'; there are: a, storage");
  CHECK(refusal("[server.a]\nbinary='b'\ndepends=['x']\n") ==
        "m.toml:3: server.a.depends: no server is named 'x'; there are: a");
  CHECK(refusal("[server.a]\nbinary='b'\ndepends=['supervisor']\n")
            .starts_with("m.toml:3: server.a.depends: no server"));
}

TEST_CASE("A server that names itself or another one twice is refused") {
  CHECK(refusal("[server.a]\nbinary='b'\nroutes=['a']\n") ==
        "m.toml:3: server.a.routes: a server cannot name itself");
  CHECK(refusal("[server.a]\nbinary='b'\nroutes=['c','c']\n[server.c]\nbinary='c'\n") ==
        "m.toml:3: server.a.routes: 'c' is there twice");
}

TEST_CASE("Names that cannot be used are refused") {
  CHECK(refusal("[server.A]\nbinary='b'\n").starts_with("m.toml:1: server name 'A' must be 1 to"));
  CHECK(refusal("[server.abcdefghijklmnop]\nbinary='b'\n").starts_with("m.toml:1: server name"));
  CHECK(refusal("[server.'..']\nbinary='b'\n").starts_with("m.toml:1: server name"));
  for (const char* name : {"supervisor", "port", "root"})
    CHECK(refusal("[server." + std::string(name) + "]\nbinary='b'\n").ends_with("AIOS itself"));
}

TEST_CASE("A binary is the name of a file of the libexec folder") {
  CHECK(refusal("[server.a]\npublish=true\n") == "m.toml:1: server.a.binary is missing");
  for (const char* bad : {"", "../x", "/bin/sh"})
    CHECK(refusal("[server.a]\nbinary='" + std::string(bad) + "'\n")
              .starts_with("m.toml:2: server.a.binary"));
}

TEST_CASE("A spawner's label cannot be mistaken for a port") {
  CHECK(refusal("[server.a]\nbinary='b'\nspawner={binary='c', label='port'}\n") ==
        "m.toml:3: server.a.spawner.label 'port' must be like \"spawner:context\", at most 31 "
        "characters");
}

TEST_CASE("A manifest without servers, with too many or too large is refused") {
  CHECK(refusal("") == "m.toml:1: there is no [server.NAME] section");
  std::string text;
  for (std::size_t i = 0; i <= max_servers; ++i)
    text += "[server.s" + std::to_string(i) + "]\nbinary='b'\n";
  CHECK(refusal(text) == "m.toml:33: there may be at most 16 servers");
  const auto large = parse_manifest(std::string(max_manifest_bytes + 1, '#'), "m.toml");
  REQUIRE(!large.has_value());
  CHECK(large.error().code() == Code::too_large);
}
