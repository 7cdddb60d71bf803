// What the scheduler asks of one context, over a real kernel; the test plays the context, one whose
// device takes its time to let go of memory.
#include "services/scheduler/server/context_session.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <span>

#include "abi/include/aios/codelet.h"
#include "abi/runtime/server.hpp"
#include "tests/protocol/scheduler/rig.hpp"

namespace aios::scheduler::test {
namespace {

class SlowContext {
 public:
  using Load = proto::context::Load;
  using Bind = proto::context::Bind;
  using Unbind = proto::context::Unbind;
  using Run = proto::context::Run;
  using RunBatch = proto::context::RunBatch;
  using BatchFailure = proto::context::BatchFailure;
  using Pause = proto::context::Pause;
  using Copies = proto::context::Copies;

  SlowContext(Kernel& kernel, EventLoop& loop, Handle port)
      : kernel_(kernel), server_(kernel, loop, *this) {
    REQUIRE(server_.listen(port));
  }
  Answer<Load::Reply> handle(Load, const Load::Request& request, CallContext& call) {
    kernel_.close(request.region);
    if (!holds_back) return Load::Reply{};
    loads.push_back(call.token());
    return deferred;
  }
  Answer<proto::Empty> handle(Bind, const Bind::Request& request, CallContext&) {
    kernel_.close(request.object);
    diary.push_back("bind " + std::to_string(request.id));
    if (request.id == not_bound) return error(Code::denied, "it may not be mapped");
    return proto::Empty{};
  }
  Answer<proto::Empty> handle(Unbind, const Unbind::Request& request, CallContext& call) {
    diary.push_back("unbind " + std::to_string(request.id));
    owed.push_back(call.token());
    return deferred;
  }
  Answer<Run::Reply> handle(Run, const Run::Request& request, CallContext& call) {
    if (uses_unbound(std::span(request.buffers, request.buffer_count)))
      return error(Code::invalid_argument, "a buffer is not bound");
    if (!holds_back) return Run::Reply{.start_ns = 1, .end_ns = 2};
    runs.push_back(call.token());
    return deferred;
  }
  Answer<RunBatch::Reply> handle(RunBatch, const RunBatch::Request& request, CallContext& call) {
    if (holds_back) {
      batches.push_back(call.token());
      return deferred;
    }
    proto::context::BufferUse first;
    std::memcpy(&first, request.packed + sizeof(RunBatch::PackedRun), sizeof first);
    if (uses_unbound(std::span(&first, 1)))
      return error(Code::invalid_argument, "a buffer is not bound");
    RunBatch::Reply reply{
        .transfer_ns = 400'000, .ahead_us = 200, .count = static_cast<std::uint8_t>(request.count)};
    for (RunBatch::Ended& ended : reply.ended) ended = {1, 2};
    return reply;
  }
  Answer<BatchFailure::Reply> handle(BatchFailure, const BatchFailure::Request&, CallContext&) {
    return error(Code::not_supported, "no batches here");
  }
  Answer<proto::Empty> handle(Pause, const Pause::Request&, CallContext&) { return proto::Empty{}; }
  Answer<Copies::Reply> handle(Copies, const proto::Empty&, CallContext&) {
    return Copies::Reply{};
  }
  /// The Unbind that has waited longest.
  void answer(const Result<proto::Empty>& reply) {
    server_.reply<Unbind>(owed.front(), reply);
    owed.pop_front();
  }

  void load_all() {
    for (const ReplyToken& token : std::exchange(loads, {}))
      server_.reply<Load>(token, Load::Reply{.codelet = 1, .reserved = 0});
  }

  void answer_batches() {
    for (const ReplyToken& token : std::exchange(batches, {})) {
      RunBatch::Reply reply{.count = 1};
      reply.ended[0] = {1, 2};
      server_.reply<RunBatch>(token, reply);
    }
  }

  void fail_run(const Status& why) {
    server_.reply<Run>(runs.front(), std::unexpected(why));
    runs.erase(runs.begin());
  }

  std::vector<std::string> diary;
  std::deque<ReplyToken> owed;  ///< Unbinds
  bool holds_back = false;      ///< loads and runs are not answered
  std::vector<ReplyToken> loads, runs, batches;
  std::uint32_t not_bound = ~0u;  ///< cannot be

 private:
  bool uses_unbound(std::span<const proto::context::BufferUse> uses) const {
    return std::ranges::any_of(uses, [&](const auto& use) { return use.id == not_bound; });
  }

  Kernel& kernel_;
  Server<proto::context::Protocol, SlowContext> server_;
};

/// A session with buffers that are all bound.
struct Session {
  static constexpr JobId job_id = 1;
  static constexpr std::uint32_t count = 100;

