// How a process of AIOS is confined: its profile, the protections there are, and the word in which
// it tells its peers and the kernel which of them it really has.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace aios::proto::sandbox {

/// What a process is, which says what it may still do once it is locked in. Chosen by who spawns
/// it. All but `open` run in namespaces of their own where the host allows it.
enum class Profile : std::uint32_t {
  open = 0,        ///< not locked in: for debuggers, and for tests of what a sandbox would hide
  context = 1,     ///< runs foreign code, loaded from its own private folder
  server = 2,      ///< needs no file once it is ready
  storage = 3,     ///< reads and writes one folder of the instance's
  driver = 4,      ///< looks at the host before it is ready, and at nothing afterwards
  jit = 5,         ///< a context whose backend starts compilers: reads and executes /usr
  tool = 6,        ///< a program of the user's own: as jit, and its children too
  supervisor = 7,  ///< reads the instance's logs
  streaming = 8,   ///< a mapper or reducer of Hadoop Streaming: as tool, but reaches no socket
};
inline constexpr std::array<std::string_view, 9> profile_names = {
    "open", "context", "server", "storage", "driver", "jit", "tool", "supervisor", "streaming"};
constexpr std::string_view profile_name(Profile profile) {
  return profile_names[static_cast<std::size_t>(profile)];
}
constexpr std::optional<Profile> profile_of(std::string_view name) {
  for (std::size_t i = 0; i < profile_names.size(); ++i)
    if (profile_names[i] == name) return static_cast<Profile>(i);
  return std::nullopt;
}
/// Whether it keeps the instance's user id outside of its namespaces, since it opens files of the
/// instance's. All others are nobody there when the instance is root.
constexpr bool keeps_user(Profile profile) {
  return profile == Profile::open || profile == Profile::storage || profile == Profile::supervisor;
}

/// Each can be missing on some host. The order is the one in which they are listed; a number never
/// changes its meaning.
enum class Protection : std::uint32_t {
  namespaces = 0,  ///< user, pid, mount, network, ipc and uts namespaces of its own
  empty_root = 1,  ///< a root folder of its own with nothing in it but what the profile names
  no_new_privileges = 2,   ///< no program it executes gains rights
  no_capabilities = 3,     ///< none in any set, so none over its own namespaces either
  no_user_namespaces = 4,  ///< it cannot make itself a namespace in which it has capabilities
  landlock = 5,            ///< no file by any path but what the profile names
  landlock_scope = 6,      ///< no signal to, and no abstract socket of, a process outside
  limits = 7,              ///< of descriptors, file sizes, threads, locked memory, priorities
  syscall_filter = 8,      ///< no system call but those that the profile needs
  oom_order = 9,           ///< when memory runs out Linux ends it before the kernel of AIOS
};
inline constexpr std::array<std::string_view, 10> protection_names = {
    "namespaces",         "empty-root", "no-new-privileges", "no-capabilities",
    "no-user-namespaces", "landlock",   "landlock-scope",    "limits",
    "syscall-filter",     "oom-order"};
inline constexpr std::uint32_t all_protections = (1u << protection_names.size()) - 1;
constexpr std::uint32_t bit(Protection protection) {
  return 1u << static_cast<std::uint32_t>(protection);
}
constexpr std::optional<Protection> protection_of(std::string_view name) {
  for (std::size_t i = 0; i < protection_names.size(); ++i)
    if (protection_names[i] == name) return static_cast<Protection>(i);
  return std::nullopt;
}

/// What `StatusPage::sandbox` says; 0: not locked in, or not yet.
struct Confined {
  Profile profile = Profile::open;
  std::uint32_t enforced = 0;  ///< a bit for each Protection
  std::uint32_t landlock_abi = 0;

  constexpr std::uint64_t word() const {
    return std::uint64_t{1} << 63 | std::uint64_t{landlock_abi & 0xff} << 40 |
           std::uint64_t{static_cast<std::uint32_t>(profile) & 0xff} << 32 | enforced;
  }
  /// Nothing for 0 and for nonsense: the word is written by the process itself.
  static constexpr std::optional<Confined> from(std::uint64_t word) {
    const Confined read{static_cast<Profile>(word >> 32 & 0xff), static_cast<std::uint32_t>(word),
                        static_cast<std::uint32_t>(word >> 40 & 0xff)};
    const bool known = static_cast<std::size_t>(read.profile) < profile_names.size() &&
                       (read.enforced & ~all_protections) == 0 && word == read.word();
    return known ? std::optional(read) : std::nullopt;
  }
};

}  // namespace aios::proto::sandbox
