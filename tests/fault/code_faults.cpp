// Faults by ptrace: changed code, changed registers, and a flush of the disk that takes its time.
//
// Where code is changed is where it is about to be executed: at an address to which a call on some
// thread's stack will return, which is the begin of an instruction. A breakpoint there tells when a
// thread comes by; from it the thread goes in single steps until the changed byte was part of an
// instruction that was executed, or is left behind. Only the former counts.
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <sstream>

#include "tests/fault/injector.hpp"
#include "tests/fault/tracer.hpp"

namespace aios::fault {

namespace {

constexpr std::uint8_t breakpoint = 0xcc;
constexpr std::uint64_t reach_ns = 15 * ns_per_ms;
constexpr int max_steps = 24;
constexpr std::uint64_t max_instruction_bytes = 15;
constexpr std::uint64_t max_offset = 12;

struct Range {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool has(std::uint64_t address) const { return address >= begin && address < end; }
};

/// The code of the program itself: libraries are everybody's in the page cache, but a change by
/// ptrace is private anyway; ours is what the campaign is about.
Range code_of(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" r-xp ") == std::string::npos || line.find("/aios-") == std::string::npos)
      continue;
    Range range;
    char dash = 0;
    std::istringstream(line) >> std::hex >> range.begin >> dash >> range.end;
    return range;
  }
  return {};
}

/// A call ends right before a return address: E8 with 4 bytes, or FF with 2 to 7 in all.
bool follows_call(const std::uint8_t* before) {
  if (before[8 - 5] == 0xe8) return true;
  for (const int length : {2, 3, 4, 6, 7})
    if (before[8 - length] == 0xff && (before[9 - length] & 0x38) == 0x10) return true;
  return false;
}

/// Addresses in the program's code to which calls of this thread will return, innermost first.
std::vector<std::uint64_t> return_addresses(const Tracer& tracer, pid_t thread, Range code) {
  std::vector<std::uint64_t> found;
  const auto registers = tracer.registers(thread);
  if (!registers) return found;
  constexpr std::size_t words = 256;
  constexpr std::size_t enough = 12;
  for (std::size_t i = 0; i < words && found.size() < enough; ++i) {
    std::uint64_t word = 0;
    if (!tracer.read(registers->rsp + i * 8, reinterpret_cast<std::uint8_t*>(&word), 8)) break;
    std::uint8_t before[8];
    if (code.has(word) && code.has(word - 8) && tracer.read(word - 8, before, 8) &&
        follows_call(before))
      found.push_back(word);
  }
  return found;
}

/// Steps from a breakpoint until the byte at `changed` was executed; whether it was.
bool step_over(Tracer& tracer, pid_t thread, std::uint64_t changed) {
  for (int i = 0; i < max_steps; ++i) {
    const auto before = tracer.registers(thread);
    if (!before) return false;
    const std::uint64_t at = before->rip;
    if (at > changed || changed - at >= max_offset + max_instruction_bytes) return false;
    tracer.resume(thread, Tracer::How::one_step);
    const auto stop = tracer.wait(Deadline::after(reach_ns), thread);
    const bool near = changed - at < max_instruction_bytes;
    // It ended at once, or with a fault of the instruction itself.
    if (!stop) return near && tracer.ended();
    if (stop->signal_number != SIGTRAP) {
      tracer.pass_on(thread, stop->signal_number);
      return near;
    }
    const auto after = tracer.registers(thread);
    if (!after) return false;
    const std::uint64_t length = after->rip - at;
    if (length != 0 && length <= max_instruction_bytes) {
      if (changed - at < length) return true;
    } else {
      // It jumped: its length is not known, but two bytes it has.
      return changed - at < 2;
    }
  }
  return false;
}

/// Waits for a thread at the breakpoint; others' stops are passed on.
std::optional<pid_t> reach(Tracer& tracer, std::uint64_t address) {
  const Deadline end = Deadline::after(reach_ns);
  while (const auto stop = tracer.wait(end)) {
    const auto registers = tracer.registers(stop->thread);
    if (stop->signal_number == SIGTRAP && !stop->interrupted && registers &&
        registers->rip == address + 1) {
      user_regs_struct back = *registers;
      back.rip = address;
      tracer.set_registers(stop->thread, back);
      return stop->thread;
    }
    tracer.resume(stop->thread);
  }
  return std::nullopt;
}

/// Threads that stopped at the breakpoint and were not looked at must not go on behind its byte.
void step_back(Tracer& tracer, std::uint64_t address) {
  tracer.stop_all();
  while (const auto stop = tracer.wait({1})) {
    const auto registers = tracer.registers(stop->thread);
    if (!registers || stop->signal_number != SIGTRAP || registers->rip != address + 1) continue;
    user_regs_struct back = *registers;
    back.rip = address;
    tracer.set_registers(stop->thread, back);
  }
}

}  // namespace

