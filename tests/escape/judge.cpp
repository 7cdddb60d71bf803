#include "tests/escape/judge.hpp"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "abi/runtime/sandbox/cage.hpp"

namespace aios::escape {

namespace {

using proto::sandbox::all_protections;
using proto::sandbox::bit;
using proto::sandbox::Protection;
using proto::sandbox::protection_names;

constexpr std::uint64_t attempt_limit_ns = 30 * ns_per_s;
constexpr int refused = 43;
constexpr int not_locked_in = 44;

constexpr Profile profiles[] = {Profile::server,    Profile::context,   Profile::storage,
                                Profile::driver,    Profile::jit,       Profile::tool,
                                Profile::streaming, Profile::supervisor};

sandbox::Plan plan_of(const Setup& setup, const std::string& own_folder) {
  const bool has_folder = setup.profile == Profile::storage || setup.profile == Profile::supervisor;
  return {.profile = setup.profile,
          .folder = has_folder ? own_folder : "",
          .folders = setup.gpu ? std::vector<sandbox::Folder>{{stand_in, sandbox::Access::device}}
                               : std::vector<sandbox::Folder>{},
          .gpu = setup.gpu,
          .leave_out = setup.leave_out};
}

std::string name_of(const Setup& setup) {
  return std::string(proto::sandbox::profile_name(setup.profile)) + (setup.gpu ? " of a GPU" : "");
}

/// Inside. What was done the exit code says, also when it is another program's by then.
int act(const Attempt& attempt, const Outside& outside, const sandbox::Plan& plan, int output) {
  if (const auto report = sandbox::lock_in(plan); !report) {
    const std::string& text = report.error().message();
    (void)!::write(output, text.data(), text.size());
    return not_locked_in;
  }
  errno = 0;
  if (attempt.run(outside)) return gained;
  const char* name = ::strerrorname_np(errno);
  (void)!::write(output, name != nullptr ? name : "0", name != nullptr ? std::strlen(name) : 1);
  return refused;
}

bool allowed(const Attempt& attempt, const Setup& setup) {
  return (attempt.allowed >> static_cast<std::uint32_t>(setup.profile) & 1) != 0 ||
         (setup.gpu && attempt.allowed_for_gpu);
}

}  // namespace

Judge::Judge(const Outside& outside, std::string own_folder)
    : outside_(outside), own_folder_(std::move(own_folder)) {
  for (const auto& group :
       {file_attempts(), process_attempts(), network_attempts(), system_attempts()})
    attempts_.insert(attempts_.end(), group.begin(), group.end());
}

Verdict Judge::attempt(const Attempt& attempt, const Setup& setup) const {
  const sandbox::Plan plan = plan_of(setup, own_folder_);
  const auto ended = sandbox::run_in_cage(
      setup.namespaces, proto::sandbox::keeps_user(setup.profile),
      [&](int output) { return act(attempt, outside_, plan, output); },
      Deadline::after(attempt_limit_ns));
  if (!ended) return {Verdict::What::broken, ended.error().to_string()};
  if (ended->signalled && ended->code == SIGSYS) return {Verdict::What::killed, "SIGSYS"};
  if (ended->signalled) return {Verdict::What::broken, "signal " + std::to_string(ended->code)};
  // A program of the host's that the attempt has become knows of nothing, and ends with 0.
  if (ended->code == gained || ended->code == 0) return {Verdict::What::done};
  if (ended->code == refused) return {Verdict::What::refused, ended->output};
  return {Verdict::What::broken, "exit code " + std::to_string(ended->code) + " " + ended->output};
}

std::uint32_t Judge::enforced(const Setup& setup) const {
  const sandbox::Plan plan = plan_of(setup, own_folder_);
  const auto ended = sandbox::run_in_cage(
      setup.namespaces, proto::sandbox::keeps_user(setup.profile),
      [&plan](int output) {
        const auto report = sandbox::lock_in(plan);
        if (!report) return not_locked_in;
        const std::uint32_t bits = report->confined.enforced;
        return ::write(output, &bits, sizeof bits) == sizeof bits ? 0 : 1;
      },
      Deadline::after(attempt_limit_ns));
  std::uint32_t bits = 0;
  if (ended && ended->code == 0 && ended->output.size() == sizeof bits)
    std::memcpy(&bits, ended->output.data(), sizeof bits);
  return bits;
}

bool Judge::possible_without(const Attempt& attempt) {
  const auto known = possible_.find(attempt.name);
  if (known != possible_.end()) return known->second;
  const Verdict verdict = this->attempt(
      attempt, {.profile = Profile::open, .namespaces = false, .leave_out = all_protections});
  return possible_[attempt.name] = verdict.what == Verdict::What::done;
}

std::uint32_t Judge::alone(const Attempt& attempt, Profile profile) {
  std::uint32_t stops = 0;
  const auto stopped = [&](bool namespaces, std::uint32_t protections) {
    return this->attempt(attempt, {profile, namespaces, all_protections & ~protections}).what !=
           Verdict::What::done;
  };
  const bool by_namespaces = stopped(true, 0);
  if (by_namespaces) stops |= bit(Protection::namespaces);
  // These two work only in namespaces.
  constexpr std::uint32_t inside =
      bit(Protection::empty_root) | bit(Protection::no_user_namespaces);
  for (std::size_t i = 1; i < protection_names.size(); ++i) {
    const std::uint32_t one = 1u << i;
    const bool needs_namespaces = (one & inside) != 0;
    if (needs_namespaces ? !by_namespaces && stopped(true, one) : stopped(false, one)) stops |= one;
  }
  return stops;
}

bool Judge::try_whole(Profile profile, bool gpu) {
  const Setup whole{.profile = profile, .gpu = gpu};
  const std::uint32_t has = enforced(whole);
  std::printf("%s: %s\n", name_of(whole).c_str(), sandbox::protection_list(has).c_str());
  if (const std::uint32_t lacks = all_protections & ~has; lacks != 0)
    std::printf("  missing on this host: %s\n", sandbox::protection_list(lacks).c_str());
  const std::size_t escaped = escaped_ + broken_;
  for (const Attempt& one : attempts_) {
    if (allowed(one, whole)) continue;
    const Verdict verdict = attempt(one, whole);
    std::string by =
        verdict.what == Verdict::What::killed ? "syscall-filter" : "refused, " + verdict.how;
    if (verdict.what == Verdict::What::done)
      by = (has & one.rests_on) == one.rests_on ? "NOT STOPPED" : "not stopped on this host";
    if (verdict.what == Verdict::What::broken) by = "BROKEN: " + verdict.how;
    escaped_ += by == "NOT STOPPED";
    broken_ += verdict.what == Verdict::What::broken;
    stopped_ += by != "NOT STOPPED" && verdict.what != Verdict::What::broken;
    if (const auto each = alone_.find(one.name); each != alone_.end() && each->second != 0)
      by += "; each alone: " + sandbox::protection_list(each->second);
    else if (!possible_without(one))
      by += "; refused to this user anyway";
    std::printf("  %-44s %s\n", one.name, by.c_str());
  }
  return escaped_ + broken_ == escaped;
}

bool Judge::try_starting(const char* name, const Setup& setup) {
  const Attempt start{"start as a GPU's library", start_as_a_gpu_library};
  const Verdict verdict = attempt(start, setup);
  if (verdict.what == Verdict::What::done) return true;
  std::printf("%s %s: a GPU's library does not start: %s\n", name_of(setup).c_str(), name,
              verdict.how.c_str());
  return false;
}

bool Judge::try_fallback(const char* name, const Setup& setup) {
  const std::uint32_t has = enforced(setup);
  bool held = true;
  for (const Attempt& one : attempts_) {
    if (allowed(one, setup)) continue;
    const Verdict verdict = attempt(one, setup);
    const bool rests = (has & one.rests_on) == one.rests_on;
    if (verdict.what != Verdict::What::broken && (verdict.what != Verdict::What::done || !rests)) {
      ++stopped_;
      continue;
    }
    ++(verdict.what == Verdict::What::broken ? broken_ : escaped_);
    held = false;
    std::printf("%s %s: %s: NOT STOPPED %s\n", name_of(setup).c_str(), name, one.name,
                verdict.how.c_str());
  }
  return held;
}

bool Judge::try_profiles(const std::string& only) {
  bool held = true;
  for (const Profile profile : profiles) {
    if (!only.empty() && only != proto::sandbox::profile_name(profile)) continue;
    for (const bool gpu : {false, true}) {
      if (gpu && profile != Profile::jit) continue;
      const Setup without_namespaces{profile, false, 0, gpu};
      const Setup older{profile, true, bit(Protection::landlock_scope), gpu};
      // Where Linux has no more than that, it is the whole sandbox once more.
      const bool is_older = enforced(older) == enforced({.profile = profile, .gpu = gpu});
      held = try_whole(profile, gpu) && held;
      held = try_fallback("without namespaces", without_namespaces) && held;
      if (!is_older) held = try_fallback("as on Linux 6.1", older) && held;
      if (!gpu) continue;
      held = try_starting("whole", {.profile = profile, .gpu = true}) && held;
      held = try_starting("without namespaces", without_namespaces) && held;
      if (!is_older) held = try_starting("as on Linux 6.1", older) && held;
    }
  }
  return held;
}

bool Judge::filter_left_out() {
  std::string names;
  for (const Attempt& one : attempts_)
    if (attempt(one, {Profile::server, true, bit(Protection::syscall_filter)}).what ==
        Verdict::What::done)
      names.append(names.empty() ? "" : ", ").append(one.name);
  std::printf("without the system call filter a server can: %s\n", names.c_str());
  return !names.empty();
}

bool Judge::show_that_attempts_are_real() {
  std::uint32_t shown = 0;
  std::size_t possible = 0;
  for (const Attempt& one : attempts_) {
    if (!possible_without(one)) continue;
    ++possible;
    shown |= alone_[one.name] = alone(one, Profile::server);
  }
  std::printf("%zu of %zu attempts succeed without a sandbox as this user\n", possible,
              attempts_.size());
  std::uint32_t expected = enforced({.profile = Profile::server});
  // It protects the kernel of AIOS from a lack of memory, not from attempts.
  expected &= ~bit(Protection::oom_order);
  // Others have no capabilities to lose, and no program of another user's to gain from.
  if (::geteuid() != 0) expected &= ~bit(Protection::no_capabilities);
  if (outside_.setuid_program.empty()) expected &= ~bit(Protection::no_new_privileges);
  const std::uint32_t idle = expected & ~shown;
  if (idle != 0)
    std::printf("stopped nothing by themselves: %s\n", sandbox::protection_list(idle).c_str());
  const bool has_filter = (expected & bit(Protection::syscall_filter)) != 0;
  return idle == 0 && (!has_filter || filter_left_out());
}

void Judge::print_sum() const {
  std::printf("%zu stopped, %zu escaped, %zu broken\n", stopped_, escaped_, broken_);
}

}  // namespace aios::escape
