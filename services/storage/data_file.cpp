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

Result<Fd> open_file(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("cannot open " + path, errno);
  return fd;
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
  DataFile out;
  out.lock = TRY(open_file(folder + "/lock"));
  if (flock(out.lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return errno_error("cannot lock " + folder, errno);
    return error(Code::busy, folder + " is in use by another aios-storage; stop that one first");
  }
  out.fd = TRY(open_file(folder + "/data-0000"));
  struct stat info {};
  if (fstat(out.fd.get(), &info) != 0) return errno_error("cannot stat data-0000", errno);
  out.size_bytes = static_cast<std::uint64_t>(info.st_size);
  // One that has grown was found in the folder; on a busy disk a flush takes long.
  if (out.size_bytes == 0) TRY(sync_folder(folder));
  return out;
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
