// Files of the host: by path, through /proc, through what was left open, through devices.
#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "tests/escape/attempts.hpp"

namespace aios::escape {

namespace {

bool readable(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char byte = 0;
  return ::read(fd, &byte, 1) == 1;
}

bool read_host_file(const Outside& outside) {
  return readable(outside.folder + "/secret");
}
bool read_passwd(const Outside&) {
  return readable("/etc/passwd");
}
bool read_above_the_root(const Outside&) {
  return readable("/../../../../../../../../etc/passwd");
}
bool read_through_a_link(const Outside& outside) {
  for (const std::string& folder : {std::string("/modules"), std::string("/tmp"), outside.folder}) {
    const std::string link = folder + "/link" + std::to_string(::getpid());
    if (::symlink((outside.folder + "/secret").c_str(), link.c_str()) != 0) continue;
    const bool read = readable(link);
    const int why = errno;
    ::unlink(link.c_str());
    errno = why;
    if (read) return true;
  }
  return false;
}
bool list_host_folder(const Outside& outside) {
  DIR* folder = ::opendir(outside.folder.c_str());
  return folder != nullptr && ::readdir(folder) != nullptr;
}
bool make_host_file(const Outside& outside) {
  const std::string path = outside.folder + "/made" + std::to_string(::getpid());
  if (::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600) < 0) return false;
  ::unlink(path.c_str());
  return true;
}
bool make_host_folder(const Outside& outside) {
  const std::string path = outside.folder + "/folder" + std::to_string(::getpid());
  return ::mkdir(path.c_str(), 0700) == 0 && ::rmdir(path.c_str()) == 0;
}
bool change_mode_of_host_file(const Outside& outside) {
  return ::chmod((outside.folder + "/secret").c_str(), 0644) == 0;
}
bool stat_host_file(const Outside& outside) {
  struct stat info {};
  return ::stat((outside.folder + "/secret").c_str(), &info) == 0;
}
/// Of a folder that a careless parent left open; what `..` in it means is the point.
bool read_from_a_kept_folder(const Outside& outside) {
  const int fd = ::openat(outside.kept_folder, (outside.folder.substr(1) + "/secret").c_str(),
                          O_RDONLY | O_CLOEXEC);
  return fd >= 0;
}

bool read_proc(const Outside&) {
  return readable("/proc/self/status");
}
bool read_memory_through_proc(const Outside& outside) {
  const std::string path = "/proc/" + std::to_string(outside.victim) + "/mem";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char bytes[sizeof memory_mark];
  return fd >= 0 && ::pread(fd, bytes, sizeof bytes, reinterpret_cast<off_t>(memory_mark)) > 0;
}
bool read_environment_through_proc(const Outside& outside) {
  return readable("/proc/" + std::to_string(outside.victim) + "/environ");
}
bool read_status_through_proc(const Outside& outside) {
  return readable("/proc/" + std::to_string(outside.victim) + "/status");
}
bool name_a_thread_of_another(const Outside& outside) {
  const std::string victim = std::to_string(outside.victim);
  return ::open(("/proc/" + victim + "/task/" + victim + "/comm").c_str(), O_WRONLY | O_CLOEXEC) >=
         0;
}
/// By the links that lead back to what a descriptor was opened from.
bool write_what_is_read_only(const Outside& outside) {
  const std::string descriptor = "fd/" + std::to_string(outside.read_only);
  for (const std::string& folder :
       {std::string("/proc/self/"), std::string("/proc/1/"), std::string("/proc/self/task/1/"),
        "/proc/self/task/" + std::to_string(::gettid()) + "/",
        "/proc/" + std::to_string(::getpid()) + "/", std::string("/proc/thread-self/")})
    if (::open((folder + descriptor).c_str(), O_RDWR | O_CLOEXEC) >= 0) return true;
  return false;
}
/// The same, by a child: its folder is another.
bool write_what_is_read_only_by_a_child(const Outside& outside) {
  const pid_t child = static_cast<pid_t>(::syscall(SYS_fork));
  if (child == 0) ::_exit(write_what_is_read_only(outside) ? gained : errno);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return false;
  errno = WEXITSTATUS(status);
  return WEXITSTATUS(status) == gained;
}
bool leave_through_proc(const Outside& outside) {
  for (const char* root : {"/proc/self/root", "/proc/self/cwd", "/proc/1/root"})
    if (readable(root + outside.folder + "/secret")) return true;
  return false;
}
bool outlive_others(const Outside&) {
  return ::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC) >= 0;
}
bool read_sys(const Outside&) {
  return readable("/sys/kernel/mm/transparent_hugepage/enabled");
}
bool write_sysctl(const Outside&) {
  for (const char* setting : {"/proc/sys/kernel/hostname", "/proc/sys/kernel/core_pattern",
                              "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger"})
    if (::open(setting, O_WRONLY | O_CLOEXEC) >= 0) return true;
  return false;
}
bool write_sys(const Outside&) {
  for (const char* setting :
       {"/sys/devices/system/memory/auto_online_blocks", "/sys/devices/system/cpu/smt/control",
        "/sys/devices/system/cpu/cpu0/uevent", "/sys/module/nvidia/uevent"})
    if (::open(setting, O_WRONLY | O_CLOEXEC) >= 0) return true;
  return false;
}

