// The other direction: a server that answers its clients wrongly. Its prey is whoever connects to
// the port `evil`; the campaign sends honest clients there.
#include "abi/runtime/time.hpp"
#include "tests/hostile/peer.hpp"

namespace aios::hostile {

namespace {
constexpr int wait_for_request_ms = 100;
constexpr int wait_for_reaction_ms = 2000;
}  // namespace

EvilServer::EvilServer(const std::string& socket_path, std::uint64_t seed)
    : random_(seed), kernel_(RawKernel::ready(socket_path, "hostile")) {
  if (kernel_ == nullptr) breach("the kernel no longer accepts a process");
  const Handle root = kernel_->startup("root");
  port_ = kernel_->call<wire::PortCreate>({wire::Name::from("evil")}).reply.port;
  if (!kernel_->call<wire::PortPublish>({root, port_, wire::Label::from("evil")}).ok())
    breach("the hostile server cannot publish its port");
  kernel_->close(root);
}

void EvilServer::run(const std::atomic<bool>& stopping) {
  while (!stopping) {
    kernel_->wait_bell(5);
    while (const auto link = RawLink::accept(*kernel_, port_)) treat(*link);
    // Signals lie in the kernel's queue until they are asked for.
    while (kernel_->call<wire::SignalNext>({}).reply.handle != 0) {
    }
  }
}

void EvilServer::treat(RawLink& link) {
  const auto end = [](int after_ms) {
    return Deadline::after(static_cast<std::uint64_t>(after_ms) * ns_per_ms);
  };
  proto::MessageHeader request{};
  std::byte payload[proto::max_payload_bytes];
  // Some requests it lies on, and takes nothing: their sender runs out of room, or of time.
  const bool unread = random_.one_in(6);
  if (unread) {
    const bool ahead = random_.one_in(2);
    const Kind kind = ahead ? Kind::server_consumed_lie : Kind::server_silent;
    if (ahead) link.header().consumed.store(1 + random_.edge() % (1ull << 60) + (1u << 20));
    const Deadline deadline = end(wait_for_reaction_ms);
    bool reacted = false;
    while (!reacted && !deadline.passed()) {
      reacted = link.closed() || (!ahead && link.parked());
      if (!reacted) link.wait(1);
    }
    return counts_.done(kind, reacted);
  }
  const std::uint64_t answers = 1 + random_.below(8);
  for (std::uint64_t i = 0; i < answers && !link.closed(); ++i) {
    const Deadline deadline = end(wait_for_request_ms);
    while (!link.take_one(request, payload)) {
      if (deadline.passed() || link.closed()) return;
      link.wait(1);
    }
    answer_wrongly(link, request);
  }
}

void EvilServer::answer_wrongly(RawLink& link, const proto::MessageHeader& request) {
  std::byte payload[proto::max_payload_bytes];
  random_.fill(payload);
  proto::ReplyHeader head{0, 0};
  proto::MessageHeader header{static_cast<std::uint16_t>(request.opcode | proto::reply_flag), 272,
                              request.call_id};
  Kind kind = Kind::server_reply_status;
  bool torn = false;
  bool ends_link = false;
  switch (random_.below(7)) {
    case 0:
      kind = Kind::server_reply_sequence;
      ends_link = true;
      break;
    case 1:
      kind = Kind::server_reply_length;
      ends_link = random_.one_in(2);
      header.length =
          static_cast<std::uint16_t>(ends_link ? 441 + random_.below(65'000) : random_.below(441));
      break;
    case 2:
      kind = Kind::server_reply_torn;
      torn = ends_link = true;
      break;
    case 3:
      kind = Kind::server_reply_call;
      header.call_id += static_cast<std::uint32_t>(1 + random_.below(1u << 31));
      break;
    case 4:
      kind = Kind::server_reply_opcode;
      header.opcode = static_cast<std::uint16_t>(random_.any());
      break;
    case 5:
      kind = Kind::server_closes;
      break;
    default:
      head = {static_cast<std::uint32_t>(random_.edge()),
              static_cast<std::uint32_t>(random_.edge())};
  }
  std::memcpy(payload, &head, sizeof head);
  const std::size_t bytes = std::min<std::size_t>(header.length, sizeof payload);
  const std::uint64_t next = link.prepare(header, std::span(payload).first(bytes));
  if (torn) link.slot(link.tail + 1 + random_.below(3)).sequence.store(random_.edge() | 1u << 30);
  if (kind == Kind::server_reply_sequence)
    link.slot(link.tail).sequence.store(link.tail + 2 + random_.edge() % (1ull << 60));
  else
    link.show();
  link.tail = next;
  link.ring();
  if (kind == Kind::server_closes) {
    counts_.done(kind, true);
    return link.close();
  }
  const Deadline deadline = Deadline::after(wait_for_reaction_ms * ns_per_ms);
  while (!link.closed() && (ends_link || link.consumed() < link.tail) && !deadline.passed())
    link.wait(1);
  counts_.done(kind, link.closed() || (!ends_link && link.consumed() >= link.tail));
}

}  // namespace aios::hostile
