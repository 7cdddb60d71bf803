#include "tests/fault/state.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "abi/proto/scheduler.hpp"

namespace aios::fault {

namespace {

constexpr std::uint64_t ask_timeout_ns = ns_per_s;
constexpr int most_tasks = 40;

double ago_s(std::uint64_t at_ns) {
  const std::uint64_t now = now_ns();
  return at_ns == 0 || at_ns > now ? 0.0 : static_cast<double>(now - at_ns) / ns_per_s;
}

template <class Text>
int width(const Text& text) {
  return static_cast<int>(text.view().size());
}

void print_servers(test::Visitor& visitor) {
  static constexpr const char* states[] = {"waiting", "starting", "running",    "stopping",
                                           "stopped", "failed",   "quarantined"};
  using M = proto::supervisor::Server;
  const auto client = visitor.client<proto::supervisor::Protocol>();
  std::uint64_t count = 1;
  for (std::uint64_t i = 0; client && i < count; ++i) {
    const auto reply = (*client)->call<M>({i}, Deadline::after(ask_timeout_ns));
    if (!reply) {
      std::fprintf(stderr, "   supervisor: %s\n", reply.error().to_string().c_str());
      return;
    }
    count = reply->count;
    std::fprintf(stderr,
                 "   %.*s: %s, pid %llu, started %.3f s ago, %u restarts, %u heartbeats missed, "
                 "last end: %.*s: %.*s\n",
                 width(reply->server), reply->server.view().data(), states[reply->state % 7],
                 static_cast<unsigned long long>(reply->pid), ago_s(reply->started_ns),
                 reply->restarts, reply->missed_heartbeats, width(reply->last_end),
                 reply->last_end.view().data(), width(reply->last_words),
                 reply->last_words.view().data());
  }
}

/// 'S', 'R', 'Z' and so on, as /proc says of a thread; '?' when there is none.
char state_of(const std::string& folder) {
  std::ifstream file(folder + "/stat");
  std::string text;
  std::getline(file, text);
  const auto name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() ? '?' : text[name_end + 2];
}

/// The threads of a process whose first one has ended, or is stopped.
void print_threads(const std::string& folder) {
  std::error_code failure;
  for (auto entry = std::filesystem::directory_iterator(folder + "/task", failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    std::string tracer;
    std::ifstream file(entry->path() / "status");
    while (std::getline(file, tracer) && !tracer.starts_with("TracerPid:")) {
    }
    std::fprintf(stderr, "      thread %s: %c, %s\n", entry->path().filename().c_str(),
                 state_of(entry->path()), tracer.c_str());
  }
}

void print_processes(test::TestInstance& instance) {
  const auto processes = instance.processes();
  if (!processes) return;
  for (const auto& one : *processes) {
    const std::string folder = "/proc/" + std::to_string(one.pid);
    const char state = state_of(folder);
    std::fprintf(stderr, "   %llu: pid %llu, %c, %.*s of %.*s, %u links, %u handles, %.1f s old\n",
                 static_cast<unsigned long long>(one.process_id),
                 static_cast<unsigned long long>(one.pid), state, width(one.name),
                 one.name.view().data(), width(one.job_name), one.job_name.view().data(), one.links,
                 one.handles, ago_s(one.started_ns));
    if (state == 'Z' || state == 'T' || state == 't') print_threads(folder);
  }
}

void print_tasks(test::Visitor& visitor, const char* scheduler) {
  static constexpr const char* states[] = {"waiting", "ready", "running", "done", "failed"};
  namespace wire = proto::scheduler;
  const auto client = visitor.client(scheduler, wire::Protocol::version);
  std::uint64_t after = 0;
  for (int printed = 0; client && printed < most_tasks;) {
    const auto task = (*client)->call<wire::TaskNext>({after}, Deadline::after(ask_timeout_ns));
    if (!task) {
      std::fprintf(stderr, "   %s: %s\n", scheduler, task.error().to_string().c_str());
      return;
    }
    if (task->number == 0) return;
    after = task->number;
    // Those that ended are not what anybody waits for.
    if (task->state >= static_cast<std::uint32_t>(wire::TaskState::done)) continue;
    ++printed;
    std::fprintf(stderr, "   %s: task %llu of %.*s: %s on '%.*s', %u attempts, %.3f s old\n",
                 scheduler, static_cast<unsigned long long>(task->tag), width(task->job_name),
                 task->job_name.view().data(), states[task->state % 5], width(task->device),
                 task->device.view().data(), task->attempts, ago_s(task->submitted_ns));
  }
}

/// "memfd:aios-region 31, pipe 40": memory by name, the rest by kind.
void print_descriptors(pid_t pid) {
  std::map<std::string, int> counts;
  std::error_code failure;
  for (auto entry =
           std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    std::error_code gone;
    const std::string target = std::filesystem::read_symlink(entry->path(), gone).string();
    ++counts[target.substr(0, target.find(":["))];
  }
  std::string text;
  for (const auto& [name, count] : counts) text += name + " " + std::to_string(count) + ", ";
  std::fprintf(stderr, "   descriptors of the kernel: %s\n", text.c_str());
}

}  // namespace

void print_state(System& system) {
  std::fprintf(stderr, "== state at %.3f\n", static_cast<double>(now_ns()) / ns_per_s);
  test::Visitor& visitor = system.instance().visitor();
  print_servers(visitor);
  print_processes(system.instance());
  std::fprintf(stderr, "   links: %s\n", links_of(system.instance()).c_str());
  for (const char* scheduler : {"scheduler", "m-scheduler"}) print_tasks(visitor, scheduler);
  print_descriptors(system.instance().kernel_pid());
}

}  // namespace aios::fault
