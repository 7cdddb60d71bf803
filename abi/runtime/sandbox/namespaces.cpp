#include "abi/runtime/sandbox/namespaces.hpp"

#include <fcntl.h>
#include <grp.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "abi/runtime/fd.hpp"

namespace aios::sandbox {

namespace {

Result<void> write_text(const std::string& path, const std::string& text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (file.valid() && ::write(file.get(), text.data(), text.size()) > 0) return {};
  return errno_error("write " + path, errno);
}

}  // namespace

Result<void> map_ids(pid_t child, uid_t user) {
  const std::string folder = "/proc/" + std::to_string(child);
  // Groups first: where they are refused nothing has been written yet.
  const auto map = [&folder](uid_t outside, gid_t group) -> Result<void> {
    TRY(write_text(folder + "/gid_map", "0 " + std::to_string(group) + " 1"));
    return write_text(folder + "/uid_map", "0 " + std::to_string(outside) + " 1");
  };
  const bool root = ::geteuid() == 0;
  // Refused in a container that has no such id.
  if (root && user != 0 && map(user, unprivileged_id)) return {};
  // Refused to a root who may map no ids, as in a container of an ordinary user.
  if (root && map(::geteuid(), ::getegid())) return {};
  TRY(write_text(folder + "/setgroups", "deny"));
  return map(::geteuid(), ::getegid());
}

bool become_mapped_root() {
  // An ordinary user is 0 already, and setgroups is denied; root keeps groups of the host's.
  const bool mapped = ::getuid() == 0 && ::getgid() == 0;
  if (::setgroups(0, nullptr) != 0 && !mapped) return false;
  return mapped || (::setresgid(0, 0, 0) == 0 && ::setresuid(0, 0, 0) == 0);
}

bool become_user(uid_t user) {
  if (::setgroups(0, nullptr) == 0 &&
      ::setresgid(unprivileged_id, unprivileged_id, unprivileged_id) == 0 &&
      ::setresuid(user, user, user) == 0)
    return true;
  // In a container that has no such id it stays the container's root.
  return user == unprivileged_id && (errno == EPERM || errno == EINVAL);
}

}  // namespace aios::sandbox
