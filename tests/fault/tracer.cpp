#include "tests/fault/tracer.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

namespace aios::fault {

namespace {

constexpr std::uint64_t stop_timeout_ns = 2 * ns_per_s;
constexpr std::uint64_t end_timeout_ns = 20 * ns_per_s;
constexpr useconds_t look_interval_us = 50;

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> found;
  std::error_code failure;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  for (auto entry = std::filesystem::directory_iterator(folder, failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure)) {
    const std::string name = entry->path().filename();
    pid_t thread = 0;
    std::from_chars(name.data(), name.data() + name.size(), thread);
    // Those that io_uring keeps in a process run no code of it, and stop when their disk answers.
    std::string comm;
    std::getline(std::ifstream(entry->path() / "comm"), comm);
    if (!comm.starts_with("iou-")) found.push_back(thread);
  }
  return found;
}

/// What follows `field` in the status of a thread; empty when there is none.
std::string status_of(pid_t pid, pid_t thread, std::string_view field) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/task/" + std::to_string(thread) +
                     "/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(field)) return line.substr(std::min(line.size(), field.size() + 2));
  return {};
}

/// It has ended, and if it is the main thread Linux says so only when all others have.
bool is_zombie(pid_t pid, pid_t thread) {
  return status_of(pid, thread, "State").starts_with('Z');
}

/// Also one that was begun by a thread which ended before it could tell: Linux has begun to trace
/// it.
bool is_ours(pid_t pid, pid_t thread) {
  return status_of(pid, thread, "TracerPid") == std::to_string(::gettid());
}

}  // namespace

Result<Tracer> Tracer::seize(pid_t pid) {
  Tracer tracer(pid);
  // From then on Linux tells nobody else of its end, and it cannot be let go of any more.
  if (is_zombie(pid, pid)) return error(Code::not_found, "the main thread has ended");
  constexpr long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;
  // Again until no thread is new: others may begin meanwhile. What they begin is traced then.
  for (bool grown = true; grown;) {
    grown = false;
    for (const pid_t thread : threads_of(pid)) {
      if (tracer.threads_.contains(thread)) continue;
      const int failure =
          ::ptrace(PTRACE_SEIZE, thread, nullptr, options) == 0 ? 0 : std::exchange(errno, 0);
      if (failure == ESRCH) continue;
      if (failure != 0 && !is_ours(pid, thread))
        return errno_error("ptrace thread " + std::to_string(thread), failure);
      tracer.threads_.emplace(thread, Thread{});
      grown = true;
    }
  }
  tracer.stop_all();
  if (tracer.ended()) return error(Code::not_found, "the process has ended");
  return tracer;
}

