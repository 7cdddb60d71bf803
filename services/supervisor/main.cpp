// aios-supervisor: the first process of an instance, started by the kernel.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
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
  std::string
      group;  ///< number of the group whose members may use the instance; empty: nobody else
};

Result<Options> read_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    std::string* value = name == "--state"      ? &options.folders.state
                         : name == "--libexec"  ? &options.folders.libexec
                         : name == "--manifest" ? &options.manifest
                         : name == "--group"    ? &options.group
                                                : nullptr;
    if (value == nullptr || i + 1 == argc)
      return error(Code::invalid_argument,
                   "options are --state DIR --libexec DIR --manifest FILE --group GID");
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

/// What a user may have of which the manifest says nothing: so much that nobody can take it all.
proto::kernel::Quota with_shares(proto::kernel::Quota quota, const proto::kernel::Quota& of) {
  if (quota.memory_bytes == 0) quota.memory_bytes = of.memory_bytes / 2;
  if (quota.processes == 0) quota.processes = of.processes / 4;
  if (quota.handles == 0) quota.handles = of.handles / 4;
  if (quota.links == 0) quota.links = of.links / 32;
  return quota;
}

/// Tells the kernel what concerns the instance as a whole.
Result<void> configure(Kernel& kernel, Handle root, const supervisor::Plan& plan,
                       const std::string& group) {
  namespace wire = proto::kernel;
  /// For stopping what has drained.
  constexpr std::uint64_t stop_ns = 10 * ns_per_s;
  const auto instance = TRY(kernel.call<wire::JobInfo>({root})).reply;
  wire::InstanceConfigure::Request request{};
  request.root = root;
  request.user_quota = with_shares(plan.user_quota, instance.quota);
  request.shutdown_timeout_ns = plan.timing.drain_ns + stop_ns;
  request.open_to_users = group.empty() ? 0 : 1;
  if (!group.empty()) request.group = static_cast<std::uint32_t>(std::stoul(group));
  TRY(kernel.call<wire::InstanceConfigure>(request));
  return {};
}

/// A line "NAME PROFILE PROTECTIONS" for each kind of process that the manifest leads to, with what
/// is required of it; for `aiosctl doctor`.
Result<int> show_profiles(const std::string& path) {
  const auto plan = plan_of(TRY(read_manifest(path)), path);
  if (!plan) {
    std::printf("%s", plan.error().message().c_str());
    return exit_configuration;
  }
  const auto show = [](std::string_view name, sandbox::Profile profile, std::uint32_t require) {
    std::printf("%s %s %s\n", std::string(name).c_str(),
                std::string(proto::sandbox::profile_name(profile)).c_str(),
                sandbox::protection_list(require).c_str());
  };
  show(supervisor::supervisor_name, sandbox::Profile::supervisor, plan->require);
  for (const supervisor::PlannedServer& server : plan->servers) {
    show(server.spec.name, server.spec.profile, server.spec.require);
    // Drivers call their contexts as the program is called.
    if (const auto& spawner = server.spec.spawner; spawner)
      show(std::string_view(spawner->binary).substr(spawner->binary.starts_with("aios-") ? 5 : 0),
           spawner->profile, 0);
  }
  return 0;
}

Result<int> run(int argc, char** argv) {
  if (argc == 4 && argv[1] == std::string_view("--manifest") &&
      argv[3] == std::string_view("--show-profiles"))
    return show_profiles(argv[2]);
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
  TRY(configure(*kernel, root, *plan, options.group));
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
