#include "tools/aiosctl/common/late_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace aios::ctl {

namespace {

constexpr mode_t new_file_mode = 0666;  // less the umask

}  // namespace

Result<LateFile> LateFile::open(const std::string& path) {
  constexpr int flags = O_WRONLY | O_CREAT | O_CLOEXEC;
  Fd fd(::open(path.c_str(), flags | O_EXCL, new_file_mode));
  if (fd.valid()) return LateFile(path, std::move(fd), true);
  fd.reset(::open(path.c_str(), flags, new_file_mode));
  if (!fd.valid()) return errno_error("write " + path, errno);
  return LateFile(path, std::move(fd), false);
}

LateFile::~LateFile() {
  if (fd_.valid() && is_new_) ::unlink(path_.c_str());
}

Result<void> LateFile::write(std::string_view text) {
  // A pipe or a device has no length, which is EINVAL.
  if (::ftruncate(fd_.get(), 0) != 0 && errno != EINVAL)
    return errno_error("write " + path_, errno);
  while (!text.empty()) {
    const ssize_t put = ::write(fd_.get(), text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write " + path_, errno);
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  // Some file systems say only now that it does not fit.
  if (::close(fd_.release()) != 0) return errno_error("write " + path_, errno);
  return {};
}

}  // namespace aios::ctl
