// What code in a context can still do once it is shut off.

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

#include "abi/runtime/sandbox/sandbox.hpp"
#include "drivers/cpu/codelet_run.hpp"
#include "drivers/cpu/module_table.hpp"
#include "tests/protocol/cpu/isolated.hpp"
#include "tests/unit/cpu/test_support.hpp"

using namespace aios;
using namespace aios::cpu;
using test::Outcome;

namespace {

constexpr int could_not_lock = 99;

/// `body` after lock_in as a context, as the first process of its namespaces.
Outcome run_locked_in(const std::function<int(const sandbox::Report&)>& body) {
  return test::run_isolated([&body] {
    const auto report = sandbox::lock_in({.profile = sandbox::Profile::context});
    return report ? body(*report) : could_not_lock;
  });
}

int check_empty_root(const sandbox::Report& report) {
  if (report.private_folder != "/modules") return 1;
  // Landlock shows only the folder of its own; where there is none, the root has nothing else.
  DIR* root = ::opendir("/");
  for (const dirent* entry; root != nullptr && (entry = ::readdir(root)) != nullptr;) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && name != "modules") return 2;
  }
  if (::open("/proc/self/status", O_RDONLY) >= 0 || ::open("/../etc/passwd", O_RDONLY) >= 0)
    return 3;
  return 0;
}

int check_no_space(const sandbox::Report&) {
  const int file = ::open("/modules/x", O_WRONLY | O_CREAT, 0600);
  for (int mib = 0; mib < 1024; ++mib)
    if (::posix_fallocate(file, static_cast<off_t>(mib) << 20, 1 << 20) != 0) return 0;
  return 1;
}

const auto needs_namespaces = doctest::skip(!test::namespaces_available());

}  // namespace

TEST_CASE("A context sees an empty root and nothing of the host's files" * needs_namespaces) {
  const Outcome outcome = run_locked_in(check_empty_root);
  INFO(outcome.output);
  CHECK(outcome.code == 0);
}

TEST_CASE("The files of a context are limited in size" * needs_namespaces) {
  CHECK(run_locked_in(check_no_space).code == 0);
}

TEST_CASE("Modules are loaded and run in the empty root, with every library they may need" *
          needs_namespaces) {
  const auto image = test::module_image("throws");
  const Outcome outcome = test::run_isolated([&image] {
    if (!preload_libraries()) return 1;
    const auto report = sandbox::lock_in({.profile = sandbox::Profile::context});
    if (!report) return could_not_lock;
    ModuleTable modules(report->private_folder);
    const auto number = modules.load(image, "use_libraries");
    if (!number) return std::fprintf(stderr, "%s", number.error().to_string().c_str()), 2;
    proto::context::Run::Request request{};
    request.grid[0] = 10;
    request.grid[1] = request.grid[2] = 1;
    const auto run = CodeletRun::create(**modules.codelet(*number), request, device::BufferTable(),
                                        1, *std::pmr::get_default_resource());
    if (!run || !(*run)->run_block(0)) return 3;
    return (*run)->result()[0] == 1024 ? 0 : 4;
  });
  INFO(outcome.output);
  CHECK(outcome.code == 0);
}
