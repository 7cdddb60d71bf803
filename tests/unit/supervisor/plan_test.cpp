#include "services/supervisor/plan.hpp"

#include <doctest/doctest.h>

using namespace aios;
using namespace aios::supervisor;

namespace {

Manifest manifest_of(std::initializer_list<ServerSpec> servers) {
  Manifest manifest;
  manifest.path = "m.toml";
  std::uint32_t line = 1;
  for (ServerSpec server : servers) {
    server.line = line++;
    manifest.servers.push_back(std::move(server));
  }
  return manifest;
}

ServerSpec server(std::string name, std::vector<std::string> routes,
                  std::vector<std::string> depends = {}) {
  ServerSpec spec;
  spec.name = std::move(name);
  spec.routes = std::move(routes);
  spec.depends = std::move(depends);
  return spec;
}

std::vector<std::string> names(const Plan& plan) {
  std::vector<std::string> out;
  for (const PlannedServer& planned : plan.servers) out.push_back(planned.spec.name);
  return out;
}

}  // namespace

TEST_CASE("A server starts after its routes and dependencies") {
  const auto plan = make_plan(
      manifest_of({server("mapreduce", {"scheduler", "storage"}), server("scheduler", {"cpu"}),
                   server("cpu", {}), server("storage", {}, {"cpu"})}));
  REQUIRE(plan.has_value());
  CHECK(names(*plan) == std::vector<std::string>{"cpu", "scheduler", "storage", "mapreduce"});
  CHECK(plan->servers[3].needs == std::vector<std::size_t>{1, 2});
  CHECK(plan->servers[2].needs == std::vector<std::size_t>{0});
  CHECK(plan->servers[0].needs.empty());
}

TEST_CASE("Servers that do not need one another keep the order of the file") {
  const auto plan = make_plan(manifest_of({server("c", {}), server("a", {}), server("b", {})}));
  REQUIRE(plan.has_value());
  CHECK(names(*plan) == std::vector<std::string>{"c", "a", "b"});
}

TEST_CASE("A route to the supervisor and a need named twice change nothing") {
  const auto plan =
      make_plan(manifest_of({server("b", {"supervisor", "a"}, {"a"}), server("a", {})}));
  REQUIRE(plan.has_value());
  CHECK(names(*plan) == std::vector<std::string>{"a", "b"});
  CHECK(plan->servers[1].needs == std::vector<std::size_t>{0});
}

TEST_CASE("A circle of needs is refused and named") {
  const auto plan = make_plan(manifest_of(
      {server("x", {"a"}), server("a", {"b"}), server("b", {}, {"c"}), server("c", {"a"})}));
  REQUIRE(!plan.has_value());
  CHECK(plan.error().code() == Code::invalid_argument);
  CHECK(plan.error().message() ==
        "m.toml:2: servers need one another in a circle: a -> b -> c -> a; take one of these out "
        "of 'routes' or 'depends'");
}
