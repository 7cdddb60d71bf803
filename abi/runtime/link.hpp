// A link: a private shared-memory connection between this process and one other.
//
// Owned by one thread at a time. Nothing here blocks. A link whose peer died still hands out the
// messages the peer had published ("closed"), and only then says peer_closed ("dead").
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "abi/runtime/kernel.hpp"
#include "abi/runtime/ring.hpp"
#include "abi/runtime/sleep.hpp"

namespace aios {

/// Who is at the other end, as the kernel knows it; not what it says of itself.
struct PeerInfo {
  std::uint64_t process_id = 0;
  std::uint64_t job_id = 0;
  std::uint32_t uid = 0;
  std::uint64_t protocol_version = 0;
  proto::kernel::PeerRole role = proto::kernel::PeerRole::program;
  std::string name;
  std::string job_name;
  /// A program of root or of the instance's own user: it may see and end everybody's work.
  bool is_operator() const { return role == proto::kernel::PeerRole::operator_program; }
  /// No server of a manifest and no context can have this name.
  bool is_supervisor() const {
    return role == proto::kernel::PeerRole::child && name == "supervisor";
  }
};

class Link {
 public:
  Link(const Link&) = delete;
  ~Link();

  /// Asks `port` for a link. It is not open yet: call try_open after the kernel's bell rang, until
  /// it says true. Errors as port_connect.
  static Result<std::unique_ptr<Link>> begin_connect(Kernel& kernel, Handle port,
                                                     std::uint64_t protocol_version);
  /// True when the link is open. peer_closed when the server went away first.
  Result<bool> try_open();
  bool open() const { return open_; }

  /// The oldest connection waiting at `port`, open at once. busy when there is none.
  static Result<std::unique_ptr<Link>> accept(Kernel& kernel, Handle port, PeerInfo& peer);

  Handle handle() const { return handle_; }
  /// Set by the kernel when the peer is gone or has closed.
  bool closed() const { return kernel_.link_closed(index_); }

  /// Publishes a message; a peer that sleeps learns of it by notify_peer.
  RingResult push(const proto::MessageHeader& header, std::span<const std::byte> payload);
  RingResult pop(Message& message);
  RingResult room(std::uint32_t slots) { return sender_.room(slots); }
  /// As RingSender::set_stalled.
  void set_stalled(bool stalled);
  /// Rings a peer that sleeps and has not seen what was pushed, or the room that pops made and that
  /// it waits for. To be called after a batch of either, and before blocking.
  void notify_peer();
  /// For who knows that the peer cannot be waiting for the room that pops made.
  void forget_pops() { popped_ = false; }
  /// Did the peer wait on the core that this thread runs on when it was last told of something?
  bool near() const { return peer_core_ != 0 && peer_core_ == this_core(); }
  bool owes_notice() const { return pushed_ || popped_; }
  /// A message waits, or the link has been closed: either way there is work.
  bool ready() const { return receiver_.ready() || closed(); }

  /// Becomes readable when the peer (or the kernel, at close) rings. It is written each time, and
  /// emptied now and then by itself: whoever watches it edge-triggered need not drain it.
  int bell_fd() const { return bell_.get(); }
  /// For who counts as asleep, or does as renew_rings says.
  void drain_bell() const;
  /// For who watches it so and was told: a ring that came without a message leaves nothing behind.
  void heard_bell() const {
    if (!receiver_.ready()) drain_bell();
  }

  /// Installs handles at the peer and returns their numbers there. Each entry as in LinkSend.
  Result<std::vector<Handle>> send_handles(
      std::span<const proto::kernel::LinkSend::Entry> entries) const {
    return send_handles(kernel_, handle_, entries);
  }
  /// The same over the link that `link` names, for who does not keep it from being closed
  /// meanwhile: bad_handle then.
  static Result<std::vector<Handle>> send_handles(
      Kernel& kernel, Handle link, std::span<const proto::kernel::LinkSend::Entry> entries);

 private:
  explicit Link(Kernel& kernel) : kernel_(kernel) {}
  void ring() const;
  void empty_bell();
  Result<void> adopt_own(std::vector<Fd>& fds);
  Result<bool> confirm();

  Kernel& kernel_;
  Handle handle_ = 0;
  std::uint32_t index_ = 0;
  bool open_ = false;
  Mapping own_half_;
  Mapping peer_half_;
  Mapping peer_status_;
  Fd bell_;
  Fd peer_bell_;
  RingSender sender_;
  RingReceiver receiver_;
  bool pushed_ = false;  ///< since notify_peer
  bool popped_ = false;  ///< since notify_peer
  std::uint32_t popped_since_drain_ = 0;
  Waker waker_;
  std::uint64_t peer_core_ = 0;  ///< at the last notify_peer
};

}  // namespace aios
