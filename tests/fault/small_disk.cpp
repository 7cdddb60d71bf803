#include "tests/fault/small_disk.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <vector>

#include "abi/runtime/fd.hpp"

namespace aios::fault {

namespace {

constexpr off_t disk_bytes = off_t{768} << 20;

std::string folder;

/// Whether the program, found on the path and in the folders of the superuser's, ended with 0.
bool run(std::vector<std::string> words) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", 1);
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    const int null = ::open("/dev/null", O_RDWR);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(null, STDERR_FILENO);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  int status = 0;
  return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

bool write_text(const char* path, const std::string& text) {
  std::ofstream file(path);
  return static_cast<bool>(file << text << std::flush);
}

/// An ordinary user stays who he is, and may mount within the namespace.
bool enter_namespaces() {
  if (::geteuid() == 0) return ::unshare(CLONE_NEWNS) == 0;
  const std::string uid = std::to_string(::geteuid());
  const std::string gid = std::to_string(::getegid());
  return ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
         write_text("/proc/self/setgroups", "deny") &&
         write_text("/proc/self/gid_map", gid + " " + gid + " 1") &&
         write_text("/proc/self/uid_map", uid + " " + uid + " 1");
}

bool mount_ext4() {
  const std::string image = folder + ".image";
  {
    const Fd file(::open(image.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid() || ::ftruncate(file.get(), disk_bytes) != 0) return false;
  }
  const bool mounted = run({"mkfs.ext4", "-q", "-F", "-m", "0", image}) &&
                       run({"mount", "-o", "loop", image, folder});
  // The mount holds it.
  ::unlink(image.c_str());
  return mounted;
}

}  // namespace

std::string mount_small_disk() {
  folder = (std::filesystem::temp_directory_path() / "aios-disk-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return {};
  std::string kind;
  if (enter_namespaces() && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0) {
    const std::string options = "mode=0700,size=" + std::to_string(disk_bytes);
    if (::geteuid() == 0 && mount_ext4())
      kind = "ext4";
    else if (::mount("tmpfs", folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) == 0)
      kind = "tmpfs";
  }
  if (kind.empty())
    unmount_small_disk();
  else
    ::setenv("TMPDIR", folder.c_str(), 1);
  return kind;
}

void unmount_small_disk() {
  if (folder.empty()) return;
  ::umount2(folder.c_str(), MNT_DETACH);
  ::rmdir(folder.c_str());
  folder.clear();
}

}  // namespace aios::fault
