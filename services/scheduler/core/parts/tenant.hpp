// Who tasks belong to. A user (uid) has jobs; a job has one context per device; a tenant is one
// link's view of a job, with tags, codelets and buffers of its own. Plain data of the core.
#pragma once

#include <tsl/robin_map.h>

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <memory_resource>
#include <optional>
#include <string>
#include <vector>

#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/core/parts/brevity.hpp"
#include "services/scheduler/core/parts/fair_share.hpp"
#include "services/scheduler/core/parts/listing.hpp"
#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/core/parts/ready_queue.hpp"
#include "services/scheduler/core/parts/tag_index.hpp"

namespace aios::scheduler {

using TenantId = std::uint32_t;
using JobId = std::uint64_t;

struct User {
  std::uint32_t uid = 0;
  FairShare share;
  std::uint32_t active = 0;    ///< tenants with ready tasks
  std::int64_t served_ns = 0;  ///< what the tenant that was served last had before
  std::uint32_t jobs = 0;
  std::uint32_t tenants = 0;
  std::uint32_t pending = 0;
  std::uint32_t running = 0;  ///< slots held
  std::uint32_t buffers = 0;
  std::uint32_t finished_tags = 0;
};

enum class ContextState : std::uint8_t {
  none,
  opening,
  ready,
  stalled,  ///< it does not go on for now: it takes no tasks, and those it has hold no slots
  lost,     ///< it is ending, or has ended and nobody has said how
  closing,  ///< the tenants are gone
};

struct Context {
  ContextState state = ContextState::none;
  bool refused = false;         ///< not tried again before the next submit
  bool limit_answered = false;  ///< some task of it was ended at its time limit
  bool crash_answered = false;  ///< and some lost its device by itself
  std::uint64_t asked_ns = 0;   ///< for this one
  std::uint64_t ready_ns = 0;   ///< and when it was there; 0: not known
  std::vector<Slot> in_flight;
  std::uint32_t running = 0;  ///< of these, those that are not brief and hold a slot
  std::uint32_t wider = 0;    ///< by how many threads these are wider than a slot each
  // Of a device's own memory, by copies of its job's buffers:
  std::uint64_t resident_bytes = 0;
  std::uint64_t most_resident_bytes = 0;  ///< since it is there
  /// Of these, what it is to let go of and has not: copies of buffers that are registered no more.
  struct Going {
    std::uint32_t buffer;  ///< the number that it had
    std::uint64_t bytes;
  };
  std::vector<Going> going;
};

struct Buffer {
  TenantId owner = 0;  ///< 0: free
  std::uint32_t uses = 0;
  bool writable = false;
  std::uint64_t bytes = 0;
  Copies copies = 0;
  Copies expected = 0;  ///< besides, once those have read it that wait in the plan of `planned_in`
  std::uint64_t planned_in = 0;  ///< a decision
  std::uint32_t content = 0;     ///< proto::context::BufferUse
  std::uint32_t readers = 0;     ///< tasks that hold a slot and read it
  // Where it takes room, whether what lies there is valid or not; and where from it is to leave.
  Copies resident = 0;
  Copies leaving = 0;
  std::uint64_t last_use = 0;  ///< the number of the decision
  std::uint64_t mark = 0;      ///< scratch of core_memory.cpp
};

struct Job {
  JobId id = 0;
  std::string name;
  std::shared_ptr<const TaskNames> join_names;
  User* user = nullptr;
  std::uint32_t tenants = 0;  ///< open or closing
  std::uint32_t open_tenants = 0;
  // Of tasks, without joins:
  std::uint32_t unfinished = 0;
  std::uint64_t tasks_done = 0;
  std::uint64_t tasks_failed = 0;
  std::uint64_t busy_ns = 0;      ///< of devices' threads: the word of its own contexts
  std::vector<Context> contexts;  ///< by device
  std::vector<Buffer> buffers;
  std::vector<std::uint32_t> free_buffers;
  std::uint64_t buffer_bytes = 0;        ///< of all of them
  std::uint64_t memory_quota_bytes = 0;  ///< see Core::set_memory_quota; 0: none
};

struct CodeletType {
  std::shared_ptr<const TaskNames> names;
  std::uint32_t backends = 0;
  CodeletId costs = 0;
  double slot_ns = 0;            ///< how long its tasks hold a slot, of late
  std::uint32_t unfinished = 0;  ///< tasks
  Brevity brevity;
  std::uint64_t loaded_on = 0;  ///< devices on which its job's context has the module, a bit each
  struct Loading {
    std::uint64_t since_ns = 0;
    std::uint64_t until_ns = 0;
  };
  std::map<DeviceId, Loading> loadings = {};  ///< the last ones that ended
  std::optional<std::uint32_t> cheaper = {};  ///< the codelet that does the same, not as well
  /// Of a device on which its tasks fail (core_failing.cpp).
  struct Failing {
    std::uint32_t in_a_row = 0;     ///< failures, unless one has succeeded there since the last
    std::uint32_t successes = 0;    ///< that there had been then, see Brevity
    std::uint32_t passed_over = 0;  ///< tasks placed elsewhere since one was placed there
  };
  std::map<DeviceId, Failing> failing = {};
};

/// A graph with a deadline of which tasks are still coming.
struct HeldGraph {
  /// As what it could run: as it was submitted; if no task named a device; in cheaper variants
  /// where tasks permit it; in all that there are.
  enum Way : std::size_t { as_submitted, anywhere, permitted, cheapest, ways_count };
  struct Demand : GraphDemand {
    std::uint32_t unknown = 0;  ///< tasks of which nothing is known
  };
  template <class T>
  using ByWay = std::array<T, ways_count>;

