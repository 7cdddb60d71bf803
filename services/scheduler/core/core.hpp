// The scheduler's decisions, as a pure state machine: requests, devices, contexts, answers and the
// time come in as values; what is to be done comes out as actions. No sockets, no clock, no
// threads.
//
// Order and placement are policies (order.hpp, placement.hpp) that ask costs (costs.hpp). A
// placement that looks ahead may let a task wait for a busy device; then the next ones of its
// tenant are looked at, the first 64, each on the assumption that those before it run where they
// wait for. Of the users comes first who has had least of the devices' time, whatever the
// priorities; of the tenants of one user likewise, at equal priority. A device has as many slots as
// it has threads; a task takes one slot, however many blocks its grid has: they share the context's
// threads (share_out.hpp), so of those with many blocks one more starts than keeps them busy. A
// user of whom nothing runs may start one task although no slot is free: nobody waits for another
// user's endless tasks. Idempotent tasks that are known to be brief (brevity.hpp) take no slot: as
// many are given to a context as it works off in a fraction of a millisecond, so that it need not
// wait for the next; also those that depend on brief ones there (core_ahead.cpp). The tasks of a
// gang start together, each in a slot; while they wait slots are kept for them (core_gangs.cpp).
//
// A task whose context ended under it:
// - begun (its Run was sent) and not idempotent: `indeterminate`;
// - otherwise it is retried, and from then on runs alone in its job's context until it succeeds;
// - whose context faulted twice while it was the only one there: `crashed`, with the cause;
// - whose context ended 8 times, for whatever reason: `crashed`;
// - beside a task that was ended at its time limit: it is retried as if nothing had been.
// An answer with an error is final. So is `timed_out`.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/core/parts/device_state.hpp"
#include "services/scheduler/core/parts/graph_log.hpp"
#include "services/scheduler/core/parts/memories.hpp"
#include "services/scheduler/core/parts/memory_room.hpp"
#include "services/scheduler/core/parts/onward.hpp"
#include "services/scheduler/core/parts/placement_log.hpp"
#include "services/scheduler/core/parts/tenant.hpp"
#include "services/scheduler/core/parts/timeline.hpp"
#include "services/scheduler/costs/copy_costs.hpp"
#include "services/scheduler/policy/order.hpp"
#include "services/scheduler/policy/placement.hpp"

namespace aios::scheduler {

/// Something for the server to do.
struct Action {
  enum class Kind {
    start,          ///< `task` on `device`, in the context of `job`, which is ready
    open_context,   ///< of `job` on `device`; answered by context_ready or context_refused
    close_context,  ///< of `job` on `device`; answered by context_ended
    evict,          ///< `buffer` of `job` leaves the memory of `device`; see buffer_evicted
    completions,    ///< `tenant` has more to fetch: see `finished`
    tenant_closed,  ///< no task of `tenant` runs any more; it is forgotten
    job_closed,     ///< the last tenant of `job` is gone; it is forgotten
  };
  Kind kind;
  TaskRef task;
  TenantId tenant = 0;
  JobId job = 0;
  DeviceId device = 0;
  std::uint32_t buffer = 0;
};

struct ContextEnd {
  proto::driver::ContextEnd how = proto::driver::ContextEnd::none;
  std::string cause;
  /// It is being opened: context_ready or context_refused follows.
  bool has_successor = false;
};

class Core {
 public:
  using TaskRecord = proto::scheduler::TaskRecord;
  using Completion = proto::scheduler::Completion;
  using RunReply = proto::context::Run::Reply;
  using Listed = proto::scheduler::TaskNext::Reply;
  using Load = proto::scheduler::LoadNext::Reply;

  /// A placement that looks ahead needs costs; without costs nothing is learned or ranked.
  Core(std::unique_ptr<Order> order, std::unique_ptr<Placement> placement,
       std::unique_ptr<Costs> costs = nullptr);

