// A process's connection to aios-kernel, with typed calls. See abi/proto/kernel.hpp for what each
// call does, the rights it needs and its errors.
//
// Thread-safe: calls are serialised. A call blocks until the kernel answers, which it does at once
// except for region_create (it fills the region first). When the kernel is gone every call returns
// peer_closed, for ever.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/host_memory.hpp"
#include "abi/runtime/status.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

using proto::kernel::Handle;
namespace rights = proto::kernel::rights;
using proto::kernel::ObjectType;
using proto::kernel::RegionKind;

struct StartupHandle {
  std::string label;
  Handle handle;
  ObjectType type;
  std::uint32_t use;
  std::uint32_t grant;
  bool kept;
};

class Region;

template <class M>
struct Called {
  typename M::Reply reply;
  std::vector<Fd> fds;
};

struct AttachOptions {
  std::string job_name;             ///< empty: the user's own job
  proto::kernel::Quota quota = {};  ///< for a job made by this attach; zero fields inherit
  bool confine = false;             ///< this process becomes one of the job's for Linux, too
};

class Kernel {
 public:
  /// How long a kernel has to answer those who attach.
  static constexpr std::uint64_t answer_ns = 5 * ns_per_s;

  /// For a process that AIOS started: the socket is fd 3.
  static Result<std::unique_ptr<Kernel>> attach_child();
  /// For a program from outside. unreachable when nothing answers at `socket_path`; paths longer
  /// than a socket address holds are reached through their folder; also when it has not told
  /// everything within `answer_ns`, as one that is stopped. version_mismatch, naming both.
  static Result<std::unique_ptr<Kernel>> attach(const std::string& socket_path,
                                                const AttachOptions& options = {});
  /// Ends the connection of an outside program. A child's stays open until its process ends:
  /// without it AIOS would kill the process before that could say how it ended.
  ~Kernel();

  template <class M>
  Result<Called<M>> call(const typename M::Request& request) {
    typename M::Reply reply;
    std::vector<Fd> fds;
    TRY(call_raw(M::opcode, M::name, std::as_bytes(std::span(&request, 1)),
                 std::as_writable_bytes(std::span(&reply, 1)), fds));
    return Called<M>{reply, std::move(fds)};
  }

  std::uint64_t process_id() const { return hello_.process_id; }
  std::uint64_t job_id() const { return hello_.job_id; }
  Handle job() const { return hello_.job; }
  std::uint64_t epoch() const { return hello_.epoch; }

  const std::vector<StartupHandle>& startup() const { return startup_; }
  /// not_found, naming the label.
  Result<StartupHandle> startup(std::string_view label) const;

  /// Says how many threads of this process sleep; see abi/runtime/sleep.hpp.
  proto::StatusPage& status_page() const;
  /// Looked at in every turn for every link: one load.
  bool link_closed(std::uint32_t index) const {
    if (index >= proto::max_links_per_process) return true;
    const auto* page = reinterpret_cast<const proto::KernelPage*>(kernel_page_.data());
    return (page->closed[index / 64].load(std::memory_order_acquire) >> (index % 64) & 1) != 0;
  }
  /// Readable when a signal was raised; also at hang-up of the kernel (`socket`).
  int bell_fd() const { return bell_.get(); }
  int socket_fd() const { return socket_.get(); }
  void drain_bell() const;
  /// A call has found that the kernel is gone.
  bool lost();
  /// Runs whenever a link has emptied its own bell, on which other threads may sleep: they are to
  /// look. Set, before there are links, by whoever lets several threads wait for one link.
  void on_bell_emptied(std::function<void()> callback) { on_bell_emptied_ = std::move(callback); }
  void bell_emptied() const {
    if (on_bell_emptied_) on_bell_emptied_();
  }
  /// How many signals were raised so far: who has seen fewer looks again at what it waits for.
  std::uint64_t signal_count() const;
  /// For those who need no more than that: takes all raised signals and forgets them.
  void drop_signals();

  // Shorthands for calls that nearly everybody makes.
  void close(Handle handle);
  Result<Handle> duplicate(Handle handle, std::uint32_t use, std::uint32_t grant);