Outcome mutate_code(Scene& scene, const Target& target) {
  auto tracer = Tracer::seize(target.pid);
  if (!tracer) return Outcome::none;
  const Range code = code_of(target.pid);
  const auto threads = tracer->threads();
  const auto places = return_addresses(*tracer, threads[scene.below(threads.size())], code);
  if (places.empty()) return Outcome::none;
  const std::uint64_t place = places[scene.below(places.size())];
  const std::uint64_t changed = place + scene.below(max_offset);
  std::uint8_t original = 0;
  if (!tracer->read(changed, &original, 1)) return Outcome::none;
  const auto mask = static_cast<std::uint8_t>(1u << scene.below(8));
  const std::uint8_t other =
      scene.below(2) == 0 ? original ^ mask : static_cast<std::uint8_t>(scene.random());
  if (other == original || other == breakpoint) return Outcome::none;
  tracer->write_byte(changed, other);
  std::uint8_t first = 0;
  tracer->read(place, &first, 1);
  tracer->write_byte(place, breakpoint);
  tracer->resume_all();
  const auto thread = reach(*tracer, place);
  step_back(*tracer, place);
  if (tracer->ended()) return Outcome::injected;
  tracer->write_byte(place, first);
  if (thread && step_over(*tracer, *thread, changed)) return Outcome::activated;
  tracer->stop_all();
  if (!tracer->ended()) tracer->write_byte(changed, original);
  return Outcome::injected;
}

Outcome mutate_registers(Scene& scene, const Target& target) {
  auto tracer = Tracer::seize(target.pid);
  if (!tracer) return Outcome::none;
  const auto threads = tracer->threads();
  const pid_t thread = threads[scene.below(threads.size())];
  const auto before = tracer->registers(thread);
  if (!before) return Outcome::none;
  user_regs_struct changed = *before;
  using Register = unsigned long long user_regs_struct::*;
  // In a system call the others are void, or given back by Linux.
  static constexpr Register kept[] = {&user_regs_struct::rbx, &user_regs_struct::rbp,
                                      &user_regs_struct::rsp, &user_regs_struct::r12,
                                      &user_regs_struct::r13, &user_regs_struct::r14,
                                      &user_regs_struct::r15};
  static constexpr Register running[] = {
      &user_regs_struct::rax, &user_regs_struct::rcx, &user_regs_struct::rdx,
      &user_regs_struct::rsi, &user_regs_struct::rdi, &user_regs_struct::r8,
      &user_regs_struct::r9,  &user_regs_struct::r10, &user_regs_struct::rip};
  const bool in_call = static_cast<long long>(before->orig_rax) >= 0;
  const std::uint64_t pick = scene.below(std::size(kept) + (in_call ? 0 : std::size(running)));
  const Register which = pick < std::size(kept) ? kept[pick] : running[pick - std::size(kept)];
  changed.*which ^= 1ull << scene.below(which == &user_regs_struct::rip ? 16 : 64);
  tracer->set_registers(thread, changed);
  for (const pid_t other : threads)
    if (other != thread) tracer->resume(other);
  tracer->resume(thread, Tracer::How::one_step);
  const auto stop = tracer->wait(Deadline::after(reach_ns), thread);
  if (stop && !stop->interrupted) {
    if (stop->signal_number != SIGTRAP) tracer->pass_on(thread, stop->signal_number);
    return Outcome::activated;
  }
  if (tracer->ended()) return Outcome::activated;
  // It still sleeps in its system call: as if nothing had been.
  tracer->stop_all();
  if (auto now = tracer->registers(thread)) {
    (*now).*which = (*before).*which;
    tracer->set_registers(thread, *now);
  }
  return Outcome::injected;
}

namespace {

/// One flush as storage asked for it.
struct Flush {
  std::uint64_t begin_ns;
  std::uint64_t end_ns;
  bool of_data;
};

bool is_flush(std::uint64_t number) {
  return number == SYS_fsync || number == SYS_fdatasync;
}

/// Watches every system call of storage for a while, and holds the second flush that it sees.
class FlushWatch {
 public:
  FlushWatch(Scene& scene, Tracer& tracer, pid_t pid) : scene_(scene), tracer_(tracer), pid_(pid) {}

  void run(std::uint64_t duration_ns, std::uint64_t hold_ns) {
    tracer_.resume_all(Tracer::How::to_system_call);
    const Deadline end = Deadline::after(duration_ns);
    while (const auto stop = tracer_.wait(held_ != 0 ? std::min(release_, end, earlier) : end)) {
      if (stop->signal_number == (SIGTRAP | 0x80) && on_system_call(stop->thread, hold_ns))
        continue;
      tracer_.resume(stop->thread, Tracer::How::to_system_call);
      release_if_due();
    }
    while (held_ != 0 && !tracer_.ended()) {
      ::usleep(100);
      release_if_due();
    }
    finish_open(Deadline::after(ns_per_s));
  }

