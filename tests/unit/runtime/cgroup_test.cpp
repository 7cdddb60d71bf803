#include "abi/runtime/cgroup.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

using namespace aios;
using namespace aios::cgroup;

namespace {

const Place* with(const std::vector<Place>& places, std::uint32_t limit) {
  for (const Place& place : places)
    if ((place.limits & limit) != 0) return &place;
  return nullptr;
}

/// A child that sleeps until it is killed.
pid_t sleeper() {
  const pid_t pid = ::fork();
  if (pid == 0)
    for (;;) ::pause();
  return pid;
}

bool dies_by_kill(pid_t pid) {
  int status = 0;
  return ::waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

}  // namespace

TEST_CASE("Each controller of version 1 is found where it is mounted, in our own group") {
  const auto places = find_places(
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup "
      "rw,cpu,cpuacct\n"
      "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
      "36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices\n",
      "9:name=systemd:/x\n4:memory:/one/two\n2:cpu,cpuacct:/\n0::/\n");
  CHECK(places.size() == 2);
  const Place* cpu = with(places, limit::cpu);
  REQUIRE(cpu != nullptr);
  CHECK(cpu->folder == "/sys/fs/cgroup/cpu,cpuacct");
  CHECK(cpu->accounts_for_cpu);
  CHECK(!cpu->unified);
  const Place* memory = with(places, limit::memory);
  REQUIRE(memory != nullptr);
  CHECK(memory->folder == "/sys/fs/cgroup/memory/one/two");
  CHECK(memory->mount == "/sys/fs/cgroup/memory");
}

TEST_CASE("Version 2 is one place, whatever it controls") {
  const auto places = find_places("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate",
                                  "0::/user.slice/user-1000.slice/session-3.scope");
  REQUIRE(places.size() == 1);
  CHECK(places[0].unified);
  CHECK(places[0].folder == "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope");
  CHECK(places[0].mount == "/sys/fs/cgroup");
}

TEST_CASE("A mount that shows a part of the hierarchy counts from there, if we are in it") {
  const std::string mount =
      "29 23 0:26 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
  const auto inside = find_places(mount, "4:memory:/docker/abc/job");
  REQUIRE(inside.size() == 1);
  CHECK(inside[0].folder == "/sys/fs/cgroup/memory/job");
  CHECK(find_places(mount, "4:memory:/docker/abcd").empty());
  CHECK(find_places(mount, "4:memory:/other").empty());
  CHECK(find_places(mount, "4:memory:/../..").empty());
}

TEST_CASE("Texts that are no such files have no places") {
  CHECK(find_places("", "").empty());
  CHECK(find_places("nonsense\n - cgroup2", "0::/").empty());
  CHECK(find_places("1 2 3 4 5 6 - cgroup x memory", ":::\n4:memory").empty());
}

TEST_CASE("A tree without places makes groups that hold nobody to anything") {
  Tree tree = Tree::create(std::vector<Place>{});
  CHECK(tree.limits() == 0);
  CHECK(!tree.missing().empty());
  const Group group = *tree.make(nullptr, "job-1", {.memory_bytes = 1 << 20});
  CHECK(!group.exists());
  CHECK(group.enforced() == 0);
  CHECK(group.add(::getpid(), Group::Part::programs));
}

TEST_CASE("A group is limited, counted, and gone with all that is in it") {
  Tree tree = Tree::create();
  if (tree.limits() == 0) {
    MESSAGE("skipped: no control group can be made here: ", tree.missing());
    return;
  }
  const Limits limits{64u << 20, 500, 10};
  std::vector<std::string> folders;
  pid_t program = 0;
  pid_t child = 0;
  {
    Group outer = *tree.make(nullptr, "job-1", limits);
    const Group inner = *tree.make(&outer, "job-2", {.cpu_millis = 4000});
    CHECK(outer.enforced() == tree.limits());
    // Not more than what is above it, and the rest from there.
    CHECK(inner.enforced() == tree.limits());
    program = sleeper();
    child = sleeper();
    REQUIRE(inner.add(program, Group::Part::programs));
    REQUIRE(inner.add(child, Group::Part::children));
    CHECK(outer.usage().memory_kills == 0);
    CHECK(tree.take_condemned().empty());
  }
  folders = tree.take_condemned();
  REQUIRE(!folders.empty());
  CHECK(std::filesystem::exists(folders.back()));
  for (const std::string& folder : folders) CHECK(remove(folder, Deadline::after(5 * ns_per_s)));
  for (const std::string& folder : folders) CHECK(!std::filesystem::exists(folder));
  CHECK(dies_by_kill(program));
  CHECK(dies_by_kill(child));
}

TEST_CASE("Below one group at the top there are so many and no more, until some end") {
  Tree tree = Tree::create();
  if (tree.limits() == 0) return;
  const Group top = *tree.make(nullptr, "job-1", {.memory_bytes = 64u << 20});
  const Group other = *tree.make(nullptr, "job-2", {.memory_bytes = 64u << 20});
  std::vector<Group> groups;
  for (std::size_t i = 0; i < max_groups_below; ++i)
    groups.push_back(*tree.make(&top, "job-" + std::to_string(10 + i), {.cpu_millis = 100}));
  const auto refused = tree.make(&groups.back(), "job-9", {.cpu_millis = 100});
  REQUIRE(!refused);
  CHECK(refused.error().code() == Code::quota);
  CHECK(tree.make(&other, "job-9", {.cpu_millis = 100}));
  groups.pop_back();
  CHECK(tree.make(&top, "job-9", {.cpu_millis = 100}));
}

TEST_CASE("What a killed instance left is removed by the next tree beside it") {
  const pid_t victim = ::fork();
  if (victim == 0) {
    Tree tree = Tree::create();
    Group group = *tree.make(nullptr, "job-1", {.memory_bytes = 64u << 20, .processes = 10});
    (void)group.add(::getpid(), Group::Part::programs);
    ::kill(::getpid(), SIGKILL);
  }
  REQUIRE(dies_by_kill(victim));
  const auto left = [victim] {
    const Deadline deadline = Deadline::after(20 * ns_per_s);
    for (;;) {
      bool any = false;
      std::error_code failure;
      for (std::filesystem::recursive_directory_iterator entry("/sys/fs/cgroup", failure), end;
           !failure && entry != end; entry.increment(failure))
        any |= entry->path().filename() == "aios-" + std::to_string(victim);
      if (!failure) return any;
      // A group of somebody else's may go while it is looked into.
      REQUIRE_MESSAGE(!deadline.passed(), failure.message());
    }
  };
  if (!left()) {
    MESSAGE("skipped: no control group can be made here");
    return;
  }
  const Tree tree = Tree::create();
  CHECK(!left());
}
