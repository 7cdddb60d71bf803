// hostile-campaign: boots an instance, lets honest clients call every server all along, and sends
// one hostile peer after the other at it. After each it looks: did every victim get right answers,
// did every server live, was everything given back? Exit code 1 at the first breach.
//
//   hostile-campaign --peer PROGRAM [--actions N] [--seed S] [--batch N] [--only NAME,...]
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "tests/hostile/counts.hpp"
#include "tests/hostile/judge.hpp"
#include "tests/hostile/victims.hpp"
#include "tests/support/whole_instance.hpp"

using namespace aios;
using namespace aios::hostile;

namespace {

/// How long one hostile peer may take for its batch.
constexpr std::uint64_t batch_limit_ns = 300 * ns_per_s;

struct Options {
  std::string peer;
  std::uint64_t actions = 200'000;
  std::uint64_t seed = 1;
  std::uint64_t batch = 25'000;
  std::string only;
};

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc) return false;
    const char* value = argv[i + 1];
    if (name == "--peer")
      options.peer = value;
    else if (name == "--actions")
      options.actions = std::strtoull(value, nullptr, 10);
    else if (name == "--seed")
      options.seed = std::strtoull(value, nullptr, 10);
    else if (name == "--batch")
      options.batch = std::strtoull(value, nullptr, 10);
    else if (name == "--only")
      options.only = value;
    else
      return false;
  }
  return !options.peer.empty() && options.actions != 0 && options.batch != 0;
}

/// Runs a hostile peer to its end; its output.
Result<std::string> run_peer(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("make pipe", errno);
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(writer.get(), STDOUT_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  if (pid < 0) return errno_error("start the hostile peer", errno);
  writer.reset();
  std::string output;
  const Deadline deadline = Deadline::after(batch_limit_ns);
  bool in_time = true;
  for (;;) {
    pollfd event{reader.get(), POLLIN, 0};
    in_time = ::poll(&event, 1, deadline.poll_timeout_ms()) == 1;
    char buffer[4096];
    const ssize_t n = in_time ? ::read(reader.get(), buffer, sizeof buffer) : 0;
    if (n <= 0) break;
    output.append(buffer, static_cast<std::size_t>(n));
  }
  if (!in_time) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!in_time) return error(Code::timed_out, "the hostile peer hangs\n" + output);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return error(Code::internal, "the hostile peer ended with wait status " +
                                     std::to_string(status) + "\n" + output);
  return output;
}

void add_output(const std::string& output, Counts& counts) {
  std::istringstream lines(output);
  std::string name;
  for (std::uint64_t injected = 0, consumed = 0; lines >> name >> injected >> consumed;) {
    const auto found = std::ranges::find(kind_names, name);
    if (found != kind_names.end())
      counts.add(static_cast<std::size_t>(found - kind_names.begin()), injected, consumed);
  }
}

class Campaign {
 public:
  Campaign(test::TestInstance& instance, Options options,
           std::vector<std::unique_ptr<Victim>> victims)
      : instance_(instance),
        options_(std::move(options)),
        victims_(std::move(victims)),
        judge_(instance) {}

