// The calling side of a protocol: typed calls to the server behind a port.
//
// A Client connects when it is first used and again after its server died. Calls that were not yet
// sent wait for the new connection within their deadlines, and so do calls in flight of methods
// that are idempotent (proto::is_idempotent): they are sent again. Other calls in flight end with
// peer_closed, since only the caller knows whether they may be repeated. Every call ends: with its
// reply, the server's error, peer_closed, or timed_out at its deadline.
//
// With an EventLoop calls are asynchronous and callbacks run inside the loop; a callback must not
// destroy its Client (post that). Without one, `call` blocks the calling thread, and a callback
// that throws bad_alloc has had its answer: nobody else hears of that. One thread at a time.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>

#include "abi/runtime/call_table.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/link.hpp"

namespace aios {

/// A handle to travel with a call; rights as in proto::kernel::LinkSend.
struct HandleToSend {
  Handle handle;
  ObjectType type;
  std::uint32_t use;
  std::uint32_t grant;
  bool move;
};

class Client final : public Source {
 public:
  using RawCallback = CallTable::Callback;
  /// Completes the request with the numbers that its handles have at the peer.
  using Filler = std::move_only_function<void(std::span<const Handle>, std::span<std::byte>)>;

  static constexpr std::size_t max_queued_calls = 4096;

  /// `port` is a connect handle, which stays the caller's. `service` is for messages.
  Client(Kernel& kernel, EventLoop* loop, Handle port, std::uint64_t protocol_version,
         std::string service);
  Client(const Client&) = delete;
  ~Client() override;

  /// Starts a call; `callback` gets the reply once. quota goes to the callback, too, when too many
  /// calls wait.
  template <class M>
  void start(const typename M::Request& request, Deadline deadline,
             std::move_only_function<void(Result<typename M::Reply>)> callback) {
    start_raw(M::opcode, proto::bytes_to_send<M>(request), {}, {}, deadline,
              typed<M>(std::move(callback)), proto::is_idempotent<M>());
  }

  /// As `start`, with handles: they are installed at the server over the same connection that the
  /// request takes, just before it; `fill(numbers, request)` puts their numbers there into it.
  template <class M>
  void start_with_handles(
      const typename M::Request& request, std::vector<HandleToSend> handles,
      std::move_only_function<void(std::span<const Handle>, typename M::Request&)> fill,
      Deadline deadline, std::move_only_function<void(Result<typename M::Reply>)> callback) {
    start_raw(
        M::opcode, proto::bytes_to_send<M>(request), std::move(handles),
        [fill = std::move(fill)](std::span<const Handle> numbers,
                                 std::span<std::byte> bytes) mutable {
          typename M::Request filled;
          [[maybe_unused]] const bool whole = proto::take_bytes<M>(bytes, filled);
          assert(whole);
          fill(numbers, filled);
          const auto complete = proto::bytes_to_send<M>(filled);
          assert(complete.size() == bytes.size());
          std::ranges::copy(complete, bytes.begin());
        },
        deadline, typed<M>(std::move(callback)));
  }

  /// Blocks until the reply is there or the deadline passed. Only without an EventLoop.
  template <class M>
  Result<typename M::Reply> call(const typename M::Request& request, Deadline deadline) {
    return call_with_handles<M>(request, {}, {}, deadline);
  }

  template <class M>
  Result<typename M::Reply> call_with_handles(
      const typename M::Request& request, std::vector<HandleToSend> handles,
      std::move_only_function<void(std::span<const Handle>, typename M::Request&)> fill,
      Deadline deadline) {
    Result<typename M::Reply> outcome = error(Code::internal);
    bool done = false;
    auto finish = [&outcome, &done](Result<typename M::Reply> reply) {
      outcome = std::move(reply);
      done = true;
    };
    if (handles.empty())
      start<M>(request, deadline, finish);
    else
      start_with_handles<M>(request, std::move(handles), std::move(fill), deadline, finish);
    drive(done);
    return outcome;
  }

  /// How often a call is sent again at most: more deaths than it can meet in reasonable time.
  static constexpr std::uint32_t max_replays = 1000;

  /// Untyped: for the C library. `request` is copied. `idempotent` calls have no handles.
  void start_raw(std::uint16_t opcode, std::span<const std::byte> request,
                 std::vector<HandleToSend> handles, Filler fill, Deadline deadline,
                 RawCallback callback, bool idempotent = false);
  /// Who waits for the end of a call.
  struct Awaiting {
    bool done = false;
    /// To set `done`, and keep what it needs of the answer, which is gone afterwards.
    virtual void finish(const Result<std::span<const std::byte>>& answer) = 0;