  std::uint64_t deadline_ns = 0;
  std::vector<TaskRef> tasks;
  /// The longest way to the end of each task, by the quickest device.
  tsl::robin_map<Slot, ByWay<double>> longest_ns;
  ByWay<Demand> demands;
  /// How much more that is for its gangs, which leave slots that are too few for the next, than for
  /// its tasks alone.
  ByWay<double> stretch{1, 1, 1, 1};
  bool names_devices = false;         ///< some task does
  std::uint32_t cheaper_tasks = 0;    ///< of whose codelets there are cheaper variants
  std::uint32_t permitted_tasks = 0;  ///< that permit them
};

/// Tasks that start together.
struct Gang {
  std::uint32_t size = 0;        ///< members, once all have come
  std::uint32_t came = 0;        ///< so far
  std::uint32_t gathered = 0;    ///< that could start, the one in the queue among them
  bool failed = false;           ///< one ended without success: no other starts any more
  std::vector<TaskRef> members;  ///< that have not ended, in the order in which they came
};

struct Tenant {
  struct Failure {
    std::uint64_t tag;
    std::string text;
  };

  TenantId id = 0;
  Job* job = nullptr;
  FairShare share;
  bool closing = false;
  bool announced = false;     ///< that there are completions, since somebody looked
  bool active = false;        ///< in the core's list of those with ready tasks
  std::uint32_t pending = 0;  ///< tasks in the table, completions not fetched
  /// Of queues through which every task goes; must outlive them.
  std::pmr::unsynchronized_pool_resource queue_memory;
  ReadyQueue ready{&queue_memory};
  std::uint32_t waiting_ahead = 0;  ///< in this decision, of the first in `ready`
  UnfinishedIndex unfinished{&queue_memory};
  TagIndex tags;
  std::pmr::deque<proto::scheduler::Completion> completions{&queue_memory};
  std::deque<Failure> failures;
  std::vector<CodeletType> codelets;
  std::map<std::uint32_t, HeldGraph> held_graphs;
  std::uint32_t last_graph = 0;
  std::map<std::uint32_t, Gang> gangs;
};

}  // namespace aios::scheduler
