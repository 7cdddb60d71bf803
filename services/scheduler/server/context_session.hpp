// The scheduler's link to one context, from the moment it is there until it ends: what has been
// loaded and bound in it, and the tasks it runs.
//
// While it has tasks, or is to let go of buffers, it is looked at twice a second: a null call that
// it has not answered for a second, or a module that it has not loaded for as long, make it
// `stalled`: it may be suspended, or its code has gone astray, and others need not wait for it. It
// is left alone until a task is late by the limits of all that were given to it: a context that
// does not keep limits is ended. One that an operator suspends is stalled until he lets it go on,
// and late for nothing.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/client.hpp"
#include "services/scheduler/core/core.hpp"
#include "services/scheduler/server/resources.hpp"

namespace aios::scheduler {

/// What a session has to tell. None of them may destroy the session.
struct SessionEvents {
  std::function<void(Result<void>)> opened;  ///< once: it answers, or cannot be reached
  std::function<void()> lost;                ///< it had answered; its link is gone
  /// The module of a codelet is there, which was asked for then.
  std::function<void(TenantId, std::uint32_t codelet, std::uint64_t since_ns)> loaded;
  std::function<void(bool)> stalled;  ///< it does not go on with its tasks; or does again
  /// The task's Run is on its way, with others in a batch of that number, or alone (0).
  std::function<void(TaskRef, std::uint64_t batch)> begun;
  std::function<void(TaskRef)> not_begun;  ///< one before it failed, or it could not be sent now
  /// Several may follow one another.
  std::function<void(TaskRef, const Result<proto::context::Run::Reply>&)> answered;
  /// What it has copied since it said so last, which was so long ago at most. Null: it is not
  /// asked.
  std::function<void(const proto::context::Copies::Reply&, std::uint64_t within_ns)> copied;
};

/// How long a context may take. It ends itself when a task exceeds its limit or a module takes too
/// long to load; this is for one that does not.
struct Patience {
  std::uint64_t load_ns = 10'000'000'000;  ///< a module, once it is its turn: the context's own
  std::uint64_t grace_ns = 5'000'000'000;  ///< more than the context needs to end itself
  std::uint64_t look_every_ns = 500'000'000;
};

class ContextSession {
 public:
  ContextSession(Kernel& kernel, EventLoop& loop, ClaimedHandle port, JobId job,
                 const Resources& resources, SessionEvents events, Patience patience = {});
  ContextSession(const ContextSession&) = delete;
  ~ContextSession() { close(); }

  /// Calls the context; `opened` follows.
  void open();
  /// Loads and binds what the task needs that is not there yet, then runs it. `answered` follows,
  /// unless the context is lost first. One that is `brief` may wait for others, until `flush`, and
  /// then for the batches in `after` to end; if they end badly, or are not known, `not_begun`
  /// follows.
  void run(TaskRef ref, const Task& task, bool brief, std::span<const std::uint64_t> after);
  /// Sends what waits.
  void flush();
  /// The buffer's registration has ended. `done` is called when the device's memory is free of it,
  /// if the session lives that long and the context says so.
  void release_buffer(std::uint32_t buffer, std::function<void()> done);
  /// The same for one that stays registered. It is bound again when a task needs it: then, if it is
  /// not gone yet, `done` is not called.
  void evict(std::uint32_t buffer, std::function<void()> done);
  /// No more tasks of that tenant will come.
  void drop_tenant(TenantId tenant);
  /// Says nothing more. For one that will be destroyed as soon as that is allowed.
  void close();
  /// It will be stopped from outside, or goes on. `done`: it knows, or is gone.
  void suspend(bool suspended, std::function<void(const Result<proto::Empty>&)> done);
  /// Some task has been given to it.
  bool was_used() const { return was_used_; }

