// The serving side of a protocol.
//
//   class Echo {
//    public:
//     Answer<proto::echo::Echo::Reply> handle(proto::echo::Echo, const proto::echo::Echo::Request&,
//                                             CallContext&);
//     ...one `handle` for every method; a missing one does not compile.
//     void client_opened(ClientId, const PeerInfo&);   // optional
//     void client_closed(ClientId);                    // optional
//   };
//   Server<proto::echo::Protocol, Echo> server(kernel, loop, echo);
//   TRY(server.listen(port));
//
// A method answers at once, or returns `deferred` after taking `context.token()` and answers later
// with `server.reply<Method>(token, result)`. Room for every answer is reserved in the client's
// ring when its request is accepted, so a reply never blocks and never fails: a client that does
// not read its replies is simply not read from. The text of an error is cut to what was reserved
// where there is no more room beside the other answers that are owed (decision 0101). A client gets
// a bounded share of every turn. Malformed messages are answered protocol_error and close the link.
//
// With guard_by(), a request that was in flight when the server crashed runs alone when it comes
// again, and one that is poison is answered `crashed`; see in_flight.hpp.
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/in_flight.hpp"
#include "abi/runtime/link.hpp"

namespace aios {

using ClientId = std::uint64_t;

struct ReplyToken {
  ClientId client = 0;
  std::uint32_t call_id = 0;
  std::uint16_t opcode = 0;
  std::uint16_t slots = 0;  ///< of the client's ring that are kept for the answer
};

struct Deferred {};
inline constexpr Deferred deferred;

/// What a method returns: its reply, an error, or `deferred`.
template <class Reply>
class Answer {
 public:
  Answer(const Reply& reply) : value_(reply) {}
  Answer(Deferred) : value_(Deferred{}) {}
  Answer(std::unexpected<Status> status) : value_(std::move(status).error()) {}
  Answer(Result<Reply> result) {
    if (result)
      value_ = *result;
    else
      value_ = std::move(result).error();
  }
  bool is_deferred() const { return std::holds_alternative<Deferred>(value_); }
  Result<Reply> result() const {
    if (const Status* status = std::get_if<Status>(&value_)) return std::unexpected(*status);
    return std::get<Reply>(value_);
  }

 private:
  std::variant<Deferred, Reply, Status> value_;
};

class CallContext {
 public:
  CallContext(ClientId client, const PeerInfo& peer, ReplyToken token)
      : client_(client), peer_(peer), token_(token) {}
  ClientId client() const { return client_; }
  const PeerInfo& peer() const { return peer_; }
  ReplyToken token() const { return token_; }

 private:
  ClientId client_;
  const PeerInfo& peer_;
  ReplyToken token_;
};

/// What a server that has to finish its work keeps of proto::Drain.
class Draining {
 public:
  /// Once it has begun, programs get no new work.
  bool begun() const { return begun_; }
  /// To be called by the method, which then returns `deferred`.
  void begin(ReplyToken token) {
    begun_ = true;
    owed_ = token;
  }
  /// To be called whenever there is no work: answers the supervisor, once.
  template <class AnyServer>
  void idle(AnyServer& server) {
    if (owed_)
      server.template reply<proto::Drain>(*std::exchange(owed_, std::nullopt), proto::Empty{});
  }

 private:
  bool begun_ = false;
  std::optional<ReplyToken> owed_;
};

/// What does not depend on the protocol: accepting, reading, credit, replying.
class ServerBase : public Source {
 public:
  ServerBase(Kernel& kernel, EventLoop& loop, std::uint64_t protocol_version);
  ServerBase(const ServerBase&) = delete;
  ~ServerBase() override;

  /// Serves connections that come through `port` (a handle with accept).
  Result<void> listen(Handle port);

  /// Notes in `in_flight`, which outlives this, what runs. Before listen.
  void guard_by(InFlight& in_flight) { in_flight_ = &in_flight; }

  bool work() override;
  bool ready() const override;
  bool near() const override { return near_; }

  template <class M>
  void reply(ReplyToken token, const Result<typename M::Reply>& result) {
    if (!result) return reply_error(token, result.error());
    reply_bytes(token, proto::bytes_to_send<M>(*result));
  }

