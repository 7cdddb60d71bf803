// A second process for the bare primitives, and the cores that both run on.
#pragma once

#include <sys/types.h>

#include <functional>

#include "abi/runtime/status.hpp"

namespace aios::bench {

/// The cores on which the two sides of a case run; equal ones make it a same-core case.
struct Cores {
  int client;
  int server;
};

/// Two different cores of those that this process may use, or one core twice.
Cores two_cores();

/// Keeps the calling thread, or process `pid`, on one core. denied for another user's process.
Result<void> pin(int core, pid_t pid = 0);
/// Lets it run on every core again.
Result<void> unpin(pid_t pid);

inline constexpr int any_core = -1;

/// A child that runs `body` on `core`, or anywhere, until it is destroyed. It ends with its parent.
class Peer {
 public:
  static Result<Peer> start(int core, const std::function<void()>& body);
  Peer(Peer&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  ~Peer();

 private:
  explicit Peer(pid_t pid) : pid_(pid) {}
  pid_t pid_;
};

}  // namespace aios::bench
