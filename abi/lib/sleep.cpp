// Threads that wait: for the bells of endpoints, for descriptors of the caller's, and for each
// other.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <list>
#include <memory_resource>

#include "abi/lib/core.hpp"
#include "abi/runtime/cancel.hpp"

namespace aios::lib {

namespace {

/// What wakes one thread. A child gets one of its own: the parent's is one open file with it.
struct Event {
  Fd fd;
  std::uint64_t process = 0;
};
thread_local Event own_event;

void write_event(int fd) {
  const Uncancelled meanwhile;
  const std::uint64_t one = 1;
  // A full counter is a wake-up pending already.
  [[maybe_unused]] const ssize_t n = ::write(fd, &one, sizeof one);
}

void drain_event(int fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t n = ::read(fd, &count, sizeof count);
}

/// For what one wait needs, mostly a few pointers: nothing is allocated for it.
struct Scratch {
  alignas(std::max_align_t) std::array<std::byte, 1024> room;
  std::pmr::monotonic_buffer_resource memory{room.data(), room.size()};
};

}  // namespace

/// While it lives, this thread is told of what happens at these endpoints.
class Sleeping {
 public:
  Sleeping(std::span<Endpoint* const> endpoints, std::pmr::memory_resource& memory)
      : endpoints_(endpoints),
        event_fd_(own_event.fd.get()),
        cores_(&memory),
        listed_(&memory),
        asleep_(&memory) {
    for (Endpoint* endpoint : endpoints)
      if (std::ranges::find(cores_, &endpoint->core()) == cores_.end())
        cores_.push_back(&endpoint->core());
    for (Core* core : cores_) listed_.emplace_back(*core, *this);
    for (Core* core : cores_) asleep_.emplace_back(core->kernel());
  }
  Sleeping(const Sleeping&) = delete;

  int event_fd() const { return event_fd_; }
  const std::pmr::vector<Core*>& cores() const { return cores_; }
  bool waits_for(const Endpoint* endpoint) const {
    return endpoint == nullptr || std::ranges::find(endpoints_, endpoint) != endpoints_.end();
  }

 private:
  /// Among those whom an attachment tells.
  class Listed {
   public:
    Listed(Core& core, const Sleeping& who) : core_(core), who_(who) {
      const std::lock_guard lock(core_.mutex_);
      core_.sleeping_.push_back(&who_);
      core_.sleepers_.fetch_add(1, std::memory_order_seq_cst);
    }
    Listed(const Listed&) = delete;
    ~Listed() {
      const std::lock_guard lock(core_.mutex_);
      std::erase(core_.sleeping_, &who_);
      core_.sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }

   private:
    Core& core_;
    const Sleeping& who_;
  };

  std::span<Endpoint* const> endpoints_;
  int event_fd_;
  std::pmr::vector<Core*> cores_;
  std::pmr::list<Listed> listed_;
  std::pmr::list<Asleep> asleep_;
};

void Core::tell(const Endpoint* endpoint) {
  news_.store(true, std::memory_order_seq_cst);
  disturb();
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
  const std::lock_guard lock(mutex_);
  for (const Sleeping* sleeping : sleeping_)
    if (sleeping->event_fd() != own_event.fd.get() && sleeping->waits_for(endpoint))
      write_event(sleeping->event_fd());
}

void Core::disturb() {
  if (armed_.load(std::memory_order_seq_cst)) write_event(disturbed_.get());
}

const void* this_thread() {
  return &own_event;
}

Result<void> prepare_to_sleep() {
  if (own_event.process == current_process()) [[likely]]
    return {};
  const Uncancelled meanwhile;
  own_event.fd = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!own_event.fd.valid()) return errno_error("make the thread's event", errno);
  own_event.process = current_process();
  return {};
}

namespace {

/// The set in which a thread waits for one connection. It is kept: most waits are for the same one
/// as the last, and then cost one call and no drained bell, since the set tells of each ring once.
class OneBell {
 public:
  /// False: there is no descriptor left, no room, or the connection is gone by now.
  bool watch(const Endpoint& endpoint, std::uint64_t connection, int bell);
  /// unreachable when the kernel has hung up.
  Result<void> wait(Core& core, Deadline deadline);

 private:
  enum Source : std::uint32_t { ring, event, kernel };
  bool add(int fd, std::uint32_t events, Source source);

  Fd set_;
  std::uint64_t process_ = 0;
  std::uint64_t endpoint_ = 0;
  std::uint64_t connection_ = 0;
};
thread_local OneBell own_bell;

bool OneBell::add(int fd, std::uint32_t events, Source source) {
  epoll_event wanted{};
  wanted.events = events;
  wanted.data.u32 = source;
  return ::epoll_ctl(set_.get(), EPOLL_CTL_ADD, fd, &wanted) == 0;
}

bool OneBell::watch(const Endpoint& endpoint, std::uint64_t connection, int bell) {
  if (process_ == current_process() && endpoint_ == endpoint.id() && connection_ == connection)
    return true;
  endpoint_ = 0;
  set_.reset();
  set_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!set_.valid() || !add(bell, EPOLLIN | EPOLLET, ring) ||
      !add(own_event.fd.get(), EPOLLIN | EPOLLET, event) ||
      !add(endpoint.core().kernel().socket_fd(), EPOLLRDHUP, kernel))
    return false;
  process_ = current_process();
  endpoint_ = endpoint.id();
  connection_ = connection;
  return true;
}

