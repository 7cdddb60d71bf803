// For programs and services that have tasks run: the scheduler's protocol with its handles, rights
// and arena taken care of. Calls are asynchronous, as those of Client; `wait_for` makes them
// blocking for programs without an event loop. Statuses are those of abi/proto/scheduler.hpp.
//
//   TaskLink link(kernel, nullptr, kernel.startup("scheduler")->handle);
//   TaskTenant tenant(link);
//   TRY(wait_for<void>(link, [&](auto done) { tenant.open(kernel.job(), deadline, move(done)); }));
//
// When the scheduler dies everything registered is gone: calls end with peer_closed, `on_lost` is
// called, and every TaskTenant answers peer_closed until it is opened again.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/client.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios {

template <class T>
using TaskCallback = std::move_only_function<void(Result<T>)>;

/// A connection to the scheduler, for any number of tenants, and the arena they share.
class TaskLink {
 public:
  /// Batches that may be on their way at once.
  static constexpr std::uint32_t arena_batches = 4;
  /// How many calls for completions may be on their way at once, 128 at most, and how many each
  /// may bring, at most a batch: each call costs both sides a wake-up where they sleep.
  struct CompletionCalls {
    static constexpr std::uint32_t most = 128;
    std::uint32_t at_once;
    std::uint32_t each;
  };
  static constexpr CompletionCalls for_many_tenants{.at_once = 128, .each = 128};
  static constexpr CompletionCalls for_one_tenant{.at_once = 4,
                                                  .each = proto::scheduler::max_batch};

  /// `port` is a connect handle of the scheduler's and stays the caller's. Without a loop,
  /// `wait_for` drives the calls.
  TaskLink(Kernel& kernel, EventLoop* loop, Handle port, CompletionCalls calls = for_many_tenants);
  TaskLink(const TaskLink&) = delete;

  /// The connection was open and is gone. The callback must not destroy this object.
  void on_lost(std::function<void()> callback) { on_lost_ = std::move(callback); }

  Kernel& kernel() { return kernel_; }
  /// For calls that concern no tenant: listings.
  Client& client() { return *client_; }

 private:
  friend class TaskTenant;
  /// Gives the arena to the scheduler, once for each connection.
  void prepare(Deadline deadline, TaskCallback<void> done);
  /// A free place for a batch. busy: arena_batches are on their way.
  Result<std::uint32_t> take_place();
  std::span<std::byte> place(std::uint32_t number);
  void give_place(std::uint32_t number) { taken_ &= ~(1u << number); }
  /// The same for completions.
  Result<std::uint32_t> take_room();
  std::uint64_t room_offset(std::uint32_t number) const;
  void give_room(std::uint32_t number) { rooms_taken_.reset(number); }

  Kernel& kernel_;
  const CompletionCalls calls_;
  std::function<void()> on_lost_;
  std::uint64_t connection_ = 1;  ///< grows with each one that is lost
  bool prepared_ = false;
  Region arena_;
  std::uint32_t taken_ = 0;
  std::bitset<CompletionCalls::most> rooms_taken_;
  std::unique_ptr<Client> client_;  // last: its end calls back into the above
};

/// One tenant: codelets, buffers, tasks. Must outlive its calls, or its link goes first.
class TaskTenant {
 public:
  using TaskRecord = proto::scheduler::TaskRecord;
  using Completions = std::vector<proto::scheduler::Completion>;

  explicit TaskTenant(TaskLink& link);
  TaskTenant(const TaskTenant&) = delete;

  /// Opens it for `job`: kernel.job(), or a handle with use send and grant info|act|send. After a
  /// loss open it again from `on_lost` or later, not from the callback of a call that was lost: it
  /// is open when none of the tasks that it had runs any more.
  void open(Handle job, Deadline deadline, TaskCallback<void> done);
  /// Answered when none of its tasks runs any more.
  void close(Deadline deadline, TaskCallback<void> done);
  bool is_open() const { return connection_ == link_.connection_; }

  /// Of any tenant.
  void device(std::uint64_t index, Deadline deadline,
              TaskCallback<proto::scheduler::DeviceNext::Reply> done);

