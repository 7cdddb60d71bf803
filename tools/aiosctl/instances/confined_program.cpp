#include "tools/aiosctl/instances/confined_program.hpp"

#include <fmt/core.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <string_view>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/sandbox/cage.hpp"
#include "abi/runtime/sandbox/sandbox.hpp"
#include "abi/runtime/standard_streams.hpp"
#include "tools/aiosctl/common/output.hpp"

namespace aios::ctl {

namespace {

namespace fs = std::filesystem;
using proto::sandbox::bit;
using proto::sandbox::Protection;
using sandbox::Access;

constexpr int exit_cannot_run = 127;
/// Without any one of these it would not be confined at all.
constexpr std::uint32_t needed = bit(Protection::namespaces) | bit(Protection::empty_root) |
                                 bit(Protection::no_new_privileges) |
                                 bit(Protection::no_capabilities) | bit(Protection::syscall_filter);

void say(const std::string& text) {
  print_to(stderr, "aiosctl: {}\n", printable(text));
}

bool is_shown(std::string_view name) {
  return std::ranges::any_of(shown_variables, [&](std::string_view shown) {
    return shown.ends_with('*') ? name.starts_with(shown.substr(0, shown.size() - 1))
                                : name == shown;
  });
}

bool is_name(std::string_view name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
         std::ranges::all_of(name,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

/// Where it lies really: a link would lead nowhere inside.
Result<std::string> real_path(const std::string& path) {
  std::error_code failed;
  const fs::path real = fs::canonical(path, failed);
  if (failed) return error(Code::not_found, "cannot show " + path + ": " + failed.message());
  return real.string();
}

Result<sandbox::Plan> plan_of(const std::vector<std::string>& command,
                              const Confinement& confinement) {
  sandbox::Plan plan{.profile = confinement.profile};
  if (!confinement.socket.empty())
    plan.folders.push_back({TRY(real_path(confinement.socket)), Access::write});
  if (command[0].find('/') != std::string::npos)
    plan.folders.push_back({TRY(real_path(command[0])), Access::execute});
  for (const std::string& path : confinement.read)
    plan.folders.push_back({TRY(real_path(path)), Access::execute});
  for (const std::string& path : confinement.write)
    plan.folders.push_back({TRY(real_path(path)), Access::write});
  return plan;
}

/// False, said, when this host does not give what is needed.
bool lock_in(const sandbox::Plan& plan, bool strict) {
  const auto report = sandbox::lock_in(plan);
  if (!report) {
    say("cannot confine the program: " + report.error().to_string());
    return false;
  }
  const std::uint32_t lacking = needed & ~report->confined.enforced;
  for (const sandbox::Missing& missing : report->missing) say(sandbox::describe(missing));
  if (lacking == 0 && (!strict || report->missing.empty())) return true;
  say("the program is not run: it would not be confined as asked for (aiosctl doctor)");
  return false;
}

[[noreturn]] void become(const std::vector<std::string>& command,
                         const std::vector<std::string>& environment, const std::string& folder,
                         const sigset_t& mask) {
  if (::chdir(folder.c_str()) != 0 && ::chdir("/tmp") != 0) ::_exit(exit_cannot_run);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> variables;
  for (const std::string& one : environment) variables.push_back(const_cast<char*>(one.c_str()));
  variables.push_back(nullptr);
  ::environ = variables.data();
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::execvp(arguments[0], arguments.data());
  say("cannot run " + command[0] + ": " + std::strerror(errno) +
      "; inside are the system's programs, and what --read and --write show");
  ::_exit(exit_cannot_run);
}

/// What process 1 has to do: it takes in the orphans and hands on signals.
int look_after(pid_t program, const Fd& signals) {
  for (;;) {
    signalfd_siginfo info{};
    if (::read(signals.get(), &info, sizeof info) != sizeof info) continue;
    if (info.ssi_signo != SIGCHLD) {
      // The terminal sends its signals to the whole foreground group, the program included.
      if (info.ssi_code != SI_KERNEL) ::kill(program, static_cast<int>(info.ssi_signo));
      continue;
    }
    int status = 0;
    for (pid_t ended = 0; (ended = ::waitpid(-1, &status, WNOHANG)) > 0;)
      if (ended == program) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

int be_process_1(const std::vector<std::string>& command, const sandbox::Plan& plan,
                 const Confinement& confinement, const std::string& folder) {
  sigset_t forwarded;
  ::sigemptyset(&forwarded);
  for (const int number :
       {SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM})
    ::sigaddset(&forwarded, number);
  // What it has from its parent: an operator's connection to AIOS among others.
  ::close_range(STDERR_FILENO + 1, ~0u, 0);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &forwarded, nullptr);
  const Fd signals(::signalfd(-1, &forwarded, SFD_CLOEXEC));
  if (!signals.valid() || !lock_in(plan, confinement.strict)) return exit_cannot_run;
  const pid_t program = ::fork();
  if (program == 0) become(command, confinement.environment, folder, none);
  if (program < 0) return exit_cannot_run;
  return look_after(program, signals);
}

}  // namespace

Result<std::vector<std::string>> shown_environment(const std::vector<std::string>& more) {
  std::map<std::string, std::string> all;
  for (char** one = ::environ; one != nullptr && *one != nullptr; ++one) {
    const std::string_view text(*one);
    const std::size_t end = text.find('=');
    if (end != text.npos && is_shown(text.substr(0, end)))
      all[std::string(text.substr(0, end))] = text.substr(end + 1);
  }
  for (const std::string& one : more) {
    const std::size_t end = one.find('=');
    const std::string name = one.substr(0, end);
    if (!is_name(name))
      return error(
          Code::invalid_argument,
          "--env takes NAME or NAME=VALUE, a name of letters, digits and _, not '" + one + "'");
    const char* value = end == one.npos ? std::getenv(name.c_str()) : one.c_str() + end + 1;
    if (value == nullptr)
      return error(Code::invalid_argument,
                   "--env " + name + ": there is no such variable here; to set it: --env " + name +
                       "=VALUE");
    all[name] = value;
  }
  std::vector<std::string> environment;
  for (const auto& [name, value] : all) environment.push_back(name + "=" + value);
  return environment;
}

Result<pid_t> start_confined(const std::vector<std::string>& command,
                             const Confinement& confinement, const std::function<int()>& prepare) {
  const sandbox::Plan plan = TRY(plan_of(command, confinement));
  std::error_code failed;
  const std::string folder = fs::current_path(failed).string();
  std::vector<std::string> shown = command;
  // The link by which it was named need not be there inside.
  if (command[0].find('/') != std::string::npos) shown[0] = TRY(real_path(command[0]));
  const sandbox::CageOptions options{.namespaces = true, .user = ::geteuid(), .own_group = false};
  return sandbox::start_in_cage(options, [&] {
    const int refused = prepare();
    return refused != 0 ? refused : be_process_1(shown, plan, confinement, folder);
  });
}

}  // namespace aios::ctl