  // ---- devices ----
  /// Ids are given in order from 0, at most max_devices. An unusable device gets no new tasks, and
  /// those that no other device runs fail, also where they still wait for others.
  /// What is learned of a device is kept by its `identity`, or by its name where it has none.
  void set_device(DeviceId device, std::uint32_t slots, bool usable, std::string_view name,
                  std::uint32_t backend = proto::driver::backend::cpu,
                  std::string_view identity = {});
  /// So many tasks more than run at once it takes, to have the next there when one ends.
  void set_queue_depth(DeviceId device, std::uint32_t depth) {
    devices_[device].queue_depth = std::min(depth, max_slots_per_device - devices_[device].slots);
  }
  /// No more devices are waited for: from now on tasks that no device runs are refused, and those
  /// that are there fail for the same reason. `silent` are drivers that have not said what they
  /// have.
  void all_devices_known(std::string silent = {});
  const std::vector<DeviceState>& devices() const { return devices_; }
  /// Devices work in the host's memory unless they are said to have one of their own, in which they
  /// keep what was brought there and what they wrote.
  void set_memory(DeviceId device, MemoryId memory);
  /// How long it takes to open a context there, as far as that is known: who looks ahead waits for
  /// one only where the task is then done sooner.
  void set_open_time(DeviceId device, std::uint64_t open_ns) { devices_[device].open_ns = open_ns; }
  /// The same of loading a module.
  void set_load_time(DeviceId device, std::uint64_t load_ns) { devices_[device].load_ns = load_ns; }
  /// How long it took there to open a context, from being asked to its first answer; and from when
  /// to when the module of a codelet was loaded in the context of the tenant's job. The newest
  /// count for a quarter.
  void context_opened_in(DeviceId device, std::uint64_t took_ns);
  void module_loaded(TenantId tenant, std::uint32_t codelet, DeviceId device,
                     std::uint64_t since_ns, std::uint64_t until_ns);
  /// Its contexts begin a brief task when those before it, that it depends on, have ended: it may
  /// be given to them while these are still there.
  void set_keeps_order(DeviceId device) { devices_[device].keeps_order = true; }
  void set_transfer(MemoryId from, MemoryId to, TransferCost cost);
  /// It has a memory of its own, in which it keeps what was brought there; what it writes is copied
  /// back at once. What that takes is learned. Again and again it changes nothing.
  void set_own_memory(DeviceId device);
  /// How much memory it works in, its own or the host's. 0: that is not known.
  void set_memory_size(DeviceId device, std::uint64_t bytes);
  /// What the processes of the job may have of the host's memory, beside its regions.
  void set_memory_quota(JobId job, std::uint64_t bytes) {
    if (const auto at = jobs_.find(job); at != jobs_.end()) at->second->memory_quota_bytes = bytes;
  }
  /// What an `evict` named is gone from the device's memory, unless it has come back meanwhile.
  void buffer_evicted(JobId job, DeviceId device, std::uint32_t buffer);
  /// The same of a buffer that is registered no more, or of a tenant that is forgotten. Its number
  /// may be another's by now; of several that had it the first is meant.
  void buffer_gone(JobId job, DeviceId device, std::uint32_t buffer);
  /// A context of the job says what it has copied since it said so last, at most `within_ns` ago.
  void copied(JobId job, DeviceId device, const proto::context::Copies::Reply& more,
              std::uint64_t within_ns);
  /// Null: it works in the host's memory.
  const CopyCosts* copy_costs(DeviceId device) const;
  /// What was learned of copies, to be kept over restarts; and what was kept of that device.
  std::vector<SavedCopies> saved_copies() const;
  void restore_copies(DeviceId device, const SavedCopies& saved);
  /// From how many copies, over all devices.
  std::uint64_t copies_learned() const;
  /// What would have to be brought to the device for the task now, and back after it.
  Transfer transfer_to(const Task& task, DeviceId device) const;

