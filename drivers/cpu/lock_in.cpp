#include "drivers/cpu/lock_in.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "abi/runtime/fd.hpp"

namespace aios::cpu {
namespace {

/// Every module at its greatest would not fit, nor need it: a module's file is there only as long
/// as the module is mapped, in shared pages.
constexpr const char* root_options = "size=256m,nr_inodes=1024,mode=0700";
/// There on every host that AIOS runs on; only something to mount the new root on for a moment.
constexpr const char* mount_point = "/proc";
constexpr const char* module_folder = "/modules";

std::string because(std::string_view what, int errno_value) {
  std::string text(what);
  return text.append(" (").append(std::strerror(errno_value)).append(")");
}

/// Without this the process could make itself a user namespace, and hold every capability in it.
void forbid_user_namespaces(Confinement& result) {
  const Fd file(::open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC));
  if (!file.valid() || ::write(file.get(), "0", 1) != 1)
    result.missing.push_back(because("tasks may make user namespaces of their own", errno));
}

Result<> enter_empty_root(Confinement& result) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("aios", mount_point, "tmpfs", MS_NOSUID | MS_NODEV, root_options) != 0) {
    result.missing.push_back(because("tasks see the host's files: no private mounts", errno));
    return {};
  }
  // The old root is stacked upon the new one and then detached.
  if (::chdir(mount_point) != 0 || ::syscall(SYS_pivot_root, ".", ".") != 0) {
    result.missing.push_back(because("tasks see the host's files: pivot_root failed", errno));
    ::umount2(mount_point, MNT_DETACH);
    return ::chdir("/") == 0 ? Result<>{} : errno_error("cannot return to the root", errno);
  }
  if (::umount2(".", MNT_DETACH) != 0 || ::chdir("/") != 0)
    return error(Code::internal, because("cannot leave the host's root", errno));
  if (::mkdir(module_folder, 0700) != 0)
    return error(Code::internal, because("cannot make a folder for modules", errno));
  result.module_folder = module_folder;
  return {};
}

void drop_capabilities(Confinement& result) {
  bool bounded = true;
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability)
    bounded &= ::prctl(PR_CAPBSET_DROP, capability) == 0;
  ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capset, &header, none) != 0)
    result.missing.push_back(because("capabilities could not be dropped", errno));
  // Only a process that has no capability to lose is refused here, and it gains none by exec once
  // no_new_privs is set.
  else if (!bounded && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
    result.missing.push_back("the capability bounding set could not be emptied");
}

}  // namespace

Result<Confinement> lock_in() {
  Confinement result;
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    result.missing.push_back(because("programs may gain privileges by exec", errno));
  if (::getpid() == 1) {
    forbid_user_namespaces(result);
    TRY(enter_empty_root(result));
  } else {
    result.missing.push_back(
        "tasks see the host's files, network and processes: this host gives no user namespaces");
  }
  drop_capabilities(result);
  return result;
}

}  // namespace aios::cpu
