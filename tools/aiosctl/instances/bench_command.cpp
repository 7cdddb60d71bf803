// aiosctl bench: boots an instance of its own, measures it with aios-bench, and ends it.
#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "abi/runtime/command_line.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/signals.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/install_paths.hpp"
#include "tools/aiosctl/common/operator.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

constexpr std::uint64_t boot_timeout_ns = 60 * ns_per_s;
constexpr std::uint64_t stop_timeout_ns = 20 * ns_per_s;

/// echo and echo2 as every server is; sleepy and sleepy2 sleep whenever they have nothing to do.
constexpr const char* ipc_manifest = R"(
[server.echo]
binary = "aios-echo"
publish = true

[server.echo2]
binary = "aios-echo"
publish = true

[server.sleepy]
binary = "aios-echo"
arguments = ["--spin", "never"]
publish = true

[server.sleepy2]
binary = "aios-echo"
arguments = ["--spin", "never"]
publish = true
)";

/// The GPU driver's port is published: it says whether it still looks for devices. A double of the
/// CUDA driver is measured where the environment names one.
std::string devices_manifest() {
  std::string text = R"(
[server.cpu]
binary = "aios-cpu"
spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }

[server.scheduler]
binary = "aios-scheduler"
routes = ["cpu", "gpu"]
publish = true

[server.gpu]
binary = "aios-gpu"
spawner = { binary = "aios-gpu-context", profile = "jit", label = "spawner:context" }
publish = true
)";
  std::string arguments;
  for (const char* name : {"AIOS_CUDA_LIBRARY", "AIOS_CUBLAS_LIBRARY"})
    if (const char* const library = std::getenv(name))
      arguments += fmt::format("\"--environment\", \"{}={}\", ", name, library);
  return text + "arguments = [" + arguments + "]\n";
}

/// What tasks need, with the policy to be measured.
constexpr const char* tasks_manifest = R"(
[server.cpu]
binary = "aios-cpu"
profile = "driver"
spawner = {{ binary = "aios-cpu-context", profile = "context", label = "spawner:context" }}

[server.scheduler]
binary = "aios-scheduler"
arguments = ["--policy", "{}"]
routes = ["cpu"]
publish = true
)";

/// A folder for one instance, gone with the object.
class WorkFolder {
 public:
  /// Within `parent`, or where temporary files go.
  static Result<WorkFolder> create(const std::string& parent = {}) {
    std::error_code failed;
    const std::filesystem::path within = parent.empty()
                                             ? std::filesystem::temp_directory_path(failed)
                                             : std::filesystem::path(parent);
    if (failed)
      return error(Code::not_found, "temporary files have no folder: " + failed.message() +
                                        "; name one that is there in TMPDIR");
    std::string path = (within / "aios-bench-XXXXXX").string();
    if (::mkdtemp(path.data()) == nullptr) return errno_error("make " + path, errno);
    return WorkFolder(path);
  }
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ~WorkFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// A program that ends with this one. SIGTERM when destroyed, SIGKILL if that does not help.
class Child {
 public:
  /// Its standard output goes to `output`, if that is a descriptor.
  static Result<Child> start(std::vector<std::string> command, int output = -1);
  Child(Child&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)), pidfd_(std::move(other.pidfd_)) {}
  ~Child();
  /// Waits for its end: the exit code, or 128 and the signal's number. timed_out; cancelled when
  /// `signals`, if that is a descriptor, has one.
  Result<int> wait(Deadline deadline, int signals = -1);

 private:
  Child() = default;
  pid_t pid_ = 0;
  Fd pidfd_;
};

Result<Child> Child::start(std::vector<std::string> command, int output) {
  if (::access(command[0].c_str(), X_OK) != 0) return errno_error("run " + command[0], errno);
  std::vector<char*> arguments;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("start " + command[0], errno);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (output >= 0) ::dup2(output, STDOUT_FILENO);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  Child child;
  child.pid_ = pid;
  child.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!child.pidfd_.valid()) return errno_error("watch " + command[0], errno);
  return child;
}

