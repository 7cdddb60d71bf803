// Which contexts a driver has started, for whom, and how each one's predecessor ended. Knows
// handles only as numbers.
//
// A context's process and port are kept in the driver's job under two labels that carry all that a
// successor of the driver needs, so that contexts outlive the driver. A context that has ended
// stays in the table, with its handles, until its tenant gets another one or its place is needed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/device/context_end.hpp"

namespace aios::device {

using proto::kernel::Handle;

/// Of one driver: a digit of a label.
inline constexpr std::size_t max_devices = 16;
/// Two labels each of the 96 that a job may keep, and two for the process that owns its memory,
/// with room for those being replaced.
inline constexpr std::size_t max_contexts = 20;
/// Of the jobs of one user, so that nobody takes a device from all others.
inline constexpr std::size_t max_contexts_per_user = 16;

enum class KeptPart : char { process = 'p', port = 'a', owner_process = 'm', owner_port = 'n' };

/// A tenant has one context on each device.
struct ContextKey {
  std::uint32_t device = 0;  ///< of this driver
  std::uint64_t tenant_job_id = 0;
  auto operator<=>(const ContextKey&) const = default;
};

/// "c-p:DEVICE:JOB:GENERATION", all hexadecimal; the longest is as long as a label may be. An owner
/// of memory is of generation 0: it serves all.
std::string kept_label(KeptPart part, ContextKey key, std::uint32_t generation);

struct Context {
  ContextKey key;
  std::uint32_t generation = 1;
  /// Of the user whose job it is; of an adopted one known when he asks again.
  std::optional<std::uint32_t> uid{};
  Handle process = 0;
  Handle port = 0;
  std::uint64_t process_id = 0;
  std::uint64_t asked_ns = 0;  ///< when it was last asked for; 0: not of this driver
  bool alive = true;
  End end;       ///< how it ended; valid when not alive
  End previous;  ///< how its predecessor ended
};

struct KeptHandle {
  std::string label;
  Handle handle;
};

/// The process that owns device memory for a tenant's contexts, and where they connect to it.
struct KeptOwner {
  ContextKey key;
  Handle process = 0;
  Handle port = 0;
};

struct Adoption {
  std::vector<Context> contexts;    ///< process_id and alive are still to be found out
  std::vector<KeptOwner> owners;    ///< whether they are alive, too
  std::vector<KeptHandle> useless;  ///< to be forgotten and closed
};

/// Pairs what a former driver kept: of each job the latest generation of which both parts are
/// there. Labels of another form are left alone.
Adoption plan_adoption(const std::vector<KeptHandle>& kept);

class ContextTable {
 public:
  Context* find(ContextKey key);
  Context* find_process(Handle process);

  /// quota: max_contexts_per_user of this user's are alive.
  Result<void> may_have_another(std::uint32_t uid) const;
  /// Makes room for one more context. When only an ended one's place is free, that one is taken out
  /// and returned, for its handles to be closed. quota: max_contexts are alive.
  Result<std::optional<Context>> make_room();
  /// There must be room, and none of this tenant.
  Context& insert(Context context);
  void ended(Context& context, End end);
  std::optional<Context> remove(ContextKey key);

  /// Those that are alive, of this user if one is named.
  std::vector<ContextKey> living(std::optional<std::uint32_t> uid) const;

  /// On one device; restarts are those of this driver and former ones.
  std::uint32_t alive(std::uint32_t device) const;
  std::uint32_t restarts(std::uint32_t device) const;
  /// That ended by a fault or a limit since this driver started.
  std::uint32_t faults(std::uint32_t device) const;

 private:
  std::map<ContextKey, Context> contexts_;
  std::vector<ContextKey> ended_;  // contexts that have ended, the longest ago first
  std::map<std::uint32_t, std::uint32_t> restarts_;  // by device: of a second or later generation
  std::map<std::uint32_t, std::uint32_t> faults_;    // by device
};

}  // namespace aios::device
