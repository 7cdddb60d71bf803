// How a context ends when the code it runs faults, as the first process of a pid namespace, where
// the system's own handling of signals misreports or ignores them.

#include <doctest/doctest.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <semaphore>

#include "abi/runtime/fault_handler.hpp"
#include "drivers/cpu/codelet_run.hpp"
#include "drivers/cpu/module_table.hpp"
#include "drivers/device/context_end.hpp"
#include "drivers/device/executor.hpp"
#include "tests/protocol/cpu/isolated.hpp"
#include "tests/unit/cpu/test_support.hpp"
#include "tests/unit/device/test_support.hpp"

using namespace aios;
using namespace aios::cpu;
using namespace aios::device;
using proto::driver::ContextEnd;

namespace {

constexpr int survived = 98;

/// Runs one codelet of the faulty module on a worker thread. Buffer 0 is bound read-only.
int run_faulty(const std::vector<std::byte>& image, const std::string& name) {
  install_fault_handlers("aios-cpu-context", " in a task's code; the context ends");
  ModuleTable modules("");
  const auto number = modules.load(image, name);
  const Fd memory = device::test::make_memory(4096);
  BufferTable buffers;
  Mapping read = *Mapping::map(memory, 4096, Mapping::Access::read);
  if (!number || !buffers.bind(0, *Buffer::memory(std::move(read), {}, 0, 4096), [] {})) return 1;
  proto::context::Run::Request request{};
  request.grid[0] = request.grid[1] = request.grid[2] = 1;
  request.buffer_count = 1;
  request.buffers[0] = {.id = 0, .mode = AIOS_MODE_READ};
  const auto run = CodeletRun::create(**modules.codelet(*number), request, buffers, 1,
                                      *std::pmr::get_default_resource());
  std::binary_semaphore finished(0);
  const auto executor = Executor::create(usable_cpus(), [&] { finished.release(); });
  if (!run || !executor) return 2;
  CodeletRun* raw = run->get();
  if (!(*executor)->submit({.id = 1,
                            .block_count = 1,
                            .limit_ns = 0,
                            .brief = false,
                            .run_block = [raw](std::uint32_t b) { return raw->run_block(b); }}))
    return 3;
  (*executor)->kick();
  finished.acquire();
  return survived;
}

struct Case {
  const char* codelet;
  int signal_number;
  const char* line;
};

const auto needs_namespaces = doctest::skip(!cpu::test::namespaces_available());

}  // namespace

TEST_CASE("A fault in a task's code ends the context with its cause" * needs_namespaces) {
  const auto image = cpu::test::module_image("faulty");
  for (const Case& fault : {Case{"abort", SIGABRT, "aborted in"},
                            {"fault", SIGSEGV, "segmentation fault at address 0x10 in"},
                            {"divide", SIGFPE, "floating point exception at address 0x"},
                            {"overflow", SIGSEGV, "segmentation fault at address 0x"},
                            {"write_input", SIGSEGV, "segmentation fault at address 0x"}}) {
    const cpu::test::Outcome outcome =
        cpu::test::run_isolated([&] { return run_faulty(image, fault.codelet); });
    INFO(fault.codelet, ": ", outcome.output);
    CHECK(!outcome.signalled);
    CHECK(outcome.code == exit_signal_base + fault.signal_number);
    CHECK(outcome.output.find(fault.line) != std::string::npos);
    CHECK(describe_end(outcome.signalled, outcome.code).how == ContextEnd::fault);
  }
}

TEST_CASE("A task that calls exit ends the context, and is at fault" * needs_namespaces) {
  const auto image = cpu::test::module_image("faulty");
  const auto outcome = cpu::test::run_isolated([&] { return run_faulty(image, "exit"); });
  CHECK(outcome.code == 0);
  CHECK(describe_end(outcome.signalled, outcome.code).how == ContextEnd::fault);
}

TEST_CASE("A signal that a task raises itself is a fault too" * needs_namespaces) {
  for (const int number : {SIGBUS, SIGILL, SIGSYS}) {
    const auto outcome = cpu::test::run_isolated([number] {
      install_fault_handlers("aios-cpu-context", " in a task's code; the context ends");
      ::raise(number);
      return survived;
    });
    CHECK(outcome.code == exit_signal_base + number);
  }
}

TEST_CASE("A log that may not grow further ends nobody who writes to it") {
  const Fd log(::memfd_create("log", MFD_CLOEXEC));
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    install_fault_handlers("aios-cpu-context", " in a task's code; the context ends");
    constexpr rlimit most{1, 1};
    if (::setrlimit(RLIMIT_FSIZE, &most) != 0) ::_exit(1);
    ::_exit(::pwrite(log.get(), "x", 1, 1) == -1 && errno == EFBIG ? survived : 2);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == survived);
}
