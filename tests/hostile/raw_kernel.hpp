// A connection to aios-kernel that keeps no rule by itself: packets of any bytes, calls with any
// arguments. Its own state is honest enough to see what came of it.
#pragma once

#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/proto/link.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/socket.hpp"
#include "abi/runtime/status.hpp"

namespace aios::hostile {

namespace wire = proto::kernel;
using wire::Handle;

/// Greatest time for anything that must happen. What takes longer is a hang, and a breach.
inline constexpr int patience_ms = 20'000;

/// Ends this program with a line that says which promise was broken, and exit code 3.
[[noreturn]] void breach(const std::string& what);

template <class M>
struct Answer {
  Code code = Code::internal;
  typename M::Reply reply{};
  std::vector<Fd> fds;
  bool ok() const { return code == Code::ok; }
};

class RawKernel {
 public:
  /// Connected, not greeted. Null when the kernel refuses the connection.
  static std::unique_ptr<RawKernel> connect(const std::string& socket_path);
  /// Connected, greeted, pages mapped and confirmed.
  static std::unique_ptr<RawKernel> ready(const std::string& socket_path, std::string_view job);

  template <class M>
  Answer<M> call(const typename M::Request& request) {
    Answer<M> answer;
    send<M>(request);
    std::byte body[wire::max_packet_bytes];
    answer.code = receive(body, answer.fds);
    if (answer.ok())
      std::memcpy(&answer.reply, body + sizeof(wire::KernelReply), sizeof answer.reply);
    return answer;
  }
  template <class M>
  void send(const typename M::Request& request) {
    std::byte packet[sizeof(wire::CallHeader) + sizeof request];
    const wire::CallHeader header{M::opcode, sizeof request, ++call_id_};
    std::memcpy(packet, &header, sizeof header);
    std::memcpy(packet + sizeof header, &request, sizeof request);
    send_bytes(packet, {});
  }
  /// False when the kernel has ended the connection.
  bool send_bytes(std::span<const std::byte> packet, std::span<const int> fds);
  /// The status of the next reply; peer_closed at the end. A kernel that stays silent is a breach.
  Code receive(std::span<std::byte> body, std::vector<Fd>& fds);

  bool hello(std::string_view job);
  bool confirm();
  Handle startup(std::string_view label);
  bool link_closed(std::uint32_t index) const;
  /// Says that this process sleeps, anew: its peers ring.
  void sleep_again();
  void wait_bell(int timeout_ms) const;
  void close(Handle handle) { (void)call<wire::HandleClose>({handle}); }
  bool lost() const { return lost_; }
  int socket() const { return socket_.get(); }
  std::uint64_t process_id() const { return hello_.process_id; }
  Handle job() const { return hello_.job; }

 private:
  Fd socket_;
  Fd bell_;
  Fd status_fd_;
  Mapping status_;
  Mapping kernel_page_;
  wire::Hello::Reply hello_{};
  std::uint64_t call_id_ = 0;
  bool lost_ = false;
};

}  // namespace aios::hostile
