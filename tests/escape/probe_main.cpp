// escape-probe: tries every forbidden thing from inside every sandbox profile, and says what stops
// it. Needs nothing but itself, so that it runs on a bare system as well.
//
//   escape-probe [--user UID] [--profile NAME] [--covered-proc]
//
// --covered-proc: root covers a part of /proc first, as containers do; Linux mounts no other then.
// Exit code 0: everything was stopped, and the attempts are real: without a sandbox they succeed as
// far as this host allows. 1: something escaped, or a protection of this host stops nothing. 2:
// usage. 77: the user who runs it cannot become another, or cover anything.
#include <getopt.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/escape/judge.hpp"
#include "tests/escape/outside.hpp"

namespace {

using namespace aios;
using namespace aios::escape;

/// For Meson.
constexpr int skipped = 77;

struct Options {
  long user = -1;
  std::string profile;
  bool covered_proc = false;
};

/// How the copies of this program that the attempts execute say that they ran.
int answer_attempt(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--exit-gained") return gained;
  if (word == "--who" && argc > 2)
    return static_cast<uid_t>(std::atol(argv[2])) != ::geteuid() ? gained : 1;
  return 0;
}

bool parse(int argc, char** argv, Options& options) {
  static constexpr option names[] = {{"user", required_argument, nullptr, 'u'},
                                     {"profile", required_argument, nullptr, 'p'},
                                     {"covered-proc", no_argument, nullptr, 'c'},
                                     {}};
  for (int letter = 0; (letter = ::getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (letter == 'u') options.user = std::atol(optarg);
    if (letter == 'p') options.profile = optarg;
    if (letter == 'c') options.covered_proc = true;
    if (letter == '?') return false;
  }
  return optind == argc &&
         (options.profile.empty() || proto::sandbox::profile_of(options.profile).has_value());
}

bool cover_proc() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("escape", "/proc/fs", "tmpfs", MS_RDONLY, nullptr) == 0;
}

int run(const Options& options) {
  if (options.user >= 0 && ::geteuid() != 0) {
    std::fputs("escape-probe: only root can become another user\n", stderr);
    return skipped;
  }
  if (options.covered_proc && !cover_proc()) {
    std::perror("escape-probe: cannot cover a part of /proc");
    return skipped;
  }
  // As root, so that there is a program of another user's.
  auto world = OutsideWorld::create("/proc/self/exe", options.user);
  if (!world) {
    std::fprintf(stderr, "escape-probe: %s\n", world.error().to_string().c_str());
    return 1;
  }
  if (options.user >= 0 && !become(options.user)) {
    std::perror("escape-probe: cannot become that user");
    return 1;
  }
  Judge judge((*world)->get(), (*world)->own_folder());
  const bool real = judge.show_that_attempts_are_real();
  const bool held = judge.try_profiles(options.profile);
  judge.print_sum();
  return real && held ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (const int answer = answer_attempt(argc, argv); answer != 0) return answer;
  Options options;
  if (!parse(argc, argv, options)) {
    std::fputs("usage: escape-probe [--user UID] [--profile NAME] [--covered-proc]\n", stderr);
    return 2;
  }
  return run(options);
}
