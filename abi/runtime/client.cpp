#include "abi/runtime/client.hpp"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cassert>

namespace aios {

namespace {
constexpr int max_replies_per_turn = 64;
/// Between attempts, when a server ends connections before they are open.
constexpr std::uint64_t reconnect_pause_ns = 20 * ns_per_ms;
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
                       RawCallback callback) {
  assert(request.size() <= proto::max_payload_bytes);
  if (waiting_.size() >= max_queued_calls)
    return callback(error(Code::quota, "too many calls wait for " + service_));
  waiting_.push_back({opcode,
                      {request.begin(), request.end()},
                      std::move(handles),
                      std::move(fill),
                      deadline,
                      std::move(callback)});
  arm_deadline(deadline);
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
    TRY(loop_->watch(link_->bell_fd(), EPOLLIN, [link](std::uint32_t) { link->drain_bell(); }));
  }
  return {};
}

bool Client::work() {
  expire();
  if (link_ == nullptr && !may_connect()) return false;
  if (Result<void> connecting = ensure_connecting(); !connecting) {
    fail_all(connecting.error().code(), service_ + ": " + connecting.error().message(), true);
    return false;
  }
  if (!link_->open()) {
    // In a loop the kernel says when to look; a look is a kernel call.
    if (loop_ != nullptr && !std::exchange(signalled_, false) && !link_->closed()) return false;
    const Result<bool> open = link_->try_open();
    if (!open) {
      dropped();
      return false;
    }
    if (!*open) return false;
    connect_at_ = {0};
  }
  bool more = receive();
  if (link_ != nullptr) more = flush() || more;
  return more;
}

/// True when calls are left that could be sent at once.
bool Client::flush() {
  while (!waiting_.empty()) {
    bool keep = false;
    // The callback of a failed call may start others: the entry leaves the queue first.
    Waiting waiting = std::move(waiting_.front());
    waiting_.pop_front();
    const bool go_on = send_one(waiting, keep);
    if (keep) waiting_.push_front(std::move(waiting));
    if (!go_on) return false;
  }
  if (stalled_) link_->set_stalled(stalled_ = false);
  return false;
}

bool Client::send_one(Waiting& waiting, bool& keep) {
  std::uint32_t free = 0;
  if (link_->free_slots(free) == RingResult::broken) {
    keep = true;
    dropped();
    return false;
  }
  if (free < slots_for(waiting.request.size())) {
    keep = true;
    if (!stalled_) {
      link_->set_stalled(stalled_ = true);
      return send_one(waiting, keep);
    }
    return false;
  }
  if (!waiting.handles.empty()) {
    std::vector<proto::kernel::LinkSend::Entry> entries;
    for (const HandleToSend& h : waiting.handles)
      entries.push_back(
          {h.handle, static_cast<std::uint32_t>(h.type), h.use, h.grant, h.move ? 1u : 0u});
    Result<std::vector<Handle>> numbers = link_->send_handles(entries);
    if (!numbers && numbers.error().code() == Code::peer_closed) {
      keep = true;
      return false;
    }
    if (!numbers) {
      waiting.callback(std::unexpected(std::move(numbers).error()));
      return true;
    }
    waiting.fill(*numbers, waiting.request);
  }
  const std::uint32_t call_id = next_call_++;
  const proto::MessageHeader header{waiting.opcode,
                                    static_cast<std::uint16_t>(waiting.request.size()), call_id};
  [[maybe_unused]] const RingResult pushed = link_->push(header, waiting.request);
  assert(pushed == RingResult::done);
  keep = false;
  in_flight_.insert_or_assign(
      call_id, InFlight{waiting.opcode, waiting.deadline, std::move(waiting.callback)});
  return true;
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
      deliver(message);
      if (link_ == nullptr) return false;
      continue;
    }
    if (result == RingResult::broken || closed) {
      dropped();
      return !waiting_.empty();
    }
    break;
  }
  if (taken != 0) link_->announce_room();
  return taken == max_replies_per_turn;
}

void Client::deliver(const Message& message) {
  const auto found = in_flight_.find(message.header.call_id);
  if (found == in_flight_.end()) return;  // its deadline had passed
  InFlight call = std::move(found->second);
  in_flight_.erase(found);
  proto::ReplyHeader head{};
  const std::span<const std::byte> bytes = message.bytes();
  if (message.header.opcode != (call.opcode | proto::reply_flag) || bytes.size() < sizeof head)
    return call.callback(error(Code::protocol_error, service_ + " answered something else"));
  std::memcpy(&head, bytes.data(), sizeof head);
  const std::span<const std::byte> body = bytes.subspan(sizeof head);
  if (head.status == 0) return call.callback(body);
  const std::size_t n = std::min<std::size_t>(head.text_bytes, body.size());
  call.callback(error(static_cast<Code>(head.status),
                      std::string(reinterpret_cast<const char*>(body.data()), n)));
}

