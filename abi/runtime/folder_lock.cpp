#include "abi/runtime/folder_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace aios {

Result<Fd> lock_folder(const std::filesystem::path& folder) {
  const std::string path = folder / "lock";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid()) return errno_error("open " + path, errno);
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("lock " + path, errno);
    std::string holder(16, '\0');
    holder.resize(std::max<ssize_t>(::pread(file.get(), holder.data(), holder.size(), 0), 0));
    return error(Code::already_exists, "another instance uses this state folder" +
                                           (holder.empty() ? "" : " (pid " + holder + ")"));
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(file.get(), 0) != 0 || ::pwrite(file.get(), pid.data(), pid.size(), 0) < 0)
    return errno_error("write " + path, errno);
  return file;
}

}  // namespace aios
