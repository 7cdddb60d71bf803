// The trainer's protocol: abi/proto/trainer.hpp.
#pragma once

#include <memory>
#include <optional>

#include "abi/proto/trainer.hpp"
#include "abi/runtime/handle_claims.hpp"
#include "abi/runtime/server.hpp"
#include "services/scheduler/trainer/training_thread.hpp"

namespace aios::scheduler::trainer {

class TrainerServer {
 public:
  /// `booster`, or why there is none.
  TrainerServer(Kernel& kernel, EventLoop& loop, Result<std::unique_ptr<Booster>> booster);
  TrainerServer(const TrainerServer&) = delete;

  /// Before listen. no_memory, io_error: there is no descriptor to hear of a training's end by.
  Result<void> prepare();
  Result<void> listen(Handle port) { return server_.listen(port); }
  void guard_by(InFlight& in_flight) { server_.guard_by(in_flight); }

  Answer<proto::trainer::Train::Reply> handle(proto::trainer::Train,
                                              const proto::trainer::Train::Request& request,
                                              CallContext& call);
  Answer<proto::trainer::Library::Reply> handle(proto::trainer::Library, const proto::Empty&,
                                                CallContext&);
  /// What was trained for it is not wanted any more.
  void client_closed(ClientId client);

 private:
  /// The handle outlives the mapping: while the memory is used its creator pays for it.
  struct Order {
    ReplyToken token;
    Mapping trees;
    ClaimedHandle handle;
  };
  Result<Mapping> map(Handle region, std::uint64_t bytes, bool writable);
  void ended(TrainingThread::Outcome outcome);
  static Result<proto::trainer::Train::Reply> deliver(const TrainingThread::Outcome& outcome,
                                                      const Mapping& trees);

  Kernel& kernel_;
  EventLoop& loop_;
  Result<std::unique_ptr<Booster>> booster_;
  Server<proto::trainer::Protocol, TrainerServer> server_;
  HandleClaims claims_;
  std::optional<Order> order_;  ///< nothing, too, while what its client left ends
  std::unique_ptr<TrainingThread> thread_;
};

}  // namespace aios::scheduler::trainer
