// For foreign event loops: one descriptor that says when there is something to do.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "abi/lib/core.hpp"

namespace aios::lib {

namespace {

Result<void> add_to(const Fd& set, int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  if (::epoll_ctl(set.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return errno_error("watch descriptor", errno);
  return {};
}

void drain_counter(const Fd& fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(fd.get(), &count, sizeof count);
}

}  // namespace

Result<void> Core::open_poll() {
  if (poll_.valid()) return {};
  Fd set(::epoll_create1(EPOLL_CLOEXEC));
  if (!set.valid()) return errno_error("make the descriptor to poll", errno);
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return errno_error("make timer", errno);
  Fd disturbed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!disturbed.valid()) return errno_error("make event", errno);
  TRY(add_to(set, timer.get(), EPOLLIN));
  TRY(add_to(set, disturbed.get(), EPOLLIN));
  TRY(add_to(set, kernel_->bell_fd(), EPOLLIN));
  TRY(add_to(set, kernel_->socket_fd(), EPOLLRDHUP));
  poll_ = std::move(set);
  timer_ = std::move(timer);
  disturbed_ = std::move(disturbed);
  return {};
}

Result<int> Core::poll_fd() {
  const std::lock_guard lock(poll_mutex_);
  TRY(open_poll());
  return poll_.get();
}

/// The set has the bell of every connection that there is now, and no other.
Result<void> Core::watch_bells() {
  std::erase_if(watched_, [this](const Watched& old) {
    const auto endpoint = old.endpoint.lock();
    if (endpoint != nullptr) {
      const std::lock_guard lock(endpoint->mutex);
      if (endpoint->connections() == old.connections && endpoint->bell_fd() >= 0) return false;
    }
    ::epoll_ctl(poll_.get(), EPOLL_CTL_DEL, old.bell.get(), nullptr);
    return true;
  });
  for (const auto& endpoint : endpoints()) {
    const auto is_this = [&](const Watched& old) { return old.endpoint.lock() == endpoint; };
    if (std::ranges::any_of(watched_, is_this)) continue;
    const std::lock_guard lock(endpoint->mutex);
    if (endpoint->bell_fd() < 0) continue;
    Fd copy(::fcntl(endpoint->bell_fd(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return errno_error("duplicate descriptor", errno);
    TRY(add_to(poll_, copy.get(), EPOLLIN));
    watched_.push_back({endpoint, endpoint->connections(), std::move(copy)});
  }
  return {};
}

Result<void> Core::set_timer(Deadline deadline) {
  itimerspec spec{};
  if (!deadline.is_never()) {
    // A time of zero would stop the timer.
    const std::uint64_t at = std::max<std::uint64_t>(deadline.at_ns, 1);
    spec.it_value.tv_sec = static_cast<time_t>(at / ns_per_s);
    spec.it_value.tv_nsec = static_cast<long>(at % ns_per_s);
  }
  if (::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) != 0)
    return errno_error("set timer", errno);
  return {};
}

Result<bool> Core::arm() {
  const std::lock_guard lock(poll_mutex_);
  TRY(open_poll());
  if (look_for_loss()) return loss();
  TRY(watch_bells());
  // Armed once more counts as asleep once more: a peer rings once for each time.
  asleep_.reset();
  armed_.store(true, std::memory_order_seq_cst);
  asleep_.emplace(*kernel_);
  bool ready = news_.load(std::memory_order_seq_cst);
  Deadline next = Deadline::never();
  for (const auto& endpoint : endpoints()) {
    const std::lock_guard look(endpoint->mutex);
    ready = ready || endpoint->ready() || endpoint->next_deadline().passed();
    next.at_ns = std::min(next.at_ns, endpoint->next_deadline().at_ns);
  }
  const Result<void> timed = set_timer(next);
  if (ready || !timed) disarm_locked();
  if (!timed) return std::unexpected(timed.error());
  return ready;
}

void Core::disarm_locked() {
  if (!armed_.exchange(false, std::memory_order_seq_cst)) return;
  asleep_.reset();
  drain_counter(disturbed_);
  drain_counter(timer_);
}

Result<void> Core::disarm() {
  const std::lock_guard lock(poll_mutex_);
  disarm_locked();
  return {};
}

Result<void> Core::dispatch() {
  {
    const std::lock_guard lock(poll_mutex_);
    disarm_locked();
  }
  const bool gone = look_for_loss();
  pollfd bell{kernel_->bell_fd(), POLLIN, 0};
  if (!gone && ::poll(&bell, 1, 0) > 0) take_signals();
  const auto all = endpoints();
  for (const auto& endpoint : all) {
    const std::lock_guard lock(endpoint->mutex);
    endpoint->drain_bell();
  }
  renew_rings(kernel_->status_page());
  for (const auto& endpoint : all) {
    const std::lock_guard lock(endpoint->mutex);
    if (gone) endpoint->kernel_lost();
    endpoint->drive();
  }
  // What happened before this the caller sees when it looks next.
  news_.store(false, std::memory_order_seq_cst);
  if (gone) return loss();
  return {};
}

}  // namespace aios::lib