/// The connection is gone. What was in flight ends; what waits, waits for the next connection.
void Client::dropped() {
  const bool was_open = link_->open();
  if (loop_ != nullptr) {
    loop_->unwatch(link_->bell_fd());
    loop_->forget_signal(link_->handle());
  }
  link_.reset();
  stalled_ = false;
  fail_all(Code::peer_closed, service_ + " went away during the call", false);
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

void Client::disconnect() {
  if (link_ != nullptr) {
    if (loop_ != nullptr) {
      loop_->unwatch(link_->bell_fd());
      loop_->forget_signal(link_->handle());
    }
    link_.reset();
    stalled_ = false;
  }
  fail_all(Code::cancelled, "the connection to " + service_ + " was closed", true);
}

void Client::fail_all(Code code, const std::string& message, bool waiting_too) {
  auto in_flight = std::move(in_flight_);
  in_flight_.clear();
  std::deque<Waiting> waiting;
  if (waiting_too) waiting.swap(waiting_);
  for (auto& [id, call] : in_flight) call.callback(error(code, message));
  for (auto& call : waiting) call.callback(error(code, message));
}

bool Client::ready() const {
  if (link_ == nullptr) return may_connect();
  if (!link_->open()) return signalled_ || link_->closed();
  return link_->ready() || (!waiting_.empty() && !stalled_);
}

void Client::arm_deadline(Deadline deadline) {
  if (deadline.at_ns >= armed_.at_ns) return;
  armed_ = deadline;
  if (loop_ == nullptr) return;
  loop_->cancel(deadline_timer_);
  deadline_timer_ = loop_->at(deadline, [this] { expire(); });
}

void Client::expire() {
  if (armed_.is_never() || !armed_.passed()) return;
  armed_ = Deadline::never();
  std::vector<RawCallback> late;
  Deadline next = Deadline::never();
  const std::uint64_t now = now_ns();
  for (auto entry = in_flight_.begin(); entry != in_flight_.end();) {
    if (entry->second.deadline.at_ns > now) {
      next.at_ns = std::min(next.at_ns, entry->second.deadline.at_ns);
      ++entry;
    } else {
      late.push_back(std::move(entry->second.callback));
      entry = in_flight_.erase(entry);
    }
  }
  std::erase_if(waiting_, [&](Waiting& entry) {
    if (entry.deadline.at_ns > now) {
      next.at_ns = std::min(next.at_ns, entry.deadline.at_ns);
      return false;
    }
    late.push_back(std::move(entry.callback));
    return true;
  });
  arm_deadline(next);
  for (RawCallback& callback : late)
    callback(error(Code::timed_out, service_ + " did not answer in time"));
}

void Client::drive(const bool& done) {
  assert(loop_ == nullptr);
  while (!done) {
    if (work() || done) continue;
    wait(Deadline::never());
  }
}

void Client::wait(Deadline deadline) {
  Deadline until{std::min(deadline.at_ns, armed_.at_ns)};
  if (link_ == nullptr && connect_at_.at_ns != 0)
    until.at_ns = std::min(until.at_ns, connect_at_.at_ns);
  if (link_ == nullptr || link_->open()) {
    auto& sleepers = kernel_.status_page().sleepers;
    sleepers.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (!ready()) {
      pollfd fds[2] = {{kernel_.socket_fd(), POLLRDHUP, 0},
                       {link_ == nullptr ? -1 : link_->bell_fd(), POLLIN, 0}};
      ::poll(fds, 2, until.poll_timeout_ms());
      if (fds[1].revents != 0) link_->drain_bell();
      // Without the kernel nobody will ever mark the link as closed.
      if (fds[0].revents != 0) fail_all(Code::peer_closed, "the AIOS kernel is gone", true);
    }
    sleepers.fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  // Connecting: the kernel's bell rings when the link is open. One thread at a time listens to it,
  // and looks once more after it got its turn.
  const std::lock_guard lock(kernel_.signal_mutex());
  const Result<bool> open = link_->try_open();
  if (!open || *open) return;
  pollfd bell{kernel_.bell_fd(), POLLIN, 0};
  ::poll(&bell, 1, until.poll_timeout_ms());
  kernel_.drain_bell();
  for (;;) {
    const auto raised = kernel_.call<proto::kernel::SignalNext>({});
    if (!raised || raised->reply.handle == 0) return;
  }
}

}  // namespace aios
