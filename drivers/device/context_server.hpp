// A context's side of the context protocol: modules, buffers and runs of one tenant.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "abi/proto/device.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/server.hpp"
#include "drivers/device/backend.hpp"
#include "drivers/device/buffer_table.hpp"
#include "drivers/device/executor.hpp"
#include "drivers/device/run_batch.hpp"

namespace aios::device {

/// Buffers belong to the link that bound them and are gone when it closes. A link that closes while
/// tasks of it run ends the process, with exit_in_order: nobody would learn what they did, and they
/// must not write into buffers that a second attempt uses.
class ContextServer {
 public:
  /// Starts one worker per entry of `cpus`, as Executor does. `backend` outlives it.
  static Result<std::unique_ptr<ContextServer>> create(Kernel& kernel, EventLoop& loop,
                                                       const std::vector<int>& cpus,
                                                       Backend& backend);
  /// For a device with a queue of its own, on which `depth` works may be at once.
  static Result<std::unique_ptr<ContextServer>> create_queue(Kernel& kernel, EventLoop& loop,
                                                             std::size_t depth, Backend& backend);
  ContextServer(const ContextServer&) = delete;
  ~ContextServer();

  /// Where replies go; before the first request.
  void answer_through(ServerBase& server) { server_ = &server; }
  /// Ends the process, in order, whenever it has had no client for `after_ns`. Who asks for a
  /// context connects at once: whoever started this one has died before others knew of it, or is
  /// gone.
  void end_when_lonely(std::uint64_t after_ns);

  Answer<proto::context::Load::Reply> handle(proto::context::Load,
                                             const proto::context::Load::Request& request,
                                             CallContext& call);
  Answer<proto::context::Bind::Reply> handle(proto::context::Bind,
                                             const proto::context::Bind::Request& request,
                                             CallContext& call);
  Answer<proto::context::Unbind::Reply> handle(proto::context::Unbind,
                                               const proto::context::Unbind::Request& request,
                                               CallContext& call);
  Answer<proto::context::Run::Reply> handle(proto::context::Run,
                                            const proto::context::Run::Request& request,
                                            CallContext& call);
  Answer<proto::context::RunBatch::Reply> handle(proto::context::RunBatch,
                                                 const proto::context::RunBatch::Request& request,
                                                 CallContext& call);
  Answer<proto::context::BatchFailure::Reply> handle(
      proto::context::BatchFailure, const proto::context::BatchFailure::Request& request,
      CallContext& call);
  Answer<proto::context::Pause::Reply> handle(proto::context::Pause,
                                              const proto::context::Pause::Request& request,
                                              CallContext& call);
  Answer<proto::context::Copies::Reply> handle(proto::context::Copies, const proto::Empty&,
                                               CallContext&) {
    return backend_.copies();
  }
  void client_opened(ClientId client, const PeerInfo& peer);
  void client_closed(ClientId client);

 private:
  struct Loading {
    Region region;
    std::uint64_t offset;
    std::uint64_t length;
    std::string codelet;
    std::uint32_t number = 0;  // the result
  };
  /// What the executor works on; it holds plain pointers, so that all is released by the loop.
  struct Pending {
    ReplyToken token;
    std::uint64_t limit_ns;
    std::variant<std::shared_ptr<Loading>, std::shared_ptr<Work>, std::shared_ptr<RunBatch>> work;
  };

  ContextServer(Kernel& kernel, EventLoop& loop, Backend& backend)
      : kernel_(kernel), loop_(loop), backend_(backend) {}
  using ObjectInfo = proto::kernel::HandleInfo::Reply;
  Result<ObjectInfo> check_object(Handle handle);
  Result<Buffer> make_buffer(const proto::context::Bind::Request& request, const ObjectInfo& info,
                             std::uint64_t binder);
  Result<void> load(Loading& loading);
  using MakeExecutor =
      std::function<Result<std::unique_ptr<Executor>>(std::function<void()> notify)>;
  static Result<std::unique_ptr<ContextServer>> create_with(Kernel& kernel, EventLoop& loop,
                                                            Backend& backend,
                                                            const MakeExecutor& make_executor);
  Result<std::uint64_t> submit(Pending pending, Executor::Job job);
  void kick_later();
  void collect_later();
  static std::optional<Code> failure_of(const Pending& pending, const Executor::Finished& finished);
  bool is_suspect(const Pending& pending, const Executor::Finished& finished, Code failure) const;
  void answer_finished();
  void release_unbound();
  void answer(const Pending& pending, const Executor::Finished& finished);
  void answer(const Pending& pending, const RunBatch& batch, bool cancelled);
  void check_limits_at(std::uint64_t when_ns);
  void check_limits();
  void end_by_limit(std::uint64_t id);

  Kernel& kernel_;
  EventLoop& loop_;
  ServerBase* server_ = nullptr;
  Backend& backend_;
  std::map<ClientId, BufferTable> buffers_;
  std::map<ClientId, BatchLog> batches_;
  std::unordered_map<std::uint64_t, Pending> pending_;
  std::uint64_t next_job_ = 1;
  std::uint64_t release_job_ = 0;  // the last that lets go of what is not bound
  bool release_due_ = false;       // it could not be queued
  std::map<std::uint64_t, std::vector<ReplyToken>> unbinding_;  // by the job that they wait for
  std::uint64_t peak_memory_bytes_ = 0;                         // as of the last answers
  std::uint64_t lonely_ns_ = 0;
  TimerId lonely_timer_ = 0;
  TimerId limit_timer_ = 0;
  std::uint64_t limit_timer_ns_ = 0;  // 0: not armed
  std::size_t batches_pending_ = 0;
  TimerId collect_timer_ = 0;
  bool collecting_ = false;  // its timer is armed
  std::atomic<bool> release_queued_ = false;
  bool kick_posted_ = false;
  Fd finished_bell_;
  std::unique_ptr<Executor> executor_;  // last: its threads use what is above
};

}  // namespace aios::device