 private:
  struct Running;
  struct Loaded {
    enum class State { loading, loaded, failed } state = State::loading;
    std::uint32_t number = 0;
    std::uint64_t since_ns = 0;  ///< of loading
    std::uint64_t due_ns = 0;    ///< when it is late; 0: not known yet, or never
    Status failure{Code::ok};
    std::vector<Running*> waiting;
  };
  using RunReply = proto::context::Run::Reply;
  /// A thousand brief ones are there at once: of one without buffers and arguments only the first
  /// line is touched.
  struct alignas(64) Running {
    TaskRef ref;                ///< number 0: the place is free
    double transfer_ns;         ///< of its data, as predicted
    std::uint64_t due_ns = 0;   ///< when its answer is late; 0: not known yet, or never
    std::uint32_t expected_ns;  ///< of a brief one
    bool brief;
    bool sent = false;
    /// Of a brief one without `limit_ns`, and buffers and arguments as far as their counts say: the
    /// rest is of a task that was here before.
    proto::context::Run::Request request;
  };

  void load(std::pair<TenantId, std::uint32_t> key);
  void loaded(std::pair<TenantId, std::uint32_t> key,
              const Result<proto::context::Load::Reply>& reply);
  void send(Running& running, std::uint32_t codelet, std::span<const std::uint64_t> after);
  void send_alone(Running& running);
  void pack(Running& running, std::span<const std::uint64_t> after);
  bool goes_with_batch(std::span<const std::uint64_t> after) const;
  bool wait_for(std::span<const std::uint64_t> batches);
  void batch_ended(const std::vector<Running*>& tasks, std::uint64_t number, bool waits,
                   const Result<proto::context::RunBatch::Reply>& reply);
  void batch_failed(Running& task, std::uint64_t number, Code code);
  void bind(std::uint32_t buffer);
  /// An Unbind that is not answered, or not sent yet.
  struct Unbinding {
    std::uint32_t buffer;
    bool sent = false;
    std::vector<std::function<void()>> released = {};  ///< to be called when it is gone
    std::function<void()> evicted = {};                ///< the same; null: none
  };
  Unbinding* unbind(std::uint32_t buffer);
  void send_unbinds();
  void send(std::list<Unbinding>::iterator unbinding);
  void unbound(std::list<Unbinding>::iterator unbinding, const Result<proto::Empty>& reply);
  void unbind_before_binding(std::uint32_t buffer);
  void bound(std::uint32_t buffer, std::uint64_t serial, const Status& failure);
  void not_begun(Running& running);
  void finish(Running& running, const Result<RunReply>& answer);
  Running& add_running(TaskRef ref, const Task& task, bool brief);
  void watch();
  void look();
  void ask();
  void ask_copies();
  void update_stalled(std::uint64_t now_ns);
  std::uint64_t all_due_ns(std::uint64_t now_ns) const;
  bool end_late(std::uint64_t now_ns);

  EventLoop& loop_;
  ClaimedHandle port_;
  const JobId job_;
  const Resources& resources_;
  SessionEvents events_;
  const Patience patience_;
  bool opened_ = false;
  bool closed_ = false;
  bool was_used_ = false;
  bool stalled_ = false;
  bool suspended_ = false;
  std::uint64_t asked_ns_ = 0;  ///< when the null call was made that is not answered; 0: none
  TimerId watch_timer_ = 0;
  std::uint64_t copies_asked_ns_ = 0;
  bool asking_copies_ = false;
  proto::context::Copies::Reply copies_{};  ///< as it said last
  std::map<std::pair<TenantId, std::uint32_t>, Loaded> codelets_;
  std::unordered_map<std::uint32_t, std::uint64_t> bound_;  ///< serial by buffer
  std::list<Unbinding> unbindings_;                         ///< in order
  std::size_t unbinds_sent_ = 0;                            ///< of these
  std::deque<Running> running_;
  std::map<std::uint64_t, Status> bind_failures_;  ///< why a task will fail, by its number
  std::vector<Running*> free_;
  std::uint64_t last_batch_ = 0;
  proto::context::RunBatch::Request batch_{};  ///< not sent yet
  std::vector<Running*> batch_tasks_;
  std::uint64_t batch_ns_ = 0;      ///< what they are expected to take
  std::unique_ptr<Client> client_;  // last: its end calls back into the above
};

}  // namespace aios::scheduler
