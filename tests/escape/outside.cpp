#include "tests/escape/outside.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace aios::escape {

char memory_mark[16] = "the prober's";

namespace {

namespace fs = std::filesystem;

/// A process of this one's, which dies with it.
template <class Body>
pid_t start_process(Body body) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() == parent) body();
  ::_exit(0);
}

}  // namespace

bool become(long user) {
  const auto id = static_cast<uid_t>(user);
  // A change of user makes a process that nobody may trace.
  return ::setgroups(0, nullptr) == 0 && ::setresgid(id, id, id) == 0 &&
         ::setresuid(id, id, id) == 0 && ::prctl(PR_SET_DUMPABLE, 1) == 0;
}

namespace {

void give(int listener, int secret) {
  const Fd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  char byte = 'x';
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof secret)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof secret);
  std::memcpy(CMSG_DATA(head), &secret, sizeof secret);
  ::sendmsg(peer.get(), &message, MSG_NOSIGNAL);
}

/// Hands the secret to everybody who asks.
[[noreturn]] void give_secret(int one, int other, int secret) {
  for (;;) {
    pollfd ready[2] = {{one, POLLIN, 0}, {other, POLLIN, 0}};
    if (::poll(ready, 2, -1) < 0) continue;
    for (const pollfd& listener : ready)
      if (listener.revents != 0) give(listener.fd, secret);
  }
}

Result<Fd> listen_at(const sockaddr_un& address, std::size_t size) {
  Fd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(size)) != 0 ||
      ::listen(listener.get(), 64) != 0)
    return errno_error("listen at a Unix socket", errno);
  return listener;
}

}  // namespace

Result<std::unique_ptr<OutsideWorld>> OutsideWorld::create(const std::string& program, long user) {
  std::unique_ptr<OutsideWorld> world(new OutsideWorld);
  TRY(world->make_files(program, user));
  TRY(world->make_sockets(user));
  world->start_victim(user);
  const Fd memory(::memfd_create("region", 0));
  // Everybody's, so that only what reaches it decides.
  ::fchmod(memory.get(), 0777);
  if (::write(memory.get(), "data", 4) == 4)
    world->outside_.read_only =
        ::open(("/proc/self/fd/" + std::to_string(memory.get())).c_str(), O_RDONLY | O_CLOEXEC);
  world->outside_.kept_folder = ::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  return world;
}

Result<void> OutsideWorld::make_files(const std::string& program, long user) {
  char name[] = "/tmp/aios-escape-XXXXXX";
  if (::mkdtemp(name) == nullptr) return errno_error("make a temporary folder", errno);
  outside_.folder = name;
  char own[] = "/tmp/aios-escape-own-XXXXXX";
  if (::mkdtemp(own) == nullptr) return errno_error("make a temporary folder", errno);
  own_folder_ = own;
  ::chmod(own, 0777);
  // So that they can remove it in the end.
  for (const char* folder : {name, own})
    if (user >= 0 && ::chown(folder, static_cast<uid_t>(user), static_cast<gid_t>(user)) != 0)
      return errno_error("give away a folder", errno);
  // Nobody in particular is to be stopped by modes alone.
  ::umask(0);
  ::chmod(name, 0777);
  std::ofstream(outside_.folder + "/secret") << secret_text << '\n';
  std::error_code failed;
  fs::copy_file(program, outside_.folder + "/program", failed);
  if (failed) return error(Code::io_error, "cannot copy " + program + ": " + failed.message());
  ::chmod((outside_.folder + "/program").c_str(), 0755);
  if (::geteuid() != 0) return {};
  // Only root can make a program of another user's.
  outside_.setuid_program = outside_.folder + "/program-of-another";
  fs::copy_file(program, outside_.setuid_program, failed);
  if (::chown(outside_.setuid_program.c_str(), 54321, 54321) != 0 ||
      ::chmod(outside_.setuid_program.c_str(), 06755) != 0)
    return errno_error("make a set-uid program", errno);
  return {};
}

Result<void> OutsideWorld::make_sockets(long user) {
  tcp_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  // A host without a network of its own has nothing to be reached by it.
  if (::bind(tcp_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      ::listen(tcp_.get(), 1024) == 0 &&
      ::getsockname(tcp_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0)
    outside_.tcp_port = ntohs(address.sin_port);
  outside_.socket_path = outside_.folder + "/socket";
  sockaddr_un path{.sun_family = AF_UNIX, .sun_path = {}};
  outside_.socket_path.copy(path.sun_path, sizeof path.sun_path - 1);
  by_path_ = TRY(listen_at(path, sizeof path));
  outside_.abstract_name = outside_.folder;
  sockaddr_un abstract{.sun_family = AF_UNIX, .sun_path = {}};
  outside_.abstract_name.copy(abstract.sun_path + 1, sizeof abstract.sun_path - 1);
  abstract_ =
      TRY(listen_at(abstract, offsetof(sockaddr_un, sun_path) + 1 + outside_.abstract_name.size()));
  const int secret = ::open((outside_.folder + "/secret").c_str(), O_RDONLY | O_CLOEXEC);
  giver_ = start_process([&] {
    if (user < 0 || become(user)) give_secret(by_path_.get(), abstract_.get(), secret);
  });
  ::close(secret);
  return {};
}

void OutsideWorld::start_victim(long user) {
  outside_.victim = start_process([user] {
    // Where it shows: whoever tries is the same user.
    if (user >= 0 && !become(user)) ::_exit(1);
    std::strcpy(memory_mark, "the victim's");
    for (;;) ::pause();
  });
}

OutsideWorld::~OutsideWorld() {
  for (const pid_t pid : {giver_, outside_.victim}) {
    if (pid <= 0) continue;
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  for (const int kept : {outside_.kept_folder, outside_.read_only})
    if (kept >= 0) ::close(kept);
  std::error_code ignored;
  for (const std::string& folder : {outside_.folder, own_folder_})
    if (!folder.empty()) fs::remove_all(folder, ignored);
}

}  // namespace aios::escape
