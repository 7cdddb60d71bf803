// The manifest (aios.toml): which servers an instance has and how they hang together.
//
//   [instance]
//   heartbeat_ms = 1000          # how often every server is asked for a sign of life
//   missed_heartbeats = 3        # in a row, before a server counts as hung and is ended
//   start_timeout_ms = 10000     # how long a new server may take for its first answer
//   stop_timeout_ms = 1000       # from SIGTERM to SIGKILL
//   drain_ms = 2000              # what runs when the instance is to stop has so long to end
//   restart = { count = 10, window_ms = 60000, first_delay_ms = 50, max_delay_ms = 5000 }
//   require = ["syscall-filter"] # protections without which nothing starts; see aiosctl doctor
//
//   [users]                      # of a system instance: what each user may have
//   quota = { memory = "8G", cpus = 4, processes = 64, handles = 8192, links = 256 }
//
//   [server.NAME]
//   binary = "aios-NAME"         # required; a file of the libexec folder
//   profile = "server"           # of its sandbox; by default what its binary is made for
//   require = ["landlock"]       # in addition to those of [instance]
//   routes = ["storage"]         # servers it may call; it finds each port under that name
//   depends = ["cpu"]            # started before it, stopped after it, beyond its routes
//   arguments = ["--option"]     # after --state DIR --libexec DIR, and --crashed after a crash
//   publish = true               # programs from outside find its port when they attach
//   spawner = { binary = "aios-cpu-context", profile = "context", label = "spawner:context" }
//   quota = { memory = "512M", cpus = 0.5, processes = 8, handles = 1024, links = 256 }
//   restart = { count = 3 }      # what it says otherwise than [instance]
//
// A server is restarted at most `count` times in any `window_ms`; then it is in quarantine.
//
// Pure: it reads text and returns values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/runtime/status.hpp"

namespace aios::supervisor {

inline constexpr std::size_t max_manifest_bytes = 256 * 1024;
inline constexpr std::size_t max_servers = 16;
inline constexpr std::size_t max_server_name_bytes = 15;
inline constexpr std::size_t max_server_arguments = 9;
/// What a program can be routed to although no manifest lists it.
inline constexpr std::string_view supervisor_name = "supervisor";
/// The label under which every server finds its own port.
inline constexpr std::string_view port_label = "port";

/// When a server that ended is started again, and when no longer.
struct RestartRule {
  std::uint32_t count = 10;  ///< restarts in any `window_ns`
  std::uint64_t window_ns = 60'000'000'000;
  /// From its second end within the window on, doubling.
  std::uint64_t first_delay_ns = 50'000'000;
  std::uint64_t max_delay_ns = 5'000'000'000;
};

struct Timing {
  std::uint64_t heartbeat_ns = 1'000'000'000;
  std::uint64_t start_timeout_ns = 10'000'000'000;
  std::uint64_t stop_timeout_ns = 1'000'000'000;
  std::uint64_t drain_ns = 2'000'000'000;
  std::uint32_t missed_heartbeats = 3;
  RestartRule restart;
};

struct SpawnerSpec {
  std::string binary;
  std::string label;
  proto::kernel::Profile profile = proto::kernel::Profile::context;
};

struct ServerSpec {
  std::string name;
  std::string binary;
  std::vector<std::string> routes;
  std::vector<std::string> depends;
  std::vector<std::string> arguments;
  std::optional<SpawnerSpec> spawner;
  RestartRule restart;
  proto::kernel::Quota quota{};  ///< a zero field: only what the jobs above allow
  proto::kernel::Profile profile = proto::kernel::Profile::server;
  std::uint32_t require = 0;  ///< a bit for each sandbox::Protection, those of all servers included
  bool publish = false;
  std::uint32_t line = 0;  ///< of the manifest, for messages
};

struct Manifest {
  std::string path;  ///< for messages
  Timing timing;
  std::uint32_t require = 0;          ///< of everything, the supervisor included
  proto::kernel::Quota user_quota{};  ///< a zero field: a share of what the instance has
  std::vector<ServerSpec> servers;    ///< in the order of the file
};

/// Every key is known and of its type, every name refers to a server. invalid_argument otherwise,
/// with a message of one line: "PATH:LINE: what is wrong; what is allowed".
Result<Manifest> parse_manifest(std::string_view text, std::string_view path);

}  // namespace aios::supervisor