Result<void> OneBell::wait(Core& core, Deadline deadline) {
  epoll_event happened[3];
  const int count = ::epoll_wait(set_.get(), happened, 3, deadline.poll_timeout_ms());
  for (int i = 0; i < count; ++i) {
    if (happened[i].data.u32 != kernel) continue;
    core.look_for_loss();
    return Core::loss();
  }
  return {};
}

/// Counted as asleep, until something rings. `rung` becomes the endpoints whose bells were drained.
Result<void> block(std::span<Endpoint* const> endpoints, std::span<pollfd> fds, Deadline deadline,
                   const std::function<bool()>& look, std::pmr::vector<Endpoint*>& rung,
                   std::pmr::memory_resource& memory) {
  std::pmr::vector<pollfd> all(&memory);
  all.reserve(endpoints.size() + fds.size() + 3);
  const Sleeping sleeping(endpoints, memory);
  if (look()) return {};
  bool signals = false;
  std::uint64_t connection = 0;
  for (Endpoint* endpoint : endpoints) {
    const std::lock_guard lock(endpoint->mutex);
    connection = endpoint->connections();
    all.push_back({endpoint->bell_fd(), POLLIN, 0});
    signals = signals || endpoint->wants_signals();
    deadline.at_ns = std::min(deadline.at_ns, endpoint->next_deadline().at_ns);
  }
  // Where there is no descriptor left for a set, or no room in it, poll does: it needs none.
  if (endpoints.size() == 1 && fds.empty() && !signals && all[0].fd >= 0 &&
      own_bell.watch(*endpoints[0], connection, all[0].fd))
    return own_bell.wait(endpoints[0]->core(), deadline);
  const std::size_t first_fd = all.size();
  all.insert(all.end(), fds.begin(), fds.end());
  const std::size_t event = all.size();
  all.push_back({sleeping.event_fd(), POLLIN, 0});
  for (const Core* core : sleeping.cores()) {
    all.push_back({core->kernel().socket_fd(), POLLRDHUP, 0});
    all.push_back({signals ? core->kernel().bell_fd() : -1, POLLIN, 0});
  }
  // What goes on between the look and this is told by the event, or by a bell that stays readable.
  if (::poll(all.data(), all.size(), deadline.poll_timeout_ms()) <= 0) return {};
  for (std::size_t i = 0; i < fds.size(); ++i) fds[i].revents = all[first_fd + i].revents;
  if (all[event].revents != 0) drain_event(sleeping.event_fd());
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (all[i].revents == 0) continue;
    const std::lock_guard lock(endpoints[i]->mutex);
    endpoints[i]->drain_bell();
    rung.push_back(endpoints[i]);
  }
  bool lost = false;
  for (std::size_t i = 0; i < sleeping.cores().size(); ++i) {
    if (all[event + 2 + 2 * i].revents != 0) sleeping.cores()[i]->take_signals();
    if (all[event + 1 + 2 * i].revents == 0) continue;
    sleeping.cores()[i]->look_for_loss();
    lost = true;
  }
  if (lost) return Core::loss();
  return {};
}

}  // namespace

Result<void> sleep(std::span<Endpoint* const> endpoints, std::span<pollfd> fds, Deadline deadline,
                   const std::function<bool()>& look) {
  Scratch scratch;
  std::pmr::vector<Endpoint*> rung(&scratch.memory);
  rung.reserve(endpoints.size());
  const Result<void> slept = block(endpoints, fds, deadline, look, rung, scratch.memory);
  // The bell may have rung for another thread, which saw it silent again and sleeps on. Whoever
  // drained it takes what it rang for, also when its own wait is over; no longer counted as asleep,
  // so that peers ring again for what comes after this look.
  for (Endpoint* endpoint : rung) {
    const std::lock_guard lock(endpoint->mutex);
    endpoint->drive();
  }
  return slept;
}

namespace {

/// One turn of finish. False when the kernel is gone.
bool drive_or_sleep(Endpoint& endpoint, std::unique_lock<std::mutex>& lock,
                    const std::function<bool()>& done, Deadline deadline) {
  Endpoint* const only = &endpoint;
  endpoint.drive();
  if (done() || deadline.passed()) return true;
  if (endpoint.core().lost()) return false;
  lock.unlock();
  const Result<void> slept = sleep({&only, 1}, {}, deadline, [&] {
    const std::lock_guard look(endpoint.mutex);
    return endpoint.ready() || done();
  });
  lock.lock();
  return slept.has_value();
}

}  // namespace

void finish(Endpoint& endpoint, std::unique_lock<std::mutex>& lock,
            const std::function<bool()>& done, Deadline deadline) {
  constexpr int pause_ms = 10;
  while (!done()) {
    try {
      if (!drive_or_sleep(endpoint, lock, done, deadline)) endpoint.kernel_lost();
    } catch (const std::bad_alloc&) {
      // The call must end before its caller's memory does; so go on with what there is.
      if (!lock.owns_lock()) lock.lock();
      ::poll(nullptr, 0, pause_ms);
    }
    if (deadline.passed()) return;
  }
}

}  // namespace aios::lib
