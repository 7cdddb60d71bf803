// A driver with one device and its contexts, for fuzzing what uses them: every answer is immediate,
// and what becomes of a task is what the task's first argument byte says. It lives in the process,
// on the kernel connection and in the loop of the server under test.
#pragma once

#include <algorithm>
#include <memory>

#include "abi/proto/device.hpp"
#include "abi/runtime/server.hpp"

namespace aios::fuzz {

class FakeContext {
 public:
  using Load = proto::context::Load;
  using Bind = proto::context::Bind;
  using Unbind = proto::context::Unbind;
  using Run = proto::context::Run;
  using RunBatch = proto::context::RunBatch;
  using BatchFailure = proto::context::BatchFailure;

  FakeContext(Kernel& kernel, EventLoop& loop, Handle port)
      : kernel_(kernel), server_(kernel, loop, *this) {
    (void)server_.listen(port);
  }
  Answer<Load::Reply> handle(Load, const Load::Request& request, CallContext&) {
    kernel_.close(request.region);
    return Load::Reply{next_codelet_++, 0};
  }
  Answer<proto::Empty> handle(Bind, const Bind::Request& request, CallContext&) {
    kernel_.close(request.object);
    if (request.length > 1u << 20) return error(Code::no_memory, "too long for this device");
    return proto::Empty{};
  }
  Answer<proto::Empty> handle(proto::context::Pause, const proto::context::Pause::Request&,
                              CallContext&) {
    return proto::Empty{};
  }
  /// More each time, but for now and then.
  Answer<proto::context::Copies::Reply> handle(proto::context::Copies, const proto::Empty&,
                                               CallContext&) {
    copies_ = copies_ * 31 % 1'000'003 + 1;
    return proto::context::Copies::Reply{{{copies_, copies_ * 100, copies_ * 999}, {1, ~0ull, 0}},
                                         {{0, 1, 2}, {copies_, copies_ << 20, copies_ << 30}}};
  }
  Answer<proto::Empty> handle(Unbind, const Unbind::Request&, CallContext&) {
    return proto::Empty{};
  }
  Answer<Run::Reply> handle(Run, const Run::Request& request, CallContext& call) {
    switch (request.arguments[0] % 8) {
      case 1:
        return error(static_cast<Code>(1 + request.arguments[1] % 25), "the task says so");
      case 2:  // the context dies under it
        server_.close_client(call.client(), {});
        return deferred;
      case 3:  // it never ends
        return deferred;
      default: {
        Run::Reply reply{.start_ns = now_ns(), .end_ns = now_ns(), .peak_memory_bytes = 1};
        std::memcpy(reply.result, request.arguments + 8, sizeof reply.result);
        return reply;
      }
    }
  }
  /// What becomes of a batch is told by its last byte.
  Answer<RunBatch::Reply> handle(RunBatch, const RunBatch::Request& request, CallContext& call) {
    RunBatch::Reply reply{.base_ns = now_ns(),
                          .peak_memory_bytes = 1,
                          .count = static_cast<std::uint8_t>(request.count)};
    switch (request.packed_bytes == 0 ? 0 : request.packed[request.packed_bytes - 1] % 8) {
      case 1:  // one fails, the rest has not run
        reply.count = 1;
        reply.status = static_cast<std::uint32_t>(Code::crashed);
        return reply;
      case 2:
        server_.close_client(call.client(), {});
        return deferred;
      case 3:
        return deferred;
      case 4:  // a hostile context
        reply.count = static_cast<std::uint8_t>(request.count + 1);
        return reply;
      case 5:  // one before it failed
        reply.count = 0;
        reply.status = static_cast<std::uint32_t>(Code::cancelled);
        return reply;
      default:
        return reply;
    }
  }
  Answer<BatchFailure::Reply> handle(BatchFailure, const BatchFailure::Request& request,
                                     CallContext&) {
    if (request.number % 2 == 0) return error(Code::not_found, "no such batch");
    return BatchFailure::Reply{.why = decltype(BatchFailure::Reply::why)::from("the task says so")};
  }

 private:
  Kernel& kernel_;
  Server<proto::context::Protocol, FakeContext> server_;
  std::uint32_t next_codelet_ = 0;
  std::uint64_t copies_ = 1;
};

class FakeDriver {
 public:
  using Device = proto::driver::Device;
  using OpenContext = proto::driver::OpenContext;
  using CloseContext = proto::driver::CloseContext;

  FakeDriver(Kernel& kernel, EventLoop& loop)
      : kernel_(kernel),
        port_(make_port(kernel)),
        context_port_(make_port(kernel)),
        server_(kernel, loop, *this),
        context_(kernel, loop, context_port_) {
    (void)server_.listen(port_);
  }
  Handle port() const { return port_; }

  Answer<Device::Reply> handle(Device, const Device::Request&, CallContext&) {
    Device::Reply reply{.count = 1, .cores = 2, .threads = 2, .own_memory = 1};
    reply.kind = decltype(reply.kind)::from("cpu");
    reply.backend = decltype(reply.backend)::from("fake");
    return reply;
  }
  /// Every call gives another context, as after the end of the one before.
  Answer<OpenContext::Reply> handle(OpenContext, const OpenContext::Request& request,
                                    CallContext& call) {
    kernel_.close(request.tenant);
    const proto::kernel::LinkSend::Entry port{context_port_,
                                              static_cast<std::uint32_t>(ObjectType::port),
                                              rights::connect | rights::info, 0, 0};
    const auto sent = TRY(server_.send_handles(call.client(), std::span(&port, 1)));
    ++generation_;
    OpenContext::Reply reply{
        .port = sent.front(), .process_id = generation_, .generation = generation_, .threads = 2};
    reply.previous_end = generation_ % 5;
    return reply;
  }
  Answer<proto::driver::Absent::Reply> handle(proto::driver::Absent,
                                              const proto::driver::Absent::Request&, CallContext&) {
    return proto::driver::Absent::Reply{};
  }
  Answer<proto::Empty> handle(CloseContext, const CloseContext::Request&, CallContext&) {
    return proto::Empty{};
  }

 private:
  static Handle make_port(Kernel& kernel) {
    const auto name = proto::kernel::Name::from("fake");
    return kernel.call<proto::kernel::PortCreate>({name}).value().reply.port;
  }
  Kernel& kernel_;
  Handle port_;
  Handle context_port_;
  Server<proto::driver::Protocol, FakeDriver> server_;
  FakeContext context_;
  std::uint32_t generation_ = 0;
};

}  // namespace aios::fuzz
