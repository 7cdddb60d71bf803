// fault-campaign: boots an instance, has a checked workload run on it all along, harms it in every
// way of faults.hpp, and lets it recover at the end. Exit code 1 at the first breach.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <set>
#include <sstream>

#include "abi/lib/storage_client.hpp"
#include "tests/fault/disk_probe.hpp"
#include "tests/fault/report.hpp"
#include "tests/fault/small_disk.hpp"
#include "tests/fault/state.hpp"

using namespace aios;
using namespace aios::fault;

namespace {

constexpr std::uint64_t look_interval_ns = 150 * ns_per_ms;
constexpr std::uint64_t progress_interval_ns = 10 * ns_per_s;
constexpr std::uint64_t patience_ns = 30 * ns_per_s;
constexpr unsigned kills_at_rest = 20;
/// A server that does not answer for two seconds is hung, and is gone a second later.
constexpr std::uint64_t disk_window_ns = 5 * ns_per_s;
constexpr std::uint64_t disk_still_ns = 3 * ns_per_s / 2;

volatile sig_atomic_t interrupted = 0;

struct Options {
  std::uint64_t seconds = 60;
  std::uint64_t activated = 0;
  std::uint64_t seed = 1;
  std::uint64_t objects = 10'000;
  std::string peer;
  std::string bait;
  std::string commit = "unknown";
  std::string backend;
  /// How often each kind is picked, relative to the others.
  std::array<std::uint64_t, kind_count> weights{};
  bool json = false;
  bool list = false;
  bool failures = false;
  bool host_disk = false;
};

/// The program that calls the servers whose code is changed.
class Bait {
 public:
  ~Bait() { stop(); }
  void start(const Options& options, const Ground& ground) {
    log_ = ground.folder + "/bait.log";
    std::vector<std::string> words = {options.bait, ground.socket, ground.task_module,
                                      ground.job_module, ground.folder};
    pid_ = ::fork();
    if (pid_ != 0) return;
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (std::freopen(log_.c_str(), "a", stderr) == nullptr) ::_exit(127);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  /// How it ended, which it must not; empty while it lives.
  std::string ended() {
    int status = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return {};
    pid_ = 0;
    std::ifstream file(log_);
    const std::string words{std::istreambuf_iterator<char>(file), {}};
    return "the client of the changed servers ended with wait status " + std::to_string(status) +
           ": " + words;
  }
  void stop() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_ = 0;
  std::string log_;
};

/// Small objects that nobody touches, so that storage restarts with as many as a user's.
Result<void> preload(System& system, std::uint64_t objects) {
  if (objects == 0) return {};
  const auto visitor = TRY(system.instance().attach());
  const auto client = TRY(visitor->client<proto::storage::Protocol>());
  const Region region = TRY(Region::create(visitor->kernel(), 4096, "preload"));
  namespace wire = proto::storage;
  const auto attached = TRY(client->call_with_handles<wire::AttachRegion>(
      {0, 0}, {{region.handle(), ObjectType::region, rights::map_read, 0, false}},
      [](std::span<const Handle> numbers, auto& request) { request.region = numbers[0]; },
      Deadline::after(patience_ns)));
  constexpr std::uint64_t at_once = 48;
  Result<void> failed;
  for (std::uint64_t begun = 0, ended = 0; ended < objects && failed;) {
    for (; begun < objects && begun < ended + at_once; ++begun)
      client->start<wire::Put>(
          {0, 100, attached.region, 0, wire::ObjectName::from("preload/" + std::to_string(begun))},
          Deadline::after(patience_ns), [&](const auto& reply) {
            ++ended;
            if (!reply) failed = std::unexpected(reply.error());
          });
    if (!client->work() && ended < objects) client->wait(Deadline::after(patience_ns));
  }
  return failed;
}

class Campaign {
 public:
  Campaign(System& system, Ground& ground, const Options& options, bool small_disk)
      : system_(system),
        ground_(ground),
        options_(options),
        random_(options.seed),
        scene_{system,
               ground,
               workers_,
               random_,
               options.peer,
               small_disk,
               options.backend == "threads"},
        injector_(scene_) {}

