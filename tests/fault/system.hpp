// The instance under test, as the campaign sees it: which process is which server, whether one
// lives, when it serves again, and what the instance holds.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "abi/runtime/client.hpp"
#include "tests/fault/disturbances.hpp"
#include "tests/fault/worker.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::fault {

/// Servers that only the bait calls, whose code may be changed. The others may not notice.
inline constexpr std::array<std::string_view, 4> bait_servers = {"m-storage", "m-scheduler",
                                                                 "m-mapreduce", "m-echo"};
inline constexpr std::uint32_t server_count = 5 + bait_servers.size();
/// The job in which the bait has contexts of its own.
inline constexpr std::string_view bait_job = "bait";

/// How a server came to an end, as far as the campaign caused it.
struct Target {
  std::string name;
  pid_t pid = 0;
  Fd pidfd;
  bool alive() const;
  /// Whether it ended in time.
  bool await_end(Deadline deadline) const;
};
Result<Target> target_of(const std::string& name, pid_t pid);

class System {
 public:
  /// Boots it below $TMPDIR. `backend` is storage's: "", "io_uring" or "threads".
  static Result<std::unique_ptr<System>> boot(const std::string& backend);
  ~System();

  test::TestInstance& instance() { return *instance_; }
  /// The process that is this server now; not_found while there is none.
  Result<Target> server(std::string_view name);
  /// A context of the checked workload, or of the bait; not_found: there is none now.
  Result<Target> context(bool of_bait, std::uint64_t pick);

  /// Waits until `name` answers a null call, which it must within `deadline`: the moment.
  Result<std::uint64_t> await_serving(const std::string& name, Deadline deadline);
  /// From now on the process that is this server now is the one that has to live.
  Result<void> note(std::string_view name);
  /// Notes all of them.
  Result<void> note_all();
  /// A server of the checked part that ended although nobody harmed it, if there is one. `harmed`:
  /// parts that may be away.
  std::optional<Part> unexpected_end(Parts harmed);
  /// How the last process of this server ended, in the supervisor's words.
  Result<std::string> last_end(std::string_view name);
  bool kernel_lives() const;

  /// Storage whose code was changed may have spoilt its files beyond its own repair: the next
  /// process begins anew.
  void forget_bait_storage();
  /// Has a server whose code was changed started anew, as an operator would: also one that the
  /// supervisor has given up. Storage begins with an empty folder.
  Result<void> renew_bait(const std::string& name);

  /// Lets go of what it holds of the instance but the operator's connection.
  void forget_clients();

 private:
  System() = default;
  Result<std::vector<proto::kernel::ProcessRecord>> processes_of(test::Visitor& visitor,
                                                                 Handle job);

  std::string bait_folder_;
  std::unique_ptr<test::TestInstance> instance_;
  std::unique_ptr<test::Visitor> prober_;
  std::unique_ptr<test::Visitor> bait_watch_;
  std::map<std::string, std::unique_ptr<Client>> clients_;
  std::map<std::string, pid_t, std::less<>> noted_;
};

/// What an instance holds while nobody uses it; more afterwards is a leak.
struct Holding {
  std::uint64_t processes = 0;
  std::uint64_t links = 0;
  std::uint64_t regions = 0;
  std::uint64_t region_bytes = 0;
  std::uint64_t kernel_descriptors = 0;
  bool operator==(const Holding&) const = default;
};
Result<Holding> holding_of(test::TestInstance& instance);
/// Every link as "client > server", for messages.
std::string links_of(test::TestInstance& instance);
/// "regions 12, at most 10" for each that is too much.
std::string excess_of(const Holding& now, const Holding& before);

}  // namespace aios::fault
