// The event loop: one thread, one epoll, over the listening socket, the processes' connections and
// pidfds, and the signals. At most one call of a process is served per turn, and the next one only
// after it has read its last reply; long work is done a slice per turn.
#pragma once

#include "kernel/calls.hpp"

namespace aios::kernel {

class KernelServer {
 public:
  /// Locks the state folder, starts to listen and starts the supervisor. already_exists when
  /// another instance uses the folder.
  static Result<std::unique_ptr<KernelServer>> create(Settings settings);
  KernelServer(Settings settings, Fd lock);
  ~KernelServer();
  /// Runs until the instance has ended, and returns its exit code.
  int run();

 private:
  void turn();
  int timeout_ms() const;
  void on_event(std::uint64_t tag, std::uint32_t events);
  void on_connection();
  void serve_call(Process& process);
  Result<void> send_reply(Process& process, const Packet& packet, std::span<const Fd> fds);
  void recheck_held_back();
  void do_slice();
  bool can_do_slice() const;

  Fd lock_;
  Fd epoll_;
  Fd listener_;
  Fd signals_;
  Fd spare_;  ///< given up for a moment to refuse a connection when descriptors run out
  Instance instance_;
  Calls calls_;
  std::vector<std::weak_ptr<Process>> held_back_;  ///< processes with a call but an unread reply
  bool freeing_ = false;                           ///< a child gives memory back
};

}  // namespace aios::kernel
