// What the kernel's protocol tests share: a real aios-kernel on a state folder of its own, and a
// client that speaks to it in raw packets.
#pragma once

#include <sys/types.h>

#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/socket.hpp"
#include "abi/runtime/time.hpp"

namespace aios::test {

namespace wire = proto::kernel;

/// A folder below the system's temporary one; removed with all that is in it.
class TemporaryFolder {
 public:
  explicit TemporaryFolder(const std::string& tail = "");
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path top_;
  std::filesystem::path path_;
};

/// A Linux program whose standard error is read line by line.
class Program {
 public:
  Program(const std::vector<std::string>& arguments);
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  /// Reads until a line holds `text`; false at the end of the output.
  bool await_line(const std::string& text);
  /// Waits for the end; the exit code, or 128 and the signal's number.
  int wait();
  void signal(int number) const;
  pid_t pid() const { return pid_; }
  const std::string& output() const { return output_; }

 private:
  pid_t pid_ = -1;
  Fd errors_;
  std::string output_;
};

/// Paths of the binaries under test, from the environment that Meson sets.
std::string kernel_binary();
std::string child_binary();

/// Starts aios-kernel and waits until it serves.
class Machine {
 public:
  explicit Machine(const std::string& supervisor_mode = "serve", const std::string& tail = "");
  /// Stops it; the test fails if it does not end well.
  ~Machine();

  std::filesystem::path state() const { return folder_.path(); }
  std::string socket_path() const { return folder_.path() / "aios.sock"; }
  Program& kernel() { return *kernel_; }
  /// SIGTERM; the exit code.
  int stop();
  std::string log(const std::string& name) const;

 private:
  TemporaryFolder folder_;
  std::unique_ptr<Program> kernel_;
};

template <class M>
struct Answer {
  Code code = Code::internal;
  std::string text;
  typename M::Reply reply{};
  std::vector<Fd> fds;
  bool ok() const { return code == Code::ok; }
};

/// The kernel refused it because too many descriptors of its user are on their way (ETOOMANYREFS):
/// Linux counts those of all programs of the user, so another run of these tests may be why.
template <class M>
bool lacks_room(const Answer<M>& answer) {
  return answer.code == Code::quota && answer.text.find("descriptors unread") != std::string::npos;
}
/// How long the others may take.
inline constexpr std::uint64_t room_patience_ns = 60 * ns_per_s;
inline constexpr const char* no_room =
    "ETOOMANYREFS: for a minute other programs of this user, such as another run of these tests, "
    "had too many descriptors on their way; what is to succeed here was refused for it: ";
void wait_for_room();

/// Asks again while the kernel lacks room.
template <class M, class Client>
Answer<M> call_with_room(Client& client, const typename M::Request& request) {
  const Deadline deadline = Deadline::after(room_patience_ns);
  for (;;) {
    auto answer = client.template call<M>(request);
    if (!lacks_room(answer)) return answer;
    if (deadline.passed()) answer.text = no_room + answer.text;
    if (deadline.passed()) return answer;
    wait_for_room();
  }
}

/// One raw connection.
class Client {
 public:
  explicit Client(const std::string& socket_path);
  explicit Client(Fd socket) : socket_(std::move(socket)) {}
  /// Says hello, and that it is ready.
  Answer<wire::Hello> greet(const std::string& job_name, const wire::Quota& quota);
  /// Connected, greeted and ready; while the kernel lacks room it tries again.
  static Client ready(const std::string& socket_path, const std::string& job_name = "",
                      const wire::Quota& quota = {});

  void send_raw(std::span<const std::byte> packet);
  /// False at the end of the connection.
  bool receive_raw(ReceivedPacket& packet, std::span<std::byte> body);
  /// True when the kernel has ended the connection.
  bool is_closed();

  template <class M>
  void send(const typename M::Request& request) {
    const wire::CallHeader header{M::opcode, sizeof request, ++call_id_};
    std::vector<std::byte> packet(sizeof header + sizeof request);
    std::memcpy(packet.data(), &header, sizeof header);
    std::memcpy(packet.data() + sizeof header, &request, sizeof request);
    send_raw(packet);
  }
  template <class M>
  Answer<M> receive() {
    Answer<M> answer;
    ReceivedPacket packet;
    std::byte body[wire::max_packet_bytes];
    if (!receive_raw(packet, body)) {
      answer.code = Code::peer_closed;
      return answer;
    }
    wire::KernelReply head{};
    std::memcpy(&head, body, sizeof head);
    answer.code = static_cast<Code>(head.status);
    answer.text = head.text.view();
    if (answer.ok() && packet.bytes == sizeof head + sizeof answer.reply)
      std::memcpy(&answer.reply, body + sizeof head, sizeof answer.reply);
    else if (answer.ok())
      answer.code = Code::protocol_error;
    if (head.fd_count != packet.fds.size()) answer.code = Code::protocol_error;
    answer.fds = std::move(packet.fds);
    return answer;
  }
  template <class M>
  Answer<M> call(const typename M::Request& request) {
    send<M>(request);
    return receive<M>();
  }

  /// The startup handle of that label, or 0.
  wire::Handle startup(const std::string& label);
  /// Waits for the kernel doorbell until `handle` (0: any) has raised a signal of `mask`.
  wire::SignalNext::Reply await_signal(wire::Handle handle, std::uint32_t mask);

  int socket() const { return socket_.get(); }
  void hang_up() { socket_.reset(); }

  wire::Hello::Reply hello{};
  Mapping status_page;
  Mapping kernel_page;
  Fd status_fd;
  Fd bell;

 private:
  Fd socket_;
  std::uint64_t call_id_ = 0;
};

/// Both sides of an open link.
struct OpenLink {
  wire::Handle client = 0;
  wire::Handle server = 0;
  std::uint32_t client_index = 0;
  std::uint32_t server_index = 0;
  Fd client_half, client_bell, client_ringer;
  Fd server_half, server_bell, server_ringer;
  Mapping client_map, server_map;
  Fd client_sees_half, client_sees_status;
};
/// `server` makes a port, publishes it with `root` under `label`; the handle.
wire::Handle publish_port(Client& server, const std::string& label);
/// While the kernel lacks room it tries again.
OpenLink open_link(Client& client, wire::Handle client_port, Client& server,
                   wire::Handle server_port);

}  // namespace aios::test
