#include "abi/lib/mapreduce/leftovers.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

namespace aios::mapreduce_client {

namespace {

namespace fs = std::filesystem;

std::unexpected<Status> in_use(const std::string& path) {
  return error(Code::already_exists,
               path + ": another job writes there; name another output folder");
}

using FileId = std::pair<dev_t, ino_t>;

/// Regular files right below, by what tells them from any other.
Result<std::map<std::string, FileId>> files_in(const std::string& path) {
  std::map<std::string, FileId> files;
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, failed)) {
    struct stat info {};
    if (::lstat(entry.path().c_str(), &info) == 0 && S_ISREG(info.st_mode))
      files.emplace(entry.path().filename(), FileId(info.st_dev, info.st_ino));
  }
  if (failed) return errno_error(path, failed.value());
  return files;
}

/// What the folder has of the very files that are in _temporary, whatever they are called there.
Result<void> take_back(const std::string& path, const std::string& temporary) {
  std::set<FileId> own;
  for (const auto& [name, id] : TRY(files_in(temporary))) own.insert(id);
  for (const auto& [name, id] : TRY(files_in(path)))
    if (own.contains(id)) ::unlink((path + "/" + name).c_str());
  return {};
}

}  // namespace

Result<Fd> own_temporary(const Fd& temporary, const std::string& path) {
  Fd owner(::openat(temporary.get(), owner_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!owner.valid()) return errno_error(path + "/" + temporary_name + "/" + owner_name, errno);
  // Where files cannot be locked nobody takes this for left over, see below.
  if (::flock(owner.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return in_use(path);
  return owner;
}

Result<void> remove_leftovers(const Fd& folder, const std::string& path) {
  const Fd temporary(
      ::openat(folder.get(), temporary_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!temporary.valid()) return {};
  const Fd owner(::openat(temporary.get(), owner_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
  if (!owner.valid()) return {};
  if (::flock(owner.get(), LOCK_EX | LOCK_NB) != 0) return in_use(path);
  const std::string below = path + "/" + temporary_name;
  if (::faccessat(folder.get(), success_name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
    TRY(take_back(path, below));
  std::error_code failed;
  for (const fs::directory_entry& entry : fs::directory_iterator(below, failed))
    if (entry.path().filename() != owner_name) fs::remove_all(entry.path(), failed);
  if (failed) return errno_error(below, failed.value());
  // Last, so that who is killed here leaves what his successor knows as left over.
  ::unlinkat(temporary.get(), owner_name, 0);
  ::unlinkat(folder.get(), temporary_name, AT_REMOVEDIR);
  return {};
}

}  // namespace aios::mapreduce_client