Tracer::Tracer(Tracer&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      threads_(std::exchange(other.threads_, {})),
      kept_(std::exchange(other.kept_, {})) {}

/// A thread may have begun another in the moment before it was let go: that one is traced, too, and
/// known from no event. Left behind it would keep the end of its process a secret.
Tracer::~Tracer() {
  if (pid_ == 0) return;
  stop_all();
  const Deadline end = Deadline::after(end_timeout_ns);
  for (bool any = true; any && !end.passed();) {
    any = false;
    for (const pid_t thread : threads_of(pid_)) {
      if (!is_ours(pid_, thread)) continue;
      any = true;
      if (threads_.emplace(thread, Thread{}).second) interrupt(thread);
    }
    // The main thread's end is told after the others'.
    for (const pid_t thread : threads())
      if (thread != pid_) detach(thread);
    detach(pid_);
  }
}

/// One that dies meanwhile has to be waited for: until its tracer has seen its end, nobody does. A
/// main thread that has ended alone would keep the others' end a secret for ever: they end with it.
void Tracer::detach(pid_t thread) {
  const Deadline end = Deadline::after(end_timeout_ns);
  while (!end.passed() && threads_.contains(thread)) {
    const auto signal_number = std::intptr_t{threads_[thread].signal};
    if (::ptrace(PTRACE_DETACH, thread, nullptr, reinterpret_cast<void*>(signal_number)) == 0) {
      threads_.erase(thread);
      return;
    }
    if (is_zombie(pid_, thread)) ::kill(pid_, SIGKILL);
    if (!look(thread)) ::usleep(look_interval_us);
  }
}

std::vector<pid_t> Tracer::threads() const {
  std::vector<pid_t> all;
  for (const auto& [thread, state] : threads_) all.push_back(thread);
  return all;
}

void Tracer::resume(pid_t thread, How how) {
  const auto found = threads_.find(thread);
  if (found == threads_.end() || !found->second.stopped) return;
  const auto request = how == How::go_on            ? PTRACE_CONT
                       : how == How::to_system_call ? PTRACE_SYSCALL
                                                    : PTRACE_SINGLESTEP;
  const int signal_number = std::exchange(found->second.signal, 0);
  found->second.stopped = false;
  ::ptrace(request, thread, nullptr, reinterpret_cast<void*>(std::intptr_t{signal_number}));
}

void Tracer::resume_all(How how) {
  for (const pid_t thread : threads()) resume(thread, how);
}

void Tracer::interrupt(pid_t thread) {
  ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
}

void Tracer::stop_all() {
  const Deadline end = Deadline::after(stop_timeout_ns);
  std::set<pid_t> asked;
  while (!end.passed()) {
    bool all = true;
    for (const pid_t thread : threads()) {
      if (threads_[thread].stopped) continue;
      if (asked.insert(thread).second) interrupt(thread);
      const auto stop = look(thread);
      if (stop && !stop->interrupted) kept_.push_back(*stop);
      all = all && (stop || !threads_.contains(thread) || is_zombie(pid_, thread));
    }
    if (all) return;
    ::usleep(look_interval_us);
  }
}

/// What waitpid has to say of one thread.
std::optional<Tracer::Stop> Tracer::look(pid_t thread) {
  int status = 0;
  const pid_t got = ::waitpid(thread, &status, __WALL | WNOHANG);
  if (got == 0) return std::nullopt;
  if (got < 0 || WIFEXITED(status) || WIFSIGNALED(status)) {
    threads_.erase(thread);
    return std::nullopt;
  }
  Thread& state = threads_[thread];
  state.stopped = true;
  const int event = status >> 16;
  const int signal_number = WSTOPSIG(status);
  if (event == PTRACE_EVENT_CLONE) {
    unsigned long child = 0;
    // It fails when the thread is being killed.
    if (::ptrace(PTRACE_GETEVENTMSG, thread, nullptr, &child) == 0 && child != 0)
      threads_.emplace(static_cast<pid_t>(child), Thread{});
    resume(thread);
    return std::nullopt;
  }
  if (event == PTRACE_EVENT_STOP)
    // A stop of its group looks alike: it was stopped from outside and stays so.
    return Stop{thread, SIGTRAP, true};
  if (signal_number != SIGTRAP && signal_number != (SIGTRAP | 0x80)) state.signal = signal_number;
  return Stop{thread, signal_number, false};
}

std::optional<Tracer::Stop> Tracer::wait(Deadline deadline, pid_t thread) {
  const auto wanted = [thread](const Stop& stop) { return thread == 0 || stop.thread == thread; };
  if (const auto found = std::ranges::find_if(kept_, wanted); found != kept_.end()) {
    const Stop stop = *found;
    kept_.erase(found);
    return stop;
  }
  for (;;) {
    for (const pid_t one : threads()) {
      if (thread != 0 && one != thread) continue;
      if (threads_[one].stopped) continue;
      if (const auto stop = look(one)) return stop;
    }
    if (threads_.empty() || (thread != 0 && !threads_.contains(thread)) || deadline.passed())
      return std::nullopt;
    ::usleep(look_interval_us);
  }
}

Result<user_regs_struct> Tracer::registers(pid_t thread) const {
  user_regs_struct found{};
  if (::ptrace(PTRACE_GETREGS, thread, nullptr, &found) != 0)
    return errno_error("read registers", errno);
  return found;
}

bool Tracer::set_registers(pid_t thread, const user_regs_struct& registers) const {
  user_regs_struct copy = registers;
  return ::ptrace(PTRACE_SETREGS, thread, nullptr, &copy) == 0;
}

pid_t Tracer::any_stopped() const {
  for (const auto& [thread, state] : threads_)
    if (state.stopped) return thread;
  return 0;
}

bool Tracer::read(std::uint64_t address, std::uint8_t* to, std::size_t count) const {
  const pid_t thread = any_stopped();
  for (std::size_t done = 0; done < count; done += sizeof(long)) {
    errno = 0;
    const long word = ::ptrace(PTRACE_PEEKDATA, thread, address + done, nullptr);
    if (errno != 0) return false;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(&word), std::min(sizeof word, count - done),
                to + done);
  }
  return true;
}

bool Tracer::write_byte(std::uint64_t address, std::uint8_t value) const {
  const pid_t thread = any_stopped();
  errno = 0;
  long word = ::ptrace(PTRACE_PEEKDATA, thread, address, nullptr);
  if (errno != 0) return false;
  word = (word & ~0xffL) | value;
  return ::ptrace(PTRACE_POKEDATA, thread, address, word) == 0;
}

}  // namespace aios::fault