bool open_null_device(const Outside&) {
  return ::open("/dev/null", O_RDWR | O_CLOEXEC) >= 0;
}
bool open_raw_disk(const Outside&) {
  for (const char* disk : {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/mem", "/dev/ram0"})
    if (::open(disk, O_RDONLY | O_CLOEXEC) >= 0) return true;
  return false;
}
bool make_device(const Outside& outside) {
  for (const std::string& folder : {std::string("/modules"), std::string("/tmp"), outside.folder}) {
    const std::string path = folder + "/device" + std::to_string(::getpid());
    if (::mknod(path.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0) continue;
    const bool opened = ::open(path.c_str(), O_RDWR | O_CLOEXEC) >= 0;
    const int why = errno;
    ::unlink(path.c_str());
    errno = why;
    if (opened) return true;
  }
  return false;
}

bool change_root(const Outside& outside) {
  return ::chroot(outside.folder.c_str()) == 0 || ::chroot("/") == 0;
}
/// The old way out: a root below the working folder.
bool leave_changed_root(const Outside& outside) {
  for (const std::string& folder : {std::string("/modules"), std::string("/tmp"), outside.folder}) {
    const std::string below = folder + "/below" + std::to_string(::getpid());
    if (::mkdir(below.c_str(), 0700) != 0) continue;
    const bool entered = ::chroot(below.c_str()) == 0;
    for (int up = 0; entered && up < 64; ++up)
      if (::chdir("..") != 0) break;
    const bool left = entered && ::chroot(".") == 0 && readable("/etc/passwd");
    const int why = errno;
    ::rmdir(below.c_str());
    errno = why;
    if (left) return true;
  }
  return false;
}
bool mount_memory(const Outside& outside) {
  for (const std::string& folder : {std::string("/modules"), std::string("/tmp"), outside.folder})
    if (::mount("x", folder.c_str(), "tmpfs", 0, nullptr) == 0) {
      ::umount2(folder.c_str(), MNT_DETACH);
      return true;
    }
  return false;
}
bool mount_by_descriptor(const Outside&) {
  return ::syscall(SYS_fsopen, "tmpfs", 0) >= 0;
}
bool exchange_root(const Outside& outside) {
  return ::syscall(SYS_pivot_root, outside.folder.c_str(), outside.folder.c_str()) == 0 ||
         errno == EINVAL || errno == EBUSY;
}
bool open_by_file_handle(const Outside&) {
  struct {
    file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.head.handle_bytes = 8;
  return ::open_by_handle_at(AT_FDCWD, &handle.head, O_RDONLY) >= 0 || errno == ESTALE;
}

// Landlock has nothing to say about these two.
constexpr std::uint32_t own_root = proto::sandbox::bit(proto::sandbox::Protection::empty_root);
constexpr std::uint32_t with_system = only({Profile::jit, Profile::tool, Profile::streaming});

constexpr Attempt attempts[] = {
    {"read a file of the host", read_host_file},
    {"read /etc/passwd", read_passwd},
    {"read above the root", read_above_the_root},
    {"read a file of the host through a link", read_through_a_link},
    {"list a folder of the host", list_host_folder},
    {"make a file on the host", make_host_file},
    {"make a folder on the host", make_host_folder},
    {"change the mode of a file of the host", change_mode_of_host_file, 0, own_root},
    {"ask about a file of the host", stat_host_file, 0, own_root},
    {"read from a folder left open", read_from_a_kept_folder, 0,
     proto::sandbox::bit(proto::sandbox::Protection::landlock)},
    {"read /proc", read_proc, 0, 0, true},
    {"read another's status through /proc", read_status_through_proc},
    {"name a thread of another", name_a_thread_of_another},
    {"write what it may only read", write_what_is_read_only, 0, own_root},
    {"write what it may only read, by a child", write_what_is_read_only_by_a_child, 0, own_root},
    {"leave through /proc", leave_through_proc},
    {"outlive others when memory runs out", outlive_others},
    {"read another's memory through /proc", read_memory_through_proc},
    {"read another's environment through /proc", read_environment_through_proc},
    {"read /sys", read_sys},
    {"open a system setting to write", write_sysctl},
    {"open a setting of the machine to write", write_sys},
    {"open a device", open_null_device, with_system},
    {"open a raw disk", open_raw_disk},
    {"make a device and open it", make_device},
    {"change the root", change_root},
    {"leave a changed root", leave_changed_root},
    {"mount", mount_memory},
    {"mount by descriptor", mount_by_descriptor},
    {"exchange the root", exchange_root},
    {"open by file handle", open_by_file_handle},
};

}  // namespace

std::span<const Attempt> file_attempts() {
  return attempts;
}

}  // namespace aios::escape
