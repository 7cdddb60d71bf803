// The supervisor's protocol, for operators.
#pragma once

#include "abi/proto/kernel.hpp"
#include "abi/proto/wire.hpp"

namespace aios::proto::supervisor {

enum class ServerState : std::uint32_t {
  waiting = 0,   ///< for what it depends on
  starting = 1,  ///< spawned; has not answered yet
  running = 2,
  stopping = 3,
  stopped = 4,
  failed = 5,       ///< ended before it ever answered: its configuration is at fault
  quarantined = 6,  ///< ended more often than the manifest allows; its port is down
};

/// Server `index` of the manifest, in start order.
struct Server {
  static constexpr std::uint16_t opcode = 1;
  static constexpr const char* name = "server";
  static constexpr bool idempotent = true;
  struct Request {
    std::uint64_t index;
    AIOS_FIELDS(Request, index)
  };
  struct Reply {
    std::uint32_t count;
    std::uint32_t state;
    std::uint32_t restarts;
    std::uint32_t missed_heartbeats;
    std::uint64_t pid;
    std::uint64_t process_id;
    std::uint64_t epoch;
    std::uint64_t started_ns;
    std::uint64_t heartbeat_ns;  ///< the last null call took this long
    kernel::Name server;
    Text<96> last_end;     ///< "killed by signal 9", empty when it never ended
    Text<160> last_words;  ///< the last line that the life which ended last wrote to its log
    AIOS_FIELDS(Reply, count, state, restarts, missed_heartbeats, pid, process_id, epoch,
                started_ns, heartbeat_ns, server, last_end, last_words)
  };
};

enum class CrashHow : std::uint32_t { kill = 0, abort = 1, hang = 2 };

/// Harms a server on purpose: SIGKILL, SIGABRT or SIGSTOP. Only for operators.
/// not_found; busy when it is not running.
struct Crash {
  static constexpr std::uint16_t opcode = 2;
  static constexpr const char* name = "crash";
  struct Request {
    kernel::Name server;
    std::uint32_t how;
    std::uint32_t reserved;
    AIOS_FIELDS(Request, server, how, reserved)
  };
  struct Reply {
    std::uint64_t pid;
    AIOS_FIELDS(Reply, pid)
  };
};

/// Answered when every server of the manifest runs and has answered a null call; with io_error and
/// the reason when one has failed or is in quarantine.
struct WaitRunning {
  static constexpr std::uint16_t opcode = 3;
  static constexpr const char* name = "wait_running";
  static constexpr bool idempotent = true;
  using Request = Empty;
  using Reply = Empty;
};

/// Ends a server in order and starts it again; one that has failed or is in quarantine is started.
/// Earlier ends no longer count. Answered when the next life has answered; with io_error and the
/// reason when it is given up. Only for operators. not_found; busy during a shutdown.
struct Restart {
  static constexpr std::uint16_t opcode = 4;
  static constexpr const char* name = "restart";
  struct Request {
    kernel::Name server;
    AIOS_FIELDS(Request, server)
  };
  struct Reply {
    std::uint64_t pid;
    AIOS_FIELDS(Reply, pid)
  };
};

struct Protocol {
  static constexpr const char* name = "supervisor";
  static constexpr std::uint16_t version = 2;
  using Methods = MethodList<Null, Server, Crash, WaitRunning, Restart>;
};
static_assert(opcodes_are_unique(Protocol::Methods{}));

}  // namespace aios::proto::supervisor
