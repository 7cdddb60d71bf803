#include "abi/runtime/client.hpp"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <new>

namespace aios {

namespace {
constexpr int max_replies_per_turn = 64;
/// A server waits for room when the answers that it owes and those not taken yet might fill the
/// ring, each of which takes at most so many slots (decision 0101). With so many calls on their way
/// it need not.
constexpr std::uint32_t calls_without_stall = proto::slot_count / proto::max_message_slots - 1;
/// While replies keep a blocking caller busy, deadlines are looked at every so many turns.
constexpr std::uint32_t turns_between_clocks = 64;
/// Between attempts, when a server ends connections before they are open.
constexpr std::uint64_t reconnect_pause_ns = 20 * ns_per_ms;

/// A call takes its place at the server until it is answered, though it has ended here.
std::string late_text(const std::string& service, std::uint32_t unanswered) {
  constexpr std::uint32_t most = calls_without_stall + 1;
  std::string text = service + " did not answer in time";
  if (unanswered > most)
    text += "; it need not take more than " + std::to_string(most) +
            " calls of a connection at a time, and before it answers one of those, given up or "
            "not, it may take no more: calls that wait long need a connection of their own";
  return text;
}

/// How a call ends that must, whatever else fails: without its text where there is no memory for
/// that.
std::unexpected<Status> end_of_call(Code code,
                                    std::initializer_list<std::string_view> parts) noexcept {
  try {
    std::string text;
    for (const std::string_view part : parts) text += part;
    return error(code, std::move(text));
  } catch (const std::bad_alloc&) {
    return error(code);
  }
}
}  // namespace

Client::Client(Kernel& kernel, EventLoop* loop, Handle port, std::uint64_t protocol_version,
               std::string service)
    : kernel_(kernel),
      loop_(loop),
      port_(port),
      version_(protocol_version),
      service_(std::move(service)) {
  if (loop_ != nullptr) loop_->add_source(this);
}

Client::~Client() {
  on_disconnect_ = nullptr;
  disconnect();
  if (loop_ == nullptr) return;
  loop_->cancel(deadline_timer_);
  loop_->cancel(connect_timer_);
  loop_->remove_source(this);
}

void Client::start_raw(std::uint16_t opcode, std::span<const std::byte> request,
                       std::vector<HandleToSend> handles, Filler fill, Deadline deadline,
                       RawCallback callback, bool idempotent) {
  assert(request.size() <= proto::max_payload_bytes && (handles.empty() || !idempotent));
  if (waiting_.size() >= max_queued_calls)
    return callback(error(Code::quota, "too many calls wait for " + service_));
  arm_deadline(deadline);
  if (!handles.empty() || !may_send_at_once(request.size())) {
    waiting_.push_back({opcode,
                        {request.begin(), request.end()},
                        std::move(handles),
                        std::move(fill),
                        deadline,
                        std::move(callback),
                        idempotent});
    return;
  }
  // Before it is sent: what cannot be kept must not be.
  std::vector<std::byte> again;
  if (idempotent) again.assign(request.begin(), request.end());
  in_flight_.fill(push(opcode, request), deadline, std::move(callback), std::move(again));
}

/// It need not wait for others, for room or for a connection.
bool Client::may_send_at_once(std::size_t request_bytes) {
  return waiting_.empty() && connected() && !link_->closed() && !in_flight_.full() &&
         link_->room(slots_for(request_bytes)) == RingResult::done;
}

void Client::call_raw(std::uint16_t opcode, std::span<const std::byte> request,
                      std::uint64_t timeout_ns, Awaiting& call, bool idempotent) {
  assert(loop_ == nullptr && request.size() <= proto::max_payload_bytes);
  const auto callback = [&call](const Result<std::span<const std::byte>>& answer) {
    call.finish(answer);
  };
  if (!may_send_at_once(request.size())) {
    start_raw(opcode, request, {}, {}, Deadline::after(timeout_ns), callback, idempotent);
    return drive(call.done);
  }
  const std::uint32_t id = push(opcode, request);
  link_->notify_peer();
  Message message;
  const Taken taken = look() ? take_answer(id, opcode, call, message) : Taken::nothing;
  if (taken == Taken::answer) return;
  const Deadline deadline = Deadline::after(timeout_ns);
  arm_deadline(deadline);
  std::vector<std::byte> again;
  try {
    if (idempotent) again.assign(request.begin(), request.end());
  } catch (const std::bad_alloc&) {
    // It is on its way. Not kept, it ends with its connection, as one that is not idempotent does.
  }
  in_flight_.fill(id, deadline, callback, std::move(again));
  if (taken == Taken::another) deliver(message);
  drive(call.done);
}

/// Takes the next message. When it is the answer to the call reserved as `id`, that call has ended.
Client::Taken Client::take_answer(std::uint32_t id, std::uint16_t opcode, Awaiting& call,
                                  Message& message) {
  // What else is wrong with the link the next turn finds, too.
  if (link_->pop(message) != RingResult::done) return Taken::nothing;
  if (unanswered_ > 0) --unanswered_;
  if (message.header.call_id != id) return Taken::another;
  in_flight_.release(id);
  if (unanswered_ < calls_without_stall) link_->forget_pops();
  link_->notify_peer();
  call.finish(answer_in(message, opcode));
  return Taken::answer;
}

bool Client::may_connect() const {
  return !waiting_.empty() && (connect_at_.at_ns == 0 || connect_at_.passed());
}

Result<void> Client::ensure_connecting() {
  if (link_ != nullptr) return {};
  link_ = TRY(Link::begin_connect(kernel_, port_, version_));
  if (loop_ != nullptr) {
    loop_->on_signal(link_->handle(), [this](std::uint32_t) { signalled_ = true; });
    const Link* link = link_.get();
    TRY(loop_->watch(link->bell_fd(), EPOLLIN | EPOLLET, [link](std::uint32_t) {
      if (link->open()) link->heard_bell();
    }));
  }
  return {};
}

/// False: it is not open yet, or cannot be.
bool Client::open_link() {
  try {
    if (Result<void> connecting = ensure_connecting(); !connecting) {
      fail_all(connecting.error().code(), {service_, ": ", connecting.error().message()});
      return false;
    }
    if (link_->open()) return true;
    // In a loop the kernel says when to look; a look is a kernel call.
    if (loop_ != nullptr && !std::exchange(signalled_, false) && !link_->closed()) return false;
    const Result<bool> open = link_->try_open();
    if (!open) return dropped(), false;
    if (*open) connect_at_ = {0};
    return *open;
  } catch (const std::bad_alloc&) {
    // Of those who wait nothing was sent. They might wait for ever.
    drop_link();
    fail_all(Code::no_memory, {"out of memory"});
    return false;
  }
}

bool Client::work() {
  if (link_ == nullptr && !may_connect()) return false;
  if (!connected() && !open_link()) return false;
  bool more = receive();
  if (link_ != nullptr) more = flush() || more;
  if (link_ != nullptr) link_->notify_peer();
  return more;
}

/// True when calls are left that could be sent at once.
bool Client::flush() {
  while (!waiting_.empty())
    if (!send_first()) return false;
  if (stalled_) link_->set_stalled(stalled_ = false);
  return false;
}

/// False when it has to wait on.
bool Client::send_first() {
  if (in_flight_.full()) return false;  // the next answer makes room
  Waiting& first = waiting_.front();
  RingResult room = link_->room(slots_for(first.request.size()));
  if (room == RingResult::would_block && !stalled_) {
    link_->set_stalled(stalled_ = true);
    room = link_->room(slots_for(first.request.size()));
  }
  if (room == RingResult::broken) dropped();
  if (room != RingResult::done) return false;
  Result<void> sent = error(Code::no_memory);
  try {
    sent = send(first);
  } catch (const std::bad_alloc&) {
    // It was not sent, and might wait for ever.
  }
  if (!sent && sent.error().code() == Code::peer_closed) return false;
  // The callback may start others: the entry leaves the queue first.
  Waiting gone = std::move(first);
  waiting_.pop_front();
  if (!sent) tell(gone.callback, std::unexpected(std::move(sent).error()));
  // It may have closed the connection.
  return link_ != nullptr;
}

/// There is room for it. Not sent, it still has its callback.
Result<void> Client::send(Waiting& waiting) {
  if (!waiting.handles.empty()) {
    const std::vector<Handle> numbers = TRY(send_handles(waiting.handles));
    waiting.fill(numbers, waiting.request);
  }
  const std::uint32_t id = push(waiting.opcode, waiting.request);
  if (!waiting.idempotent) waiting.request.clear();
  in_flight_.fill(id, waiting.deadline, std::move(waiting.callback), std::move(waiting.request),
                  waiting.replays);
  return {};
}

Result<std::vector<Handle>> Client::send_handles(std::span<const HandleToSend> handles) {
  std::vector<proto::kernel::LinkSend::Entry> entries;
  for (const HandleToSend& h : handles)
    entries.push_back(
        {h.handle, static_cast<std::uint32_t>(h.type), h.use, h.grant, h.move ? 1u : 0u});
  return link_->send_handles(entries);
}

/// There is room for it. The call's id, which is reserved.
std::uint32_t Client::push(std::uint16_t opcode, std::span<const std::byte> request) {
  const std::uint32_t id = in_flight_.reserve(opcode);
  const proto::MessageHeader header{opcode, static_cast<std::uint16_t>(request.size()), id};
  [[maybe_unused]] const RingResult pushed = link_->push(header, request);
  assert(pushed == RingResult::done);
  ++unanswered_;
  return id;
}

/// Takes replies; at a closed link takes the last ones, then drops it. True when more are there.
bool Client::receive() {
  Message message;
  int taken = 0;
  for (; taken < max_replies_per_turn; ++taken) {
    // Read before the ring: what was published before the close is still taken.
    const bool closed = link_->closed();
    const RingResult result = link_->pop(message);
    if (result == RingResult::done) {
      if (unanswered_ > 0) --unanswered_;
      deliver(message);
      if (link_ == nullptr) return false;
      // Nothing more is owed: the usual end of a blocking call, which need not look in vain.
      if (unanswered_ == 0) break;
      continue;
    }
    if (result == RingResult::broken || closed) {
      dropped();
      return !waiting_.empty();
    }
    break;
  }
  if (unanswered_ + static_cast<std::uint32_t>(taken) <= calls_without_stall) link_->forget_pops();
  return taken == max_replies_per_turn;
}

/// What `message` says to a call of method `opcode`.
Result<std::span<const std::byte>> Client::answer_in(const Message& message,
                                                     std::uint16_t opcode) const {
  proto::ReplyHeader head{};
  const std::span<const std::byte> bytes = message.bytes();
  if (message.header.opcode != (opcode | proto::reply_flag) || bytes.size() < sizeof head)
    return end_of_call(Code::protocol_error, {service_, " answered something else"});
  std::memcpy(&head, bytes.data(), sizeof head);
  const std::span<const std::byte> body = bytes.subspan(sizeof head);
  if (head.status == 0) return body;
  const std::size_t n = std::min<std::size_t>(head.text_bytes, body.size());
  return end_of_call(static_cast<Code>(head.status),
                     {{reinterpret_cast<const char*>(body.data()), n}});
}

void Client::deliver(const Message& message) {
  // Without one its deadline had passed.
  if (std::optional<CallTable::Call> call = in_flight_.take(message.header.call_id))
    tell(call->callback, answer_in(message, call->opcode));
}

/// The end of a call. Whoever finds no memory for what comes of it ends neither the host nor this
/// turn, in which others are told. A server ends by it, and begins anew: a step of its own that is
/// lost would leave it waiting.
void Client::tell(RawCallback& callback, Result<std::span<const std::byte>> answer) {
  try {
    callback(std::move(answer));
  } catch (const std::bad_alloc&) {
    if (loop_ != nullptr) throw;
  }
}

void Client::drop_link() {
  if (link_ == nullptr) return;
  if (loop_ != nullptr) {
    loop_->unwatch(link_->bell_fd());
    loop_->forget_signal(link_->handle());
  }
  link_.reset();
  stalled_ = false;
  unanswered_ = 0;
}

/// The connection is gone. What was in flight ends; what waits, waits for the next connection.
void Client::dropped() {
  const bool was_open = link_->open();
  drop_link();
  end_in_flight();
  if (was_open) {
    if (on_disconnect_) on_disconnect_();
    return;
  }
  connect_at_ = Deadline::after(reconnect_pause_ns);
  if (loop_ != nullptr) {
    loop_->cancel(connect_timer_);
    // Nothing to do then but to let work() look.
    connect_timer_ = loop_->at(connect_at_, [] {});
  }
}

/// Sends again what may be, before what waits; the others learn that nobody will answer.
void Client::end_in_flight() {
  std::uint32_t place = 0;
  while (std::optional<CallTable::Call> call = in_flight_.take_next(place))
    if (!replay(*call))
      tell(call->callback,
           end_of_call(Code::peer_closed, {service_, " went away during the call"}));
}

/// False when it may not be sent again, or there is no memory to keep it for that.
bool Client::replay(CallTable::Call& call) {
  if (call.request.empty() || call.replays >= max_replays) return false;
  try {
    waiting_.emplace_front();
  } catch (const std::bad_alloc&) {
    return false;
  }
  waiting_.front() = {call.opcode,   std::move(call.request),  {},   {},
                      call.deadline, std::move(call.callback), true, call.replays + 1};
  return true;
}

void Client::disconnect() {
  drop_link();
  fail_all(Code::cancelled, {"the connection to ", service_, " was closed"});
}

/// What callbacks start meanwhile is left alone where it waits.
void Client::fail_all(Code code, std::initializer_list<std::string_view> parts) {
  std::uint32_t place = 0;
  std::size_t waiting = waiting_.size();
  while (std::optional<CallTable::Call> call = in_flight_.take_next(place))
    tell(call->callback, end_of_call(code, parts));
  for (; waiting > 0 && !waiting_.empty(); --waiting) {
    Waiting first = std::move(waiting_.front());
    waiting_.pop_front();
    tell(first.callback, end_of_call(code, parts));
  }
}

bool Client::ready() const {
  if (link_ == nullptr) return may_connect();
  if (!link_->open()) return signalled_ || link_->closed();
  return link_->ready() || link_->owes_notice() || may_send();
}

bool Client::may_send() const {
  if (waiting_.empty() || in_flight_.full()) return false;
  // While stalled the room is looked at, so that none is missed between the last look and sleep.
  return !stalled_ ||
         link_->room(slots_for(waiting_.front().request.size())) != RingResult::would_block;
}

void Client::arm_deadline(Deadline deadline) {
  if (deadline.at_ns >= armed_.at_ns) return;
  if (loop_ != nullptr) {
    const TimerId timer = loop_->at(deadline, [this] { expire(); });
    loop_->cancel(std::exchange(deadline_timer_, timer));
  }
  armed_ = deadline;
}

void Client::expire() {
  if (armed_.is_never() || !armed_.passed()) return;
  armed_ = Deadline::never();
  arm_deadline(end_late(now_ns()));
}

/// Ends the calls whose deadline is at or before `now_ns`: the earliest deadline of the others.
Deadline Client::end_late(std::uint64_t now_ns) {
  Deadline next = Deadline::never();
  const auto late = [this]() -> std::unexpected<Status> {
    try {
      return error(Code::timed_out, late_text(service_, unanswered_));
    } catch (const std::bad_alloc&) {
      return error(Code::timed_out);
    }
  };
  std::uint32_t place = 0;
  std::size_t left = waiting_.size();  // and not what callbacks start meanwhile
  while (std::optional<CallTable::Call> call = in_flight_.take_late(now_ns, place, next))
    tell(call->callback, late());
  for (std::size_t i = 0; left > 0 && i < waiting_.size(); --left) {
    if (waiting_[i].deadline.at_ns > now_ns) {
      next.at_ns = std::min(next.at_ns, waiting_[i++].deadline.at_ns);
      continue;
    }
    Waiting unsent = std::move(waiting_[i]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(i));
    tell(unsent.callback, late());
  }
  return next;
}

void Client::drive(const bool& done) {
  assert(loop_ == nullptr);
  if (on_drive_) return on_drive_(done);
  while (!done) {
    if (work() || done) continue;
    wait(Deadline::never());
  }
}

/// Looks or yields for as long as it pays.
bool Client::look() {
  show_core(kernel_.status_page());
  if (link_->near() && yield_.pays()) return yield_until(yield_, [this] { return link_->ready(); });
  return spin_until(
      spin_, [this] { return link_->ready(); }, [] { return false; });
}

void Client::wait(Deadline deadline) {
  assert(loop_ == nullptr);
  if (connected()) {
    link_->notify_peer();
    if (++turns_ < turns_between_clocks && look()) return;
  }
  turns_ = 0;
  const Deadline until{std::min(deadline.at_ns, wake_at().at_ns)};
  if (link_ == nullptr || link_->open())
    block(until);
  else
    await_open(until);
  expire();
}

Deadline Client::wake_at() const {
  if (link_ != nullptr || connect_at_.at_ns == 0) return armed_;
  return {std::min(armed_.at_ns, connect_at_.at_ns)};
}

void Client::block(Deadline until) {
  const Asleep asleep(kernel_);
  if (ready()) return;
  pollfd fds[2] = {{kernel_.socket_fd(), POLLRDHUP, 0},
                   {link_ == nullptr ? -1 : link_->bell_fd(), POLLIN, 0}};
  ::poll(fds, 2, until.poll_timeout_ms());
  if (fds[1].revents != 0) link_->drain_bell();
  // Without the kernel nobody will ever mark the link as closed.
  if (fds[0].revents != 0) kernel_lost();
}

void Client::kernel_lost() {
  fail_all(Code::peer_closed, {"the AIOS kernel is gone"});
}

/// The kernel's bell rings when the link is open. One thread at a time listens to it, and looks
/// once more after it got its turn.
void Client::await_open(Deadline until) {
  const std::lock_guard lock(kernel_.signal_mutex());
  const Result<bool> open = link_->try_open();
  if (!open || *open) return;
  pollfd bell{kernel_.bell_fd(), POLLIN, 0};
  ::poll(&bell, 1, until.poll_timeout_ms());
  kernel_.drop_signals();
}

}  // namespace aios
