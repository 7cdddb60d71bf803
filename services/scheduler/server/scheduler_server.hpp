// The scheduler's protocol (abi/proto/scheduler.hpp): turns requests into words to the core and the
// core's actions into calls to drivers and contexts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "abi/proto/scheduler.hpp"
#include "abi/runtime/handle_claims.hpp"
#include "abi/runtime/server.hpp"
#include "services/scheduler/core/core.hpp"
#include "services/scheduler/costs/learned_costs.hpp"
#include "services/scheduler/policy/policy.hpp"
#include "services/scheduler/server/context_pool.hpp"
#include "services/scheduler/server/driver.hpp"
#include "services/scheduler/server/history_store.hpp"
#include "services/scheduler/server/resources.hpp"
#include "services/scheduler/server/trees_keeper.hpp"

namespace aios::scheduler {

class SchedulerServer {
 public:
  template <class M>
  using Request = typename M::Request;

  SchedulerServer(Kernel& kernel, EventLoop& loop, Policy policy);
  ~SchedulerServer() {
    loop_.cancel(in_order_timer_);
    loop_.cancel(silence_timer_);
    loop_.cancel(decide_again_);
  }
  SchedulerServer(const SchedulerServer&) = delete;

  /// Where replies go; before the first request.
  void answer_through(ServerBase& server) { server_ = &server; }
  /// Devices are numbered in the order in which their drivers first name them.
  void add_driver(std::string name, std::unique_ptr<Client> client);
  /// What is learned is kept there, over restarts.
  void keep_history(std::unique_ptr<Client> storage);
  /// Trees are trained there from what is learned, and kept in storage unless that is null.
  void train_trees(std::unique_ptr<Client> trainer, std::unique_ptr<Client> storage);

  Answer<proto::scheduler::OpenTenant::Reply> handle(proto::scheduler::OpenTenant,
                                                     const proto::scheduler::OpenTenant::Request&,
                                                     CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::CloseTenant,
                              const proto::scheduler::CloseTenant::Request&, CallContext&);
  Answer<proto::scheduler::RegisterCodelet::Reply> handle(
      proto::scheduler::RegisterCodelet, const proto::scheduler::RegisterCodelet::Request&,
      CallContext&);
  Answer<proto::scheduler::RegisterBuffer::Reply> handle(
      proto::scheduler::RegisterBuffer, const proto::scheduler::RegisterBuffer::Request&,
      CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::ReleaseBuffer,
                              const proto::scheduler::ReleaseBuffer::Request&, CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::SetArena,
                              const proto::scheduler::SetArena::Request&, CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::Submit, const proto::scheduler::Submit::Request&,
                              CallContext&);
  Answer<proto::scheduler::Completions::Reply> handle(proto::scheduler::Completions,
                                                      const proto::scheduler::Completions::Request&,
                                                      CallContext&);
  Answer<proto::scheduler::Failure::Reply> handle(proto::scheduler::Failure,
                                                  const proto::scheduler::Failure::Request&,
                                                  CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::Cancel, const proto::scheduler::Cancel::Request&,
                              CallContext&);
  Answer<proto::scheduler::CancelRange::Reply> handle(proto::scheduler::CancelRange,
                                                      const proto::scheduler::CancelRange::Request&,
                                                      CallContext&);
  Answer<proto::scheduler::TaskNext::Reply> handle(proto::scheduler::TaskNext,
                                                   const proto::scheduler::TaskNext::Request&,
                                                   CallContext&);
  Answer<proto::scheduler::TaskFailure::Reply> handle(proto::scheduler::TaskFailure,
                                                      const proto::scheduler::TaskFailure::Request&,
                                                      CallContext&);
  Answer<proto::scheduler::DeviceNext::Reply> handle(proto::scheduler::DeviceNext,
                                                     const proto::scheduler::DeviceNext::Request&,
                                                     CallContext&);
  Answer<proto::scheduler::LoadNext::Reply> handle(proto::scheduler::LoadNext,
                                                   const proto::scheduler::LoadNext::Request&,
                                                   CallContext&);
  Answer<proto::scheduler::PlacementNext::Reply> handle(
      proto::scheduler::PlacementNext, const proto::scheduler::PlacementNext::Request&,
      CallContext&);
  Answer<proto::scheduler::ModelNext::Reply> handle(proto::scheduler::ModelNext,
                                                    const proto::scheduler::ModelNext::Request&,
                                                    CallContext&);
  Answer<proto::scheduler::AbsentNext::Reply> handle(proto::scheduler::AbsentNext,
                                                     const proto::scheduler::AbsentNext::Request&,
                                                     CallContext&);
  Answer<proto::Empty> handle(proto::scheduler::Suspend, const proto::scheduler::Suspend::Request&,
                              CallContext& call);
  Answer<proto::scheduler::OpenGraph::Reply> handle(proto::scheduler::OpenGraph,
                                                    const proto::scheduler::OpenGraph::Request&,
                                                    CallContext& call);
  Answer<proto::scheduler::AdmitGraph::Reply> handle(proto::scheduler::AdmitGraph,
                                                     const proto::scheduler::AdmitGraph::Request&,
                                                     CallContext& call);
  Answer<proto::scheduler::GraphNext::Reply> handle(proto::scheduler::GraphNext,
                                                    const proto::scheduler::GraphNext::Request&,
                                                    CallContext& call);
  Answer<proto::Empty> handle(proto::scheduler::SetCheaper,
                              const proto::scheduler::SetCheaper::Request&, CallContext& call);
  Answer<proto::scheduler::TreesNext::Reply> handle(proto::scheduler::TreesNext,
                                                    const proto::scheduler::TreesNext::Request&,
                                                    CallContext& call);
  Answer<proto::scheduler::Training::Reply> handle(proto::scheduler::Training, const proto::Empty&,
                                                   CallContext& call);
  Answer<proto::Empty> handle(proto::Drain, const proto::Empty&, CallContext& call);
  void client_closed(ClientId client);