Result<int> Child::wait(Deadline deadline, int signals) {
  pollfd fds[2] = {{pidfd_.get(), POLLIN, 0}, {signals, POLLIN, 0}};
  while (::poll(fds, 2, deadline.poll_timeout_ms()) < 0 && errno == EINTR) {
  }
  if (fds[1].revents != 0) return error(Code::cancelled, "interrupted");
  if (fds[0].revents == 0) return error(Code::timed_out, "a process did not end in time");
  int status = 0;
  ::waitpid(std::exchange(pid_, 0), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Child::~Child() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGTERM);
  if (wait(Deadline::after(stop_timeout_ns))) return;
  ::kill(pid_, SIGKILL);
  (void)wait(Deadline::never());
}

/// `aiosctl boot` on a folder of its own; returns when it says that the instance is up.
Result<Child> boot_instance(const std::string& folder, const std::string& text, int signals) {
  const std::string manifest = folder + "/aios.toml";
  if (!(std::ofstream(manifest) << text)) return errno_error("write " + manifest, errno);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make a pipe", errno);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  Child instance = TRY(
      Child::start({"/proc/self/exe", "--state", folder + "/state", "boot", "--manifest", manifest},
                   writer.get()));
  writer.reset();
  const Deadline deadline = Deadline::after(boot_timeout_ns);
  std::string words;
  while (!words.contains("AIOS is up")) {
    pollfd fds[2] = {{reader.get(), POLLIN, 0}, {signals, POLLIN, 0}};
    const int ready = ::poll(fds, 2, deadline.poll_timeout_ms());
    if (ready < 0 && errno == EINTR) continue;
    if (fds[1].revents != 0) return error(Code::cancelled, "interrupted");
    char buffer[512];
    const ssize_t bytes = ready > 0 ? ::read(reader.get(), buffer, sizeof buffer) : 0;
    if (bytes <= 0) return error(Code::crashed, "the instance to be measured did not come up");
    words.append(buffer, static_cast<std::size_t>(bytes));
  }
  return instance;
}

struct IpcBench {
  int rounds = 7;
  std::vector<std::string> only;
  std::uint64_t large_mb = 1024;
};

struct DevicesBench {
  int rounds = 7;
  std::vector<std::string> only;
};

/// aios-bench with these arguments, on an instance with this manifest; what it prints goes to
/// `output`, if that is a descriptor.
Result<int> measure(const std::string& manifest, std::vector<std::string> arguments,
                    const std::vector<std::string>& only, bool as_json, int output = -1) {
  // Seen by wait: the instance and its folder must not stay behind.
  const Fd signals = TRY(make_signal_fd({SIGINT, SIGTERM, SIGHUP}));
  const WorkFolder folder = TRY(WorkFolder::create());
  const Child instance = TRY(boot_instance(folder.path(), manifest, signals.get()));
  std::vector<std::string> command{TRY(find_libexec()) + "/aios-bench"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  command.insert(command.end(), {"--socket", folder.path() + "/state/aios.sock"});
  if (as_json) command.push_back("--json");
  for (const std::string& name : only) command.insert(command.end(), {"--only", name});
  Child bench = TRY(Child::start(command, output));
  const int code = TRY(bench.wait(Deadline::never(), signals.get()));
  if (code == 128 + SIGALRM)
    return error(Code::timed_out, "a case took more than its two minutes and was ended");
  if (code > 128) return error(Code::crashed, fmt::format("aios-bench ended with {}", code));
  return code;
}

Result<int> bench_ipc(const IpcBench& options, bool as_json) {
  const std::string peers = TRY(find_libexec()) + "/peers";
  return measure(ipc_manifest,
                 {"ipc", "--peers", peers, "--rounds", std::to_string(options.rounds),
                  "--large-bytes", std::to_string(options.large_mb << 20)},
                 options.only, as_json);
}

Result<int> bench_devices(const DevicesBench& options, bool as_json) {
  const std::string codelets = TRY(find_libexec()) + "/codelets";
  return measure(devices_manifest(),
                 {"devices", "--codelets", codelets, "--rounds", std::to_string(options.rounds)},
                 options.only, as_json);
}

struct TasksBench {
  int rounds = 3;
  std::uint32_t count = 100'000;
  std::vector<std::string> policies{"eager"};
  bool without_metg = false;
};

struct MapReduceBench {
  int rounds = 5;
  std::vector<std::string> only;
  std::string corpus;
  std::string work;
  std::uint64_t size_mb = 300;
  std::uint64_t memory_mb = 0;
  std::uint32_t threads = 2;
};

/// What a program writes, to be read when it has ended.
class Captured {
 public:
  static Result<Captured> create();
  int fd() const { return file_.get(); }
  Result<std::string> read() const;

 private:
  explicit Captured(Fd file) : file_(std::move(file)) {}
  Fd file_;
};

Result<Captured> Captured::create() {
  Fd file(::memfd_create("output", MFD_CLOEXEC));
  if (!file.valid()) return errno_error("make a file in memory", errno);
  return Captured(std::move(file));
}

Result<std::string> Captured::read() const {
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0;
       (n = ::pread(file_.get(), buffer, sizeof buffer, static_cast<off_t>(text.size()))) != 0;) {
    if (n < 0) return errno_error("read a program's output", errno);
    text.append(buffer, static_cast<std::size_t>(n));
  }
  return text;
}

