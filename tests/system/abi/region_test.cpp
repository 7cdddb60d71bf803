// Regions: made, kept in the job, opened by others.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdarg>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

#include "abi/runtime/host_memory.hpp"
#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;

namespace {
/// What happens when the library puts a mapping in another's place; false: it is refused.
std::function<bool()> at_mremap;
}  // namespace

// Visible to the library, which would have libc's.
extern "C" [[gnu::visibility("default")]] void* mremap(void* old, std::size_t old_bytes,
                                                       std::size_t new_bytes, int flags,
                                                       ...) noexcept {
  std::va_list more;
  va_start(more, flags);
  void* const to = va_arg(more, void*);
  va_end(more);
  if (at_mremap && !at_mremap()) return errno = ENOMEM, MAP_FAILED;
  return reinterpret_cast<void*>(::syscall(SYS_mremap, old, old_bytes, new_bytes, flags, to));
}

TEST_CASE("A new region is zero, writable, and at least as long as asked for") {
  const auto instance = attach();
  const auto region = create_region(instance.get(), 5000);
  CHECK(aios_region_size(region.get()) >= 5000);
  CHECK(aios_region_is_writable(region.get()) == 1);
  const auto* bytes = static_cast<const unsigned char*>(aios_region_data(region.get()));
  for (std::uint64_t i = 0; i < aios_region_size(region.get()); ++i) REQUIRE(bytes[i] == 0);
  CHECK(aios_region_data(nullptr) == nullptr);
  CHECK(aios_region_size(nullptr) == 0);
}

TEST_CASE("A region beyond the job's quota or of no size is refused") {
  const std::string socket = the_instance().socket_path();
  aios_attach_options options{};
  options.socket_path = socket.c_str();
  options.job_name = "small";
  options.memory_bytes = 1 << 20;
  aios_instance* small = nullptr;
  ok(aios_attach(&options, &small));
  const Attached instance(small);
  aios_region* region = nullptr;
  CHECK(aios_region_create(small, 2 << 20, "much", 0, &region) == AIOS_QUOTA);
  CHECK(aios_region_create(small, 0, "none", 0, &region) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_region_create(small, 4096, "flags", 8, &region) == AIOS_INVALID_ARGUMENT);
  CHECK(region == nullptr);
}

TEST_CASE("A region on a NUMA node, over all of them or in huge pages is one like any other") {
  const auto instance = attach();
  const std::uint32_t flags[] = {AIOS_REGION_ON_NODE(0), AIOS_REGION_SPREAD, AIOS_REGION_HUGE_PAGES,
                                 AIOS_REGION_HUGE_PAGES | AIOS_REGION_ON_NODE(0)};
  for (const std::uint32_t one : flags) {
    constexpr std::uint64_t size = (2u << 20) + 4096;
    const bool huge = (one & AIOS_REGION_HUGE_PAGES) != 0;
    aios_region* made = nullptr;
    ok(aios_region_create(instance.get(), size, "placed", one | AIOS_REGION_FREEZABLE, &made));
    const Owned<aios_region> region(made);
    CHECK(aios_region_size(made) == (huge ? 4u << 20 : size));
    auto* bytes = static_cast<unsigned char*>(aios_region_data(made));
    for (std::uint64_t i = 0; i < aios_region_size(made); ++i) REQUIRE(bytes[i] == 0);
    bytes[aios_region_size(made) - 1] = 5;
    // Its pages are held by nobody else, huge or not.
    ok(aios_region_freeze(made));
    CHECK(bytes[aios_region_size(made) - 1] == 5);
  }
}

TEST_CASE("A region that wants only huge pages has them or is not made") {
  const auto instance = attach();
  aios_region* made = nullptr;
  const aios_code code =
      aios_region_create(instance.get(), 1, "huge", AIOS_REGION_HUGE_PAGES_ONLY, &made);
  if (code != AIOS_OK) {
    MESSAGE("this host: " << aios_last_error());
    CHECK((code == AIOS_NOT_SUPPORTED || code == AIOS_NO_MEMORY));
    CHECK(made == nullptr);
    return;
  }
  const Owned<aios_region> region(made);
  CHECK(aios_region_size(made) == 2u << 20);
  std::ifstream smaps("/proc/self/smaps");
  std::ostringstream begin;
  begin << std::hex << reinterpret_cast<std::uintptr_t>(aios_region_data(made)) << "-";
  std::string line;
  while (std::getline(smaps, line) && !line.starts_with(begin.str())) {
  }
  while (std::getline(smaps, line) && !line.starts_with("ShmemPmdMapped:")) {
  }
  CHECK(line.find("2048 kB") != std::string::npos);
}

