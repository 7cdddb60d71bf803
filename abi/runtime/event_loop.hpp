// The loop of a single-threaded process: links, signals of the kernel, file descriptors and timers.
//
// Links are looked at in memory; the process enters epoll_wait only when none has anything, after
// looking for as long as that has paid of late (abi/runtime/sleep.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/sleep.hpp"
#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

/// Something that finds its work in shared memory.
class Source {
 public:
  virtual ~Source() = default;
  /// Does a bounded amount of work. True when more is at hand.
  virtual bool work() = 0;
  /// Looks, without doing anything: would work() do something?
  virtual bool ready() const = 0;
  /// Was who is likely to bring the next work seen on this core?
  virtual bool near() const { return false; }
};

using TimerId = std::uint64_t;

class EventLoop {
 public:
  /// With a kernel the loop serves its signals and ends when it hangs up; without, only the rest.
  static Result<std::unique_ptr<EventLoop>> create(Kernel* kernel);
  EventLoop(const EventLoop&) = delete;

  /// Runs until stop(). The result is an error only when the kernel went away.
  Result<void> run();
  void stop() { stopping_ = true; }
  /// One turn, blocking at most until `deadline`.
  Result<void> turn(Deadline deadline);

  /// `source` is asked in every turn, in the order of adding. It may remove itself or others.
  void add_source(Source* source);
  void remove_source(Source* source);

  /// `events` as for epoll, level-triggered unless they say otherwise. One watch a descriptor.
  Result<void> watch(int fd, std::uint32_t events, std::function<void(std::uint32_t)> callback);
  void unwatch(int fd);

  /// Runs `callback` once, when the time has come. Cancelling one that has run does nothing.
  TimerId at(Deadline when, std::function<void()> callback);
  TimerId after(std::uint64_t duration_ns, std::function<void()> callback);
  void cancel(TimerId timer);

  /// Signals raised on `handle`, as the bits of proto::kernel::signal.
  void on_signal(Handle handle, std::function<void(std::uint32_t)> callback);
  void forget_signal(Handle handle);

  /// Runs `callback` at the beginning of the next turn.
  void post(std::function<void()> callback);

  Kernel* kernel() const { return kernel_; }
  /// False: sleeps at once when nothing is there.
  void allow_spinning(bool allowed) {
    spin_.allow(allowed);
    yield_.allow(allowed);
  }
  /// Readable when a watched descriptor is: for waiting in another loop,
  int fd() const { return epoll_.get(); }
  /// which has to come back for a turn at this time at the latest.
  Deadline next_timer() const { return next_wake(Deadline::never()); }

 private:
  explicit EventLoop(Kernel* kernel) : kernel_(kernel) {}
  bool run_sources();
  bool any_ready() const;
  bool any_near() const;
  bool links_became_ready();
  void run_timers();
  void run_posted();
  Deadline next_wake(Deadline limit) const;
  Result<void> poll(int timeout_ms);
  void serve_signals();

  Kernel* kernel_;
  Fd epoll_;
  bool stopping_ = false;
  bool kernel_lost_ = false;
  std::uint32_t turns_ = 0;  ///< since descriptors were looked at
  bool served_descriptors_ = false;
  SpinPolicy spin_;
  YieldPolicy yield_;
  TimerId next_timer_ = 1;
  std::vector<Source*> sources_;
  std::map<std::pair<std::uint64_t, TimerId>, std::function<void()>> timers_;
  std::unordered_map<TimerId, std::uint64_t> timer_times_;
  std::unordered_map<int, std::shared_ptr<std::function<void(std::uint32_t)>>> watches_;
  std::unordered_map<Handle, std::shared_ptr<std::function<void(std::uint32_t)>>> signal_callbacks_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace aios