/// Each policy in an instance of its own.
Result<int> bench_tasks(const TasksBench& options, bool as_json) {
  const std::string libexec = TRY(find_libexec());
  std::vector<std::string> arguments{"tasks",
                                     "--module",
                                     libexec + "/bench-spin.so",
                                     "--peers",
                                     libexec + "/peers",
                                     "--rounds",
                                     std::to_string(options.rounds),
                                     "--count",
                                     std::to_string(options.count)};
  if (options.without_metg) arguments.push_back("--no-metg");
  nlohmann::json all;
  for (const std::string& policy : options.policies) {
    const Captured output = TRY(Captured::create());
    const int code = TRY(measure(fmt::format(fmt::runtime(tasks_manifest), policy), arguments, {},
                                 as_json, as_json ? output.fd() : -1));
    if (code != exit_done) return code;
    if (as_json)
      all["policies"][policy] = nlohmann::json::parse(TRY(output.read()));
    else
      print_to(stdout, "with policy {}\n", policy);
  }
  if (!as_json) return exit_done;
  for (const auto& [policy, figures] : all["policies"].items())
    all["ns_per_task"][policy] = figures["ns_per_task"]["trivial"]["aios"];
  print_json(all);
  return exit_done;
}

/// On an instance as it is booted without options.
Result<int> bench_mapreduce(const MapReduceBench& options, bool as_json) {
  const std::string libexec = TRY(find_libexec());
  std::ifstream file(libexec + "/aios.toml");
  const std::string manifest{std::istreambuf_iterator<char>(file), {}};
  if (manifest.empty()) return errno_error("read " + libexec + "/aios.toml", errno);
  const WorkFolder own = TRY(WorkFolder::create(options.work));
  std::vector<std::string> arguments{"mapreduce",
                                     "--modules",
                                     libexec + "/modules",
                                     "--peers",
                                     libexec + "/peers",
                                     "--work",
                                     own.path(),
                                     "--size-mb",
                                     std::to_string(options.size_mb),
                                     "--memory-mb",
                                     std::to_string(options.memory_mb),
                                     "--threads",
                                     std::to_string(options.threads),
                                     "--rounds",
                                     std::to_string(options.rounds)};
  if (!options.corpus.empty()) {
    std::error_code failed;
    const auto full = std::filesystem::absolute(options.corpus, failed);
    arguments.insert(arguments.end(), {"--corpus", full.string()});
  }
  return measure(manifest, arguments, options.only, as_json);
}