  /// The codelet `function` of the module at (offset, length) of `region`, a handle with send and
  /// grant map_read, which stays the caller's and may be closed afterwards. `backends`: what it has
  /// code for, as backends_of says. `module_hash` tells modules apart, see module_hash_of.
  void register_codelet(Handle region, std::uint64_t offset, std::uint64_t length,
                        std::string_view function, std::string_view label, std::uint32_t backends,
                        Deadline deadline, TaskCallback<std::uint32_t> done,
                        std::uint64_t module_hash = 0);
  /// `cheaper` does what `codelet` does, sooner and not as well.
  void set_cheaper(std::uint32_t codelet, std::uint32_t cheaper, Deadline deadline,
                   TaskCallback<void> done);
  /// Memory of a region (grant map_read, and map_write if `writable`).
  void register_buffer(Handle region, std::uint64_t offset, std::uint64_t length, bool writable,
                       Deadline deadline, TaskCallback<std::uint32_t> done);
  /// A channel of lent files.
  void register_files(Handle file, Deadline deadline, TaskCallback<std::uint32_t> done);
  void release_buffer(std::uint32_t buffer, Deadline deadline, TaskCallback<void> done);

  /// Up to max_batch records, copied before this returns. busy: too many batches are on their way.
  /// `continues`: it is refused (cancelled) if the one before it was. `graph`: as open_graph said.
  void submit(std::span<const TaskRecord> records, Deadline deadline, TaskCallback<void> done,
              bool continues = false, std::uint32_t graph = 0);
  /// A graph that is to be done by `due_ns`; its tasks start when it has been admitted.
  void open_graph(std::uint64_t due_ns, Deadline deadline, TaskCallback<std::uint32_t> done);
  using Admitted = proto::scheduler::AdmitGraph::Reply;
  /// Once all its tasks have been submitted. `refusal_of` says what the answer means.
  void admit_graph(std::uint32_t graph, bool withdraw, Deadline deadline,
                   TaskCallback<Admitted> done);
  /// Answered when there are at least `least`, at most as many as a call may bring, or all that
  /// there will be; or, perhaps empty, when it is called again. What has finished when it times out
  /// is lost, and so it is with no_memory. busy: too many are on their way.
  void completions(Deadline deadline, TaskCallback<Completions> done, std::uint32_t least = 1);
  void failure(std::uint64_t tag, Deadline deadline, TaskCallback<std::string> done);
  void cancel(std::uint64_t tag, Deadline deadline, TaskCallback<void> done);
  using Cancelled = proto::scheduler::CancelRange::Reply;
  void cancel_range(std::uint64_t first, std::uint64_t last, Deadline deadline,
                    TaskCallback<Cancelled> done);

 private:
  template <class M, class T>
  void call(const typename M::Request& request, Deadline deadline, TaskCallback<T> done);
  void register_object(Handle object, ObjectType type, std::uint64_t offset, std::uint64_t length,
                       bool writable, Deadline deadline, TaskCallback<std::uint32_t> done);

  TaskLink& link_;
  std::uint64_t connection_ = 0;  ///< of the link, on which it was opened
  std::uint64_t session_;
  std::uint32_t id_ = 0;
};

/// A new region that holds a module's bytes, for register_codelet.
Result<Region> module_region(Kernel& kernel, std::span<const std::byte> module);

/// A record of codelet `codelet` with a grid of one block, idempotent; fill in the rest.
proto::scheduler::TaskRecord make_task(std::uint64_t tag, std::uint32_t codelet);
/// too_late, with all that is known of it: when the graph would be done, and why it was refused.
/// Nothing for a graph that was accepted.
Result<void> refusal_of(const proto::scheduler::AdmitGraph::Reply& answer);
/// Appends a buffer with one of codelet.h's modes; at most max_task_buffers.
void add_buffer(proto::scheduler::TaskRecord& record, std::uint32_t buffer, std::uint32_t mode);

/// Starts a call by `start(done)` and blocks until it is answered. Only for a TaskLink without a
/// loop.
template <class T, class Start>
Result<T> wait_for(TaskLink& link, Start&& start) {
  Result<T> outcome = error(Code::internal);
  bool done = false;
  start(TaskCallback<T>([&](Result<T> result) {
    outcome = std::move(result);
    done = true;
  }));
  while (!done)
    if (!link.client().work() && !done) link.client().wait(Deadline::never());
  return outcome;
}

}  // namespace aios