  /// Installs handles at a client; peer_closed when it is gone.
  Result<std::vector<Handle>> send_handles(ClientId client,
                                           std::span<const proto::kernel::LinkSend::Entry> entries);
  const PeerInfo* peer(ClientId client) const;
  /// Ends the link of a client that broke the rules; `why` goes to the log.
  void close_client(ClientId client, const std::string& why);
  std::size_t client_count() const { return clients_.size(); }
  /// By a method that takes long: this client's next message is taken in the next turn of the loop,
  /// and what was posted meanwhile runs first.
  void end_turn() { turn_ended_ = true; }

 protected:
  struct Peer {
    std::unique_ptr<Link> link;
    PeerInfo info;
    std::uint32_t reserved_slots = 0;  ///< for replies that are owed
    bool stalled = false;              ///< its ring has no room for another reply
    bool doomed = false;
  };
  ReplyToken token_of(ClientId client, const Message& message) const {
    const std::uint16_t opcode = message.header.opcode;
    return {client, message.header.call_id, opcode,
            static_cast<std::uint16_t>(reply_slots_of(opcode))};
  }
  /// The answer will take no more than that.
  static void keep_only(Peer& peer, ReplyToken& token, std::size_t reply_bytes) {
    const std::uint32_t slots = slots_for(sizeof(proto::ReplyHeader) + reply_bytes);
    if (slots >= token.slots) return;
    peer.reserved_slots -= token.slots - slots;
    token.slots = static_cast<std::uint16_t>(slots);
  }
  virtual void dispatch(ClientId client, Peer& peer, const Message& message) = 0;
  /// What a good answer takes at most.
  virtual std::uint32_t reply_slots_of(std::uint16_t) const { return proto::max_message_slots; }
  /// The same for a request that is made again. Only asked of who is guarded.
  virtual std::uint64_t key_of(const Message&) const { return 0; }
  virtual bool parks(std::uint16_t) const { return false; }
  virtual void opened(ClientId client, const PeerInfo& info) = 0;
  virtual void closed(ClientId client) = 0;

  /// Takes the connections that wait at `port`; for a server whose loop gets no signals.
  void accept_all(Handle port);
  void reply_error(ReplyToken token, const Status& status);
  void reply_bytes(ReplyToken token, std::span<const std::byte> body);
  std::uint64_t version() const { return version_; }

 private:
  struct Held {
    ClientId client;
    Message message;
  };
  struct Begun {
    ReplyToken token;
    std::uint32_t slot;
  };
  using CallKey = std::pair<ClientId, std::uint32_t>;
  using Clients = std::map<ClientId, Peer>;

  Peer* find(ClientId client);
  bool serve(Clients::value_type& served);
  void take(ClientId client, Peer& peer, const Message& message);
  bool start(ClientId client, Peer& peer, const Message& message);
  bool may_run_held() const;
  void run_held();
  void note_end(ReplyToken token);
  void forget_calls(ClientId client);
  static bool has_work(const Peer& peer);
  bool has_credit(Peer& peer);
  bool has_room_for(ReplyToken token, std::size_t payload_bytes);
  void push_reply(ReplyToken token, std::uint32_t status, std::span<const std::byte> body);
  void drop_doomed();
  void accept_later();

  Kernel& kernel_;
  EventLoop& loop_;
  std::uint64_t version_;
  bool turn_ended_ = false;
  ClientId next_client_ = 1;
  Clients clients_;
  Clients::value_type* last_served_ = nullptr;  ///< the next message and the answer are often its
  std::vector<Handle> ports_;
  TimerId accept_timer_ = 0;
  bool any_doomed_ = false;
  bool near_ = false;  ///< the client that was told last

  InFlight* in_flight_ = nullptr;
  std::optional<Begun> dispatching_;         ///< its method has not returned or answered yet
  std::map<CallKey, std::uint32_t> begun_;   ///< slots of those that are answered later
  std::optional<CallKey> alone_;             ///< nothing else may run beside it
  std::deque<Held> held_;                    ///< until it has ended, or may begin
  Deadline hold_until_ = Deadline::never();  ///< then the first of them begins all the same
  TimerId hold_timer_ = 0;
};

template <class Protocol, class Impl>
class Server final : public ServerBase {
 public:
  Server(Kernel& kernel, EventLoop& loop, Impl& impl)
      : ServerBase(kernel, loop, Protocol::version), impl_(impl) {}

 private:
  void dispatch(ClientId client, Peer& peer, const Message& message) override {
    dispatch_in(typename Protocol::Methods{}, client, peer, message);
  }

