// How a thread waits for its links: it looks for a while, then counts itself as asleep and blocks
// on its doorbells. The protocol between sleeper and sender is in abi/proto/link.hpp.
#pragma once

#include <atomic>
#include <cstdint>

#include "abi/runtime/kernel.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

/// How many waits something is left out that did not pay: more each time, up to a longest.
class Rest {
 public:
  constexpr Rest(std::uint32_t shortest, std::uint32_t longest)
      : shortest_(shortest), longest_(longest), next_(shortest) {}
  void begin();
  /// To be asked once for each wait.
  bool over() { return left_ == 0 || left_-- == 0; }
  /// The next one is the shortest again.
  void forget() { next_ = shortest_; }

 private:
  std::uint32_t shortest_;
  std::uint32_t longest_;
  std::uint32_t next_;
  std::uint32_t left_ = 0;
};

/// Whether to give the core away before sleeping, to a peer that shares it: looking would only keep
/// it from that peer. Given the core, it runs at once; neither sleeps or is rung, and a switch
/// costs one system call. But where a third wants the core, too, it may keep it for milliseconds,
/// and who was asleep would have been woken before. Learned from how it went; knows no clock: it is
/// told.
class YieldPolicy {
 public:
  /// After that, sleeping is as good.
  static constexpr std::uint64_t longest_ns = 50 * ns_per_us;
  /// A core that comes back so late was kept by somebody who computes.
  static constexpr std::uint64_t slow_ns = 100 * ns_per_us;
  static constexpr std::uint32_t misses_to_stop = 4;
  static constexpr std::uint32_t shortest_rest = 64;
  /// So long that a few milliseconds lost each time are a hundredth of what the waits take.
  static constexpr std::uint32_t longest_rest = 65'536;
  /// After so many hits a rest begins at its shortest again.
  static constexpr std::uint32_t hits_to_forget = 1024;

  /// For this wait; when true, one of the three follows, or nothing.
  bool pays() { return allowed_ && rest_.over(); }
  void hit();
  void missed();
  void slow() { rest_.begin(); }
  /// False: never yields.
  void allow(bool allowed) { allowed_ = allowed; }

 private:
  bool allowed_ = true;
  Rest rest_{shortest_rest, longest_rest};
  std::uint32_t misses_ = 0;
  std::uint32_t hits_ = 0;
};

/// How long to look before sleeping, learned from how it went. Knows no clock: it is told.
///
/// A hit (what was awaited came while looking) buys the longest look next time. Misses halve it; a
/// few in a row, or being put off the core while looking, which took the core from somebody, end
/// it: then a number of waits sleep at once before one looks again. The number doubles each time
/// until looking has gone well for long. That one look is a long one: the peer may be asleep, too,
/// and only who sees it wake lets it find an answer to its own next look.
class SpinPolicy {
 public:
  /// About what it costs to sleep and be woken on another core.
  static constexpr std::uint64_t longest_ns = 50 * ns_per_us;
  static constexpr std::uint32_t misses_to_stop = 4;
  static constexpr std::uint32_t shortest_rest = 64;
  static constexpr std::uint32_t longest_rest = 2048;
  /// After so many hits a rest begins at its shortest again, and the core is offered to others: who
  /// is always answered at once would otherwise keep it from them until the scheduler steps in.
  static constexpr std::uint32_t hits_to_forget = 1024;

  /// For this wait; 0 is not to look at all. Followed by one of hit, missed and preempted, or by
  /// nothing when it was 0.
  std::uint64_t budget_ns();
  void hit();
  void missed();
  void preempted() { rest(); }
  /// False: never looks.
  void allow(bool allowed) { allowed_ = allowed; }

 private:
  void rest();