  // ---- requests; the errors are those of abi/proto/scheduler.hpp ----
  Result<TenantId> open_tenant(JobId job, std::string_view job_name, std::uint32_t uid);
  /// Its pending tasks are dropped without completions. `tenant_closed` follows.
  void close_tenant(TenantId tenant);
  Result<std::uint32_t> add_codelet(TenantId tenant, const proto::Text<64>& label,
                                    std::uint32_t backends = proto::driver::backend::cpu,
                                    std::uint64_t module_hash = 0, const Hints& hints = {});
  Result<void> set_cheaper(TenantId tenant, std::uint32_t codelet, std::uint32_t cheaper);
  Result<std::uint32_t> add_buffer(TenantId tenant, bool writable, std::uint64_t bytes = 0);
  Result<void> release_buffer(TenantId tenant, std::uint32_t buffer);
  /// The records are the caller's own copy.
  Result<void> submit(TenantId tenant, std::span<const TaskRecord> records, std::uint64_t now_ns,
                      std::uint32_t graph = 0);
  Result<std::uint32_t> open_graph(TenantId tenant, std::uint64_t deadline_ns,
                                   std::uint64_t now_ns);
  using Admitted = proto::scheduler::AdmitGraph::Reply;
  Result<Admitted> admit_graph(TenantId tenant, std::uint32_t graph, bool withdraw,
                               std::uint64_t now_ns);
  Result<void> cancel(TenantId tenant, std::uint64_t tag);
  struct Cancelled {
    std::uint32_t pending = 0;
    std::uint32_t running = 0;  ///< these go on
  };
  /// What is pending of these tags.
  Result<Cancelled> cancel_range(TenantId tenant, std::uint64_t first, std::uint64_t last);
  struct Finished {
    std::size_t count;   ///< completions to take
    bool is_everything;  ///< no task of the tenant is unfinished
  };
  /// Another `completions` action follows when there are more.
  Finished finished(TenantId tenant);
  /// Fills `out` from the front; returns how many.
  std::uint32_t take_completions(TenantId tenant, std::span<Completion> out);
  Result<std::string> failure(TenantId tenant, std::uint64_t tag) const;
  /// Whose the job is, of which there is a tenant.
  std::uint32_t uid_of(JobId job) const { return jobs_.at(job)->user->uid; }
  /// number 0: no more.
  Listed next_task(std::uint64_t after, std::uint32_t uid, bool all_users);
  /// job_id 0: no more.
  Load next_load(JobId after, std::uint32_t uid, bool all_users) const;
  /// Why it failed; null when that is not known, or not theirs to know.
  const std::string* failure_of(std::uint64_t number, std::uint32_t uid, bool all_users) const {
    return finished_.failure_of(number, uid, all_users);
  }
  /// For what it waits that is ready and has no room in a device's memory; empty when that is not
  /// so, or not theirs to know.
  std::string memory_awaited_by(std::uint64_t number, std::uint32_t uid, bool all_users);

  const PlacementLog& log() const { return log_; }
  const GraphLog& graphs() const { return graph_log_; }
  Admission& admission() { return admission_; }

  // ---- contexts ----
  /// `at_ns` says how long tasks waited for it; 0: that is not known.
  void context_ready(JobId job, DeviceId device, std::uint64_t at_ns = 0);
  /// It takes no tasks, and its slots are free for others, until it has resumed.
  void context_stalled(JobId job, DeviceId device);
  void context_resumed(JobId job, DeviceId device);
  /// It takes no more tasks and its slots are free; its tasks may still be answered.
  void context_lost(JobId job, DeviceId device);
  /// It is gone: decides about the tasks that were not answered.
  void context_ended(JobId job, DeviceId device, const ContextEnd& end);
  /// There will be none: what was running there and all its other tasks that no other context may
  /// run fail with `status`. Later submits make it be tried again.
  void context_refused(JobId job, DeviceId device, const Status& status);