  const std::vector<Flush>& flushes() const { return flushes_; }
  /// A flush was held.
  bool held() const { return hold_end_ns_ != 0; }
  /// Somebody's call was under way when it was let go.
  bool waited() const { return waited_; }

 private:
  static bool earlier(const Deadline& a, const Deadline& b) { return a.at_ns < b.at_ns; }

  /// True when the thread is not to go on now.
  bool on_system_call(pid_t thread, std::uint64_t hold_ns) {
    __ptrace_syscall_info info{};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0) return false;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
      if (const auto open = open_.find(thread); open != open_.end()) {
        flushes_.push_back({open->second.begin_ns, now_ns(), open->second.of_data});
        open_.erase(open);
      }
      return false;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY || !is_flush(info.entry.nr)) return false;
    char path[256] = "";
    const std::string link =
        "/proc/" + std::to_string(pid_) + "/fd/" + std::to_string(info.entry.args[0]);
    (void)!::readlink(link.c_str(), path, sizeof path - 1);
    open_[thread] = {now_ns(), 0, std::strstr(path, "data-") != nullptr};
    if (++seen_ != 2) return false;
    held_ = thread;
    release_ = Deadline::after(hold_ns);
    return true;
  }

  void release_if_due() {
    if (held_ == 0 || !release_.passed()) return;
    hold_end_ns_ = now_ns();
    waited_ = !scene_.pending(bit(Part::storage)).empty();
    tracer_.resume(std::exchange(held_, 0), Tracer::How::to_system_call);
  }

  /// A flush that is under way at the end is waited for.
  void finish_open(Deadline end) {
    while (!open_.empty()) {
      const auto stop = tracer_.wait(end);
      if (!stop) return;
      if (stop->signal_number == (SIGTRAP | 0x80)) (void)on_system_call(stop->thread, 0);
      tracer_.resume(stop->thread, Tracer::How::to_system_call);
    }
  }

  Scene& scene_;
  Tracer& tracer_;
  pid_t pid_;
  std::map<pid_t, Flush> open_;
  std::vector<Flush> flushes_;
  unsigned seen_ = 0;
  pid_t held_ = 0;
  Deadline release_ = Deadline::never();
  std::uint64_t hold_end_ns_ = 0;
  bool waited_ = false;
};

}  // namespace

/// Storage's flushes are seen as it asks Linux for them, and one is held for a while, as by a slow
/// disk. Every change that was asked for and acknowledged meanwhile needs a flush of the metadata
/// within that time, and one of the data file where it has data there. This sees what no kill can:
/// a kill leaves the page cache as it is.
Outcome stall_flush(Scene& scene) {
  const auto target = scene.system.server(name_of(Part::storage));
  if (!target) return Outcome::none;
  const Disturbance disturbance(scene.ground.disturbances, bit(Part::storage), 0);
  std::vector<Flush> flushes;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool held = false;
  bool waited = false;
  {
    auto tracer = Tracer::seize(target->pid);
    if (!tracer) return Outcome::none;
    FlushWatch watch(scene, *tracer, target->pid);
    begin = now_ns();
    watch.run(40 * ns_per_ms, 5 * ns_per_ms + scene.below(15 * ns_per_ms));
    end = now_ns();
    flushes = watch.flushes();
    held = watch.held();
    waited = watch.waited();
  }
  for (const auto& worker : scene.workers)
    for (const auto& change : worker->acknowledged_since(begin)) {
      if (change.end_ns > end) continue;
      const auto within = [&](bool of_data) {
        return std::ranges::any_of(flushes, [&](const Flush& flush) {
          return flush.of_data == of_data && flush.begin_ns >= change.begin_ns &&
                 flush.end_ns <= change.end_ns;
        });
      };
      const bool in_data_file = scene.flushes_visible && change.size_bytes > 16u << 10;
      if (!within(false) || (in_data_file && !within(true)))
        scene.breach(worker->name() + ": a change was acknowledged before it was flushed: asked " +
                     std::to_string((change.begin_ns - begin) / ns_per_us) + " us and answered " +
                     std::to_string((change.end_ns - begin) / ns_per_us) +
                     " us after storage was watched, and no flush of the " +
                     (within(false) ? "data" : "metadata") + " in between");
    }
  if (!held) return Outcome::none;
  return waited ? Outcome::activated : Outcome::injected;
}

}  // namespace aios::fault
