#include "tests/support/test_instance.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace aios::test {

namespace fs = std::filesystem;
namespace ps = proto::supervisor;
namespace pk = proto::kernel;

namespace {

constexpr useconds_t look_interval_us = 1000;
constexpr int supervisor_tries = 10;

/// Links every program of the build tree into `libexec`, which lies flat when installed.
Result<void> link_programs(const fs::path& libexec) {
  const fs::path root = AIOS_BUILD_ROOT;
  std::error_code failure;
  fs::create_directories(libexec, failure);
  for (const char* part : {"kernel", "services", "drivers", "tests/support"}) {
    for (auto entry = fs::recursive_directory_iterator(root / part, failure);
         entry != fs::recursive_directory_iterator(); entry.increment(failure)) {
      const std::string name = entry->path().filename();
      if (!name.starts_with("aios-") || !entry->is_regular_file(failure) ||
          ::access(entry->path().c_str(), X_OK) != 0)
        continue;
      fs::create_symlink(entry->path(), libexec / name, failure);
    }
  }
  if (failure) return error(Code::io_error, "make " + libexec.string() + ": " + failure.message());
  return {};
}

std::string read_file(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

Result<std::unique_ptr<Client>> Visitor::client(const std::string& service, std::uint64_t version) {
  const StartupHandle port = TRY(kernel_->startup(service));
  return std::make_unique<Client>(*kernel_, nullptr, port.handle, version, service);
}

Result<void> TestInstance::prepare(const std::string& manifest) {
  std::string name = (fs::temp_directory_path() / "aios-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return errno_error("make temporary folder", errno);
  folder_ = name;
  state_ = folder_ / "state";
  std::error_code failure;
  fs::create_directory(state_, failure);
  TRY(link_programs(folder_ / "libexec"));
  std::ofstream(folder_ / "test.toml") << manifest;
  return {};
}

Result<void> TestInstance::start_kernel() {
  std::string words[] = {folder_ / "libexec/aios-kernel",
                         "--state",
                         state_,
                         "--supervisor",
                         folder_ / "libexec/aios-supervisor",
                         "--manifest",
                         folder_ / "test.toml",
                         "--libexec",
                         folder_ / "libexec"};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const Fd log(::open((folder_ / "kernel.log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600));
  const pid_t self = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("start aios-kernel", errno);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != self) ::_exit(127);
    ::setsid();
    ::dup2(log.get(), STDOUT_FILENO);
    ::dup2(log.get(), STDERR_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  kernel_pid_ = pid;
  kernel_pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!kernel_pidfd_.valid()) return errno_error("watch aios-kernel", errno);
  return {};
}

bool TestInstance::kernel_ended() {
  pollfd ended{kernel_pidfd_.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 1;
}

Result<int> TestInstance::wait_kernel() {
  pollfd ended{kernel_pidfd_.get(), POLLIN, 0};
  if (::poll(&ended, 1, patience().poll_timeout_ms()) != 1)
    return error(Code::timed_out, "the kernel does not end\n" + logs());
  int status = 0;
  ::waitpid(kernel_pid_, &status, 0);
  kernel_pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// The supervisor publishes its port last: who finds it finds all.
Result<void> TestInstance::greet() {
  Result<std::unique_ptr<Visitor>> visitor = error(Code::unreachable);
  const Result<void> found = wait_until([&] {
    if (kernel_ended()) return true;
    visitor = attach();
    // Programs of another build will not do better later.
    if (!visitor && visitor.error().code() == Code::version_mismatch) return true;
    return visitor && (*visitor)->kernel().startup("supervisor").has_value();
  });
  if (!visitor && visitor.error().code() == Code::version_mismatch)
    return std::unexpected(visitor.error());
  if (!found || kernel_ended() || !visitor)
    return error(Code::unreachable, "the instance did not come up\n" + logs());
  operator_ = std::move(*visitor);
  supervisor_ = TRY(operator_->client<ps::Protocol>());
  return {};
}

Result<std::unique_ptr<TestInstance>> TestInstance::boot(const std::string& manifest) {
  std::unique_ptr<TestInstance> instance(new TestInstance);
  TRY(instance->prepare(manifest));
  TRY(instance->start_kernel());
  TRY(instance->greet());
  return instance;
}

Result<std::unique_ptr<TestInstance>> TestInstance::boot_running(const std::string& manifest) {
  std::unique_ptr<TestInstance> instance = TRY(boot(manifest));
  TRY(instance->wait_running());
  return instance;
}

Result<int> TestInstance::boot_failing(const std::string& manifest, std::string& logs) {
  std::unique_ptr<TestInstance> instance(new TestInstance);
  TRY(instance->prepare(manifest));
  TRY(instance->start_kernel());
  Result<int> code = instance->wait_kernel();
  logs = instance->logs();
  return code;
}

TestInstance::~TestInstance() {
  if (kernel_pid_ != 0 && !shutdown()) {
    // Its children end with it.
    ::kill(kernel_pid_, SIGKILL);
    ::waitpid(kernel_pid_, nullptr, 0);
  }
  std::error_code failure;
  if (!folder_.empty()) fs::remove_all(folder_, failure);
}

Result<std::unique_ptr<Visitor>> TestInstance::attach(const AttachOptions& options) {
  return std::make_unique<Visitor>(TRY(Kernel::attach(socket_path(), options)));
}

/// Repeats a call whose supervisor died under it: all of them may be repeated.
template <class M>
Result<typename M::Reply> TestInstance::ask_supervisor(const typename M::Request& request) {
  Result<typename M::Reply> reply = error(Code::internal);
  for (int i = 0; i < supervisor_tries; ++i) {
    reply = supervisor_->call<M>(request, patience());
    if (reply || reply.error().code() != Code::peer_closed || kernel_ended()) break;
  }
  return reply;
}

Result<void> TestInstance::wait_running() {
  const Result<proto::Empty> reply = ask_supervisor<ps::WaitRunning>({});
  if (!reply) return error(reply.error().code(), reply.error().message() + "\n" + logs());
  return {};
}

Result<ps::Server::Reply> TestInstance::server(const std::string& name) {
  for (std::uint64_t i = 0;; ++i) {
    const ps::Server::Reply reply = TRY(ask_supervisor<ps::Server>({i}));
    if (reply.server.view() == name) return reply;
  }
}

Result<void> TestInstance::crash(const std::string& name, ps::CrashHow how) {
  TRY(ask_supervisor<ps::Crash>({pk::Name::from(name), static_cast<std::uint32_t>(how), 0}));
  return {};
}

Result<std::uint64_t> TestInstance::restart(const std::string& name) {
  return TRY(ask_supervisor<ps::Restart>({pk::Name::from(name)})).pid;
}

Result<ps::Server::Reply> TestInstance::wait_restarted(const std::string& name,
                                                       std::uint64_t epoch) {
  Result<ps::Server::Reply> reply = error(Code::internal);
  TRY(wait_until([&] {
    reply = server(name);
    return !reply || (reply->epoch > epoch &&
                      reply->state == static_cast<std::uint32_t>(ps::ServerState::running));
  }));
  return reply;
}

Result<void> TestInstance::wait_until(const std::function<bool()>& condition) {
  const Deadline end = patience();
  while (!condition()) {
    if (end.passed()) return error(Code::timed_out, "what was waited for did not happen");
    ::usleep(look_interval_us);
  }
  return {};
}

Result<pk::InstanceInfo::Reply> TestInstance::info() {
  return TRY(operator_->kernel().call<pk::InstanceInfo>({})).reply;
}

Result<std::vector<pk::ProcessRecord>> TestInstance::processes() {
  const Handle root = TRY(operator_->kernel().startup("root")).handle;
  std::vector<pk::ProcessRecord> all;
  for (std::uint64_t after = 0;;) {
    const auto record = TRY(operator_->kernel().call<pk::ProcessNext>({root, after})).reply;
    if (record.process_id == 0) return all;
    after = record.process_id;
    all.push_back(record);
  }
}

Result<std::vector<pk::LinkNext::Reply>> TestInstance::links() {
  const Handle root = TRY(operator_->kernel().startup("root")).handle;
  std::vector<pk::LinkNext::Reply> all;
  for (std::uint64_t after = 0;;) {
    const auto link = TRY(operator_->kernel().call<pk::LinkNext>({root, after})).reply;
    if (link.link_id == 0) return all;
    after = link.link_id;
    all.push_back(link);
  }
}

Result<int> TestInstance::shutdown() {
  ::kill(kernel_pid_, SIGTERM);
  return wait_kernel();
}

std::string TestInstance::logs() const {
  std::string all = "== kernel\n" + read_file(folder_ / "kernel.log");
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator(state_ / "logs", failure))
    all += "== " + entry.path().filename().string() + "\n" + read_file(entry.path());
  return all;
}

bool process_gone(pid_t pid) {
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

}  // namespace aios::test
