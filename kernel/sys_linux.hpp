// The only part of the kernel that knows Linux: memory files and their seals, doorbells, sockets,
// pidfds, cloned children. Nothing here knows a kernel object; nothing blocks on another process
// unless it says so.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "abi/runtime/cgroup.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/time.hpp"

namespace aios::kernel::sys {

struct MemoryFile {
  Fd writable;
  Fd read_only;
};
/// A memfd of `size_bytes`, not yet allocated, sealed against change of size. Its mode is 0, so
/// that nobody but root reopens it through /proc.
Result<MemoryFile> make_memory_file(std::uint64_t size_bytes);
/// Fills `[offset, offset + size)` with pages. no_memory.
Result<void> allocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes);
/// Gives such pages back, though the file may still be mapped; false where its seals forbid that.
bool deallocate(const Fd& file, std::uint64_t offset, std::uint64_t size_bytes);
/// Allows no further seal; with `future_writes` also no writer that has no writable mapping yet,
/// for ever. Fails when a holder of the descriptor sealed the seals first.
Result<void> seal(const Fd& file, bool future_writes);
/// Whether nobody can ever change its bytes.
bool is_frozen(const Fd& file);

/// A one-page pipe whose reader, ringer and the kernel each have an open file of their own, opened
/// O_RDWR where it is written: none can make another block, or raise SIGPIPE in it, and a ringer
/// can silence only its own rings.
class Doorbell {
 public:
  static Result<Doorbell> create();
  Result<Fd> reader() const;
  Result<Fd> ringer() const;
  bool valid() const { return pipe_.valid(); }
  void ring() const;

 private:
  Fd pipe_;
};

struct ChildPlan {
  int socket_fd;  ///< becomes descriptor 3
  int log_fd;     ///< becomes 1 and 2
  int null_fd;    ///< becomes 0
  int image_fd;   ///< O_PATH
  char* const* argv;
  char* const* envp;
  bool namespaces;                       ///< those of sandbox::namespace_flags, its own
  uid_t user = 0;                        ///< whose it is outside of them
  const cgroup::Group* group = nullptr;  ///< null: the kernel's
};
struct Child {
  pid_t pid = 0;
  Fd pidfd;
};
/// Clones and executes. A child whose execution fails says so in its log and exits with 127.
Result<Child> spawn(const ChildPlan& plan);
/// Tries in a throw-away child whether `namespaces` would work. Waits for it.
bool can_make_namespaces();
/// A child with no descriptor but `kept` (-1: none) does `work` and exits with what it returns.
Result<Child> in_child(int kept, const std::function<int()>& work);
/// A child that does nothing but close `fd` as the last who has it: for a socket with unread files
/// of others in it, whose close may block, and for memory that takes long to free.
Result<Child> close_in_child(Fd fd);
/// A child that seals a memory file against all writers, and exits with 0 or why it cannot: EBUSY
/// while there is a writer, or, after 0.5 s, when pages of it are held elsewhere in Linux.
Result<Child> freeze_in_child(const Fd& file);

/// Opens an image to execute. not_found, denied, invalid_argument.
Result<Fd> open_image(const std::string& path);
/// Opens `path` for appending; one that is larger than `limit_bytes` is first renamed to `path`.1.
Result<Fd> open_log(const std::filesystem::path& path, std::uint64_t limit_bytes);

Result<void> signal_process(const Fd& pidfd, int signal_number);
struct ExitStatus {
  int code = 0;  ///< exit code, or signal number
  bool signalled = false;
};
/// Reaps a child; false while it runs.
bool reap(const Fd& pidfd, ExitStatus& status);
/// Waits until the child has exited; false when the deadline has passed.
bool wait_exit(const Fd& pidfd, Deadline deadline);

/// Reports `events` of `fd` as `tag`; again to change the events.
Result<void> watch(const Fd& epoll, const Fd& fd, std::uint32_t events, std::uint64_t tag);
/// Also before closing: a clone that has not executed yet may hold the same open file.
void unwatch(const Fd& epoll, const Fd& fd);
/// Descriptors 0 to 3 are taken (a child's are dup2ed there), SIGPIPE is ignored, new files are the
/// owner's alone, and the limit on descriptors is as high as it may be.
Result<void> prepare_self();
Fd open_null();

}  // namespace aios::kernel::sys