  std::uint32_t reply_slots_of(std::uint16_t opcode) const override {
    return reply_slots_in(typename Protocol::Methods{}, opcode);
  }
  template <class... Ms>
  static std::uint32_t reply_slots_in(proto::MethodList<Ms...>, std::uint16_t opcode) {
    std::uint32_t slots = proto::max_message_slots;
    (void)((opcode == Ms::opcode &&
            (slots = slots_for(sizeof(proto::ReplyHeader) + sizeof(typename Ms::Reply)), true)) ||
           ...);
    return slots;
  }

  std::uint64_t key_of(const Message& message) const override {
    return key_in(typename Protocol::Methods{}, message);
  }
  template <class... Ms>
  static std::uint64_t key_in(proto::MethodList<Ms...>, const Message& message) {
    std::uint64_t key = 0;
    const bool known =
        ((message.header.opcode == Ms::opcode && (key = request_key<Ms>(message), true)) || ...);
    return known ? key : request_key(message.header.opcode, message.bytes());
  }
  /// Without what changes when the same is asked for again.
  template <class M>
  static std::uint64_t request_key(const Message& message) {
    if constexpr (requires(typename M::Request request) { request.operation.age_ns; }) {
      typename M::Request request{};
      if (message.bytes().size() == sizeof request) {
        std::memcpy(&request, message.bytes().data(), sizeof request);
        request.operation.age_ns = 0;
        return request_key(M::opcode, std::as_bytes(std::span(&request, 1)));
      }
    }
    return request_key(M::opcode, message.bytes());
  }
  static std::uint64_t request_key(std::uint16_t opcode, std::span<const std::byte> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return std::hash<std::string_view>()(text) + opcode;
  }

  bool parks(std::uint16_t opcode) const override {
    return parks_in(typename Protocol::Methods{}, opcode);
  }
  template <class... Ms>
  static bool parks_in(proto::MethodList<Ms...>, std::uint16_t opcode) {
    return ((opcode == Ms::opcode && proto::does_park<Ms>()) || ...);
  }

  template <class... Ms>
  void dispatch_in(proto::MethodList<Ms...>, ClientId client, Peer& peer, const Message& message) {
    const ReplyToken token = token_of(client, message);
    const bool known =
        ((message.header.opcode == Ms::opcode && (invoke<Ms>(peer, token, message), true)) || ...);
    if (known) return;
    reply_error(token,
                Status(Code::not_supported, std::string(Protocol::name) + " has no method number " +
                                                std::to_string(message.header.opcode)));
  }

  template <class M>
  void invoke(Peer& peer, ReplyToken token, const Message& message) {
    typename M::Request request;
    if (!proto::take_bytes<M>(message.bytes(), request)) {
      reply_error(token, Status(Code::protocol_error,
                                std::string(M::name) + ": request of " +
                                    std::to_string(message.header.length) + " bytes, expected " +
                                    (proto::Trimmed<M> ? "what it says it holds, at most " : "") +
                                    std::to_string(sizeof request)));
      return close_client(token.client, "malformed " + std::string(M::name));
    }
    if constexpr (proto::Trimmed<M>) keep_only(peer, token, M::most_reply_bytes(request));
    if constexpr (std::is_same_v<M, proto::Null>) {
      reply<M>(token, proto::Empty{});
    } else {
      constexpr bool drains = std::is_same_v<M, proto::Drain>;
      if (drains && !peer.info.is_supervisor())
        return reply_error(token, Status(Code::denied, "only the supervisor drains servers"));
      // The supervisor speaks no server's protocol, and so shows version 0.
      if (!drains && peer.info.protocol_version != version())
        return reply_error(token, Status(Code::version_mismatch,
                                         std::string(Protocol::name) + " speaks version " +
                                             std::to_string(version()) + ", its client version " +
                                             std::to_string(peer.info.protocol_version)));
      CallContext context(token.client, peer.info, token);
      const Answer<typename M::Reply> answer = impl_.handle(M{}, request, context);
      if (!answer.is_deferred()) reply<M>(token, answer.result());
    }
  }

  void opened(ClientId client, const PeerInfo& info) override {
    if constexpr (requires { impl_.client_opened(client, info); })
      impl_.client_opened(client, info);
  }
  void closed(ClientId client) override {
    if constexpr (requires { impl_.client_closed(client); }) impl_.client_closed(client);
  }

  Impl& impl_;
};

}  // namespace aios