  // ---- tasks ----
  /// Every task that was submitted has finished.
  bool idle() const { return tasks_.used() == 0; }
  const Task* find(TaskRef task) const { return tasks_.find(task); }
  /// It was sent, with others in a batch of that number, or alone.
  void task_begun(TaskRef task, std::uint64_t batch = 0);
  /// The numbers of the batches, of its own context, that have to end before it begins. False: they
  /// cannot be told, or are too many; then it must not be sent.
  bool batches_before(const Task& task, std::vector<std::uint64_t>& out) const;
  /// It could not be sent now, or was sent and not begun, since one before it failed.
  void task_not_begun(TaskRef task);
  /// Ignored when the task is no longer running.
  void task_answered(TaskRef task, const Result<RunReply>& answer);

  /// Starts what can start. Call it after any of the above, as seldom as once per turn of a loop.
  void decide(std::uint64_t now_ns);
  /// When to decide again though nothing happened: a task waits for a busy device while another is
  /// free, and by then the busy one is late. ~0: not at all.
  std::uint64_t decide_again_ns() const { return decide_again_ns_; }
  /// What is to be done. Valid until the next call.
  const std::vector<Action>& take_actions() {
    taken_.clear();
    taken_.swap(actions_);
    return taken_;
  }

 private:
  struct Outcome {
    Code code;
    std::string text;
    const RunReply* run = nullptr;
    bool cascade = false;  ///< it failed only because a task it depends on did
    bool silent = false;   ///< as if it had never been submitted
  };
  struct Wake {
    Slot successor;
    std::uint64_t predecessor_tag;
    std::uint64_t predecessor_number;
    std::uint64_t at_ns;
    bool failed;
  };

