// What a hostile program tries once it is locked in. Every attempt is one function that really does
// the forbidden thing, so that it succeeds where nothing forbids it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>

#include "abi/proto/sandbox.hpp"

namespace aios::escape {

using proto::sandbox::Profile;

/// What there is outside to be reached, made before anything is locked in.
struct Outside {
  std::string folder;          ///< everybody may write there; holds the file `secret`
  std::string abstract_name;   ///< of a socket that sends whoever connects the opened secret
  std::string socket_path;     ///< the same, by path
  std::uint16_t tcp_port = 0;  ///< 127.0.0.1 accepts connections there
  std::string setuid_program;  ///< a set-uid copy of the prober; empty where none could be made
  pid_t victim = 0;            ///< a process that does nothing, of the prober's user
  int kept_folder = -1;        ///< a descriptor of /, kept open by mistake
  int read_only = -1;          ///< memory that may only be read by this descriptor
};
inline constexpr const char* secret_text = "the secret of the host";
/// In the prober's and in the victim's memory, at the same address, with different contents.
extern char memory_mark[16];

/// Whether it was done; otherwise errno says why not.
using Function = bool (*)(const Outside&);

struct Attempt {
  const char* name;
  Function run;
  /// Profiles to which it is allowed, a bit for each.
  std::uint32_t allowed = 0;
  /// A protection without which nothing else would stop it: a bit, or none.
  std::uint32_t rests_on = 0;
  /// Allowed to `jit` where it opens a GPU.
  bool allowed_for_gpu = false;
};
constexpr std::uint32_t only(std::initializer_list<Profile> profiles) {
  std::uint32_t bits = 0;
  for (const Profile profile : profiles) bits |= 1u << static_cast<std::uint32_t>(profile);
  return bits;
}

std::span<const Attempt> file_attempts();
std::span<const Attempt> process_attempts();
std::span<const Attempt> network_attempts();
std::span<const Attempt> system_attempts();

/// What a GPU's library does when it starts, and cannot start without. Not an attempt: it must
/// succeed. The device is one that `stand_in` names.
bool start_as_a_gpu_library(const Outside& outside);
inline constexpr const char* stand_in = "/dev/random";

/// What the set-uid copy of the prober does: exit code `gained` when it runs as another user than
/// `--who UID` says.
inline constexpr int gained = 42;

}  // namespace aios::escape
