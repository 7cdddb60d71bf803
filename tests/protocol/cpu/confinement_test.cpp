// What code in a context can still do once it is shut off.

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "drivers/cpu/codelet_run.hpp"
#include "drivers/cpu/lock_in.hpp"
#include "drivers/cpu/module_table.hpp"
#include "tests/protocol/cpu/isolated.hpp"
#include "tests/unit/cpu/test_support.hpp"

using namespace aios;
using namespace aios::cpu;
using test::Outcome;

namespace {

constexpr int could_not_lock = 99;

/// `body` after lock_in, as the first process of its namespaces.
Outcome run_locked_in(const std::function<int(const Confinement&)>& body) {
  return test::run_isolated([&body] {
    const auto confinement = lock_in();
    if (!confinement) return could_not_lock;
    for (const std::string& line : confinement->missing) std::fprintf(stderr, "%s\n", line.c_str());
    return body(*confinement);
  });
}

int check_empty_root(const Confinement& confinement) {
  if (confinement.module_folder != "/modules") return 1;
  DIR* root = ::opendir("/");
  for (const dirent* entry; (entry = ::readdir(root)) != nullptr;) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && name != "modules") return 2;
  }
  ::closedir(root);
  if (::open("/proc/self/status", O_RDONLY) >= 0 || ::open("/../etc/passwd", O_RDONLY) >= 0)
    return 3;
  return 0;
}

int check_no_privileges(const Confinement&) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return 1;
  for (const auto& set : data)
    if (set.effective != 0 || set.permitted != 0 || set.inheritable != 0) return 2;
  for (unsigned long capability = 0; capability <= CAP_LAST_CAP; ++capability)
    if (::prctl(PR_CAPBSET_READ, capability) == 1) return 3;
  if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 4;
  if (::mount("x", "/modules", "tmpfs", 0, nullptr) == 0) return 5;
  if (::unshare(CLONE_NEWUSER) == 0) return 6;
  if (::chroot("/modules") == 0) return 7;
  return 0;
}

int check_no_space(const Confinement&) {
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

TEST_CASE("A context has no capability, and cannot mount or make namespaces" * needs_namespaces) {
  const Outcome outcome = run_locked_in(check_no_privileges);
  INFO(outcome.output);
  CHECK(outcome.code == 0);
  CHECK(outcome.output == "");
}

TEST_CASE("The files of a context are limited in size" * needs_namespaces) {
  CHECK(run_locked_in(check_no_space).code == 0);
}

TEST_CASE("Modules are loaded and run in the empty root, with every library they may need" *
          needs_namespaces) {
  const auto image = test::module_image("throws");
  const Outcome outcome = test::run_isolated([&image] {
    if (!preload_libraries()) return 1;
    const auto confinement = lock_in();
    if (!confinement) return could_not_lock;
    ModuleTable modules(confinement->module_folder);
    const auto number = modules.load(image, "use_libraries");
    if (!number) return std::fprintf(stderr, "%s", number.error().to_string().c_str()), 2;
    proto::context::Run::Request request{};
    request.grid[0] = 10;
    request.grid[1] = request.grid[2] = 1;
    const auto run = CodeletRun::create(**modules.codelet(*number), request, BufferTable());
    if (!run || !(*run)->run_block(0)) return 3;
    return (*run)->result()[0] == 1024 ? 0 : 4;
  });
  INFO(outcome.output);
  CHECK(outcome.code == 0);
}

TEST_CASE("A process that is not the first of its namespace keeps its root, and says so" *
          needs_namespaces) {
  const Outcome outcome = test::run_isolated([] {
    const pid_t child = ::fork();
    if (child != 0) {
      int status = 0;
      ::waitpid(child, &status, 0);
      return WIFEXITED(status) ? WEXITSTATUS(status) : could_not_lock;
    }
    const auto confinement = lock_in();
    if (!confinement || !confinement->module_folder.empty()) ::_exit(1);
    if (confinement->missing.size() != 1 || ::access("/proc/self", F_OK) != 0) ::_exit(2);
    ::_exit(::prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) == 0 ? 0 : 3);
  });
  CHECK(outcome.code == 0);
}