  void run(Report& report) {
    if (const auto loaded = preload(system_, options_.objects); !loaded)
      return ground_.breaches.add("cannot begin: " + loaded.error().to_string());
    auto probe = DiskProbe::start(ground_.folder, ground_.disturbances);
    if (!probe) return ground_.breaches.add("cannot begin: " + probe.error().to_string());
    disk_ = *std::move(probe);
    const std::uint64_t began = now_ns();
    make_workers();
    const auto before = warm_up();
    if (!before) return ground_.breaches.add("cannot begin: " + before.error().to_string());
    for (const auto& worker : workers_) worker->start();
    bait_.start(options_, ground_);
    inject_all();
    if (ground_.breaches.any()) print_state(system_);
    bait_.stop();
    if (!ground_.breaches.any()) recover(*before);
    // Who still waits for something has a deadline.
    for (const auto& worker : workers_) worker->stop();
    report.longest_flush_ns = disk_->longest_ns();
    report.hung_with_disk = hung_with_disk_;
    disk_.reset();
    report.seconds = static_cast<double>(now_ns() - began) / ns_per_s;
    report.counts = injector_.counts();
    report.recovery = injector_.recovery();
    for (const auto& worker : workers_)
      report.work.push_back({worker->name(), worker->calls(), worker->right(), worker->failures()});
  }

 private:
  void make_workers() {
    for (unsigned i = 0; i < 3; ++i) workers_.push_back(make_storage_worker(ground_, i));
    for (unsigned i = 0; i < 2; ++i) workers_.push_back(make_task_worker(ground_, i));
    workers_.push_back(make_job_worker(ground_));
    workers_.push_back(make_echo_worker(ground_));
    workers_.push_back(make_listing_worker(ground_, server_count));
  }

  /// What the instance holds when it has been used and nobody does any more: servers connect to one
  /// another at their first use.
  Result<Holding> warm_up() {
    for (const auto& worker : workers_) worker->start();
    await_progress();
    for (const auto& worker : workers_) worker->stop();
    Holding last;
    int same = 0;
    TRY(test::TestInstance::wait_until([&] {
      const auto now = holding_of(system_.instance());
      same = now && *now == last ? same + 1 : 0;
      if (now) last = *now;
      return same == 20;
    }));
    return last;
  }

  Kind pick() {
    std::uint64_t at =
        random_() % std::accumulate(options_.weights.begin(), options_.weights.end(), 0ull);
    std::size_t kind = 0;
    while (at >= options_.weights[kind]) at -= options_.weights[kind++];
    return static_cast<Kind>(kind);
  }

  void inject_all() {
    const Deadline end = Deadline::after(options_.seconds * ns_per_s);
    std::uint64_t look = 0;
    std::uint64_t progress = now_ns() + progress_interval_ns;
    while (!end.passed() && !ground_.breaches.any() && interrupted == 0 &&
           (options_.activated == 0 || injector_.activated() < options_.activated)) {
      const Kind kind = pick();
      injector_.inject(kind);
      injector_.poll(false);
      if (now_ns() >= look) {
        look_around(std::string(" after ") + std::string(info_of(kind).name));
        look = now_ns() + look_interval_ns;
      }
      if (now_ns() >= progress && !options_.json) {
        std::printf("%llu faults activated\n",
                    static_cast<unsigned long long>(injector_.activated()));
        std::fflush(stdout);
        progress += progress_interval_ns;
      }
    }
  }

  void look_around(const std::string& when) {
    for (const auto& worker : workers_)
      if (const std::string text = worker->overdue(); !text.empty()) ground_.breaches.add(text);
    if (!system_.kernel_lives()) ground_.breaches.add("the kernel has ended" + when);
    if (const auto part = system_.unexpected_end(injector_.harmed());
        part && !hung_with_disk(*part))
      ground_.breaches.add(std::string(name_of(*part)) + " ended although nobody harmed it" + when);
    if (const std::string text = bait_.ended(); !text.empty()) ground_.breaches.add(text);
  }