  explicit Session(Patience patience = {}) {
    port = kernel->call<proto::kernel::PortCreate>({proto::kernel::Name::from("slow")})->reply.port;
    context = std::make_unique<SlowContext>(*kernel, *loop, port);
    job.id = job_id;
    tenant.id = 1;
    tenant.job = &job;
    job.buffers.resize(count);
    for (int i = 0; i < 2; ++i)
      resources.add_codelet(
          1, {claim(ObjectType::region), 0, 1, decltype(CodeletSource::function)::from("work")});
    for (std::uint32_t i = 0; i < count; ++i) add_buffer(i);
    SessionEvents events;
    events.opened = [this](const Result<void>& outcome) { opened = outcome.has_value(); };
    events.lost = [] { FAIL("the link is lost"); };
    events.loaded = [](TenantId, std::uint32_t, std::uint64_t) {};
    events.stalled = [](bool) {};
    events.begun = [](TaskRef, std::uint64_t) {};
    events.not_begun = [this](TaskRef) { ++not_begun; };
    events.answered = [this](TaskRef, const Result<Core::RunReply>& answer) {
      if (answer)
        answers.push_back(*answer);
      else
        failures.push_back(answer.error());
    };
    auto claimed = claims.claim(port, any_sender, {ObjectType::port}, rights::connect, 0);
    REQUIRE(claimed);
    session = std::make_unique<ContextSession>(*kernel, *loop, std::move(claimed->handle), job_id,
                                               resources, std::move(events), patience);
    session->open();
    turn_until([&] { return opened; });
    for (std::uint32_t i = 0; i < count; ++i) run(i);
  }
  ClaimedHandle claim(ObjectType type) {
    const Region& region = regions.emplace_back(*Region::create(*kernel, 4096, "data"));
    auto claimed = claims.claim(region.handle(), any_sender, {type}, rights::map_read, 0);
    REQUIRE(claimed);
    return std::move(claimed->handle);
  }
  void add_buffer(std::uint32_t number) {
    resources.add_buffer(job_id, number,
                         {claim(ObjectType::region), ObjectType::region, 0, 4096, false, 1, 0});
  }
  Task task(std::uint32_t buffer) {
    Task task{};
    task.tenant = &tenant;
    task.record.buffer_count = 1;
    task.record.buffers[0] = buffer | AIOS_MODE_READ << 28;
    return task;
  }
  void run(std::uint32_t buffer) {
    const std::size_t before = answers.size();
    session->run({0, ++last_number}, task(buffer), false, {});
    turn_until([&] { return answers.size() > before; });
  }
  template <class Done>
  void turn_until(Done done) {
    const Deadline deadline = soon();
    while (!done()) {
      REQUIRE_FALSE(deadline.passed());
      // Both ends are in this loop: what one has sent in a turn the other finds in the next.
      REQUIRE(loop->turn(Deadline::after(0)));
    }
  }
  /// Until it has answered a call that was made now.
  void settle() {
    bool answered = false;
    session->suspend(false, [&](const Result<proto::Empty>& reply) {
      CHECK(reply);
      answered = true;
    });
    turn_until([&] { return answered; });
  }