  /// Serialises those who wait for signals on the bell outside an event loop.
  std::mutex& signal_mutex() { return signal_mutex_; }

 private:
  Kernel() = default;
  Result<void> introduce(const AttachOptions& options);
  Result<void> load_startup();
  Result<void> await_answer() const;
  Result<void> call_raw(std::uint32_t opcode, const char* name, std::span<const std::byte> request,
                        std::span<std::byte> reply, std::vector<Fd>& fds);
  Result<void> receive(const char* name, std::uint64_t call_id, std::span<std::byte> reply,
                       std::vector<Fd>& fds);

  std::mutex mutex_;
  std::mutex signal_mutex_;
  Fd socket_;
  Fd bell_;
  Mapping status_page_;
  Mapping kernel_page_;
  proto::kernel::Hello::Reply hello_{};
  std::vector<StartupHandle> startup_;
  std::uint64_t next_call_ = 1;
  Deadline answer_by_ = Deadline::never();  ///< while it attaches
  bool lost_ = false;
  std::function<void()> on_bell_emptied_;
};

struct RegionOptions {
  bool freezable = false;
  /// Where its pages are to lie; 0: on the node of the processor that the creating thread is on.
  NumaNodes nodes = 0;
  enum class HugePages {
    none,
    where_possible,
    only,                          ///< or the region is not made: not_supported, no_memory
  } huge_pages = HugePages::none;  ///< its size is rounded up to whole ones
};

class Region {
 public:
  Region() = default;
  /// A new zeroed region, mapped read-write. invalid_argument: the machine has none of the nodes.
  static Result<Region> create(Kernel& kernel, std::uint64_t size_bytes, std::string_view name,
                               const RegionOptions& options = {});
  /// The same, and it can be frozen.
  static Result<Region> create_freezable(Kernel& kernel, std::uint64_t size_bytes,
                                         std::string_view name) {
    return create(kernel, size_bytes, name, {.freezable = true});
  }
  /// Maps a region by a handle that becomes this object's.
  static Result<Region> map(Kernel& kernel, Handle handle, Mapping::Access access);
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  ~Region() { reset(); }

  /// From now on nobody can change its bytes, by any means, and nobody can take that back. It stays
  /// mapped at the same address, read-only: reading goes on meanwhile, and a write to it ends this
  /// process with SIGSEGV. Freezing a frozen region is ok.
  ///
  /// busy while another process maps it for writing, or holds pages of it in a pipe or a device; it
  /// is then mapped as before, and a retry may succeed. not_supported unless it was created
  /// freezable; denied without map_write, or when a holder of a writable descriptor sealed the
  /// seals. Should it not come back writable (another process froze it just then, or there is no
  /// room to map it), it stays read-only, and access() says so.
  Result<void> freeze();
  /// Asks the kernel: data or frozen. A region of another process may be parsed in place only when
  /// it is frozen.
  Result<RegionKind> kind() const;

  Handle handle() const { return handle_; }
  std::span<std::byte> bytes() const { return mapping_.bytes(); }
  std::byte* data() const { return mapping_.data(); }
  std::size_t size() const { return mapping_.size(); }
  bool valid() const { return mapping_.valid(); }
  /// As what it is mapped now.
  Mapping::Access access() const { return access_; }
  void reset();

 private:
  Kernel* kernel_ = nullptr;
  Handle handle_ = 0;
  Mapping mapping_;
  Mapping::Access access_ = Mapping::Access::read;
};

/// Default state folder: $XDG_STATE_HOME/aios or ~/.local/state/aios.
std::string default_state_folder();
/// Where the instance that serves all users of the machine has its state and its socket.
inline constexpr const char* system_state_folder = "/var/lib/aios";
inline constexpr const char* system_socket_path = "/run/aios/aios.sock";
/// $AIOS_SOCKET, or STATE/aios.sock; when nobody answers there, the system instance's if it is
/// there.
std::string default_socket_path(const std::string& state_folder);

}  // namespace aios
