// aios-supervisor: the first process of an instance, started by the kernel.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "abi/runtime/fault_handler.hpp"
#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "services/supervisor/supervisor_server.hpp"

namespace {

using namespace aios;

/// Tells the kernel that the manifest is at fault: restarting would not help.
constexpr int exit_configuration = 78;

struct Options {
  supervisor::Folders folders;
  std::string manifest;
};

Result<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    std::string* value = name == "--state"      ? &options.folders.state
                         : name == "--libexec"  ? &options.folders.libexec
                         : name == "--manifest" ? &options.manifest
                                                : nullptr;
    if (value == nullptr || i + 1 == argc)
      return error(Code::invalid_argument, "options are --state DIR --libexec DIR --manifest FILE");
    *value = argv[i + 1];
  }
  if (options.folders.state.empty() || options.folders.libexec.empty())
    return error(Code::invalid_argument, "--state and --libexec are needed");
  if (options.manifest.empty()) options.manifest = options.folders.libexec + "/aios.toml";
  return options;
}

Result<std::string> read_manifest(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("manifest " + path, errno);
  std::string text(supervisor::max_manifest_bytes + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = ::read(file.get(), text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error("manifest " + path, errno);
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  return text;
}

Result<supervisor::Plan> plan_of(const std::string& text, const std::string& path) {
  return supervisor::make_plan(TRY(supervisor::parse_manifest(text, path)));
}

/// The manifest is read once in the life of an instance: a supervisor that is restarted goes on
/// with the text the first one read, whatever the file says by then.
Result<supervisor::Plan> load_plan(supervisor::ObjectStore& store, const std::string& path) {
  if (const auto kept = TRY(store.kept_manifest())) return plan_of(*kept, path);
  const std::string text = TRY(read_manifest(path));
  supervisor::Plan plan = TRY(plan_of(text, path));
  TRY(store.keep_manifest(text));
  return plan;
}

Result<int> run(int argc, char** argv) {
  const Options options = TRY(read_options(argc, argv));
  // As the first process of a namespace it would survive SIGABRT.
  install_fault_handlers("aios-supervisor", "; it ends");
  const std::unique_ptr<Kernel> kernel = TRY(Kernel::attach_child());
  const std::unique_ptr<EventLoop> loop = TRY(EventLoop::create(kernel.get()));
  const Handle root = TRY(kernel->startup("root")).handle;
  supervisor::ObjectStore store =
      TRY(supervisor::ObjectStore::create(*kernel, root, options.folders));
  const Result<supervisor::Plan> plan = load_plan(store, options.manifest);
  if (!plan) {
    log_line(plan.error().message());
    return exit_configuration;
  }
  TRY(sandbox::lock_in(*kernel, sandbox::protection_list(plan->require),
                       options.folders.state + "/logs"));
  supervisor::Supervisor supervisor(store, *loop, *plan);
  supervisor::SupervisorServer server(*loop, supervisor);
  const Handle port = TRY(store.own_port());
  TRY(server.listen(port));
  // What cannot be set up (a spawner without its program) will not be there at the next try either.
  if (const Result<void> started = supervisor.start(port); !started) {
    log_line(options.manifest + ": " + started.error().message());
    return exit_configuration;
  }
  // An error means that the kernel is gone: the instance has ended.
  (void)loop->run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
