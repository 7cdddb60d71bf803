#include "tests/fuzz/machine.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "abi/runtime/log.hpp"
#include "tests/fuzz/values.hpp"

namespace aios {

/// In place of the runtime's: what a hostile client makes a server log would bury everything else.
void log_line(std::string_view text) {
  static const bool wanted = std::getenv("AIOS_FUZZ_LOG") != nullptr;
  if (!wanted) return;
  const std::string line = std::string(text) + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

/// None of them waits.
void end_process(int code) {
  ::_exit(code);
}

}  // namespace aios

namespace aios::fuzz {

namespace pk = proto::kernel;

namespace {
constexpr int start_patience_ms = 30'000;
}

Machine& Machine::get() {
  // Not destroyed, but ended by `end`: a fuzzer that found something ends without destructors.
  static Machine* machine = new Machine;
  return *machine;
}

std::string Machine::idle_program() {
  return AIOS_FUZZ_IDLE;
}

Machine::Machine() {
  std::string name = std::filesystem::temp_directory_path() / "aios-fuzz-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) finding("cannot make a temporary folder");
  folder_ = name;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) finding("cannot make a pipe");
  errors_ = Fd(ends[0]);
  const Fd write_end(ends[1]);
  start(write_end.get());
  await_serving();
  std::atexit(end);
  // So that the first run finds as many startup handles as all others.
  const auto first = attach();
  publish_port(*first);
}

Handle Machine::publish_port(Kernel& kernel) const {
  const auto made = kernel.call<pk::PortCreate>({pk::Name::from("fuzzed")});
  const auto root = kernel.startup("root");
  if (!made || !root) lost("there is no port");
  const Handle port = made->reply.port;
  if (!kernel.call<pk::PortPublish>({root->handle, port, pk::Label::from("fuzzed")}))
    lost("the port cannot be published");
  return port;
}

void Machine::end() {
  const Machine& machine = get();
  ::kill(machine.pid_, SIGKILL);
  ::waitpid(machine.pid_, nullptr, 0);
  std::error_code ignored;
  std::filesystem::remove_all(machine.folder_, ignored);
}

void Machine::start(int errors) {
  const std::string state = folder_ / "state";
  const std::string idle = idle_program();
  const char* arguments[] = {AIOS_FUZZ_KERNEL, "--state",    state.c_str(),
                             "--supervisor",   idle.c_str(), nullptr};
  const pid_t self = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) finding("cannot start aios-kernel");
  if (pid_ > 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != self) ::_exit(127);
  ::setsid();
  // It never blocks: what does not fit is lost.
  ::dup2(errors, STDOUT_FILENO);
  ::dup2(errors, STDERR_FILENO);
  ::execv(arguments[0], const_cast<char* const*>(arguments));
  ::_exit(127);
}

void Machine::await_serving() {
  while (said_.find("serving") == std::string::npos) {
    pollfd readable{errors_.get(), POLLIN, 0};
    char buffer[512];
    if (::poll(&readable, 1, start_patience_ms) != 1) finding("aios-kernel does not start");
    const ssize_t n = ::read(errors_.get(), buffer, sizeof buffer);
    if (n <= 0) finding("aios-kernel does not start: " + said_);
    said_.append(buffer, static_cast<std::size_t>(n));
  }
}

void Machine::lost(const std::string& what) const {
  std::string said = said_;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(errors_.get(), buffer, sizeof buffer)) > 0;)
    said.append(buffer, static_cast<std::size_t>(n));
  finding(what + "\n== aios-kernel said:\n" + said);
}

std::unique_ptr<Kernel> Machine::attach() const {
  auto kernel = Kernel::attach(folder_ / "state" / "aios.sock", {.job_name = "fuzz"});
  // A job that ended a moment ago keeps its name until its last child was reaped.
  if (!kernel) lost("cannot attach: " + kernel.error().to_string());
  return *std::move(kernel);
}

void Machine::kill_children(Kernel& kernel) const {
  const auto root = kernel.startup("root");
  if (!root) return;
  for (std::uint64_t after = 0;;) {
    const auto record = kernel.call<pk::ProcessNext>({root->handle, after});
    if (!record || record->reply.process_id == 0) return;
    after = record->reply.process_id;
    if (record->reply.outside != 0 || record->reply.name.view() == "supervisor") continue;
    const auto process = kernel.call<pk::ProcessOpen>({root->handle, after});
    if (!process) continue;
    (void)kernel.call<pk::ProcessSignal>({process->reply.process, SIGKILL, 0});
    kernel.close(process->reply.process);
  }
}

}  // namespace aios::fuzz
