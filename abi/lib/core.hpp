// What the parts of libaios stand on: the attachment, the things that happen on it, and threads
// that sleep until they do.
//
// No thread is ours, so whoever calls does the work that is at hand: takes replies, receives
// requests, ends what is late. When several threads wait on one endpoint, any of them may take what
// another waits for; it then writes that thread's event. So nobody sleeps with a lock held, and
// nobody waits for another thread to come back.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "abi/runtime/client.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/sleep.hpp"

namespace aios::lib {

class Core;

/// Something on an attachment that has to be driven: the two ends of services, and tenants.
class Endpoint {
 public:
  explicit Endpoint(std::shared_ptr<Core> core) : core_(std::move(core)), id_(next_id()) {}
  Endpoint(const Endpoint&) = delete;
  virtual ~Endpoint() = default;

  Core& core() const { return *core_; }
  /// Never used again, unlike its address.
  std::uint64_t id() const { return id_; }
  const std::shared_ptr<Core>& shared_core() const { return core_; }

  /// Guards everything below.
  std::mutex mutex;

  /// Does what is at hand, then settles.
  void drive();
  /// For callbacks: something that another thread may wait for has happened.
  void changed() { changed_ = true; }
  /// Tells sleepers and the armed descriptor what has changed; after work that drive did not do.
  void settle();
  /// How many connections began or ended: the bell is another when this has grown.
  std::uint64_t connections() const { return connections_; }

  /// Would drive() do something?
  virtual bool ready() const = 0;
  /// Readable when it was rung; -1: there is none now.
  virtual int bell_fd() const = 0;
  virtual void drain_bell() = 0;
  /// It waits for a signal of the kernel: a connection being made, or one coming in.
  virtual bool wants_signals() const = 0;
  virtual Deadline next_deadline() const = 0;
  /// The kernel has ended: nothing else will.
  virtual void kernel_lost() = 0;

 protected:
  virtual bool work() = 0;
  /// Tells one connection from the next.
  virtual const void* connection() const = 0;

 private:
  static std::uint64_t next_id();
  void note_connection();

  std::shared_ptr<Core> core_;
  std::uint64_t id_;
  bool changed_ = false;
  const void* last_connection_ = nullptr;
  std::uint64_t connections_ = 0;
};

/// One that calls through a Client.
class ClientEndpoint : public Endpoint {
 public:
  using Endpoint::Endpoint;
  /// Set when it is made, and owned by what derives from this.
  Client* client = nullptr;

  bool ready() const override;
  int bell_fd() const override;
  void drain_bell() override;
  bool wants_signals() const override;
  Deadline next_deadline() const override { return client->wake_at(); }
  void kernel_lost() override { client->kernel_lost(); }

 protected:
  bool work() override;
  const void* connection() const override;

 private:
  std::uint64_t seen_signals_ = 0;
};

/// A program's attachment to an instance. Everything made of it keeps it alive.
class Core {
 public:
  static Result<std::shared_ptr<Core>> attach(const std::string& socket_path,
                                              const AttachOptions& options, bool may_spin);
  Core(const Core&) = delete;
  ~Core();

  Kernel& kernel() const { return *kernel_; }
  const std::string& socket_path() const { return socket_path_; }
  /// As it attached; empty: in the user's own job.
  const std::string& job_name() const { return job_name_; }
  /// Whether waits look before they sleep.
  bool may_spin() const { return may_spin_; }

  /// bad_handle in a process forked since it was made: that must not touch anything of it.
  Result<void> check_process() const;
  bool foreign() const;
  /// Set for ever once the kernel has hung up.
  bool lost() const { return lost_.load(std::memory_order_acquire); }
  /// Whether it has, by a look at its socket.
  bool look_for_loss();
  /// unreachable, for good.
  static std::unexpected<Status> loss();
  /// The sockets of all attachments are closed: for a forked child.
  static void close_sockets_in_child();

  /// Endpoints that the foreign event loop serves.
  void add(const std::shared_ptr<Endpoint>& endpoint);
  std::vector<std::shared_ptr<Endpoint>> endpoints();

  /// Wakes whoever waits for `endpoint`; null: for anything. Not the calling thread.
  void tell(const Endpoint* endpoint);
  /// Wakes a foreign event loop that is armed, because what it waits for is another now.
  void disturb();
  /// Takes the kernel's signals; those who wait for one look again.
  void take_signals();

  // For foreign event loops, as in aios.h.
  Result<int> poll_fd();
  Result<bool> arm();
  Result<void> disarm();
  Result<void> dispatch();

  /// Notes that a handle which a peer sent is in use here; false when it is already.
  bool claim(Handle handle);
  void unclaim(Handle handle);

 private:
  friend class Sleeping;
  struct Watched {
    std::weak_ptr<Endpoint> endpoint;
    std::uint64_t connections;
    Fd bell;  ///< a duplicate: to be taken out of the set when the original is long closed
  };

  Core() = default;
  Result<void> open_poll();
  Result<void> watch_bells();
  Result<void> set_timer(Deadline deadline);
  void disarm_locked();

  std::unique_ptr<Kernel> kernel_;
  std::string socket_path_;
  std::string job_name_;
  bool may_spin_ = true;
  std::uint64_t process_ = 0;
  std::atomic<bool> lost_ = false;

  std::mutex mutex_;  ///< guards the three lists; no other lock is taken under it
  std::vector<std::weak_ptr<Endpoint>> endpoints_;
  std::vector<const class Sleeping*> sleeping_;
  std::unordered_set<Handle> claimed_;
  std::atomic<std::uint32_t> sleepers_ = 0;

  std::mutex poll_mutex_;  ///< guards what follows but the atomics; endpoints are locked under it
  Fd poll_;
  Fd timer_;
  Fd disturbed_;
  std::vector<Watched> watched_;
  std::optional<Asleep> asleep_;  ///< while armed
  std::atomic<bool> armed_ = false;
  std::atomic<bool> news_ = false;  ///< something happened that dispatch has not seen
};

/// Tells this thread from the others.
const void* this_thread();

/// Another number in every forked child.
std::uint64_t current_process();

/// To be called before a blocking call begins: makes what the thread sleeps with. quota when there
/// are no descriptors.
Result<void> prepare_to_sleep();

/// Blocks until something rings, `deadline` passes or an endpoint's next deadline does. The caller
/// holds no lock. Once others can see that this thread sleeps, `look` is asked: true means that
/// there is no need to. `fds` are polled, too. unreachable: a kernel has hung up.
Result<void> sleep(std::span<Endpoint* const> endpoints, std::span<pollfd> fds, Deadline deadline,
                   const std::function<bool()>& look);

/// Drives `endpoint`, whose mutex `lock` holds, until `done` says so or `deadline` has passed. The
/// lock is released while it sleeps. When the kernel ends, so does everything under way.
void finish(Endpoint& endpoint, std::unique_lock<std::mutex>& lock,
            const std::function<bool()>& done, Deadline deadline = Deadline::never());

}  // namespace aios::lib

struct aios_instance {
  std::shared_ptr<aios::lib::Core> core;
};