TEST_CASE("A region is refused on a NUMA node that is not there, or on one and all") {
  const auto instance = attach();
  aios_region* made = nullptr;
  const auto create = [&](std::uint32_t flags) {
    return aios_region_create(instance.get(), 4096, "far", flags, &made);
  };
  CHECK(create(AIOS_REGION_ON_NODE(64)) == AIOS_INVALID_ARGUMENT);
  CHECK(create(AIOS_REGION_SPREAD | AIOS_REGION_ON_NODE(0)) == AIOS_INVALID_ARGUMENT);
  // No machine that tests run on has so many; in a container that forbids to ask, any will do.
  const NumaNodes there = numa_nodes();
  if (there != 0 && (there >> 63) == 0)
    CHECK(create(AIOS_REGION_ON_NODE(63)) == AIOS_INVALID_ARGUMENT);
  CHECK(made == nullptr);
}

TEST_CASE(
    "A kept region is found by programs that attach later, with the access it was left with") {
  const auto first = attach();
  auto region = create_region(first.get(), 4096);
  std::memcpy(aios_region_data(region.get()), "left here", 10);
  ok(aios_region_keep(region.get(), "page", AIOS_GRANT_READ));
  region.reset();
  aios_region* opened = nullptr;
  CHECK(aios_region_open(first.get(), "page", AIOS_GRANT_READ, &opened) == AIOS_NOT_FOUND);
  const auto second = attach();
  CHECK(aios_region_open(second.get(), "page", AIOS_GRANT_WRITE, &opened) == AIOS_DENIED);
  for (int round = 0; round < 2; ++round) {
    ok(aios_region_open(second.get(), "page", AIOS_GRANT_READ, &opened));
    const Owned<aios_region> owned(opened);
    CHECK(std::strcmp(static_cast<const char*>(aios_region_data(opened)), "left here") == 0);
    CHECK(aios_region_is_writable(opened) == 0);
    CHECK(aios_region_keep(opened, "page-two", AIOS_GRANT_WRITE) == AIOS_DENIED);
  }
  ok(aios_forget(second.get(), "page"));
  CHECK(aios_forget(second.get(), "page") == AIOS_NOT_FOUND);
  const auto third = attach();
  CHECK(aios_region_open(third.get(), "page", AIOS_GRANT_READ, &opened) == AIOS_NOT_FOUND);
}

TEST_CASE("A kept region that may be written is one memory for all") {
  const auto first = attach("writers");
  const auto region = create_region(first.get(), 4096);
  ok(aios_region_keep(region.get(), "board", AIOS_GRANT_WRITE));
  const auto second = attach("writers");
  aios_region* opened = nullptr;
  ok(aios_region_open(second.get(), "board", AIOS_GRANT_WRITE, &opened));
  const Owned<aios_region> owned(opened);
  std::memcpy(aios_region_data(opened), "written", 8);
  CHECK(std::strcmp(static_cast<const char*>(aios_region_data(region.get())), "written") == 0);
  // Another job has labels of its own.
  const auto elsewhere = attach("others");
  CHECK(aios_region_open(elsewhere.get(), "board", AIOS_GRANT_READ, &opened) == AIOS_NOT_FOUND);
}

TEST_CASE("Labels that the instance uses, or that are none, are refused") {
  const auto instance = attach();
  const auto region = create_region(instance.get(), 4096);
  CHECK(aios_region_keep(region.get(), "echo", AIOS_GRANT_READ) == AIOS_ALREADY_EXISTS);
  CHECK(aios_region_keep(region.get(), "root", AIOS_GRANT_READ) == AIOS_ALREADY_EXISTS);
  CHECK(aios_region_keep(region.get(), "a b", AIOS_GRANT_READ) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_region_keep(region.get(), "page", 0) == AIOS_INVALID_ARGUMENT);
  CHECK(aios_region_keep(nullptr, "page", AIOS_GRANT_READ) == AIOS_INVALID_ARGUMENT);
  aios_region* opened = nullptr;
  CHECK(aios_region_open(instance.get(), "echo", AIOS_GRANT_READ, &opened) == AIOS_WRONG_TYPE);
}

