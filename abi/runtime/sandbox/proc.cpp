#include "abi/runtime/sandbox/proc.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "abi/runtime/fd.hpp"

namespace aios::sandbox {

namespace {

constexpr unsigned long harmless = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr pid_t most_threads = 4000;
constexpr const char* names_options = "size=64k,nr_inodes=4096,mode=0700";

}  // namespace

Result<void> mount_proc(const std::string& folder) {
  if (::mount("proc", folder.c_str(), "proc", harmless, nullptr) == 0) return {};
  return errno_error("mount proc", errno);
}

Result<void> cover_tasks(const std::string& folder) {
  if (::mount("aios", folder.c_str(), "tmpfs", harmless, names_options) != 0)
    return errno_error("cover " + folder, errno);
  // Of all threads together: nobody reads it.
  const std::string all = folder + "/all";
  if (::mkdir(all.c_str(), 0700) != 0 ||
      !Fd(::open((all + "/comm").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid())
    return errno_error("make " + all, errno);
  const pid_t first = ::gettid();
  for (pid_t thread = first; thread < first + most_threads; ++thread)
    if (::symlink("all", (folder + "/" + std::to_string(thread)).c_str()) != 0)
      return errno_error("make a thread's folder", errno);
  return {};
}

}  // namespace aios::sandbox