  bool allowed_ = true;
  std::uint64_t budget_ns_ = longest_ns;
  std::uint32_t misses_ = 0;
  std::uint32_t hits_ = 0;
  Rest rest_{shortest_rest, longest_rest};
};

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
/// To whoever else wants this core; comes back at once when nobody does.
void yield_core();
/// The core that the calling thread runs on, as in proto::StatusPage::core.
std::uint64_t this_core();
/// Tells peers where this process begins to wait.
void show_core(proto::StatusPage& own);

/// Gives the core away until `ready()` or until that does not pay: true when ready. To be called
/// when the policy has said that it pays.
template <class Ready>
bool yield_until(YieldPolicy& policy, Ready ready) {
  if (ready()) return true;
  const std::uint64_t began = now_ns();
  std::uint64_t last = began;
  for (;;) {
    yield_core();
    const bool found = ready();
    const std::uint64_t now = now_ns();
    if (now - last > YieldPolicy::slow_ns) return policy.slow(), found;
    if (found) return policy.hit(), true;
    if (now - began > YieldPolicy::longest_ns) return policy.missed(), false;
    last = now;
  }
}

/// Looks until `ready()` or the policy's budget is spent: true when ready. A first short look needs
/// no clock and does not relax, which takes as long as a line on its way. `glance()`, for what
/// costs more to look at, is asked every few microseconds; true ends the looking as if nothing had
/// been missed.
template <class Ready, class Glance>
bool spin_until(SpinPolicy& policy, Ready ready, Glance glance) {
  constexpr int first_looks = 64;
  constexpr int looks_between_clocks = 32;
  constexpr std::uint64_t longest_gap_ns = 20 * ns_per_us;
  constexpr std::uint64_t ns_between_glances = 4 * ns_per_us;
  // What is there already says nothing about whether looking pays.
  if (ready()) return true;
  const std::uint64_t budget_ns = policy.budget_ns();
  if (budget_ns == 0) return false;
  for (int i = 0; i < first_looks; ++i)
    if (ready()) return policy.hit(), true;
  const std::uint64_t began = now_ns();
  std::uint64_t last = began;
  std::uint64_t glanced = began;
  for (;;) {
    for (int i = 0; i < looks_between_clocks; ++i) {
      if (ready()) return policy.hit(), true;
      cpu_relax();
    }
    const std::uint64_t now = now_ns();
    if (now - last > longest_gap_ns) return policy.preempted(), false;
    if (now - began >= budget_ns) return policy.missed(), false;
    if (now - glanced >= ns_between_glances) {
      if (glance()) return true;
      glanced = now;
    }
    last = now;
  }
}

/// While it lives the calling thread counts as asleep. Make it, look at everything once more, and
/// only then block; end it before looking again.
class Asleep {
 public:
  explicit Asleep(Kernel& kernel) : Asleep(kernel.status_page()) {}
  explicit Asleep(proto::StatusPage& own) : sleep_(own.sleep) {
    sleep_.fetch_add(proto::sleep_begins, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  Asleep(const Asleep&) = delete;
  ~Asleep() {
    sleep_.fetch_sub(proto::sleep_ends, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }

 private:
  std::atomic<std::uint64_t>& sleep_;
};

/// A thread that does not count as asleep has drained a bell: peers, which ring once for each time
/// that somebody goes to sleep, ring again for those who do. Look at the links after it.
void renew_rings(proto::StatusPage& own);

/// The sender's side of it: whom to ring, and not twice for the same sleep.
class Waker {
 public:
  /// After publishing: does anybody sleep behind this page who was not rung for it yet? Then ring,
  /// and say so by `rang`.
  bool sees_sleeper(const proto::StatusPage& peer) {
    // Pairs with the sleeper's fence between raising its count and looking at the ring once more.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    seen_ = peer.sleep.load(std::memory_order_relaxed);
    return proto::sleepers_of(seen_) != 0 && seen_ != rung_for_;
  }
  void rang() { rung_for_ = seen_; }

 private:
  std::uint64_t seen_ = 0;
  std::uint64_t rung_for_ = 0;
};

}  // namespace aios