  // core.cpp
  Result<Tenant*> open(TenantId id) const;
  Result<User*> user_of(std::uint32_t uid);
  Job& job_of(JobId id, std::string_view name, User& user);
  void drop_closed_tenants();
  void drop_tenant(Tenant& tenant);
  void count_apart();
  void drop_job_if_unused(Job& job);
  const std::shared_ptr<const TaskNames>& names_of(const Task& task) const;
  Listed describe(const Task& task) const;
  Listed describe(const FinishedRing::Entry& entry) const;
  // core_submit.cpp
  Result<void> check_quota(const Tenant& tenant, std::size_t count) const;
  void forget_old_tags(Tenant& tenant);
  Result<void> check_batch(const Tenant& tenant, std::span<const TaskRecord> records,
                           std::uint64_t now_ns);
  Result<void> check_references(const Tenant& tenant, const TaskRecord& record) const;
  Result<void> check_dependencies(const Tenant& tenant, const TaskRecord& record) const;
  Rank rank(const Task& task) const;
  std::uint64_t rank_in_steps_ns(const Task& task) const;
  Slot insert(Tenant& tenant, const TaskRecord& record, std::uint64_t now_ns);
  void start_waiting(Slot slot);
  void make_ready(Slot slot);
  void enqueue(Slot slot);
  // core_ranks.cpp
  WorkId work_of(const Tenant& tenant, const TaskRecord& record);
  /// Of the tasks in `batch_`, numbered from `first_number`, and of those on which they depend.
  void rank_batch(Tenant& tenant, std::uint64_t first_number);
  /// What a task takes, by the devices that it may run on, or if it named none. The mean without
  /// moving its data, the others with that.
  struct Times {
    double mean_ns = 0;
    double together_ns = 0;  ///< all of them sharing it, each as much as it can
    double quickest_ns = 0;
    bool known = false;  ///< on each of them
  };
  Times times_of(const Tenant& tenant, const TaskRecord& record, WorkId work,
                 bool anywhere = false);
  /// The same within one submit, in which nothing is learned: most tasks are like the one before.
  const Times& times_in_batch(const Tenant& tenant, const Task& task);
  struct LastTimes {
    WorkId work;
    std::uint32_t codelet;
    std::uint32_t device;
    std::uint32_t flags;
    Times times;
  };
  /// Also says to `onward_` what it is by memories.
  std::uint64_t longest_way_on_ns(Slot slot);
  /// Those of a graph whose times have changed.
  void rank_anew(std::span<const TaskRef> graph);
  // core_graphs.cpp
  struct RunningGraph {
    std::uint64_t left = 0;  ///< tasks
    std::uint32_t failed = 0;
    std::uint64_t ended_ns = 0;  ///< the last one so far
    std::uint64_t logged = 0;
  };
  Result<HeldGraph*> held_graph(Tenant& tenant, std::uint32_t graph);
  void hold(Tenant& tenant, HeldGraph& graph, Slot slot);
  HeldGraph::ByWay<Times> times_by_way(const Tenant& tenant, const Task& task);
  HeldGraph::ByWay<double> longest_before(const Tenant& tenant, const HeldGraph& graph,
                                          const TaskRecord& record) const;
  void add_to_demand(Tenant& tenant, HeldGraph& graph, Slot slot);
  std::uint64_t open_time_ns(const Job& job) const;
  Result<Admitted> decide_about(Tenant& tenant, HeldGraph& graph, std::uint64_t now_ns);
  void offer(const HeldGraph& graph, std::uint64_t now_ns, Admitted& answer) const;
  void make_cheaper(Tenant& tenant, const HeldGraph& graph);
  void log_graph(const Tenant& tenant, const Admitted& answer);
  void release_graph(HeldGraph& graph, GraphId id);
  void drop_graph(HeldGraph& graph);
  void leave_graph(Task& task, const Outcome& outcome);
  // core_data.cpp
  Transfer transfer_to(const Tenant& tenant, const TaskRecord& record, DeviceId device,
                       std::uint64_t planned_in = 0) const;
  /// Once all that waits for a device in the plan of this decision has started there.
  inline Transfer planned_transfer_to(const Task& task, DeviceId device) const;
  void expect_data(const Task& task, DeviceId device);
  void move_data(const Task& task, DeviceId device);
  void forget_copies(Job& job, DeviceId device);
  void update_transfers(DeviceId device);
  /// What the one writes and the other reads, from one memory to another.
  double moved_ns(const Task& from, const Task& to) const;
  /// What it reads that none of those writes on which it depends, from where it lies now.
  double brought_ns(const Task& task, DeviceId device) const;
  bool is_left_by_another(const Task& task, std::uint32_t buffer) const;
  void rank_predecessors(const Task& task, std::uint64_t first_number, std::uint32_t& steps);
  // core_memory.cpp
  bool holds_copies(DeviceId device) const {
    return memories_.of(device) != host_memory && devices_[device].memory_bytes != 0;
  }
  inline bool data_fits(const Tenant& tenant, const TaskRecord& record, DeviceId device) const;
  std::uint64_t data_bytes(const Job& job, const TaskRecord& record) const;
  MemoryNeed memory_need(const Task& task, DeviceId device);
  using Tasks = std::span<const Task* const>;
  MemoryRoom memory_room(Tasks tasks, DeviceId device, const MemoryNeed& need);
  MemoryRoom memory_room(const Task& task, DeviceId device, const MemoryNeed& need) {
    const Task* const one = &task;
    return memory_room({&one, 1}, device, need);
  }
  std::uint64_t kept_from(const Task& task, DeviceId device) const;
  void forget_kept_memory();
  std::uint64_t mark_used(Job& job, const TaskRecord& record);
  std::uint64_t used_by_tasks(DeviceId device);
  UnusedMemory find_unused(const Job& own, DeviceId device);
  void keep_first_idle(std::uint64_t bytes);
  void heed_memory(const Task& task, Candidate& candidate);
  void await_memory(Task& task, DeviceId device);
  void await_memory(Tasks tasks, DeviceId device, const MemoryNeed& need);
  void take_memory(Task& task, DeviceId device);
  std::uint64_t evict_own(Task& task, DeviceId device, const MemoryNeed& need);
  void leave_memory(Job& job, std::uint32_t buffer, DeviceId device);
  void forget_residents(Job& job, DeviceId device);
  void forget_buffer(Job& job, std::uint32_t buffer);
  // core_finish.cpp
  void finish(Slot slot, const Outcome& outcome);
  void finish_one(Slot slot, const Outcome& outcome);
  static Outcome was_in_vain(std::uint64_t failed_tag);
  void end_doomed(Slot slot);
  void complete(Tenant& tenant, const Task& task, const Outcome& outcome);
  void account(const Task& task, const Outcome& outcome);
  void leave_context(Slot slot);
  void take_slot(Slot slot);
  void free_slot(Slot slot);
  void learn_from(const Task& task, const RunReply& run);
  static std::uint64_t busy_ns(const Task& task, const RunReply& run);
  static std::uint64_t alone_ns(const Task& task, const RunReply& run, std::uint32_t width);
  std::uint64_t peak_memory(const Task& task, const RunReply& run) const;
  void release(Slot slot);
  // core_contexts.cpp
  Context* context_of(JobId job, DeviceId device);
  void forget_modules(JobId job, DeviceId device);
  void judge(Slot slot, bool answered, const ContextEnd& end, bool alone);
  void retry(Slot slot);
  bool unplaceable(const Tenant& tenant, const Task& task) const;
  static Status no_context_left();
  void fail_unplaceable(const Job* job = nullptr, const Status& refusal = no_context_left());
  void close_contexts(Job& job);
  // core_decide.cpp
  /// Whether the device runs what the task's module has code for, is the one it wants, and has a
  /// memory that holds the task's data.
  inline bool suits(const Tenant& tenant, const TaskRecord& record, DeviceId device) const;
  inline bool has_code_for(const Tenant& tenant, const TaskRecord& record, DeviceId device) const;
  inline bool is_loaded(const Tenant& tenant, const Task& task, DeviceId device) const;
  Result<void> check_device(const Tenant& tenant, const TaskRecord& record) const;
  Result<void> check_data(const Tenant& tenant, const TaskRecord& record) const;
  bool can_take(const Tenant& tenant, const Task& task, DeviceId device) const;
  void why_there(Task& task, const Choice& choice);
  inline bool is_brief(const Tenant& tenant, const Task& task, DeviceId device) const;
  /// Whether what is brief may still be given to it.
  inline bool has_room_ahead(DeviceId device) const;
  bool startable(Tenant& tenant);
  /// Whether something of the tenant could start on this device now, whatever it is.
  inline bool has_room(const Tenant& tenant, DeviceId device) const;
  inline bool has_enough(const Context& context, DeviceId device) const;
  inline std::uint32_t width_on(const TaskRecord& record, DeviceId device) const;
  void place_next(Tenant& tenant);
  void fill_candidates(Tenant& tenant, Slot slot);
  void start(Tenant& tenant, Task& task, TaskRef ref, const Candidate& where);
  void want_contexts(Tenant& tenant);
  void want_context(Tenant& tenant, const Task& task);
  inline bool can_open(const Tenant& tenant, DeviceId device) const;
  void open_context(Tenant& tenant, DeviceId device);
  // core_failing.cpp
  void note_failure(const Task& task);
  bool is_shunned(const CodeletType& codelet, DeviceId device) const;
  bool another_would_do(const Tenant& tenant, const Task& task);
  void count_passed_over(CodeletType& codelet, DeviceId chosen) const;
  bool has_shunned_a_sooner_one(const Choice& choice) const;
  // core_ahead.cpp
  DeviceId device_ahead(const Task& task) const;
  bool may_go_ahead(const Tenant& tenant, const Task& task, DeviceId device);
  void offer_successors(Slot slot);
  void take_followers();
  bool is_still_ahead(const Tenant& tenant, const Task& task) const;
  static bool overwrites_input_ahead(const Task& task);
  void wait_again(Tenant& tenant, Task& task);
  // core_gangs.cpp
  /// Slots that are kept for a gang at the head of its tenant's queue.
  struct Reservation {
    TaskRef leader;
    std::vector<std::uint32_t> kept;  ///< by device; empty: none yet
    std::uint64_t from_ns = 0;        ///< when they were to be free, by prediction
    bool held = false;                ///< none: nobody knows when it has the memory that it needs
  };
  using BatchGangs = std::map<std::uint32_t, std::vector<const TaskRecord*>>;
  Result<void> check_gangs(const Tenant& tenant, const BatchGangs& gangs) const;
  using Members = std::span<const TaskRecord* const>;
  Result<void> check_fit(const Tenant& tenant, Members members) const;
  std::vector<const TaskRecord*> records_of(const Gang& gang) const;
  void end_misfit_gangs();
  std::vector<DeviceId> choices_of(const Tenant& tenant, const TaskRecord& record) const;
  std::vector<std::vector<DeviceId>> choices_of(const Gang& gang) const;
  std::uint64_t slots_for(const std::vector<std::vector<DeviceId>>& choices) const;
  void enter_gang(Tenant& tenant, Slot slot);
  void end_doomed_members();
  void end_tangled(Tenant& tenant);
  bool waits_for_itself(const Gang& gang, std::uint32_t& steps) const;
  void ready_in_gang(Slot slot);
  void offer_gang(Gang& gang);
  void leave_gang(Slot slot, State before, const Outcome& outcome);
  Gang& gang_of(const Task& task) const { return task.tenant->gangs.at(task.record.gang); }
  bool are_one_gang(std::span<const Slot> slots) const;
  void place_gang(Tenant& tenant, TaskRef leader);
  // core_gang_memory.cpp
  struct Together {
    DeviceId device;
    std::vector<const Task*> tasks;
    MemoryNeed need;
  };
  std::uint32_t gang_slots(const Job& job, Members members, DeviceId device) const;
  std::uint32_t gang_slots(const Gang& gang, DeviceId device) const;
  std::vector<Together> together(const Gang& gang, const std::vector<DeviceId>& where);
  std::optional<std::vector<DeviceId>> places_for(const Gang& gang, TaskRef leader);
  void await_memory_for(TaskRef leader, std::span<const Together> groups);
  // core_gangs.cpp
  void start_gang(Tenant& tenant, TaskRef leader, const std::vector<DeviceId>& where);
  std::vector<std::uint32_t> room_for(const Gang& gang, TaskRef leader) const;
  void keep_slots();
  void keep_slots_for(Reservation& reservation);
  bool end_unplaceable_gangs();
  void forget_started_gangs();
  void reserve_for_heads();
  bool is_kept(const Reservation& reservation, const std::vector<std::uint32_t>& room) const;
  void open_contexts_for(const Gang& gang, Tenant& tenant);
  void forget_reservation(TaskRef leader);
  std::uint64_t free_at_ns(const std::vector<std::uint32_t>& kept) const;
  bool may_pass_gangs(const Tenant& tenant, const Task& task, DeviceId device) const;
  // core_gang_demand.cpp
  void rank_gangs(Tenant& tenant, std::span<const std::uint32_t> numbers);
  void count_gangs(Tenant& tenant, HeldGraph& graph);
  // core_fairness.cpp
  struct Charge {
    TenantId tenant;
    std::uint32_t codelet;
    std::uint64_t since_ns;
    std::int64_t charged_ns;
    double share_then, share_now;  ///< threads' worth that it held, when it began and at the end
  };
  void wakes(Tenant& tenant);
  void served(Tenant& tenant);
  void charge(Task& task);
  static void charge(Tenant& tenant, std::int64_t ns, double share);
  void settle_charges();
  // core_log.cpp
  void describe_task(const Task& task, PlacementLog::Entry& entry) const;
  std::uint64_t wait_within(const Task& task, std::uint64_t since_ns, std::uint64_t until_ns) const;
  void log_placement(Task& task, const Choice& choice);
  void log_end(const Task& task, const Outcome& outcome);
  // core_plan.cpp
  void begin_plan();
  double weight_of_onward(const Tenant& tenant) const;
  void look_ahead(Tenant& tenant, Slot slot);
  void leave_out_stalled(const Job& job);
  PlacementFacts facts_of(Tenant& tenant, const Task& task);
  /// In the plan, a task goes there; returns how long it takes, with its transfers.
  std::uint64_t plan(const Candidate& where);
  void wait_for(Tenant& tenant, Task& task, const Candidate& where);
  void heed_the_rest(Tenant& tenant, const Task& task, Choice& choice);
  bool waits_on(const Tenant& tenant, const Task& task);
  void wait_in_plan(const Task& task);
  void account_placement(TaskRef task, const Candidate& where);

