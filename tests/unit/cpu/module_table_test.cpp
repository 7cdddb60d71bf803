#include "drivers/cpu/module_table.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>

#include "tests/unit/cpu/test_support.hpp"

using namespace aios;
using namespace aios::cpu;

namespace {

Status refusal(const std::string& module, const std::string& codelet = "nothing") {
  const auto result = test::modules().load(test::module_image(module), codelet);
  REQUIRE(!result);
  return result.error();
}

/// Each table gets its own: the loader takes two modules of one path for the same.
struct Folder {
  char path[32] = "/tmp/aios-modules-XXXXXX";
  Folder() { REQUIRE(::mkdtemp(path) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
};

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Every allowed library can be loaded beforehand") {
  CHECK(preload_libraries());
}

TEST_CASE("A module's codelets are found by name, and the same bytes load once") {
  ModuleTable& modules = test::modules();
  const auto image = test::module_image("good");
  const auto count = modules.load(image, "count");
  const auto fail = modules.load(image, "fail");
  REQUIRE(count);
  REQUIRE(fail);
  CHECK(*count != *fail);
  CHECK(modules.load(image, "count") == *count);
  CHECK((*modules.codelet(*fail))->name == "fail");
  CHECK(modules.load(test::module_image("throws"), "throw_error").value() / 64 != *count / 64);
}

TEST_CASE("An unknown codelet is not_found, and those there are get listed") {
  const Status status = refusal("good", "cuont");
  CHECK(status.code() == Code::not_found);
  CHECK(contains(status.message(), "count, fail, fail_silently, increment, read_file"));
}

TEST_CASE("A codelet number that was never given out is invalid") {
  const Folder folder;
  ModuleTable modules(folder.path);
  CHECK(modules.codelet(0).error().code() == Code::invalid_argument);
  const auto number = modules.load(test::module_image("good"), "count");
  REQUIRE(number);
  CHECK(modules.codelet(*number));
  for (const std::uint32_t wrong : {5u, 63u, 64u, UINT32_MAX})
    CHECK(modules.codelet(wrong).error().code() == Code::invalid_argument);
}

TEST_CASE("A module without entry point, or with a useless one, is refused with the reason") {
  CHECK(refusal("no_entry").code() == Code::invalid_argument);
  CHECK(contains(refusal("no_entry").message(), "aios_module"));
  CHECK(refusal("wrong_abi").code() == Code::invalid_argument);
  CHECK(contains(refusal("wrong_abi").message(), "ABI 2"));
  CHECK(refusal("empty_table").code() == Code::invalid_argument);
  CHECK(contains(refusal("bad_table").message(), "codelet 0"));
}

TEST_CASE("A module with an undefined symbol is refused by its name") {
  CHECK(refusal("undefined").code() == Code::invalid_argument);
  CHECK(contains(refusal("undefined").message(), "nobody_defines_this"));
}

TEST_CASE("A module that needs a foreign library is denied") {
  CHECK(refusal("needs_library").code() == Code::denied);
}

TEST_CASE("The same refused bytes are refused again for the same reason") {
  CHECK(refusal("undefined").to_string() == refusal("undefined").to_string());
}

TEST_CASE("Modules leave no file behind in their folder") {
  const Folder folder;
  ModuleTable modules(folder.path);
  CHECK(modules.load(test::module_image("good"), "count"));
  CHECK(!modules.load(test::module_image("no_entry"), "count"));
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("A folder that is not there is not_found") {
  ModuleTable modules("/nowhere");
  CHECK(modules.load(test::module_image("good"), "count").error().code() == Code::not_found);
}

TEST_CASE("Too many modules are refused with quota") {
  const Folder folder;
  ModuleTable modules(folder.path);
  auto image = test::module_image("good");
  for (std::uint32_t i = 0; i < proto::context::max_modules; ++i) {
    image.push_back(std::byte{});  // other bytes, the same code
    REQUIRE(modules.load(image, "count") == i * 64);
  }
  CHECK(modules.load(image, "fail") == 63 * 64 + 1);
  image.push_back(std::byte{});
  CHECK(modules.load(image, "count").error().code() == Code::quota);
}

TEST_CASE("A function for shares of a codelet that is not there is refused") {
  const Status status = refusal("bad_shares");
  CHECK(status.code() == Code::invalid_argument);
  CHECK(contains(status.message(), "entry 0 of aios_module_shares names no codelet"));
}
