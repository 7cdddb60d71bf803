#include "abi/runtime/sandbox/sandbox.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/sandbox/landlock.hpp"
#include "abi/runtime/sandbox/root.hpp"
#include "abi/runtime/sandbox/rules.hpp"
#include "abi/runtime/sandbox/syscall_filter.hpp"

namespace aios::sandbox {

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool has_sanitizer = true;
#else
constexpr bool has_sanitizer = false;
#endif

/// Sanitizers look for leaks as a debugger does, through /proc and ptrace, when a program returns
/// from main. Contexts do not: they end at once.
std::uint32_t sanitizer_needs(const Rules& rules) {
  if (!has_sanitizer) return 0;
  constexpr std::uint32_t proc = bit(Protection::empty_root) | bit(Protection::landlock);
  return bit(Protection::syscall_filter) | (rules.code ? 0 : proc);
}

Result<void> write_file(const char* path, std::string_view text) {
  const Fd file(::open(path, O_WRONLY | O_CLOEXEC));
  if (file.valid() && ::write(file.get(), text.data(), text.size()) > 0) return {};
  return errno_error(path, errno);
}

/// Lowers what is higher; lowering takes no right.
bool limit_to(__rlimit_resource resource, rlim_t value) {
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return false;
  limit.rlim_max = std::min(limit.rlim_max, value);
  limit.rlim_cur = limit.rlim_max;
  return ::setrlimit(resource, &limit) == 0;
}

Result<void> set_limits(const Rules& rules, bool own_namespaces) {
  bool done = limit_to(RLIMIT_CORE, 0) && limit_to(RLIMIT_MSGQUEUE, 0) &&
              limit_to(RLIMIT_NICE, 0) && limit_to(RLIMIT_RTPRIO, 0);
  if (rules.file_bytes != 0) done = limit_to(RLIMIT_FSIZE, rules.file_bytes) && done;
  done =
      limit_to(RLIMIT_NOFILE, rules.descriptors != 0 ? rules.descriptors : RLIM_INFINITY) && done;
  // A ring's buffers are locked memory.
  if (!rules.ring) done = limit_to(RLIMIT_MEMLOCK, 64 << 10) && done;
  // Elsewhere it would count all processes of the user.
  if (own_namespaces) done = limit_to(RLIMIT_NPROC, rules.threads) && done;
  if (!done) return errno_error("setrlimit", errno);
  return {};
}

Result<void> drop_capabilities() {
  bool bounded = true;
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability)
    bounded &= ::prctl(PR_CAPBSET_DROP, capability) == 0;
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capset, &header, none) != 0) return errno_error("capset", errno);
  // Only a process that has no capability to lose is refused here, and it gains none by exec once
  // no_new_privs is set.
  if (!bounded && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
    return error(Code::not_supported, "the bounding set could not be emptied");
  return {};
}

/// Does the steps one by one and writes down how each went.
class LockIn {
 public:
  explicit LockIn(const Plan& plan) : plan_(plan), rules_(rules_of(plan)) {
    report_.confined.profile = plan.profile;
  }

  Result<Report> run() {
    // The first process of a pid namespace was cloned with all the others as well.
    const bool own = ::getpid() == 1;
    note(Protection::namespaces, own ? Result<void>() : refused());
    step(Protection::oom_order,
         [&] { return write_file("/proc/self/oom_score_adj", rules_.oom_score); });
    step(Protection::no_new_privileges, [&]() -> Result<void> {
      if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) return {};
      return errno_error("prctl", errno);
    });
    // Without it the process could make itself a user namespace, and hold every capability in it.
    step(Protection::no_user_namespaces,
         [&] { return own ? write_file("/proc/sys/user/max_user_namespaces", "0") : refused(); });
    TRY(change_root(own));
    step(Protection::limits, [&] { return set_limits(rules_, own); });
    step(Protection::no_capabilities, drop_capabilities);
    landlock();
    // Last: what the steps above do is not allowed afterwards.
    step(Protection::syscall_filter, [&] { return filter_syscalls(rules_); });
    if (rules_.devices) try_naming();
    std::ranges::sort(report_.missing, {}, &Missing::protection);
    return std::move(report_);
  }

 private:
  static Result<void> refused() {
    return error(Code::not_supported, "this host gives it no namespaces of its own");
  }
  bool tried(Protection protection) const { return (plan_.leave_out & bit(protection)) == 0; }
  bool sanitizer_allows(Protection protection) const {
    return (sanitizer_needs(rules_) & bit(protection)) == 0;
  }
  void note(Protection protection, const Result<void>& done) {
    if (done)
      report_.confined.enforced |= bit(protection);
    else
      report_.missing.push_back({protection, done.error().message()});
  }
  template <class Step>
  void step(Protection protection, Step take) {
    if (!sanitizer_allows(protection))
      return note(protection, error(Code::not_supported, "a build with sanitizers does without"));
    if (!tried(protection)) return note(protection, error(Code::not_supported, "left out"));
    note(protection, take());
  }

  Result<void> change_root(bool own) {
    Result<void> entered = refused();
    step(Protection::empty_root, [&] { return entered = own ? enter_root(rules_) : refused(); });
    if (!entered && entered.error().code() == Code::internal) return entered;
    if ((report_.confined.enforced & bit(Protection::empty_root)) == 0) {
      rules_.private_folder.clear();
      // Which sockets there are only an own root says.
      rules_.sockets = false;
    }
    report_.private_folder = rules_.private_folder;
    return {};
  }

  /// As libraries do it. Whether it is possible rests on several of the steps.
  void try_naming() {
    const std::string name = "/proc/self/task/" + std::to_string(::gettid()) + "/comm";
    if (Fd(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)).valid()) return;
    report_.hindrance = std::string("threads cannot be named (") + std::strerror(errno) +
                        "): NVIDIA's drivers from 570 on do not start";
  }

  void landlock() {
    const bool files = tried(Protection::landlock) && sanitizer_allows(Protection::landlock);
    const LandlockOutcome done =
        restrict_by_landlock(rules_, files, tried(Protection::landlock_scope));
    report_.confined.landlock_abi = done.abi;
    const auto result = [](bool enforced, const std::string& reason) {
      return enforced ? Result<void>() : error(Code::not_supported, reason);
    };
    step(Protection::landlock, [&] { return result(done.files, done.files_reason); });
    step(Protection::landlock_scope, [&] { return result(done.scopes, done.scopes_reason); });
  }

  const Plan& plan_;
  Rules rules_;
  Report report_;
};

}  // namespace

Result<Report> lock_in(const Plan& plan) {
  Report open;
  if (plan.profile == Profile::open) return open;
  return LockIn(plan).run();
}

}  // namespace aios::sandbox
