#include "services/storage/data_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>

namespace aios::storage {
namespace {

Result<> sync_folder(const std::string& folder) {
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || fsync(fd.get()) != 0)
    return errno_error("cannot sync folder " + folder, errno);
  return {};
}

Result<> make_folder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0)
    return sync_folder(folder.substr(0, folder.rfind('/') + 1) + ".");
  if (errno != EEXIST) return errno_error("cannot make folder " + folder, errno);
  return {};
}

}  // namespace

Result<DataFile> DataFile::open(const std::string& folder) {
  TRY(make_folder(folder));
  const std::string path = folder + "/data-0000";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("cannot open " + path, errno);
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("cannot lock " + path, errno);
    return error(Code::busy, path + " is in use by another aios-storage; stop that one first");
  }
  TRY(sync_folder(folder));
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return errno_error("cannot stat " + path, errno);
  return DataFile{std::move(fd), static_cast<std::uint64_t>(info.st_size)};
}

Result<DiskIo::Space> DataFile::space() const {
  struct statvfs info {};
  if (fstatvfs(fd.get(), &info) != 0) return errno_error("cannot ask for free space", errno);
  return DiskIo::Space{info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize};
}

std::int64_t preallocate(int fd, std::uint64_t old_size, std::uint64_t new_size) {
  const auto offset = static_cast<off_t>(old_size);
  const auto length = static_cast<off_t>(new_size - old_size);
  if (fallocate(fd, 0, offset, length) == 0) return 0;
  if (errno != EOPNOTSUPP) return -errno;
  return ftruncate(fd, offset + length) == 0 ? 0 : -errno;
}

}  // namespace aios::storage