   protected:
    ~Awaiting() = default;
  };
  /// Blocks until `call` is done. Only without an EventLoop. An answer that comes while this looks
  /// goes straight to `call`; only after that is the clock read, and the call kept for who drives
  /// this client next.
  void call_raw(std::uint16_t opcode, std::span<const std::byte> request, std::uint64_t timeout_ns,
                Awaiting& call, bool idempotent = false);

  /// Runs whenever a connection that was open is gone, after the calls in flight were ended.
  void on_disconnect(std::function<void()> callback) { on_disconnect_ = std::move(callback); }
  bool connected() const { return link_ != nullptr && link_->open(); }
  /// Ends the connection; calls in flight and waiting end with `cancelled`.
  void disconnect();

  bool work() override;
  bool ready() const override;
  bool near() const override { return unanswered_ != 0 && link_ != nullptr && link_->near(); }
  /// Without a loop: blocks until work() may have something to do, at most until `deadline`, and
  /// ends the calls that are late.
  void wait(Deadline deadline);
  /// For those who wait by other means than wait(): when to call work() and expire() at the latest.
  Deadline wake_at() const;
  /// Ends the calls that are late.
  void expire();
  const Link* link() const { return link_.get(); }
  /// Without a loop. False: wait() sleeps at once when nothing is there.
  void allow_spinning(bool allowed) {
    spin_.allow(allowed);
    yield_.allow(allowed);
  }
  /// Blocking calls are left to `drive`, which works and waits until `done`.
  void on_drive(std::function<void(const bool& done)> drive) { on_drive_ = std::move(drive); }
  /// The kernel has ended: every call ends with peer_closed.
  void kernel_lost();

 private:
  struct Waiting {
    std::uint16_t opcode = 0;
    std::vector<std::byte> request;
    std::vector<HandleToSend> handles;
    Filler fill;
    Deadline deadline = Deadline::never();
    RawCallback callback;
    bool idempotent = false;
    std::uint32_t replays = 0;
  };
  template <class M>
  static RawCallback typed(std::move_only_function<void(Result<typename M::Reply>)> callback) {
    return [callback = std::move(callback)](Result<std::span<const std::byte>> bytes) mutable {
      if (!bytes) return callback(std::unexpected(std::move(bytes).error()));
      typename M::Reply reply;
      if (!proto::take_bytes<M>(*bytes, reply))
        return callback(
            error(Code::protocol_error, std::string(M::name) + ": reply of wrong size"));
      callback(reply);
    };
  }

  bool may_send_at_once(std::size_t request_bytes);
  std::uint32_t push(std::uint16_t opcode, std::span<const std::byte> request);
  enum class Taken { nothing, answer, another };
  Taken take_answer(std::uint32_t id, std::uint16_t opcode, Awaiting& call, Message& message);
  Result<std::vector<Handle>> send_handles(std::span<const HandleToSend> handles);
  bool look();
  void drive(const bool& done);
  bool may_connect() const;
  bool may_send() const;
  Result<void> ensure_connecting();
  bool open_link();
  bool flush();
  bool send_first();
  Result<void> send(Waiting& waiting);
  bool receive();
  Result<std::span<const std::byte>> answer_in(const Message& message, std::uint16_t opcode) const;
  void deliver(const Message& message);
  void tell(RawCallback& callback, Result<std::span<const std::byte>> answer);
  void drop_link();
  void dropped();
  void end_in_flight();
  bool replay(CallTable::Call& call);
  void fail_all(Code code, std::initializer_list<std::string_view> parts);
  void block(Deadline until);
  void await_open(Deadline until);
  void arm_deadline(Deadline deadline);
  Deadline end_late(std::uint64_t now_ns);

  Kernel& kernel_;
  EventLoop* loop_;
  Handle port_;
  std::uint64_t version_;
  std::string service_;
  std::unique_ptr<Link> link_;
  std::deque<Waiting> waiting_;
  CallTable in_flight_;
  std::uint32_t unanswered_ = 0;  ///< sent on this connection, late ones included
  bool stalled_ = false;
  bool signalled_ = false;  ///< the kernel raised a signal on the link that is being made
  TimerId deadline_timer_ = 0;
  Deadline connect_at_{0};  ///< not before, after a connection that never opened; 0 at once
  TimerId connect_timer_ = 0;
  Deadline armed_ = Deadline::never();
  SpinPolicy spin_;          ///< without a loop; a loop has its own
  YieldPolicy yield_;        ///< the same
  std::uint32_t turns_ = 0;  ///< since the clock was read
  std::function<void()> on_disconnect_;
  std::function<void(const bool&)> on_drive_;
};

}  // namespace aios
