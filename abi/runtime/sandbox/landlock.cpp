#include "abi/runtime/sandbox/landlock.hpp"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "abi/runtime/fd.hpp"

namespace aios::sandbox {

namespace {

// What headers of Debian 12 may lack; the numbers are Linux's interface.
constexpr std::uint64_t access_refer = 1ull << 13;     // ABI 2
constexpr std::uint64_t access_truncate = 1ull << 14;  // ABI 3
constexpr std::uint64_t access_ioctl = 1ull << 15;     // ABI 5
constexpr std::uint64_t tcp_bind_and_connect = 3;      // ABI 4
constexpr std::uint64_t scope_abstract_unix = 1;       // ABI 6
constexpr std::uint64_t scope_signal = 2;              // ABI 6

/// Linux takes a shorter one, or zeros after what it knows.
struct RulesetAttributes {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;
  std::uint64_t scoped;
};

constexpr std::uint64_t of_a_file = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                    LANDLOCK_ACCESS_FS_READ_FILE | access_truncate | access_ioctl;

std::uint64_t known_access(long abi) {
  std::uint64_t known = access_refer - 1;  // all of ABI 1
  if (abi >= 2) known |= access_refer;
  if (abi >= 3) known |= access_truncate;
  if (abi >= 5) known |= access_ioctl;
  return known;
}

std::uint64_t rights_of(Access access) {
  constexpr std::uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
  switch (access) {
    case Access::read:
      return reading;
    case Access::execute:
      return reading | LANDLOCK_ACCESS_FS_EXECUTE;
    case Access::device:
      return reading | LANDLOCK_ACCESS_FS_WRITE_FILE | access_ioctl;
    case Access::write:
      break;
  }
  return reading | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
         LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
         LANDLOCK_ACCESS_FS_REMOVE_DIR | access_refer | access_truncate;
}

bool allow(const Fd& ruleset, const std::string& path, std::uint64_t rights) {
  const Fd folder(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat info {};
  if (!folder.valid() || ::fstat(folder.get(), &info) != 0) return errno == ENOENT;
  if (!S_ISDIR(info.st_mode)) rights &= of_a_file;
  const landlock_path_beneath_attr rule{.allowed_access = rights, .parent_fd = folder.get()};
  return ::syscall(SYS_landlock_add_rule, ruleset.get(), LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

}  // namespace

LandlockOutcome restrict_by_landlock(const Rules& rules, bool files, bool scopes) {
  LandlockOutcome out;
  const long abi =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1) {
    out.files_reason = errno == EOPNOTSUPP ? "switched off when this host booted"
                                           : "this host's kernel has no Landlock";
    out.scopes_reason = out.files_reason;
    return out;
  }
  out.abi = static_cast<std::uint32_t>(abi);
  if (abi < 6)
    out.scopes_reason = "Landlock of this host's kernel has ABI " + std::to_string(abi) +
                        "; it takes 6 (Linux 6.12)";
  scopes = scopes && abi >= 6;
  const std::uint64_t handled = files ? known_access(abi) : 0;
  const RulesetAttributes attributes{handled, files && abi >= 4 ? tcp_bind_and_connect : 0,
                                     scopes ? scope_abstract_unix | scope_signal : 0};
  if (!files && !scopes) return out;
  const std::size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  bool done = ruleset.valid();
  if (files)
    for (const Folder& folder : rules.folders)
      done = done && allow(ruleset, folder.path, rights_of(folder.access) & handled);
  // The folder of the process itself. Threads are named by writing there, as to a file that is made
  // anew.
  if (files && rules.devices)
    done = done && allow(ruleset, "/proc/self", rights_of(Access::read) & handled) &&
           allow(ruleset, "/proc/self/task",
                 (rights_of(Access::read) | LANDLOCK_ACCESS_FS_WRITE_FILE | access_truncate) &
                     handled);
  // Only in a root of its own: at the same path of the host others have their files.
  if (files && !rules.private_folder.empty())
    done = done &&
           allow(ruleset, rules.private_folder,
                 (rights_of(Access::write) | (rules.programs ? LANDLOCK_ACCESS_FS_EXECUTE : 0)) &
                     handled);
  done = done && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) == 0;
  if (!done) out.files_reason = out.scopes_reason = std::strerror(errno);
  out.files = done && files;
  out.scopes = done && scopes;
  return out;
}

}  // namespace aios::sandbox
