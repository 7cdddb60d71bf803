// One fault after the other. An injector harms, waits until what it harmed serves again (or leaves
// that to `poll`), and says what became of it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/fault/faults.hpp"
#include "tests/fault/system.hpp"

namespace aios::fault {

struct Count {
  std::uint64_t injected = 0;
  std::uint64_t activated = 0;
  std::uint64_t tries = 0;
  std::uint64_t spent_ns = 0;  ///< by the campaign, over all tries
};

/// What came of one try.
enum class Outcome {
  none,       ///< there was nothing to harm
  injected,   ///< done, but nothing met it
  activated,  ///< see faults.hpp
};

struct Scene {
  System& system;
  Ground& ground;
  std::vector<std::unique_ptr<Worker>>& workers;
  std::mt19937_64& random;
  std::string peer;      ///< tests/hostile's program
  bool small_disk;       ///< the instance's folder has a file system of its own, to be filled
  bool flushes_visible;  ///< storage flushes its data by system calls, not through io_uring
  /// Links with nonsense in them that nobody has looked at yet, by inode.
  std::vector<std::pair<std::uint64_t, std::unique_ptr<Disturbance>>> latent = {};

  std::uint64_t below(std::uint64_t n) { return random() % n; }
  /// Numbers of calls under way, one for each worker that has one.
  std::vector<std::pair<Worker*, std::uint64_t>> pending(Parts which) const;
  /// Waits a little until there is one; empty when there is none.
  std::vector<std::pair<Worker*, std::uint64_t>> await_pending(Parts which) const;
  /// Whether one of `calls` is still under way.
  static bool still(const std::vector<std::pair<Worker*, std::uint64_t>>& calls, Parts which);
  void breach(const std::string& what) const { ground.breaches.add(what); }
};

/// Kill to serving again, for each server; "NAME, at rest": when nothing else went on.
using RecoveryTimes = std::map<std::string, std::vector<std::uint64_t>>;

/// Server that hangs until the supervisor ends it.
struct Hang {
  Part part;
  Target target;
  std::unique_ptr<Disturbance> disturbance;
  bool pending;
  std::uint64_t began_ns;
};

class Injector {
 public:
  explicit Injector(Scene& scene) : scene_(scene) {}

  /// Tries one fault of this kind.
  void inject(Kind kind);
  /// Looks after hangs that are under way. `finish`: waits for them.
  void poll(bool finish);
  /// Kills it `times` times while nothing else goes on, for the recovery times alone.
  void kill_at_rest(Part part, unsigned times);
  /// Parts that may be away now.
  Parts harmed() const;

  const std::array<Count, kind_count>& counts() const { return counts_; }
  const RecoveryTimes& recovery() const { return recovery_; }
  std::uint64_t activated() const;

 private:
  Outcome kill_server(Part part, int signal_number);
  Outcome abort_server();
  Outcome kill_supervisor();
  Outcome kill_context();
  Outcome pause_server();
  Outcome pause_context();
  Outcome hang_server();
  Outcome hostile_peer();
  Outcome mutate(Kind kind);
  void recovered(Part part, std::uint64_t since_ns, const char* when = "");
  Part any_server();
  Outcome pause(Target target, Parts which);
  void count(Kind kind, Outcome outcome);

  Scene& scene_;
  std::array<Count, kind_count> counts_{};
  RecoveryTimes recovery_;
  std::vector<Hang> hangs_;
  std::vector<std::uint64_t> supervisor_kills_ns_;
};

// Of other files.
Outcome corrupt_ring(Scene& scene, bool replies);
Outcome corrupt_region(Scene& scene);
/// `target` is left as it is when the fault did not reach it.
Outcome mutate_code(Scene& scene, const Target& target);
Outcome mutate_registers(Scene& scene, const Target& target);
Outcome stall_flush(Scene& scene);
Outcome exhaust_descriptors(Scene& scene, Parts harmed);
Outcome exhaust_memory(Scene& scene, Part part, RecoveryTimes& recovery);
Outcome exhaust_region_quota(Scene& scene);
Outcome exhaust_handles(Scene& scene);
Outcome exhaust_links(Scene& scene);
Outcome exhaust_contexts(Scene& scene);
Outcome fill_disk(Scene& scene);

}  // namespace aios::fault
