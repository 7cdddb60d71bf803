// aiosctl shell: a prompt for the other subcommands. Each line runs as an aiosctl of its own, so
// that whatever ends it, a crash or Ctrl-C, does not end the shell.
#include <editline/readline.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wordexp.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tools/aiosctl/commands.hpp"

namespace aios::ctl {

namespace {

constexpr int history_lines = 1000;
constexpr const char* shell_help =
    "Each line is a subcommand with its options, as after `aiosctl`; help lists them, Tab "
    "completes.\n"
    "!COMMAND is for sh. exit, quit or Ctrl-D leaves.";
constexpr int end_of_shell = -1;

using Words = std::vector<std::string>;

/// Where completion, which readline gives no argument, finds the subcommands.
const CLI::App* commands = nullptr;
volatile sig_atomic_t interrupted = 0;

/// The words of a line as sh would split it, quotes and file patterns included.
std::optional<Words> split(const char* line) {
  wordexp_t expanded{};
  const int failure = ::wordexp(line, &expanded, WRDE_NOCMD);
  if (failure != 0) {
    const char* what = "it cannot be split into words; is a quote missing?";
    if (failure == WRDE_BADCHAR) what = "none of | & ; < > ( ) { } unless it is quoted";
    if (failure == WRDE_CMDSUB) what = "commands are not substituted";
    std::fprintf(stderr, "aiosctl: %s\n", what);
    return std::nullopt;
  }
  Words words(expanded.we_wordv, expanded.we_wordv + expanded.we_wordc);
  ::wordfree(&expanded);
  return words;
}

/// Runs a program to its end, which Ctrl-C may be; its exit code, or 128 + the signal.
int run(const Words& command) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  // The lines of a script are ours to read.
  if (::isatty(STDIN_FILENO) == 0)
    ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  pid_t pid = 0;
  // A handler is reset to the default by the exec: Ctrl-C ends the program, and not the shell.
  const int failure = ::posix_spawn(&pid, arguments[0], &files, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (failure != 0) {
    std::fprintf(stderr, "aiosctl: cannot run %s: %s\n", arguments[0], std::strerror(failure));
    return exit_failed;
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/// The subcommand of this name, or null.
const CLI::App* below(const CLI::App* app, const std::string& name) {
  for (const CLI::App* one : app->get_subcommands({}))
    if (one->check_name(name)) return one;
  return nullptr;
}

/// The exit code of a line, `last` for one that runs nothing, or end_of_shell.
int run_line(const Session& session, const char* line, int last) {
  line += std::strspn(line, " \t");
  if (*line == '!') return run({"/bin/sh", "-c", line + 1});
  if (*line == '\0' || *line == '#') return last;
  const std::optional<Words> words = split(line);
  if (!words) return exit_usage;
  if (words->empty()) return last;
  const std::string& first = words->front();
  if (words->size() == 1 && (first == "exit" || first == "quit")) return end_of_shell;
  // Not by the name it was called with: that may have been found on a PATH.
  Words command{"/proc/self/exe", "--state", session.state, "--socket", session.socket};
  if (first == "help") {
    std::printf("%s\n\n", shell_help);
    std::fflush(stdout);
    command.emplace_back("--help");
  } else if (first[0] != '-' && below(commands, first) == nullptr) {
    std::fprintf(stderr, "aiosctl: there is no subcommand %s; help lists them\n", first.c_str());
    return exit_usage;
  } else {
    command.insert(command.end(), words->begin(), words->end());
  }
  return run(command);
}

/// The subcommand that the words before the cursor have chosen.
const CLI::App* chosen(std::string_view before) {
  const CLI::App* app = commands;
  while (!before.empty()) {
    const std::size_t end = before.find(' ');
    if (const CLI::App* next = below(app, std::string(before.substr(0, end)))) app = next;
    before.remove_prefix(end == before.npos ? before.size() : end + 1);
  }
  return app;
}

/// Called until it returns null: the next word that begins with `text`.
char* next_match(const char* text, int state) {
  static Words matches;
  static std::size_t next = 0;
  if (state == 0) {
    matches.clear();
    next = 0;
    const std::string_view before(rl_line_buffer, static_cast<std::size_t>(rl_point));
    const CLI::App* app = chosen(before.substr(0, before.size() - std::strlen(text)));
    const auto offer = [&](const std::string& word) {
      if (word.starts_with(text)) matches.push_back(word);
    };
    for (const CLI::App* one : app->get_subcommands({})) offer(one->get_name());
    for (const CLI::Option* option : app->get_options())
      for (const std::string& name : option->get_lnames())
        if (*text == '-') offer("--" + name);
    if (app == commands)
      for (const char* word : {"exit", "help", "quit"}) offer(word);
  }
  // Readline frees it.
  return next < matches.size() ? ::strdup(matches[next++].c_str()) : nullptr;
}

/// Subcommands and options; where there are none, readline goes on with names of files.
char** complete(const char* text, int, int) {
  return rl_completion_matches(text, next_match);
}

/// The next character that was typed; EOF ends the line, as Ctrl-C does. Readline's own way of
/// reading would go on after a signal.
int read_character(FILE*) {
  std::mbstate_t state{};
  while (interrupted == 0) {
    char byte = 0;
    const ssize_t size = ::read(STDIN_FILENO, &byte, 1);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return EOF;
    wchar_t character = 0;
    const std::size_t done = std::mbrtowc(&character, &byte, 1, &state);
    if (done == static_cast<std::size_t>(-1)) return '?';
    if (done != static_cast<std::size_t>(-2)) return static_cast<int>(character);
  }
  return EOF;
}

/// With editing and history, kept beside the instance.
int talk(const Session& session) {
  const std::string history = session.state + "/shell-history";
  std::error_code ignored;
  std::filesystem::create_directories(session.state, ignored);
  std::setlocale(LC_CTYPE, "");
  rl_getc_function = read_character;
  rl_initialize();
  rl_attempted_completion_function = complete;
  using_history();
  stifle_history(history_lines);
  ::read_history(history.c_str());
  std::printf("%s\n", shell_help);
  int last = exit_done;
  for (;;) {
    interrupted = 0;
    char* line = ::readline("aios> ");
    if (line == nullptr && interrupted == 0) break;
    if (line == nullptr) {
      std::printf("\n");
      continue;
    }
    if (*line != '\0') ::add_history(line);
    const int code = run_line(session, line, last);
    ::free(line);
    if (code == end_of_shell) break;
    // Behind the ^C of the terminal.
    if (interrupted != 0) std::printf("\n");
    last = code;
  }
  ::write_history(history.c_str());
  return last;
}

/// Lines of a file or of another program: no prompt, and nothing but what they print.
int read_script(const Session& session) {
  char* line = nullptr;
  std::size_t size = 0;
  int last = exit_done;
  for (ssize_t length = 0; (length = ::getline(&line, &size, stdin)) > 0;) {
    if (line[length - 1] == '\n') line[length - 1] = '\0';
    const int code = run_line(session, line, last);
    if (code == end_of_shell) break;
    last = code;
  }
  ::free(line);
  return last;
}

int shell(const Session& session) {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  return ::isatty(STDIN_FILENO) != 0 ? talk(session) : read_script(session);
}

}  // namespace

void add_shell_command(CLI::App& app, Session& session) {
  commands = &app;
  auto* command = app.add_subcommand("shell", "A prompt for these subcommands, or lines of a file");
  command->footer(shell_help);
  command->callback([&session] { session.action = [&session] { return shell(session); }; });
}

}  // namespace aios::ctl