  std::unique_ptr<Order> order_;
  std::unique_ptr<Placement> placement_;
  const bool looks_ahead_;  ///< whether placement_ does: asked a dozen times for each task
  std::unique_ptr<Costs> costs_;
  std::vector<DeviceState> devices_;
  std::vector<Timeline> timelines_;  ///< by device
  Memories memories_;
  Onward onward_;  ///< where there are several memories, and the placement asks for it
  std::map<DeviceId, CopyCosts> copy_costs_;  ///< of those with a memory of their own
  double apart_ = 0;          ///< share of the pairs of slots that are in different memories
  std::uint64_t now_ns_ = 0;  ///< of the decision that is being made
  std::uint64_t decide_again_ns_ = ~std::uint64_t{0};
  std::uint64_t decisions_ = 0;
  bool all_devices_known_ = false;
  std::string silent_drivers_;
  TaskTable tasks_;
  std::map<std::uint32_t, std::unique_ptr<User>> users_;
  std::unordered_map<JobId, std::unique_ptr<Job>> jobs_;
  std::map<TenantId, std::unique_ptr<Tenant>> tenants_;
  std::vector<Tenant*> active_;  ///< with ready tasks, and some without
  std::vector<Tenant*> closing_;
  FinishedRing finished_;
  PlacementLog log_;
  Admission admission_;
  std::unordered_map<GraphId, RunningGraph> running_graphs_;  ///< accepted
  std::uint32_t ready_gangs_ = 0;                             ///< in the queues of their tenants
  std::vector<Reservation> reservations_;                     ///< the oldest first
  std::vector<std::uint32_t> kept_;       ///< for gangs, by device; empty: no slot is
  std::vector<std::uint64_t> kept_from_;  ///< the first moment when they should be free, by device
  GraphLog graph_log_;
  TenantId last_tenant_ = 0;
  std::uint64_t last_number_ = 0;
  GraphId last_graph_ = 0;
  std::uint64_t last_turn_ = 0;
  std::uint64_t known_brief_ = 0;  ///< brief tasks that ended, of which enough is known
  std::int64_t served_ns_ = 0;     ///< what the user that was served last had before
  std::vector<Charge> charges_;    ///< to be put right at the next decision
  std::vector<Action> actions_;
  std::vector<Action> taken_;  ///< those that were handed out last
  // Scratch, to spare allocations.
  std::vector<Wake> wakes_;
  std::vector<Slot> successors_;
  std::vector<TaskRef> followers_;  ///< ready as soon as no row of tasks is being looked at
  std::vector<Tenant*> round_;
  std::vector<Candidate> candidates_, shunned_;
  std::optional<DeviceId> short_of_memory_;  ///< it would have taken the task, with room for it
  std::vector<IdleCopy> idle_;
  std::uint64_t last_mark_ = 0;
  std::uint64_t held_bytes_ = 0;         ///< see UnusedMemory, of the last memory_room
  std::uint64_t own_leaving_bytes_ = 0;  ///< the same
  bool memory_is_kept_ = false;
  std::vector<Slot> batch_;
  std::optional<LastTimes> last_times_;  ///< of this batch
  std::vector<Slot> to_rank_;
  tsl::robin_map<std::uint32_t, bool> batch_tags_;
  std::vector<std::uint32_t> complete_gangs_;  ///< since the batch
  /// Members in it that depend on what has failed: on which tag.
  std::vector<std::pair<TaskRef, std::uint64_t>> doomed_members_;
};

}  // namespace aios::scheduler
