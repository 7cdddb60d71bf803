#include "abi/runtime/sandbox/root.hpp"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/sandbox/proc.hpp"

namespace aios::sandbox {

namespace {

/// There on every host that AIOS runs on; only something to mount the new root on for a moment.
constexpr const char* new_root = "/proc";
/// Every module at its greatest would not fit, nor need it: a module's file is there only as long
/// as the module is mapped, in shared pages.
constexpr const char* large_options = "size=256m,nr_inodes=1024,mode=0700";
constexpr const char* small_options = "size=64k,nr_inodes=64,mode=0700";

Result<void> make_folders(const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at + 1);
    if (::mkdir((new_root + path.substr(0, at)).c_str(), 0700) != 0 && errno != EEXIST)
      return errno_error("cannot make folder " + path, errno);
  }
  return {};
}

constexpr std::string_view proc = "/proc/";

Result<void> bind(const std::string& from, const std::string& inside, std::uint64_t restrictions) {
  if (::mount(from.c_str(), inside.c_str(), nullptr, MS_BIND | MS_REC, nullptr) != 0)
    return errno_error("cannot show " + from, errno);
  mount_attr attributes{.attr_set = restrictions};
  if (::syscall(SYS_mount_setattr, AT_FDCWD, inside.c_str(), AT_RECURSIVE, &attributes,
                sizeof attributes) != 0)
    return errno_error("cannot restrict " + from, errno);
  return {};
}

/// Shows what lies at `folder.path` of the host at the same path of the new root. The host's /proc,
/// which the new root covers, is reached by way of the working folder, for devices.
Result<void> show(const Folder& folder, bool devices) {
  const std::string inside = new_root + folder.path;
  const bool of_proc = devices && folder.path.starts_with(proc);
  const std::string from = of_proc ? folder.path.substr(proc.size()) : folder.path;
  struct stat info {};
  if (::lstat(from.c_str(), &info) != 0) return {};  // not on this host
  TRY(make_folders(std::filesystem::path(folder.path).parent_path()));
  if (S_ISLNK(info.st_mode)) {
    const std::string target = std::filesystem::read_symlink(from);
    if (::symlink(target.c_str(), inside.c_str()) == 0) return {};
    return errno_error("cannot make link " + folder.path, errno);
  }
  struct stat there {};
  if (S_ISDIR(info.st_mode))
    TRY(make_folders(folder.path));
  else if (::lstat(inside.c_str(), &there) != 0 &&  // else it lies in a folder shown before
           !Fd(::open(inside.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid())
    return errno_error("cannot make file " + folder.path, errno);
  const bool device = folder.access == Access::device;
  std::uint64_t restrictions = MOUNT_ATTR_NOSUID;
  if (!S_ISCHR(info.st_mode) && !device) restrictions |= MOUNT_ATTR_NODEV;
  if (folder.access != Access::execute) restrictions |= MOUNT_ATTR_NOEXEC;
  if (folder.access != Access::write && !device) restrictions |= MOUNT_ATTR_RDONLY;
  return bind(from, inside, restrictions);
}

/// Shows the folder of this process at /proc/1, and nobody else's. The links in it are not
/// followed: they would open again for writing what it may only read. But those of its namespaces,
/// which libraries ask about, lead to nothing but these.
Result<void> show_own_process() {
  constexpr std::uint64_t no_links =
      MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;
  const std::string root = new_root;
  const std::string inside = root + "/proc/1";
  const std::string whole = root + "/whole-proc";
  TRY(make_folders("/proc/1"));
  TRY(make_folders("/whole-proc"));
  const bool fresh = mount_proc(whole).has_value();
  const std::string from = fresh ? whole + "/1" : "self";
  TRY(bind(from, inside, no_links | MOUNT_ATTR_RDONLY));
  TRY(bind(from + "/ns", inside + "/ns", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID));
  if (fresh)
    TRY(bind(from + "/task", inside + "/task", no_links));
  else  // the host's knows its threads by other numbers
    TRY(cover_tasks(inside + "/task"));
  if ((fresh && ::umount2(whole.c_str(), MNT_DETACH) != 0) || ::rmdir(whole.c_str()) != 0 ||
      ::symlink("1", (root + "/proc/self").c_str()) != 0)
    return errno_error("cannot finish /proc", errno);
  return {};
}

Result<void> fill(const Rules& rules) {
  for (const Folder& folder : rules.folders) TRY(show(folder, rules.devices));
  if (rules.devices) TRY(show_own_process());
  if (!rules.private_folder.empty()) TRY(make_folders(rules.private_folder));
  if (::chdir(new_root) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0)
    return errno_error("pivot_root failed", errno);
  return {};
}

}  // namespace

Result<void> enter_root(const Rules& rules) {
  const bool writes = !rules.private_folder.empty();
  // Before the new root covers it.
  if (rules.devices && ::chdir(new_root) != 0) return errno_error("no /proc", errno);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("aios", new_root, "tmpfs", MS_NOSUID | MS_NODEV,
              writes ? large_options : small_options) != 0)
    return errno_error("no private mounts", errno);
  if (auto filled = fill(rules); !filled) {
    ::umount2(new_root, MNT_DETACH);
    if (::chdir("/") != 0) return error(Code::internal, "cannot return to the root");
    return filled;
  }
  // The old root is stacked upon the new one and then detached.
  if (::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0)
    return error(Code::internal, "cannot leave the host's root");
  mount_attr attributes{.attr_set = MOUNT_ATTR_RDONLY};
  if (!writes &&
      ::syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, &attributes, sizeof attributes) != 0)
    return error(Code::internal, "cannot make the new root read-only");
  return {};
}

}  // namespace aios::sandbox
