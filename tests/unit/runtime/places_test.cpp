// Where an instance is looked for.
#include <doctest/doctest.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "abi/runtime/kernel.hpp"

using namespace aios;

namespace {

/// A variable of the environment, which is again what it was when this ends.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* is = std::getenv(name)) was_ = is;
    set(value);
  }
  ~Variable() { set(was_ ? was_->c_str() : nullptr); }

 private:
  void set(const char* value) { value == nullptr ? ::unsetenv(name_) : ::setenv(name_, value, 1); }
  const char* name_;
  std::optional<std::string> was_;
};

}  // namespace

TEST_CASE("The state folder is where the environment says, or in the user's home") {
  {
    const Variable state("XDG_STATE_HOME", "/states");
    CHECK(default_state_folder() == "/states/aios");
  }
  const Variable state("XDG_STATE_HOME", nullptr);
  {
    const Variable home("HOME", "/homes/me");
    CHECK(default_state_folder() == "/homes/me/.local/state/aios");
  }
  const passwd* user = ::getpwuid(::getuid());
  REQUIRE(user != nullptr);
  for (const char* nothing : {static_cast<const char*>(nullptr), ""}) {
    const Variable home("HOME", nothing);
    CHECK(default_state_folder() == std::string(user->pw_dir) + "/.local/state/aios");
  }
}