  /// Servers write their logs themselves, so a disk that stands still for seconds stops one that
  /// has something to say, and the supervisor takes it for hung: whether that is why it ended. Then
  /// it is back and noted.
  bool hung_with_disk(Part part) {
    const auto end = system_.last_end(name_of(part));
    if (!end || *end != "killed by signal 9" || disk_->still_ns(disk_window_ns) < disk_still_ns)
      return false;
    await_serving(std::string(name_of(part)));
    if (!system_.note(name_of(part))) return false;
    ++hung_with_disk_;
    return true;
  }

  /// Nothing is harmed any more: everything serves, everything acknowledged is there, servers that
  /// are killed now are back soon, and when all clients are gone nothing of them is left.
  void recover(const Holding& before) {
    injector_.poll(true);
    renew_bait_servers();
    for (std::size_t i = 0; i + 1 < part_count; ++i) await_serving(std::string(part_names[i]));
    for (const std::string_view name : bait_servers) await_serving(std::string(name));
    look_around(" in the recovery");
    await_progress();
    if (ground_.breaches.any()) print_state(system_);
    scene_.latent.clear();
    for (const auto& worker : workers_) worker->stop();
    for (const auto& worker : workers_)
      if (!ground_.breaches.any()) worker->verify();
    for (std::size_t i = 0; i < static_cast<std::size_t>(Part::supervisor); ++i)
      injector_.kill_at_rest(static_cast<Part>(i), kills_at_rest);
    system_.forget_clients();
    if (!ground_.breaches.any()) expect_nothing_left(before);
  }

  /// Whatever was changed in them is gone, and so is what they were led to write.
  void renew_bait_servers() {
    for (const std::string_view name : bait_servers)
      if (const auto renewed = system_.renew_bait(std::string(name)); !renewed)
        ground_.breaches.add(std::string(name) +
                             " cannot be started anew in the end: " + renewed.error().to_string());
  }

  void await_serving(const std::string& name) {
    if (const auto served = system_.await_serving(name, Deadline::after(patience_ns)); !served)
      ground_.breaches.add(name +
                           " does not serve again in the end: " + served.error().to_string());
  }

  /// Every worker gets right answers again.
  void await_progress() {
    constexpr std::uint64_t rounds = 3;
    std::vector<std::uint64_t> first;
    for (const auto& worker : workers_) first.push_back(worker->right());
    const Deadline end = Deadline::after(patience_ns);
    for (std::size_t i = 0; i < workers_.size() && !ground_.breaches.any(); ++i) {
      while (workers_[i]->right() < first[i] + rounds && !end.passed() && !ground_.breaches.any())
        ::usleep(1000);
      if (end.passed()) ground_.breaches.add(workers_[i]->name() + " gets no answers in the end");
    }
  }

  void expect_nothing_left(const Holding& before) {
    std::string excess;
    const auto settled = test::TestInstance::wait_until([&] {
      const auto now = holding_of(system_.instance());
      excess = now ? excess_of(*now, before) : now.error().to_string();
      return excess.empty();
    });
    if (!settled) {
      print_state(system_);
      ground_.breaches.add("not given back: " + excess);
    }
    const auto code = system_.instance().shutdown();
    if (!code || *code != 0)
      ground_.breaches.add("the shutdown fails: " + (code ? "exit code " + std::to_string(*code)
                                                          : code.error().to_string()));
    for (const auto& entry : std::filesystem::directory_iterator(system_.instance().state())) {
      static const std::set<std::string> known = {"logs", "storage", "lock"};
      if (const std::string name = entry.path().filename(); !known.contains(name))
        ground_.breaches.add("left in the folder of the instance: " + name);
    }
  }