TEST_CASE("A job keeps no more than its labels") {
  const auto instance = attach("full");
  const auto region = create_region(instance.get(), 4096);
  aios_code last = AIOS_OK;
  for (int i = 0; i < 97 && last == AIOS_OK; ++i)
    last = aios_region_keep(region.get(), ("label-" + std::to_string(i)).c_str(), AIOS_GRANT_READ);
  CHECK(last == AIOS_QUOTA);
}

TEST_CASE("A frozen region is read by all and written by none, at the address where it was") {
  const auto instance = attach();
  aios_region* made = nullptr;
  ok(aios_region_create(instance.get(), 8192, "frozen", AIOS_REGION_FREEZABLE, &made));
  const Owned<aios_region> region(made);
  void* const data = aios_region_data(made);
  std::memcpy(data, "for ever", 9);
  int frozen = 1;
  ok(aios_region_is_frozen(made, &frozen));
  CHECK(frozen == 0);
  ok(aios_region_freeze(made));
  ok(aios_region_freeze(made));
  ok(aios_region_is_frozen(made, &frozen));
  CHECK((frozen == 1 && aios_region_is_writable(made) == 0 && aios_region_data(made) == data));
  CHECK(std::strcmp(static_cast<char*>(data), "for ever") == 0);
  CHECK(aios_region_keep(made, "frozen", AIOS_GRANT_WRITE) == AIOS_DENIED);
  ok(aios_region_keep(made, "frozen", AIOS_GRANT_READ));
  const auto other = attach();
  aios_region* opened = nullptr;
  ok(aios_region_open(other.get(), "frozen", AIOS_GRANT_READ, &opened));
  const Owned<aios_region> owned(opened);
  ok(aios_region_is_frozen(opened, &frozen));
  CHECK(frozen == 1);
  ok(aios_forget(other.get(), "frozen"));
}

TEST_CASE("A region that others may be writing is busy, and one made otherwise cannot be frozen") {
  const auto instance = attach();
  aios_region* made = nullptr;
  ok(aios_region_create(instance.get(), 4096, "busy", AIOS_REGION_FREEZABLE, &made));
  const Owned<aios_region> region(made);
  ok(aios_region_keep(made, "busy", AIOS_GRANT_WRITE));
  const auto other = attach();
  aios_region* opened = nullptr;
  ok(aios_region_open(other.get(), "busy", AIOS_GRANT_WRITE, &opened));
  Owned<aios_region> writer(opened);
  CHECK(aios_region_freeze(made) == AIOS_BUSY);
  CHECK(aios_region_is_writable(made) == 1);
  std::memcpy(aios_region_data(made), "still", 6);
  writer.reset();
  ok(aios_region_freeze(made));
  ok(aios_forget(other.get(), "busy"));
  const auto plain = create_region(instance.get(), 4096);
  CHECK(aios_region_freeze(plain.get()) == AIOS_NOT_SUPPORTED);
  CHECK(aios_region_freeze(nullptr) == AIOS_INVALID_ARGUMENT);
}

TEST_CASE("A region that could not be frozen is writable again, or says that it is not") {
  const auto writer = attach("freezing");
  aios_region* made = nullptr;
  ok(aios_region_create(writer.get(), 4096, "shared", AIOS_REGION_FREEZABLE, &made));
  const Owned<aios_region> region(made);
  ok(aios_region_keep(made, "shared", AIOS_GRANT_WRITE));
  const auto other = attach("freezing");
  aios_region* theirs = nullptr;
  ok(aios_region_open(other.get(), "shared", AIOS_GRANT_WRITE, &theirs));
  const Owned<aios_region> writable_there(theirs);

  // Whatever descriptor there was is gone by the time it is refused.
  std::vector<Fd> taken;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit few{256, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  at_mremap = [&] {
    for (int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC); fd >= 0;
         fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC))
      taken.emplace_back(fd);
    return true;
  };
  CHECK(aios_region_freeze(made) == AIOS_BUSY);
  at_mremap = {};
  taken.clear();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  REQUIRE(aios_region_is_writable(made) == 1);
  static_cast<volatile char*>(aios_region_data(made))[0] = 7;
  CHECK(static_cast<char*>(aios_region_data(theirs))[0] == 7);

  int calls = 0;
  at_mremap = [&] { return ++calls != 2; };
  CHECK(aios_region_freeze(made) == AIOS_BUSY);
  at_mremap = {};
  CHECK(calls == 2);
  CHECK(aios_region_is_writable(made) == 0);
  CHECK(static_cast<volatile char*>(aios_region_data(made))[0] == 7);
  ok(aios_forget(writer.get(), "shared"));
}
