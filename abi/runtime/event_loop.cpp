#include "abi/runtime/event_loop.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <cerrno>

namespace aios {

namespace {
/// While links keep the loop busy, descriptors and timers are looked at every so many turns. A look
/// at the clock costs a tenth of a message, one at the descriptors about two.
constexpr std::uint32_t turns_between_polls = 64;
constexpr std::uint32_t turns_between_timers = 8;
constexpr int max_events_per_poll = 64;
}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create(Kernel* kernel) {
  std::unique_ptr<EventLoop> loop(new EventLoop(kernel));
  loop->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop->epoll_.valid()) return errno_error("make event loop", errno);
  if (kernel != nullptr) {
    EventLoop* raw = loop.get();
    TRY(loop->watch(kernel->bell_fd(), EPOLLIN, [raw](std::uint32_t) { raw->serve_signals(); }));
    TRY(loop->watch(kernel->socket_fd(), EPOLLRDHUP,
                    [raw](std::uint32_t) { raw->kernel_lost_ = true; }));
    // A signal may have been raised before there was a loop to hear its bell.
    raw->post([raw] { raw->serve_signals(); });
  }
  return loop;
}

void EventLoop::add_source(Source* source) {
  sources_.push_back(source);
}

void EventLoop::remove_source(Source* source) {
  // Only marked: run_sources may be walking the list.
  std::replace(sources_.begin(), sources_.end(), source, static_cast<Source*>(nullptr));
}

Result<void> EventLoop::watch(int fd, std::uint32_t events,
                              std::function<void(std::uint32_t)> callback) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  const int operation = watches_.contains(fd) ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0)
    return errno_error("watch descriptor", errno);
  watches_[fd] = std::make_shared<std::function<void(std::uint32_t)>>(std::move(callback));
  return {};
}

void EventLoop::unwatch(int fd) {
  if (watches_.erase(fd) != 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

TimerId EventLoop::at(Deadline when, std::function<void()> callback) {
  const TimerId id = next_timer_++;
  timers_.emplace(std::pair(when.at_ns, id), std::move(callback));
  timer_times_.emplace(id, when.at_ns);
  return id;
}

TimerId EventLoop::after(std::uint64_t duration_ns, std::function<void()> callback) {
  return at(Deadline::after(duration_ns), std::move(callback));
}

void EventLoop::cancel(TimerId timer) {
  const auto found = timer_times_.find(timer);
  if (found == timer_times_.end()) return;
  timers_.erase({found->second, timer});
  timer_times_.erase(found);
}

void EventLoop::on_signal(Handle handle, std::function<void(std::uint32_t)> callback) {
  signal_callbacks_[handle] =
      std::make_shared<std::function<void(std::uint32_t)>>(std::move(callback));
}

void EventLoop::forget_signal(Handle handle) {
  signal_callbacks_.erase(handle);
}

void EventLoop::post(std::function<void()> callback) {
  posted_.push_back(std::move(callback));
}

Result<void> EventLoop::run() {
  while (!stopping_) TRY(turn(Deadline::never()));
  return {};
}

Result<void> EventLoop::turn(Deadline deadline) {
  run_posted();
  if (turns_ % turns_between_timers == 0) run_timers();
  const bool busy = run_sources();
  if (kernel_lost_) return error(Code::peer_closed, "the AIOS kernel is gone");
  if (stopping_) return {};
  if (busy || !posted_.empty() || links_became_ready())
    return ++turns_ < turns_between_polls ? Result<void>{} : poll(0);
  const Deadline wake = next_wake(deadline);
  if (kernel_ == nullptr) return poll(wake.poll_timeout_ms());
  const Asleep asleep(*kernel_);
  return poll(any_ready() ? 0 : wake.poll_timeout_ms());
}

bool EventLoop::any_near() const {
  return std::any_of(sources_.begin(), sources_.end(),
                     [](const Source* source) { return source != nullptr && source->near(); });
}

/// Looks or yields for as long as it pays. True as well when descriptors or signals were served
/// meanwhile.
bool EventLoop::links_became_ready() {
  if (kernel_ == nullptr) return false;
  show_core(kernel_->status_page());
  if (any_near() && yield_.pays()) return yield_until(yield_, [this] { return any_ready(); });
  return spin_until(
      spin_, [this] { return any_ready(); }, [this] { return !poll(0) || served_descriptors_; });
}

bool EventLoop::run_sources() {
  bool more = false;
  // By index: a source may add others while it works.
  for (std::size_t i = 0; i < sources_.size(); ++i)
    if (sources_[i] != nullptr && sources_[i]->work()) more = true;
  std::erase(sources_, nullptr);
  return more;
}

bool EventLoop::any_ready() const {
  return std::any_of(sources_.begin(), sources_.end(),
                     [](const Source* source) { return source != nullptr && source->ready(); });
}

void EventLoop::run_timers() {
  if (timers_.empty()) return;
  const std::uint64_t now = now_ns();
  while (!timers_.empty() && timers_.begin()->first.first <= now) {
    auto node = timers_.extract(timers_.begin());
    timer_times_.erase(node.key().second);
    node.mapped()();
  }
}

void EventLoop::run_posted() {
  if (posted_.empty()) return;
  std::vector<std::function<void()>> posted;
  posted.swap(posted_);
  for (auto& callback : posted) callback();
}

Deadline EventLoop::next_wake(Deadline limit) const {
  if (timers_.empty()) return limit;
  return {std::min(limit.at_ns, timers_.begin()->first.first)};
}

Result<void> EventLoop::poll(int timeout_ms) {
  turns_ = 0;
  epoll_event events[max_events_per_poll];
  const int count = ::epoll_wait(epoll_.get(), events, max_events_per_poll, timeout_ms);
  if (count < 0 && errno != EINTR) return errno_error("wait for events", errno);
  served_descriptors_ = count > 0;
  for (int i = 0; i < count; ++i) {
    // An earlier callback of this batch may have removed the watch.
    const auto found = watches_.find(events[i].data.fd);
    if (found == watches_.end()) continue;
    const auto callback = found->second;
    (*callback)(events[i].events);
  }
  return {};
}

void EventLoop::serve_signals() {
  kernel_->drain_bell();
  for (;;) {
    const auto raised = kernel_->call<proto::kernel::SignalNext>({});
    if (!raised || raised->reply.handle == 0) return;
    const auto found = signal_callbacks_.find(raised->reply.handle);
    if (found == signal_callbacks_.end()) continue;
    const auto callback = found->second;
    (*callback)(raised->reply.signals);
  }
}

}  // namespace aios
