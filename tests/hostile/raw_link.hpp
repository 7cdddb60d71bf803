// One side of a link in raw shared memory: every word of the own half and every byte of both
// doorbells can be written. Either side: a client that connected, or a server that accepted.
#pragma once

#include <memory>
#include <span>

#include "tests/hostile/raw_kernel.hpp"

namespace aios::hostile {

/// What became of messages that were published.
enum class Outcome {
  consumed,
  closed,  ///< the other side ended the link
  parked,  ///< it waits for room in the ring that we do not read
  silent,  ///< nothing within the time
};

class RawLink {
 public:
  /// Connects and waits until the link is open; null when it does not come to that.
  static std::unique_ptr<RawLink> connect(RawKernel& kernel, Handle port, std::uint64_t version);
  /// The oldest waiting connection; null when there is none, or it went away.
  static std::unique_ptr<RawLink> accept(RawKernel& kernel, Handle port);
  /// Connects step by step: asked for and mapped, not confirmed.
  static std::unique_ptr<RawLink> begin(RawKernel& kernel, Handle port, std::uint64_t version);
  Code confirm();
  bool await_open();
  ~RawLink() { close(); }
  RawLink(const RawLink&) = delete;

  proto::Slot& slot(std::uint64_t position) {
    return reinterpret_cast<proto::Slot*>(own_.data() +
                                          proto::page_bytes)[position % proto::slot_count];
  }
  proto::HalfHeader& header() { return *reinterpret_cast<proto::HalfHeader*>(own_.data()); }
  const proto::HalfHeader& peer_header() const {
    return *reinterpret_cast<const proto::HalfHeader*>(peer_.data());
  }

  /// As an honest sender does, but with any header; payload at most max_payload_bytes.
  void publish(const proto::MessageHeader& header, std::span<const std::byte> payload);
  /// The payload's slots, without the first one's sequence: invisible until `show`.
  std::uint64_t prepare(const proto::MessageHeader& header, std::span<const std::byte> payload);
  void show() { slot(tail).sequence.store(tail + 1); }
  bool room(std::uint32_t slots) const;
  void ring() const;
  /// Takes what lies in the other side's doorbell, our rings and others'.
  std::size_t drain_ringer() const;
  /// Writes until nothing more fits; the bytes that lie in it.
  std::size_t fill_ringer() const;
  /// Bytes in the other side's doorbell that it has not taken.
  std::size_t unheard() const;
  /// Fills the doorbell that the other side is to ring for us, so that its rings go nowhere.
  bool fill_own_bell() const;

  /// Takes every message that is there and frees its room.
  std::uint32_t take();
  /// Copies the next message; false when there is none.
  bool take_one(proto::MessageHeader& header, std::span<std::byte> payload);
  bool closed() const { return handle_ == 0 || kernel_.link_closed(index_); }
  std::uint64_t consumed() const { return peer_header().consumed.load(std::memory_order_acquire); }
  bool parked() const { return peer_header().stalled.load() != 0; }
  /// Rings and waits until everything up to `tail` is consumed; takes messages while `reading`.
  Outcome await(bool reading = true, int timeout_ms = patience_ms);
  /// A whole call: the reply's status and, as far as it fits, its body. peer_closed when the link
  /// was ended instead; a server that does neither is a breach.
  Code ask(std::uint16_t opcode, std::span<const std::byte> request,
           std::span<std::byte> reply = {});
  template <class M>
  Code call(const typename M::Request& request, typename M::Reply* reply = nullptr) {
    return ask(
        M::opcode, std::as_bytes(std::span(&request, 1)),
        reply == nullptr ? std::span<std::byte>() : std::as_writable_bytes(std::span(reply, 1)));
  }
  /// Waits for the other side to end the link; takes messages while `reading`.
  bool await_closed(bool reading = true);
  void wait(int timeout_ms);

  Handle handle() const { return handle_; }
  const Fd& half() const { return half_; }
  void close();

  std::uint64_t tail = 0;  ///< position of the next message
  std::uint64_t head = 0;  ///< position of the next message from the other side

 private:
  explicit RawLink(RawKernel& kernel) : kernel_(kernel) {}
  bool adopt(std::vector<Fd>& fds);
  bool adopt_peer(std::vector<Fd>& fds);

  RawKernel& kernel_;
  std::uint32_t call_id_ = 0;
  Handle handle_ = 0;
  std::uint32_t index_ = 0;
  Fd half_;
  Fd bell_;
  Fd ringer_;
  Mapping own_;
  Mapping peer_;
};

}  // namespace aios::hostile
