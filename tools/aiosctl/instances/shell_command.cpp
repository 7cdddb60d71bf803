// aiosctl shell: a prompt for the other subcommands. Each line runs as an aiosctl of its own, so
// that whatever ends it, a crash or Ctrl-C, does not end the shell.
#include <editline/readline.h>
#include <fcntl.h>
#include <langinfo.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
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
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "abi/runtime/command_line.hpp"
#include "tools/aiosctl/commands.hpp"
#include "tools/aiosctl/common/usage.hpp"

namespace aios::ctl {

namespace {

constexpr int history_lines = 1000;
constexpr const char* shell_help =
    "Each line is a subcommand with its options, as after `aiosctl`; help lists them, Tab "
    "completes.\n"
    "!COMMAND is for sh. exit, quit or Ctrl-D leaves.";
constexpr const char* script_help =
    "FILE is a script: its lines run one after the other, up to the first that fails, whose exit "
    "code "
    "is the shell's.\nBlank lines and those that begin with # mean nothing. Without FILE, lines "
    "that "
    "are piped in run all, whatever fails.";
constexpr int end_of_shell = -1;

using Words = std::vector<std::string>;

/// Where completion, which readline gives no argument, finds the subcommands.
const CLI::App* commands = nullptr;
volatile sig_atomic_t interrupted = 0;
/// Bytes came that are no character's: what the line would say, nobody knows.
bool garbled = false;

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
int run(const Words& command, bool with_input) {
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  if (!with_input)
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

/// The exit code of a line, `last` for one that runs nothing, or end_of_shell. What it runs gets
/// our standard input, or none.
int run_line(const Session& session, const char* line, int last, bool with_input) {
  line += std::strspn(line, " \t");
  if (*line == '!') return run({"/bin/sh", "-c", line + 1}, with_input);
  if (*line == '\0' || *line == '#') return last;
  const std::optional<Words> words = split(line);
  if (!words) return exit_usage;
  if (words->empty()) return last;
  const std::string& first = words->front();
  if (words->size() == 1 && (first == "exit" || first == "quit")) return end_of_shell;
  // Not by the name it was called with: that may have been found on a PATH.
  Words command{"/proc/self/exe", "--state", session.state, "--socket", session.socket};
  if (words->size() == 1 && first == "help") {
    std::printf("%s\n\n", shell_help);
    std::fflush(stdout);
  }
  command.insert(command.end(), words->begin(), words->end());
  return run(command, with_input);
}

/// The subcommand that the words before the cursor have chosen.
const CLI::App* chosen(std::string_view before) {
  const CLI::App* app = commands;
  while (!before.empty()) {
    const std::size_t end = before.find(' ');
    const CLI::App* next = subcommand(*app, std::string(before.substr(0, end)));
    if (next != nullptr) app = next;
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
      for (const char* word : {"exit", "quit"}) offer(word);
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
    if (done == static_cast<std::size_t>(-1)) {
      garbled = true;
      // The byte after half a character may be the end of the line.
      return static_cast<unsigned char>(byte) < 0x80 ? byte : '?';
    }
    if (done != static_cast<std::size_t>(-2)) return static_cast<int>(character);
  }
  return EOF;
}

/// What is typed is UTF-8 where the locale knows no more than ASCII, and would take none of it.
void choose_encoding() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(std::setlocale(LC_CTYPE, nullptr), "C") == 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

/// The exit code of a line that was typed, or end_of_shell.
int run_typed(const Session& session, const char* line, int last) {
  if (garbled) {
    std::fprintf(stderr,
                 "aiosctl: the line is not run: it has bytes in it that are no %s; what does the "
                 "terminal send?\n",
                 ::nl_langinfo(CODESET));
    return exit_usage;
  }
  if (*line != '\0') ::add_history(line);
  return run_line(session, line, last, true);
}

/// With editing and history, kept beside the instance.
int talk(const Session& session) {
  const std::string history = session.state + "/shell-history";
  std::error_code ignored;
  // The owner's alone, as boot makes it.
  if (std::filesystem::create_directories(session.state, ignored))
    ::chmod(session.state.c_str(), 0700);
  choose_encoding();
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
    garbled = false;
    char* line = ::readline("aios> ");
    if (line == nullptr && interrupted == 0) break;
    if (line == nullptr) {
      std::printf("\n");
      continue;
    }
    const int code = run_typed(session, line, last);
    ::free(line);
    if (code == end_of_shell) break;
    // Behind the ^C of the terminal.
    if (interrupted != 0) std::printf("\n");
    last = code;
  }
  ::write_history(history.c_str());
  return last;
}

/// Where lines are read that nobody types: no prompt, and nothing but what they print.
struct Script {
  std::FILE* lines = stdin;
  std::string name = "standard input";
  bool stops = false;  ///< at the first line that fails
};

/// The exit code of a line of it; what is none of a shell's lines has one, too.
int run_script_line(const Session& session, const Script& script, std::string_view line, int last) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.find('\0') != line.npos) {
    std::fprintf(stderr, "aiosctl: a line has a byte of 0 in it: is this a script?\n");
    return exit_usage;
  }
  return run_line(session, std::string(line).c_str(), last, script.lines != stdin);
}

int read_script(const Session& session, const Script& script) {
  char* line = nullptr;
  std::size_t size = 0;
  int last = exit_done;
  bool stopped = false;
  unsigned long number = 0;
  for (ssize_t length = 0; !stopped && (length = ::getline(&line, &size, script.lines)) > 0;) {
    ++number;
    const int code =
        run_script_line(session, script, {line, static_cast<std::size_t>(length)}, last);
    stopped = code == end_of_shell || (script.stops && code != exit_done) || interrupted != 0;
    if (code != end_of_shell) last = code;
    if (script.stops && last != exit_done)
      std::fprintf(stderr, "aiosctl: %s:%lu: failed with exit code %d; what follows was not run\n",
                   script.name.c_str(), number, last);
  }
  ::free(line);
  if (stopped || interrupted != 0 || std::ferror(script.lines) == 0) return last;
  return report(errno_error("cannot read " + script.name, errno).error());
}

int run_file(const Session& session, const std::string& path) {
  if (path == "-") return read_script(session, {.stops = true});
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return report(errno_error("cannot open " + path, errno).error());
  const int code = read_script(session, {file, path, true});
  std::fclose(file);
  return code;
}

int shell(const Session& session, const std::string& file) {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  if (!file.empty()) return run_file(session, file);
  return ::isatty(STDIN_FILENO) != 0 ? talk(session) : read_script(session, {});
}

}  // namespace

void add_shell_command(CLI::App& app, Session& session) {
  commands = &app;
  auto* command =
      app.add_subcommand("shell", "A prompt for these subcommands, or a script of them");
  command->footer(std::string(shell_help) + "\n\n" + script_help);
  const auto file = std::make_shared<std::string>();
  command->add_option("FILE", *file, "A script to run, - for standard input")
      ->check(command_line::names_something());
  command->callback(
      [&session, file] { session.action = [&session, file] { return shell(session, *file); }; });
}

}  // namespace aios::ctl