  aios::test::Machine machine{"serve"};
  std::unique_ptr<Kernel> kernel = *Kernel::attach(machine.socket_path());
  std::unique_ptr<EventLoop> loop = *EventLoop::create(kernel.get());
  HandleClaims claims{*kernel};
  std::deque<Region> regions;
  Handle port = 0;
  std::unique_ptr<SlowContext> context;
  Resources resources;
  Job job;
  scheduler::Tenant tenant;
  bool opened = false;
  std::vector<Core::RunReply> answers;
  std::vector<Status> failures;
  std::uint32_t not_begun = 0;
  std::uint64_t last_number = 0;
  std::unique_ptr<ContextSession> session;
};

}  // namespace

TEST_CASE("A context that lets go of many buffers slowly still answers what else it is asked") {
  Session s;
  std::uint32_t gone = 0;
  for (std::uint32_t i = 0; i < Session::count; ++i) s.session->release_buffer(i, [&] { ++gone; });
  s.settle();
  CHECK(s.context->owed.size() == 16);
  CHECK(gone == 0);
  // One of another buffer with that number comes after what was there before.
  s.context->diary.clear();
  s.add_buffer(99);
  s.run(99);
  CHECK(s.context->diary == std::vector<std::string>{"unbind 99", "bind 99"});
  std::size_t most = 0;
  for (std::uint32_t answered = 0; answered < Session::count; ++answered) {
    s.turn_until([&] { return !s.context->owed.empty(); });
    most = std::max(most, s.context->owed.size());
    s.context->answer(proto::Empty{});
  }
  s.turn_until([&] { return gone == Session::count; });
  CHECK(most == 17);
}

TEST_CASE("What a batch has copied is its tasks', by what was predicted of each") {
  Session s;
  s.answers.clear();
  for (const double predicted_ns : {1.0, 3.0}) {
    Task task = s.task(1);
    task.transfer.ns = predicted_ns;
    s.session->run({0, ++s.last_number}, task, true, {});
  }
  s.session->flush();
  s.turn_until([&] { return s.answers.size() == 2; });
  CHECK(s.answers[0].transfer_ns == 100'000);
  CHECK(s.answers[0].ahead_ns == 50'000);
  CHECK(s.answers[1].transfer_ns == 300'000);
  CHECK(s.answers[1].ahead_ns == 150'000);
}

TEST_CASE(
    "A module is late when the context has had the time for it, and all before it, not sooner") {
  constexpr Patience brief{.load_ns = 500'000'000, .grace_ns = 0, .look_every_ns = 5'000'000};
  Session s(brief);
  s.context->holds_back = true;
  Task first = s.task(1), second = s.task(2);
  second.record.codelet = 1;
  // Nobody knows how long a task without limit takes.
  s.session->run({0, 1000}, first, false, {});
  s.session->run({0, 1001}, second, false, {});
  s.turn_until([&] { return s.context->loads.size() == 1 && s.context->runs.size() == 1; });
  for (const Deadline later = Deadline::after(2 * brief.load_ns); !later.passed();)
    REQUIRE(s.loop->turn(Deadline::after(brief.look_every_ns)));
  CHECK(s.failures.empty());
  // Nor is a context late that somebody has suspended.
  Session other(brief);
  other.context->holds_back = true;
  other.session->run({0, 1000}, second, false, {});
  other.session->suspend(true, [](const Result<proto::Empty>&) {});
  for (const Deadline later = Deadline::after(2 * brief.load_ns); !later.passed();)
    REQUIRE(other.loop->turn(Deadline::after(brief.look_every_ns)));
  CHECK(other.failures.empty());
  other.session->suspend(false, [](const Result<proto::Empty>&) {});
  other.turn_until([&] { return !other.failures.empty(); });
  CHECK(other.failures.size() == 1);
  CHECK(other.failures.front().code() == Code::timed_out);
  // That it answers after all is of no use any more.
  other.context->load_all();
  other.settle();
  CHECK(other.context->runs.empty());
}

TEST_CASE("A brief task in the place of one that had a time limit is never late") {
  constexpr Patience brief{.load_ns = 500'000'000, .grace_ns = 0, .look_every_ns = 5'000'000};
  Session s(brief);
  Task limited = s.task(1);
  limited.record.limit_ns = 1'000'000;
  const std::size_t before = s.answers.size();
  s.session->run({0, 1000}, limited, false, {});
  s.turn_until([&] { return s.answers.size() > before; });
  s.context->holds_back = true;
  s.session->run({0, 1001}, s.task(1), true, {});
  s.session->flush();
  s.turn_until([&] { return s.context->batches.size() == 1; });
  for (const Deadline later = Deadline::after(200'000'000); !later.passed();)
    REQUIRE(s.loop->turn(Deadline::after(brief.look_every_ns)));
  CHECK(s.failures.empty());
  s.context->answer_batches();
  s.turn_until([&] { return s.answers.size() > before + 1; });
}

TEST_CASE("Why a buffer could not be bound is told of those that name it, and of none after them") {
  Session s;
  s.context->not_bound = 7;
  s.add_buffer(7);
  for (const bool brief : {false, true}) {
    CAPTURE(brief);
    s.failures.clear();
    s.session->run({0, ++s.last_number}, s.task(7), brief, {});
    s.session->flush();
    s.turn_until([&] { return s.failures.size() == 1; });
    CHECK(s.failures.front().code() == Code::denied);
    CHECK(s.failures.front().message() == "it may not be mapped");
    s.answers.clear();
    s.session->run({0, ++s.last_number}, s.task(1), brief, {});
    s.session->flush();
    s.turn_until([&] { return s.answers.size() == 1; });
    CHECK(s.failures.size() == 1);
  }
}

TEST_CASE("A context that runs as many tasks as the largest machine has processors is looked at") {
  Session s;
  s.context->holds_back = true;
  for (std::uint32_t i = 0; i < max_slots_per_device; ++i)
    s.session->run({0, 1000 + i}, s.task(1), false, {});
  s.turn_until([&] { return s.context->runs.size() == max_slots_per_device; });
  s.settle();
}

TEST_CASE(
    "Why a task failed is told in full where there is room beside the answers that are owed") {
  // As many runs as the ring of answers has room for, and one more answer of the greatest size.
  constexpr std::size_t run_slots = slots_for(sizeof(proto::ReplyHeader) + sizeof(Core::RunReply));
  constexpr std::size_t most = (proto::slot_count - proto::max_message_slots) / run_slots + 1;
  Session s;
  s.context->holds_back = true;
  for (std::uint32_t i = 0; i < most + 10; ++i) s.session->run({0, 1000 + i}, s.task(1), false, {});
  s.turn_until([&] { return s.context->runs.size() == most; });
  const std::string why(300, 'w');
  for (int i = 0; i < 2; ++i) s.context->fail_run(Status(Code::io_error, why));
  s.turn_until([&] { return s.failures.size() == 2; });
  CHECK(s.failures[0].message() == why);
  CHECK(s.failures[1].code() == Code::io_error);
  CHECK(s.failures[1].message() ==
        why.substr(0, payload_for(run_slots) - sizeof(proto::ReplyHeader)));
}

TEST_CASE("A module whose tenant has left while it was loaded is nobody's") {
  Session s;
  s.context->holds_back = true;
  Task ahead = s.task(1);
  ahead.record.codelet = 1;
  const std::uint64_t after[] = {1};
  s.session->run({0, 1000}, ahead, true, after);
  CHECK(s.not_begun == 1);
  s.session->drop_tenant(1);
  s.turn_until([&] { return s.context->loads.size() == 1; });
  s.context->load_all();
  s.settle();
  CHECK(s.failures.empty());
}

TEST_CASE("Only what a context has let go of is said to be gone") {
  Session s;
  std::vector<int> gone;
  const auto note = [&](int number) { return [&gone, number] { gone.push_back(number); }; };
  s.session->evict(1, note(1));
  s.session->evict(2, note(2));
  s.session->evict(3, note(3));
  s.session->evict(4, note(4));
  // Asked twice it is told twice, and what comes back has not gone.
  s.session->release_buffer(3, note(30));
  s.run(4);
  s.settle();
  REQUIRE(s.context->owed.size() == 4);
  s.context->answer(error(Code::quota, "the device is busy"));
  s.context->answer(error(Code::not_found, "it was not bound"));
  s.context->answer(proto::Empty{});
  s.context->answer(proto::Empty{});
  s.settle();
  CHECK(gone == std::vector<int>{2, 30, 3});
  s.session->evict(5000, note(5000));
  CHECK(gone.back() == 5000);
}

}  // namespace aios::scheduler::test