void add_bench_mapreduce(CLI::App& bench, Session& session) {
  CLI::App* mapreduce = bench.add_subcommand(
      "mapreduce", "MapReduce, in an instance of its own: word count, sort, inverted index");
  const auto options = std::make_shared<MapReduceBench>();
  mapreduce->add_option("--corpus", options->corpus, "A text file [made, always the same]");
  mapreduce->add_option("--size-mb", options->size_mb, "Size of the text that is made [300]")
      ->transform(command_line::between(1, 100'000));
  mapreduce->add_option(
      "--work", options->work,
      "Folder for the text and the outputs, some three times its size [temporary]");
  mapreduce->add_option("--memory-mb", options->memory_mb, "Memory of each job, and of sort")
      ->transform(command_line::between(8, 1 << 20));
  mapreduce->add_option("--threads", options->threads, "Threads of each [2]")
      ->transform(command_line::between(1, 256));
  mapreduce->add_option("--rounds", options->rounds, "Interleaved repetitions [5]")
      ->transform(command_line::between(1, 1000));
  mapreduce->add_option("--only", options->only, "Only these cases")
      ->check(CLI::IsMember({"wordcount", "sort", "inverted-index"}));
  mapreduce->add_flag("--json", session.json, "Prints one JSON object");
  mapreduce->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return bench_mapreduce(*options, session.json); });
    };
  });
}

void add_devices(CLI::App& bench, Session& session) {
  CLI::App* devices = bench.add_subcommand(
      "devices", "Every device, in an instance of its own: launches, memory, matrix products");
  const auto options = std::make_shared<DevicesBench>();
  devices->add_option("--rounds", options->rounds, "Interleaved repetitions [7]")
      ->transform(command_line::between(1, 1000));
  devices->add_option("--only", options->only, "Only devices of these backends")
      ->check(CLI::IsMember({"cpu", "cuda", "opencl", "pjrt"}));
  devices->add_flag("--json", session.json, "Prints one JSON object");
  devices->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return bench_devices(*options, session.json); });
    };
  });
}

void add_bench_tasks(CLI::App& bench, Session& session) {
  CLI::App* tasks = bench.add_subcommand(
      "tasks", "Tasks, in instances of their own: time of one, and the least useful grain");
  const auto options = std::make_shared<TasksBench>();
  tasks->add_option("--rounds", options->rounds, "Repetitions [3]")
      ->transform(command_line::between(1, 1000));
  tasks->add_option("--count", options->count, "Tasks a run [100000]")
      ->transform(command_line::between(1, 10'000'000));
  tasks->add_option("--policy", options->policies, "Policies to measure [eager]")
      ->check(CLI::IsMember({"eager", "prio", "edf", "dmda", "heft", "learned"}));
  tasks->add_flag("--no-metg", options->without_metg, "Without the least useful grain");
  tasks->add_flag("--json", session.json, "Prints one JSON object");
  tasks->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return bench_tasks(*options, session.json); });
    };
  });
}

}  // namespace

void add_bench_commands(CLI::App& app, Session& session) {
  CLI::App* bench = app.add_subcommand("bench", "Measures AIOS beside bare primitives");
  bench->require_subcommand(1);
  CLI::App* ipc = bench->add_subcommand(
      "ipc", "Links, in an instance of its own: calls, regions, many clients");
  const auto options = std::make_shared<IpcBench>();
  add_devices(*bench, session);
  add_bench_tasks(*bench, session);
  add_bench_mapreduce(*bench, session);
  ipc->add_option("--rounds", options->rounds, "Interleaved repetitions [7]")
      ->transform(command_line::between(1, 1000));
  ipc->add_option("--only", options->only, "Only these cases");
  ipc->add_option("--large-mb", options->large_mb, "Size of the large region [1024]")
      ->transform(command_line::between(1, 4096));
  ipc->add_flag("--json", session.json, "Prints one JSON object");
  ipc->callback([&session, options] {
    session.action = [&session, options] {
      return run_command([&] { return bench_ipc(*options, session.json); });
    };
  });
}

}  // namespace aios::ctl
