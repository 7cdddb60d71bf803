// Errors that need something to be broken: a server in quarantine, a bad disk, no memory, a crash.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "abi/include/aios/codelet.h"
#include "tests/support/whole_instance.hpp"
#include "tests/system/abi/fixture.hpp"

using namespace aios;
using namespace aios::test;
namespace fs = std::filesystem;

namespace {

/// Ends a server that may not be restarted, and waits until it is given up.
void give_up(TestInstance& instance, const char* name) {
  const auto server = instance.server(name);
  REQUIRE(server.has_value());
  ::kill(static_cast<pid_t>(server->pid), SIGKILL);
  constexpr auto given_up = static_cast<std::uint32_t>(proto::supervisor::ServerState::quarantined);
  REQUIRE(TestInstance::wait_until([&] { return instance.server(name)->state == given_up; }));
}

/// Flips a byte of every place where the file holds `text`; how many there were.
int damage(const fs::path& path, const std::string& text) {
  std::ifstream in(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  int count = 0;
  for (auto at = bytes.find(text); at != bytes.npos; at = bytes.find(text, at + 1), ++count) {
    out.seekp(static_cast<std::streamoff>(at));
    out.put(static_cast<char>(text[0] ^ 1));
  }
  return count;
}

std::uint64_t mapped_bytes() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace

TEST_CASE("Every kind of call to a server in quarantine is service down, at once") {
  auto instance = TestInstance::boot_running(std::string("[instance]\nrestart = { count = 0 }\n") +
                                             whole_instance);
  REQUIRE(instance.has_value());
  const auto attached = attach(nullptr, **instance);
  const auto echo = connect_echo(attached.get());
  CHECK(echo_once(echo.get(), 1) == 1);
  aios_storage* raw = nullptr;
  ok(aios_storage_open(attached.get(), &raw));
  const Owned<aios_storage> storage(raw);
  for (const char* name : {"echo", "storage", "scheduler"}) give_up(**instance, name);

  // Without a deadline: it is not waited for.
  const Echo::Request request{};
  Echo::Reply reply{};
  aios_code code = AIOS_PEER_CLOSED;
  // The first call may find the old connection's end.
  for (int tries = 0; tries < 2 && code == AIOS_PEER_CLOSED; ++tries)
    code = aios_call_method(echo.get(), Echo::opcode, &request, sizeof request, &reply,
                            sizeof reply, long_ns);
  CHECK(code == AIOS_SERVICE_DOWN);
  const auto region = create_region(attached.get(), 4096);
  std::uint64_t handle = 0;
  CHECK(aios_grant(echo.get(), region.get(), AIOS_GRANT_READ, long_ns, &handle) ==
        AIOS_SERVICE_DOWN);
  CHECK(aios_storage_put(storage.get(), "a", "a", 1, long_ns, nullptr) == AIOS_SERVICE_DOWN);
  aios_tenant* tenant = nullptr;
  CHECK(aios_tenant_open(attached.get(), long_ns, &tenant) == AIOS_SERVICE_DOWN);
  CHECK(std::string(aios_last_error()).find("down") != std::string::npos);
}

TEST_CASE("An object whose bytes changed on the disk is corrupt, and the others are not") {
  const auto instance = attach();
  aios_storage* raw = nullptr;
  ok(aios_storage_open(instance.get(), &raw));
  const Owned<aios_storage> storage(raw);
  const std::string mark = "bytes that lie nowhere else in the data file";
  std::string bad(200'000, 'b'), good(200'000, 'g');
  bad.replace(150'000, mark.size(), mark);
  ok(aios_storage_put(storage.get(), "bad", bad.data(), bad.size(), long_ns, nullptr));
  ok(aios_storage_put(storage.get(), "good", good.data(), good.size(), long_ns, nullptr));
  int damaged = 0;
  for (const auto& entry : fs::directory_iterator(the_instance().state() / "storage"))
    if (entry.path().filename().string().starts_with("data")) damaged += damage(entry, mark);
  REQUIRE(damaged == 1);
  std::string back(200'000, '\0');
  std::size_t count = 0;
  CHECK(aios_storage_get(storage.get(), "bad", 0, 0, back.data(), back.size(), long_ns, &count,
                         nullptr) == AIOS_CORRUPT);
  CHECK(std::string(aios_last_error()).find("block 2") != std::string::npos);
  // Blocks before it are as they were.
  ok(aios_storage_get(storage.get(), "bad", 0, 0, back.data(), 100, long_ns, &count, nullptr));
  ok(aios_storage_get(storage.get(), "good", 0, 0, back.data(), back.size(), long_ns, &count,
                      nullptr));
  CHECK((count == good.size() && back == good));
}

TEST_CASE("A region that does not fit into this program is no memory") {
  const auto instance = attach();
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_AS, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = mapped_bytes() + (16u << 20);
  REQUIRE(::setrlimit(RLIMIT_AS, &tight) == 0);
  aios_region* region = nullptr;
  const aios_code code = aios_region_create(instance.get(), 64u << 20, "large", 0, &region);
  const std::string why = aios_last_error();
  REQUIRE(::setrlimit(RLIMIT_AS, &before) == 0);
  CHECK_MESSAGE(code == AIOS_NO_MEMORY, why);
  CHECK(region == nullptr);
  CHECK(create_region(instance.get(), 64u << 20) != nullptr);
}

TEST_CASE("A codelet that aborts is crashed, and a buffer in use is busy") {
  const auto instance = attach("crashing");
  aios_tenant* raw = nullptr;
  ok(aios_tenant_open(instance.get(), long_ns, &raw));
  const Owned<aios_tenant> tenant(raw);
  std::uint32_t abort = 0, loop = 0;
  ok(aios_codelet_register_file(raw, TEST_MODULES "/faulty.so", "abort", long_ns, &abort));
  ok(aios_codelet_register_file(raw, TEST_MODULES "/faulty.so", "loop", long_ns, &loop));
  aios_task_record task;
  ok(aios_task_init(&task, 1, abort));
  ok(aios_tasks_submit(raw, &task, 1, long_ns));
  aios_completion done{};
  std::size_t count = 0;
  ok(aios_tenant_completions(raw, &done, 1, long_ns, &count));
  CHECK(done.status == AIOS_CRASHED);
  char why[256];
  ok(aios_task_failure(raw, 1, why, sizeof why, long_ns));
  CHECK(std::string(why).find("context") != std::string::npos);

  const auto region = create_region(instance.get(), 4096);
  std::uint32_t buffer = 0;
  ok(aios_buffer_register(raw, region.get(), 0, 4096, AIOS_GRANT_READ, long_ns, &buffer));
  ok(aios_task_init(&task, 2, loop));
  task.limit_ns = 30 * ns_per_s;  // long after this test
  ok(aios_task_add_buffer(&task, buffer, AIOS_MODE_READ));
  ok(aios_tasks_submit(raw, &task, 1, long_ns));
  CHECK(aios_buffer_release(raw, buffer, long_ns) == AIOS_BUSY);
}
