#include "tests/fault/injector.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "tests/hostile/counts.hpp"

namespace aios::fault {

namespace {

/// Greatest time for what must happen by itself after a fault.
constexpr std::uint64_t patience_ns = 20 * ns_per_s;
/// How long an injector waits for work to come under way.
constexpr std::uint64_t pending_wait_ns = 30 * ns_per_ms;
/// The kernel ends an instance whose supervisor died ten times in a minute.
constexpr std::size_t supervisor_kills_per_minute = 7;
constexpr std::uint64_t minute_ns = 60 * ns_per_s;

void rest(std::uint64_t duration_ns) {
  const timespec pause{static_cast<time_t>(duration_ns / ns_per_s),
                       static_cast<long>(duration_ns % ns_per_s)};
  ::nanosleep(&pause, nullptr);
}

/// Whose calls are hurt when this part ends.
Parts hurt_by(Part part) {
  switch (part) {
    case Part::cpu:
      return parts({Part::cpu});
    case Part::scheduler:
      // Contexts end with it.
      return parts({Part::scheduler, Part::contexts});
    default:
      return bit(part);
  }
}

/// What has to be under way at a server for a fault in it to meet work.
Parts work_of(Part part) {
  return part == Part::cpu ? bit(Part::contexts) : bit(part);
}

}  // namespace

std::vector<std::pair<Worker*, std::uint64_t>> Scene::pending(Parts which) const {
  std::vector<std::pair<Worker*, std::uint64_t>> found;
  for (const auto& worker : workers)
    if (const std::uint64_t number = worker->pending(which); number != 0)
      found.emplace_back(worker.get(), number);
  return found;
}

std::vector<std::pair<Worker*, std::uint64_t>> Scene::await_pending(Parts which) const {
  const Deadline end = Deadline::after(pending_wait_ns);
  for (;;) {
    auto found = pending(which);
    if (!found.empty() || end.passed()) return found;
    rest(20 * ns_per_us);
  }
}

bool Scene::still(const std::vector<std::pair<Worker*, std::uint64_t>>& calls, Parts which) {
  return std::ranges::any_of(
      calls, [which](const auto& one) { return one.first->pending(which) == one.second; });
}

void Injector::count(Kind kind, Outcome outcome) {
  Count& count = counts_[static_cast<std::size_t>(kind)];
  if (outcome != Outcome::none) ++count.injected;
  if (outcome == Outcome::activated) ++count.activated;
}

std::uint64_t Injector::activated() const {
  std::uint64_t total = 0;
  for (const Count& count : counts_) total += count.activated;
  return total;
}

Parts Injector::harmed() const {
  Parts set = 0;
  for (const Hang& hang : hangs_) set |= bit(hang.part);
  return set;
}

void Injector::recovered(Part part, std::uint64_t since_ns, const char* when) {
  const std::string name(name_of(part));
  const auto served = scene_.system.await_serving(name, Deadline::after(patience_ns));
  if (!served) return scene_.breach(name + " does not serve again: " + served.error().to_string());
  recovery_[name + when].push_back(*served - since_ns);
  if (const auto noted = scene_.system.note(name); !noted)
    scene_.breach(name + " serves again, and yet is none: " + noted.error().to_string());
}

Part Injector::any_server() {
  return static_cast<Part>(scene_.below(static_cast<std::uint64_t>(Part::supervisor)));
}

Outcome Injector::kill_server(Part part, int signal_number) {
  if ((harmed() & bit(part)) != 0) return Outcome::none;
  const auto target = scene_.system.server(name_of(part));
  if (!target) return Outcome::none;
  const Parts work = work_of(part);
  (void)scene_.await_pending(work);
  rest(scene_.below(3 * ns_per_ms));
  const auto calls = scene_.await_pending(work);
  const Disturbance disturbance(scene_.ground.disturbances, hurt_by(part), death);
  const std::uint64_t killed_ns = now_ns();
  ::kill(target->pid, signal_number);
  const bool met = Scene::still(calls, work);
  if (!target->await_end(Deadline::after(patience_ns)))
    scene_.breach(target->name + " does not end after a signal that ends it");
  recovered(part, killed_ns);
  return met ? Outcome::activated : Outcome::injected;
}

void Injector::kill_at_rest(Part part, unsigned times) {
  for (unsigned i = 0; i < times && !scene_.ground.breaches.any(); ++i) {
    const auto target = scene_.system.server(name_of(part));
    if (!target) return scene_.breach(std::string(name_of(part)) + " is away and nobody harmed it");
    const std::uint64_t killed_ns = now_ns();
    ::kill(target->pid, SIGKILL);
    recovered(part, killed_ns, ", at rest");
  }
}

Outcome Injector::abort_server() {
  return kill_server(any_server(), scene_.below(2) == 0 ? SIGABRT : SIGSEGV);
}

Outcome Injector::kill_supervisor() {
  std::erase_if(supervisor_kills_ns_, [](std::uint64_t at) { return now_ns() - at > minute_ns; });
  // A hang needs its supervisor's memory of it.
  if (supervisor_kills_ns_.size() >= supervisor_kills_per_minute || !hangs_.empty())
    return Outcome::none;
  supervisor_kills_ns_.push_back(now_ns());
  return kill_server(Part::supervisor, SIGKILL);
}

Outcome Injector::kill_context() {
  const auto calls = scene_.await_pending(bit(Part::contexts));
  const auto target = scene_.system.context(false, scene_.random());
  if (!target) return Outcome::none;
  const Disturbance disturbance(scene_.ground.disturbances, bit(Part::contexts), death);
  const std::uint64_t killed_ns = now_ns();
  ::kill(target->pid, SIGKILL);
  const bool met = Scene::still(calls, bit(Part::contexts));
  if (!target->await_end(Deadline::after(patience_ns)))
    scene_.breach("a context does not end after SIGKILL");
  if (!met) return Outcome::injected;
  // Back when the work that was under way is done.
  const Deadline end = Deadline::after(patience_ns);
  while (Scene::still(calls, bit(Part::contexts)) && !end.passed()) rest(100 * ns_per_us);
  if (!end.passed())
    recovery_[std::string(name_of(Part::contexts))].push_back(now_ns() - killed_ns);
  return Outcome::activated;
}

Outcome Injector::pause(Target target, Parts which) {
  const auto calls = scene_.await_pending(which);
  // Long enough for many others to get by, short of what the supervisor takes for a hang.
  const std::uint64_t length = ns_per_ms + scene_.below(10 * ns_per_ms);
  const Disturbance disturbance(scene_.ground.disturbances, which, 0);
  if (::kill(target.pid, SIGSTOP) != 0) return Outcome::none;
  rest(length);
  const bool met = Scene::still(calls, which);
  ::kill(target.pid, SIGCONT);
  return met ? Outcome::activated : Outcome::injected;
}

Outcome Injector::pause_server() {
  const Part part = any_server();
  if ((harmed() & bit(part)) != 0) return Outcome::none;
  auto target = scene_.system.server(name_of(part));
  return target ? pause(*std::move(target), work_of(part)) : Outcome::none;
}

Outcome Injector::pause_context() {
  auto target = scene_.system.context(false, scene_.random());
  return target ? pause(*std::move(target), bit(Part::contexts)) : Outcome::none;
}

Outcome Injector::hang_server() {
  const Part part = any_server();
  if (!hangs_.empty() || scene_.pending(work_of(part)).empty()) return Outcome::none;
  auto target = scene_.system.server(name_of(part));
  if (!target) return Outcome::none;
  const auto calls = scene_.await_pending(work_of(part));
  Hang hang{part, *std::move(target),
            std::make_unique<Disturbance>(scene_.ground.disturbances, hurt_by(part), death), false,
            now_ns()};
  ::kill(hang.target.pid, SIGSTOP);
  hang.pending = Scene::still(calls, work_of(part));
  hangs_.push_back(std::move(hang));
  // Counted when it ends.
  return Outcome::none;
}

void Injector::poll(bool finish) {
  for (auto hang = hangs_.begin(); hang != hangs_.end();) {
    const bool late = now_ns() - hang->began_ns > patience_ns;
    if (hang->target.alive() && !late && !finish) {
      ++hang;
      continue;
    }
    if (!hang->target.await_end(Deadline::after(patience_ns)))
      scene_.breach(hang->target.name + " hangs, and the supervisor does not end it");
    else
      recovered(hang->part, hang->began_ns);
    // Until the heartbeats are missed is no time of the restart's.
    if (auto& times = recovery_[hang->target.name]; !times.empty()) {
      recovery_[hang->target.name + ", hung"].push_back(times.back());
      times.pop_back();
    }
    count(Kind::hang_server, hang->pending ? Outcome::activated : Outcome::injected);
    hang = hangs_.erase(hang);
  }
}

Outcome Injector::hostile_peer() {
  // It takes the end of a server for a breach: nobody may be away.
  if (!hangs_.empty()) return Outcome::none;
  constexpr std::uint64_t actions = 250;
  const std::string seed = std::to_string(scene_.random() >> 1);
  std::vector<std::string> words = {scene_.peer, "--socket",  scene_.ground.socket,   "--seed",
                                    seed,        "--actions", std::to_string(actions)};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return Outcome::none;
  const Fd reader(ends[0]);
  Fd writer(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(writer.get(), STDOUT_FILENO);
    ::dup2(writer.get(), STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  writer.reset();
  std::string output;
  const Deadline end = Deadline::after(3 * patience_ns);
  char buffer[4096];
  for (;;) {
    pollfd event{reader.get(), POLLIN, 0};
    const ssize_t n = ::poll(&event, 1, end.poll_timeout_ms()) == 1
                          ? ::read(reader.get(), buffer, sizeof buffer)
                          : -1;
    if (n <= 0) break;
    output.append(buffer, static_cast<std::size_t>(n));
  }
  if (end.passed()) ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    scene_.breach("the hostile peer with seed " + seed + " ended with wait status " +
                  std::to_string(status) + ": " + output);
  Count& sum = counts_[static_cast<std::size_t>(Kind::hostile_peer)];
  std::istringstream lines(output);
  std::string name;
  for (std::uint64_t injected = 0, consumed = 0; lines >> name >> injected >> consumed;) {
    sum.injected += injected;
    sum.activated += consumed;
  }
  return Outcome::none;  // counted already
}

Outcome Injector::mutate(Kind kind) {
  // One in four goes to a context of the bait's.
  const std::string_view name = bait_servers[scene_.below(bait_servers.size())];
  const auto target = scene_.below(4) == 0 ? scene_.system.context(true, scene_.random())
                                           : scene_.system.server(name);
  if (!target) {
    if (name == "m-storage") scene_.system.forget_bait_storage();
    return Outcome::none;
  }
  const Outcome outcome =
      kind == Kind::mutate_code ? mutate_code(scene_, *target) : mutate_registers(scene_, *target);
  // What was changed and lives on is changed further, but not for ever.
  if (outcome == Outcome::activated && scene_.below(3) == 0) ::kill(target->pid, SIGKILL);
  return outcome;
}

void Injector::inject(Kind kind) {
  const std::uint64_t began = now_ns();
  const auto outcome = [&]() -> Outcome {
    switch (kind) {
      case Kind::kill_storage:
        return kill_server(Part::storage, SIGKILL);
      case Kind::kill_scheduler:
        return kill_server(Part::scheduler, SIGKILL);
      case Kind::kill_cpu:
        return kill_server(Part::cpu, SIGKILL);
      case Kind::kill_mapreduce:
        return kill_server(Part::mapreduce, SIGKILL);
      case Kind::kill_echo:
        return kill_server(Part::echo, SIGKILL);
      case Kind::kill_supervisor:
        return kill_supervisor();
      case Kind::kill_context:
        return kill_context();
      case Kind::abort_server:
        return abort_server();
      case Kind::pause_server:
        return pause_server();
      case Kind::pause_context:
        return pause_context();
      case Kind::hang_server:
        return hang_server();
      case Kind::corrupt_requests:
      case Kind::corrupt_replies:
        return corrupt_ring(scene_, kind == Kind::corrupt_replies);
      case Kind::corrupt_region:
        return corrupt_region(scene_);
      case Kind::hostile_peer:
        return hostile_peer();
      case Kind::mutate_code:
      case Kind::mutate_registers:
        return mutate(kind);
      case Kind::stall_flush:
        return (harmed() & bit(Part::storage)) != 0 ? Outcome::none : stall_flush(scene_);
      case Kind::exhaust_descriptors:
        return exhaust_descriptors(scene_, harmed());
      case Kind::exhaust_memory: {
        const Part part = any_server();
        return (harmed() & bit(part)) != 0 ? Outcome::none
                                           : exhaust_memory(scene_, part, recovery_);
      }
      case Kind::exhaust_region_quota:
        return exhaust_region_quota(scene_);
      case Kind::exhaust_handles:
        return exhaust_handles(scene_);
      case Kind::exhaust_links:
        return exhaust_links(scene_);
      case Kind::exhaust_contexts:
        return (harmed() & parts({Part::scheduler, Part::cpu})) != 0 ? Outcome::none
                                                                     : exhaust_contexts(scene_);
      case Kind::fill_disk:
        return fill_disk(scene_);
      case Kind::count:
        break;
    }
    return Outcome::none;
  }();
  count(kind, outcome);
  Count& mine = counts_[static_cast<std::size_t>(kind)];
  ++mine.tries;
  mine.spent_ns += now_ns() - began;
}

}  // namespace aios::fault