 private:
  /// What a link's records are read from and its completions written to. The handle outlives the
  /// mapping: while the memory is used its creator pays for it.
  struct Arena {
    ClaimedHandle handle;
    Mapping mapping;
  };
  struct TenantState {
    JobId job;
    bool refused;  ///< its last Submit was
  };
  struct LinkState {
    std::map<TenantId, TenantState> tenants;
    Arena arena;
  };
  /// What a client calls a tenant that it may open again, see OpenTenant.
  struct Session {
    std::uint64_t process_id;
    std::uint64_t number;  ///< 0: none
    friend bool operator==(const Session&, const Session&) = default;
  };
  /// An OpenTenant that waits for the end of the tenant's last life.
  struct Opening {
    ReplyToken token;
    Session session;
    HandleClaims::Claimed job;
  };
  struct CompletionsWait {
    ReplyToken token;
    std::uint64_t offset;
    std::uint32_t room;
    std::uint32_t least;
  };
  struct Waiters {
    std::optional<CompletionsWait> completions;
    std::unique_ptr<ReplyToken> closed;  ///< CloseTenant's, once it was called
  };

  Result<JobId> job_of(const CallContext& call, std::uint32_t tenant);
  Result<proto::scheduler::OpenTenant::Reply> open(Opening opening);
  void end_session(const Session& session);
  bool is_there(const Session& session) const;
  void answer_openings();
  void close(TenantId tenant);
  Result<void> submit(const proto::scheduler::Submit::Request& request, const CallContext& call);
  void answer_completions(TenantId tenant);
  Result<proto::scheduler::Completions::Reply> take_completions(TenantId tenant,
                                                                const CompletionsWait& waiter);
  void forget_tenant(TenantId tenant, JobId job);
  void adopt_devices();
  void adopt_devices(Driver& driver);
  void guess_openings(DeviceId device, std::uint32_t backend);
  bool all_drivers_answered() const;
  void tell_all_known();
  void take_history(const std::vector<std::byte>& bytes);
  /// What was stored may speak of devices that are known only now.
  void restore_history();
  void restore_copies();
  void note_learning();
  void answer_drain();
  DevicePlace locate(DeviceId device) const { return places_[device]; }
  Result<proto::scheduler::DeviceNext::Reply> describe_device(std::uint64_t index) const;
  /// Carries out what the core wants; decides once more in the next turn of the loop.
  void changed();
  void decide_later();
  void carry_out_all();
  void carry_out(const Action& action);

  Kernel& kernel_;
  EventLoop& loop_;
  ServerBase* server_ = nullptr;
  HandleClaims claims_;
  Resources resources_;
  LearnedCosts* models_;  ///< the core's; null when the policy needs none
  Core core_;
  std::map<ClientId, LinkState> links_;
  std::map<TenantId, Session> sessions_;  ///< of those that have one, until they are forgotten
  std::vector<Opening> openings_;
  std::unordered_map<TenantId, Waiters> waiters_;
  std::vector<DevicePlace> places_;  ///< by device
  std::vector<std::unique_ptr<Driver>> drivers_;
  bool in_order_ = true;  // devices wait for those of the drivers before theirs
  TimerId in_order_timer_ = 0;
  bool drivers_are_late_ = false;  // those that have not answered are not waited for any more
  TimerId silence_timer_ = 0;
  std::vector<proto::scheduler::TaskRecord> records_;  ///< scratch for Submit
  Draining draining_;
  bool carrying_out_ = false;
  bool decision_posted_ = false;
  bool answering_drain_ = false;
  SavedHistory restored_;  ///< as it was fetched, for devices that come later
  /// Observations and copies when it was last said that there are new ones.
  std::uint64_t stored_learning_ = 0;
  std::uint64_t history_since_ns_ = 0;
  std::unique_ptr<HistoryStore> history_;
  std::unique_ptr<TreesKeeper> trees_;
  TimerId decide_again_ = 0;
  ContextPool pool_;  // last: sessions use what is above
};

}  // namespace aios::scheduler
