// The MapReduce service's protocol: abi/proto/mapreduce.hpp.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "abi/proto/mapreduce.hpp"
#include "abi/runtime/server.hpp"
#include "services/mapreduce/job_runner.hpp"

namespace aios::mapreduce {

class MapReduceServer {
 public:
  /// `tasks` and `storage` are connect handles. All outlive it.
  MapReduceServer(Kernel& kernel, EventLoop& loop, Handle tasks, Handle storage);

  Result<void> listen(Handle port) { return server_.listen(port); }

  template <class M>
  using AnswerTo = Answer<typename M::Reply>;
  using Prepare = proto::mapreduce::Prepare;
  using Submit = proto::mapreduce::Submit;
  using Next = proto::mapreduce::Next;
  using Lend = proto::mapreduce::Lend;
  using AddSegment = proto::mapreduce::AddSegment;
  using AddSpare = proto::mapreduce::AddSpare;
  using Written = proto::mapreduce::Written;
  using Failure = proto::mapreduce::Failure;
  using Cancel = proto::mapreduce::Cancel;
  using JobNext = proto::mapreduce::JobNext;

  AnswerTo<Prepare> handle(Prepare, const Prepare::Request& request, CallContext& call);
  AnswerTo<Submit> handle(Submit, const Submit::Request& request, CallContext& call);
  AnswerTo<Next> handle(Next, const Next::Request& request, CallContext& call);
  AnswerTo<Lend> handle(Lend, const Lend::Request& request, CallContext& call);
  AnswerTo<AddSegment> handle(AddSegment, const AddSegment::Request& request, CallContext& call);
  AnswerTo<AddSpare> handle(AddSpare, const AddSpare::Request& request, CallContext& call);
  AnswerTo<Written> handle(Written, const Written::Request& request, CallContext& call);
  AnswerTo<Failure> handle(Failure, const Failure::Request& request, CallContext& call);
  AnswerTo<Cancel> handle(Cancel, const Cancel::Request& request, CallContext& call);
  AnswerTo<JobNext> handle(JobNext, const JobNext::Request& request, CallContext& call);
  Answer<proto::Empty> handle(proto::Drain, const proto::Empty&, CallContext& call);
  void client_closed(ClientId client);

 private:
  struct Job {
    ClientId client;
    std::uint32_t uid;
    std::uint64_t kernel_job_id;
    std::uint64_t started_ns;
    Submit::Request request{};            ///< label, reducers, threads and bytes before it is there
    std::shared_ptr<JobRunner> runner{};  ///< none before it is submitted
    proto::mapreduce::Progress preparation{};
    bool cancelled = false;               ///< before it was submitted
    std::optional<ReplyToken> waiting{};  ///< a Next that is not answered yet
    TimerId timer = 0;

    const proto::mapreduce::Progress& progress() const {
      return runner == nullptr ? preparation : runner->machine().progress();
    }
  };

  /// And cancel.
  static bool may_see(const PeerInfo& peer, const Job& job) {
    return job.uid == peer.uid || peer.is_operator();
  }
  /// A job of the caller's that was submitted.
  Result<Job*> find(std::uint64_t id, const CallContext& call);
  /// One that was not. Nothing; or cancelled.
  Result<Job*> find_prepared(std::uint64_t id, const CallContext& call);
  /// One more, not submitted. quota.
  Result<std::uint64_t> add(const CallContext& call);
  void changed(std::uint64_t id);
  void answer(Job& job, const ClientEvent& event);

  Kernel& kernel_;
  EventLoop& loop_;
  HandleClaims claims_;
  TaskLink tasks_;
  SpillStore spills_;
  Services services_;
  std::map<std::uint64_t, Job> jobs_;
  std::uint64_t last_job_ = 0;
  Draining draining_;
  Server<proto::mapreduce::Protocol, MapReduceServer> server_;
};

}  // namespace aios::mapreduce