  System& system_;
  Ground& ground_;
  const Options& options_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Worker>> workers_;
  Scene scene_;
  Injector injector_;
  Bait bait_;
  std::unique_ptr<DiskProbe> disk_;
  std::uint64_t hung_with_disk_ = 0;
};

/// What is known of a breach: the ends of the logs.
void print_logs(System& system) {
  std::istringstream logs(system.instance().logs());
  std::vector<std::string> section;
  const auto flush = [&section] {
    constexpr std::size_t most = 25;
    const std::size_t from = section.size() > most ? section.size() - most : 0;
    if (!section.empty()) std::fprintf(stderr, "%s\n", section.front().c_str());
    for (std::size_t i = std::max<std::size_t>(from, 1); i < section.size(); ++i)
      std::fprintf(stderr, "   %s\n", section[i].c_str());
    section.clear();
  };
  for (std::string line; std::getline(logs, line);) {
    if (line.starts_with("== ")) flush();
    section.push_back(line);
  }
  flush();
}

void print_breaches(const std::vector<std::string>& breaches) {
  for (const std::string& breach : breaches) std::fprintf(stderr, "BREACH: %s\n", breach.c_str());
}

int run(const Options& options) {
  Report report;
  report.seed = options.seed;
  report.commit = options.commit;
  if (!options.host_disk) report.disk = mount_small_disk();
  auto system = System::boot(options.backend);
  if (!system) {
    std::fprintf(stderr, "%s\n", system.error().to_string().c_str());
    return 1;
  }
  {
    Disturbances disturbances;
    Breaches breaches;
    Ground ground{(*system)->instance().socket_path(),
                  (*system)->instance().state().parent_path(),
                  AIOS_TASK_MODULE,
                  AIOS_WORDCOUNT_MODULE,
                  options.seed,
                  disturbances,
                  breaches,
                  options.failures};
    Campaign(**system, ground, options, !report.disk.empty()).run(report);
    report.breaches = breaches.all();
  }
  if (!report.breaches.empty()) {
    // At once, for whoever waits may lose patience before the logs are written; and after them,
    // where one looks first.
    print_breaches(report.breaches);
    print_logs(**system);
    print_breaches(report.breaches);
  }
  if (options.json)
    print_json(report);
  else
    print_text(report);
  system->reset();
  unmount_small_disk();
  return report.breaches.empty() ? 0 : 1;
}

/// "kill_cpu" or "kill_cpu=7" each; none is all of them. False, with a word about it: no such kind.
bool take_weights(const std::vector<std::string>& only, Options& options) {
  for (std::size_t i = 0; i < kind_count && only.empty(); ++i) options.weights[i] = kinds[i].weight;
  for (const std::string& text : only) {
    const std::string name = text.substr(0, text.find('='));
    const auto* const kind = std::ranges::find(kinds, name, &KindInfo::name);
    std::uint64_t weight = kind == kinds.end() ? 0 : kind->weight;
    if (name.size() != text.size()) {
      const char* const end = text.data() + text.size();
      const auto parsed = std::from_chars(text.data() + name.size() + 1, end, weight);
      if (parsed.ec != std::errc() || parsed.ptr != end || weight > 1'000'000) weight = 0;
    }
    if (kind == kinds.end() || weight == 0) {
      std::fprintf(
          stderr,
          "'%s' is neither a kind of fault nor KIND=WEIGHT with 1 to 1000000; --list names "
          "the kinds\n",
          text.c_str());
      return false;
    }
    options.weights[static_cast<std::size_t>(kind - kinds.begin())] = weight;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGINT, [](int) { interrupted = 1; });
  Options options;
  std::vector<std::string> only;
  CLI::App app("Harms an instance of its own while a checked workload runs on it.");
  app.add_option("--seconds", options.seconds, "how long faults are injected");
  app.add_option("--activated", options.activated, "end after so many activated faults");
  app.add_option("--seed", options.seed, "of what is harmed when, and of the workload");
  app.add_option("--objects", options.objects,
                 "how many objects storage has beside the workload's");
  app.add_option("--only", only, "kinds, separated by commas; KIND=WEIGHT: picked as often")
      ->delimiter(',');
  app.add_option("--backend", options.backend, "storage's: threads or io_uring");
  app.add_option("--peer", options.peer, "tests/hostile's hostile-peer");
  app.add_option("--bait", options.bait, "fault-bait");
  app.add_option("--commit", options.commit, "for the report");
  app.add_flag("--host-disk", options.host_disk, "no file system of its own: none is filled");
  app.add_flag("--json", options.json, "the report as JSON");
  app.add_flag("--failures", options.failures, "every failed call of the workload, as it fails");
  app.add_flag("--list", options.list, "the kinds, when each is activated, what is promised");
  CLI11_PARSE(app, argc, argv);
  if (options.list) {
    print_kinds();
    return 0;
  }
  if (!take_weights(only, options)) return 2;
  return run(options);
}
