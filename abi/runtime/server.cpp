#include "abi/runtime/server.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "abi/runtime/log.hpp"

namespace aios {

namespace {
constexpr int max_messages_per_turn = 32;
constexpr std::uint64_t accept_retry_ns = 20 * ns_per_ms;
/// A request that is to run alone waits so long for the others.
constexpr std::uint64_t most_hold_ns = ns_per_s;
constexpr std::size_t max_error_text_bytes = proto::max_payload_bytes - sizeof(proto::ReplyHeader);
}  // namespace

ServerBase::ServerBase(Kernel& kernel, EventLoop& loop, std::uint64_t protocol_version)
    : kernel_(kernel), loop_(loop), version_(protocol_version) {
  loop_.add_source(this);
}

ServerBase::~ServerBase() {
  for (auto& [id, peer] : clients_) loop_.unwatch(peer.link->bell_fd());
  for (const Handle port : ports_) loop_.forget_signal(port);
  loop_.cancel(accept_timer_);
  loop_.cancel(hold_timer_);
  loop_.remove_source(this);
}

Result<void> ServerBase::listen(Handle port) {
  ports_.push_back(port);
  loop_.on_signal(port, [this, port](std::uint32_t) { accept_all(port); });
  // Connections may have been waiting since before this server was born.
  loop_.post([this, port] { accept_all(port); });
  return {};
}

void ServerBase::accept_all(Handle port) {
  for (;;) {
    PeerInfo info;
    Result<std::unique_ptr<Link>> link = Link::accept(kernel_, port, info);
    if (!link && link.error().code() == Code::busy) return;
    if (!link) {
      // That client went away; or the kernel did, and then nobody will come.
      if (link.error().code() == Code::peer_closed && !kernel_.lost()) continue;
      log_line("cannot accept a connection: " + link.error().to_string());
      return kernel_.lost() ? void() : accept_later();
    }
    const ClientId id = next_client_++;
    const Link* raw = link->get();
    if (Result<void> watched = loop_.watch(raw->bell_fd(), EPOLLIN | EPOLLET,
                                           [raw](std::uint32_t) { raw->heard_bell(); });
        !watched) {
      log_line("cannot watch a connection: " + watched.error().to_string());
      return accept_later();
    }
    Peer& peer = clients_[id];
    peer.link = std::move(*link);
    peer.info = std::move(info);
    opened(id, peer.info);
  }
}

/// Something ran out, here or in the kernel. Nobody tells when it is there again, and connections
/// that wait already raise no signal anew.
void ServerBase::accept_later() {
  loop_.cancel(accept_timer_);
  accept_timer_ = loop_.after(accept_retry_ns, [this] {
    for (const Handle port : ports_) accept_all(port);
  });
}

bool ServerBase::work() {
  bool more = false;
  // Who was served last comes first: the others have nothing most of the time, which takes a look.
  const Clients::value_type* const last = last_served_;
  if (last != nullptr && !last_served_->second.doomed) more = serve(*last_served_);
  for (Clients::value_type& client : clients_)
    if (&client != last && !client.second.doomed && serve(client)) more = true;
  if (may_run_held()) run_held();
  drop_doomed();
  return more;
}

void ServerBase::take(ClientId client, Peer& peer, const Message& message) {
  // Null calls are what a server is watched by, and cannot hurt it.
  if (in_flight_ == nullptr || message.header.opcode == proto::Null::opcode)
    return dispatch(client, peer, message);
  // Not more than the room that was reserved for answers.
  if (alone_ || !held_.empty() || !start(client, peer, message)) held_.push_back({client, message});
}

/// False when it has to wait until nothing else runs.
bool ServerBase::start(ClientId client, Peer& peer, const Message& message) {
  const ReplyToken token = token_of(client, message);
  // Its number is what a request is known by until it has ended.
  if (begun_.contains(CallKey(client, token.call_id))) {
    close_client(client, "a request with the number of another that has not ended");
    return true;
  }
  const RequestId id{peer.info.process_id, key_of(message)};
  const InFlight::Verdict verdict = in_flight_->judge(id);
  if (verdict == InFlight::Verdict::poison || verdict == InFlight::Verdict::exhausted) {
    log_line("refusing a request of process " + std::to_string(id.client) + " that ended " +
             "this server before");
    reply_error(token, Status(Code::crashed, verdict == InFlight::Verdict::poison
                                                 ? "it ended its server twice while it ran alone"
                                                 : "its server ended 8 times while it ran"));
    return true;
  }
  const bool alone = verdict == InFlight::Verdict::alone;
  if (alone && in_flight_->running() != 0 && !hold_until_.passed()) {
    if (hold_until_.is_never()) {
      hold_until_ = Deadline::after(most_hold_ns);
      hold_timer_ = loop_.at(hold_until_, [] {});
    }
    return false;
  }
  if (!hold_until_.is_never()) {
    loop_.cancel(hold_timer_);
    hold_until_ = Deadline::never();
  }
  if (alone) alone_ = CallKey(client, token.call_id);
  dispatching_ = {token, in_flight_->begin(id)};
  dispatch(client, peer, message);
  if (const auto waits = std::exchange(dispatching_, {})) {
    begun_.emplace(CallKey(client, token.call_id), waits->slot);
    if (parks(token.opcode)) note_end(token);
  }
  return true;
}

bool ServerBase::may_run_held() const {
  return !held_.empty() && !alone_ &&
         (in_flight_->running() == 0 || hold_until_.is_never() || hold_until_.passed());
}

void ServerBase::run_held() {
  while (!held_.empty() && !alone_) {
    const Held next = std::move(held_.front());
    held_.pop_front();
    Peer* const peer = find(next.client);
    if (peer == nullptr || peer->doomed) continue;
    if (start(next.client, *peer, next.message)) continue;
    held_.push_front(next);
    return;
  }
}

void ServerBase::note_end(ReplyToken token) {
  const CallKey key(token.client, token.call_id);
  if (dispatching_ && CallKey(dispatching_->token.client, dispatching_->token.call_id) == key) {
    in_flight_->end(dispatching_->slot);
    dispatching_.reset();
  } else if (const auto found = begun_.find(key); found != begun_.end()) {
    in_flight_->end(found->second);
    begun_.erase(found);
  }
  if (alone_ == key) alone_.reset();
}

/// Whatever a dead client asked for, nobody will be told about it.
void ServerBase::forget_calls(ClientId client) {
  const auto begin = begun_.lower_bound(CallKey(client, 0));
  const auto end = begun_.lower_bound(CallKey(client + 1, 0));
  for (auto entry = begin; entry != end; ++entry) in_flight_->end(entry->second);
  begun_.erase(begin, end);
  if (alone_ && alone_->first == client) alone_.reset();
}

ServerBase::Peer* ServerBase::find(ClientId client) {
  if (last_served_ != nullptr && last_served_->first == client) return &last_served_->second;
  const auto found = clients_.find(client);
  return found == clients_.end() ? nullptr : &found->second;
}

bool ServerBase::serve(Clients::value_type& served) {
  auto& [client, peer] = served;
  int taken = 0;
  turn_ended_ = false;
  for (; taken < max_messages_per_turn && !turn_ended_; ++taken) {
    // Read before the ring: requests that were published before the close are still served.
    const bool link_closed = peer.link->closed();
    if (!link_closed && !has_credit(peer)) break;
    if (peer.doomed) return false;
    Message message;
    const RingResult result = peer.link->pop(message);
    if (result == RingResult::done && !link_closed) {
      peer.reserved_slots += reply_slots_of(message.header.opcode);
      last_served_ = &served;
      take(client, peer, message);
      if (peer.doomed) return false;
      continue;
    }
    if (result == RingResult::broken) close_client(client, "its ring makes no sense");
    // Nobody would read an answer: what a dead client still asked for is not done.
    else if (link_closed)
      close_client(client, {});
    break;
  }
  if (!peer.doomed && peer.link->owes_notice()) {
    peer.link->notify_peer();
    near_ = peer.link->near();
  }
  return taken == max_messages_per_turn || turn_ended_;
}

/// Is there room for one more largest reply beside those owed? If not, asks to be rung for it.
bool ServerBase::has_credit(Peer& peer) {
  const std::uint32_t needed = peer.reserved_slots + proto::max_message_slots;
  RingResult room = peer.link->room(needed);
  if (room == RingResult::would_block && !peer.stalled) {
    peer.link->set_stalled(peer.stalled = true);
    room = peer.link->room(needed);
  }
  if (room == RingResult::would_block) return false;
  if (room == RingResult::broken)
    peer.doomed = any_doomed_ = true;
  else if (peer.stalled)
    peer.link->set_stalled(peer.stalled = false);
  return true;
}

bool ServerBase::ready() const {
  return may_run_held() || std::any_of(clients_.begin(), clients_.end(),
                                       [](const auto& entry) { return has_work(entry.second); });
}

bool ServerBase::has_work(const Peer& peer) {
  if (peer.doomed || peer.link->closed() || peer.link->owes_notice()) return true;
  if (!peer.stalled) return peer.link->ready();
  return peer.link->room(peer.reserved_slots + proto::max_message_slots) != RingResult::would_block;
}

void ServerBase::drop_doomed() {
  if (!any_doomed_) return;
  any_doomed_ = false;
  near_ = false;
  last_served_ = nullptr;
  std::vector<ClientId> gone;
  for (auto& [id, peer] : clients_)
    if (peer.doomed) gone.push_back(id);
  for (const ClientId id : gone) {
    const auto found = clients_.find(id);
    loop_.unwatch(found->second.link->bell_fd());
    clients_.erase(found);
    forget_calls(id);
    closed(id);
  }
}

void ServerBase::close_client(ClientId client, const std::string& why) {
  Peer* const peer = find(client);
  if (peer == nullptr || peer->doomed) return;
  if (!why.empty())
    log_line("closing the link of process " + std::to_string(peer->info.process_id) + " (" +
             peer->info.name + "): " + why);
  peer->doomed = any_doomed_ = true;
}

const PeerInfo* ServerBase::peer(ClientId client) const {
  const auto found = clients_.find(client);
  return found == clients_.end() ? nullptr : &found->second.info;
}

Result<std::vector<Handle>> ServerBase::send_handles(
    ClientId client, std::span<const proto::kernel::LinkSend::Entry> entries) {
  Peer* const peer = find(client);
  if (peer == nullptr) return error(Code::peer_closed, "the client is gone");
  return peer->link->send_handles(entries);
}

void ServerBase::reply_error(ReplyToken token, const Status& status) {
  std::string_view text = std::string_view(status.message()).substr(0, max_error_text_bytes);
  if (!has_room_for(token, sizeof(proto::ReplyHeader) + text.size()))
    text = text.substr(0, payload_for(token.slots) - sizeof(proto::ReplyHeader));
  push_reply(token, static_cast<std::uint32_t>(status.code()),
             std::as_bytes(std::span(text.data(), text.size())));
}

/// Beside all other replies that are owed.
bool ServerBase::has_room_for(ReplyToken token, std::size_t payload_bytes) {
  Peer* const peer = find(token.client);
  const std::uint32_t needed = slots_for(payload_bytes);
  return needed <= token.slots ||
         (peer != nullptr &&
          peer->link->room(peer->reserved_slots - token.slots + needed) == RingResult::done);
}

void ServerBase::reply_bytes(ReplyToken token, std::span<const std::byte> body) {
  push_reply(token, 0, body);
}

void ServerBase::push_reply(ReplyToken token, std::uint32_t status,
                            std::span<const std::byte> body) {
  if (in_flight_ != nullptr) note_end(token);
  Peer* const peer = find(token.client);
  if (peer == nullptr || peer->doomed) return;
  std::byte payload[proto::max_payload_bytes];
  const proto::ReplyHeader head{status, status == 0 ? 0 : static_cast<std::uint32_t>(body.size())};
  assert(sizeof head + body.size() <= sizeof payload);
  std::memcpy(payload, &head, sizeof head);
  std::copy(body.begin(), body.end(), payload + sizeof head);
  const std::size_t length = sizeof head + body.size();
  assert(status != 0 || slots_for(length) <= token.slots);
  const proto::MessageHeader header{static_cast<std::uint16_t>(token.opcode | proto::reply_flag),
                                    static_cast<std::uint16_t>(length), token.call_id};
  assert(peer->reserved_slots >= token.slots);
  peer->reserved_slots -= token.slots;
  // The room was reserved, so only a peer whose counters went backwards can make this fail.
  if (peer->link->push(header, std::span(payload).first(length)) != RingResult::done)
    close_client(token.client, "its ring makes no sense");
}

}  // namespace aios