  Result<void> run() {
    // The first batch warms everything up: caches, files and tables have their size afterwards.
    TRY(batch(std::min<std::uint64_t>(options_.batch / 8 + 1, 2'000), 0));
    pause();
    // What the first batch left behind is on its way out.
    TRY(settle());
    TRY(judge_.begin());
    resume();
    for (std::uint64_t number = 1; counts_.total_consumed() < options_.actions; ++number) {
      const std::uint64_t left = options_.actions - counts_.total_consumed();
      TRY(batch(std::min(options_.batch, left), number));
      TRY(judge());
      std::printf("batch %llu: %llu actions consumed\n", static_cast<unsigned long long>(number),
                  static_cast<unsigned long long>(counts_.total_consumed()));
      std::fflush(stdout);
    }
    return {};
  }
  const Counts& counts() const { return counts_; }
  const std::vector<std::unique_ptr<Victim>>& victims() const { return victims_; }

 private:
  void pause() {
    for (const auto& victim : victims_) victim->pause();
  }
  void resume() {
    for (const auto& victim : victims_) victim->resume();
  }

  /// Waits until the instance holds the same in ten looks in a row.
  Result<void> settle() {
    std::uint64_t last = 0;
    int same = 0;
    return test::TestInstance::wait_until([&] {
      const auto now = holdings_of(instance_);
      std::uint64_t sum = 0;
      if (now) {
        sum = now->processes + now->links + now->regions + now->kernel_fds;
        for (const auto& [name, server] : now->servers) sum += server.handles + server.fds;
      }
      same = sum == last ? same + 1 : 0;
      last = sum;
      return same == 10;
    });
  }

  Result<void> batch(std::uint64_t actions, std::uint64_t number) {
    std::vector<std::uint64_t> before;
    for (const auto& victim : victims_) before.push_back(victim->rounds());
    std::vector<std::string> words = {options_.peer,
                                      "--socket",
                                      instance_.socket_path(),
                                      "--seed",
                                      std::to_string(options_.seed * 1'000'003 + number * 16),
                                      "--actions",
                                      std::to_string(actions)};
    if (!options_.only.empty()) words.insert(words.end(), {"--only", options_.only});
    add_output(TRY(run_peer(words)), counts_);
    // Not every victim need get through while a short batch runs; but it must after that.
    for (std::size_t i = 0; i < victims_.size(); ++i) {
      const Victim& victim = *victims_[i];
      const Result<void> moved = test::TestInstance::wait_until(
          [&] { return victim.rounds() > before[i] || !victim.failure().empty(); });
      if (!moved) return error(Code::timed_out, "victim " + victim.name() + " gets no answer");
      if (!victim.failure().empty())
        return error(Code::internal, "victim " + victim.name() + ": " + victim.failure());
    }
    return {};
  }

  Result<void> judge() {
    pause();
    TRY(judge_.nothing_left());
    if (const std::string line = judge_.crash_in_logs(); !line.empty())
      return error(Code::internal, "in the logs: " + line);
    resume();
    return {};
  }

  test::TestInstance& instance_;
  Options options_;
  std::vector<std::unique_ptr<Victim>> victims_;
  Judge judge_;
  Counts counts_;
};

Result<void> run(const Options& options) {
  const auto instance = TRY(test::TestInstance::boot_running(test::whole_instance));
  auto victims = TRY(start_victims(
      {*instance, instance->state().parent_path(), AIOS_WORDCOUNT_MODULE, AIOS_TASK_MODULE}));
  Campaign campaign(*instance, options, std::move(victims));
  const std::uint64_t began = now_ns();
  Result<void> outcome = campaign.run();
  for (const auto& victim : campaign.victims()) victim->stop();
  campaign.counts().print(stdout);
  std::printf("seed %llu: %llu injected, %llu consumed, %.1f s\n",
              static_cast<unsigned long long>(options.seed),
              static_cast<unsigned long long>(campaign.counts().total_injected()),
              static_cast<unsigned long long>(campaign.counts().total_consumed()),
              static_cast<double>(now_ns() - began) / ns_per_s);
  for (const auto& victim : campaign.victims())
    std::printf("victim %-10s %llu rounds\n", victim->name().c_str(),
                static_cast<unsigned long long>(victim->rounds()));
  if (!outcome) std::printf("%s\n", instance->logs().substr(0, 20'000).c_str());
  return outcome;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: hostile-campaign --peer PROGRAM [--actions N] [--seed S] [--batch N] "
                 "[--only NAME,...]\n");
    return 2;
  }
  const Result<void> outcome = run(options);
  if (outcome) return 0;
  std::printf("BREACH: %s\n", outcome.error().to_string().c_str());
  return 1;
}
