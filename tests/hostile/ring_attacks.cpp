// Attacks on the ring itself: sequences, lengths and counters that make no sense. Each ends with
// the server having closed the link, or having taken what was sent.
#include <algorithm>

#include "abi/proto/echo.hpp"
#include "abi/runtime/time.hpp"
#include "tests/hostile/peer.hpp"

namespace aios::hostile {
namespace {

constexpr std::uint16_t null_opcode = proto::Null::opcode;
constexpr std::byte null_request[8]{};
constexpr proto::MessageHeader null_header{null_opcode, sizeof null_request, 1};
constexpr std::uint32_t slots_of_echo_call = 5;  ///< 8 bytes of header and 264 of payload

/// Puts a null call into the next slot under a sequence that is not its own.
void wrong_sequence(Peer& peer, Kind kind, std::uint64_t (*sequence_for)(Random&, std::uint64_t)) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  // At a random place of a random lap, as far as patience goes.
  for (std::uint64_t n = peer.random.below(40); n != 0; --n)
    link->publish(null_header, null_request);
  if (link->await() != Outcome::consumed) return peer.drop(target);
  const std::uint64_t untouched =
      link->tail < proto::slot_count ? 0 : link->tail + 1 - proto::slot_count;
  const std::uint64_t sequence = sequence_for(peer.random, link->tail);
  if (sequence == untouched || sequence == link->tail + 1) return;
  link->prepare(null_header, null_request);
  link->slot(link->tail).sequence.store(sequence);
  peer.counts.done(kind, link->await_closed());
  peer.drop(target);
}

void sequence_forward(Peer& peer) {
  wrong_sequence(peer, Kind::sequence_forward, [](Random& random, std::uint64_t tail) {
    return tail + 2 + (random.one_in(2) ? random.below(8) : random.below(1ull << 60));
  });
}
void sequence_backward(Peer& peer) {
  wrong_sequence(peer, Kind::sequence_backward, [](Random& random, std::uint64_t tail) {
    return tail - std::min(tail, random.below(64));
  });
}
void sequence_lap(Peer& peer) {
  wrong_sequence(peer, Kind::sequence_lap, [](Random& random, std::uint64_t tail) {
    return tail + 1 + proto::slot_count * (1 + random.below(4));
  });
}
void sequence_wrap(Peer& peer) {
  wrong_sequence(peer, Kind::sequence_wrap,
                 [](Random& random, std::uint64_t tail) -> std::uint64_t {
                   return random.one_in(2) ? ~0ull - random.below(3) : tail + 1 + (1ull << 63);
                 });
}

void middle_slot_missing(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  std::byte payload[proto::max_payload_bytes]{};
  const auto bytes = std::span(payload).first(64 + peer.random.below(sizeof payload - 63));
  const std::uint64_t next = link->prepare({1, static_cast<std::uint16_t>(bytes.size()), 1}, bytes);
  // One of the slots after the first has another lap's number, or its neighbour's.
  const std::uint64_t at = link->tail + 1 + peer.random.below(next - link->tail - 1);
  link->slot(at).sequence.store(peer.random.one_in(2) ? at + 2 : peer.random.edge() | 1u << 20);
  link->show();
  peer.counts.done(Kind::middle_slot_missing, link->await_closed());
  peer.drop(target);
}

void length_beyond_ring(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  constexpr std::uint64_t first = proto::max_payload_bytes + 1;
  const auto length = static_cast<std::uint16_t>(
      peer.random.one_in(4) ? first : first + peer.random.below(65536 - first));
  link->prepare({1, length, 1}, null_request);
  // Also with every slot that it could mean published.
  for (std::uint64_t i = 1; i < proto::slot_count && peer.random.one_in(2); ++i)
    link->slot(link->tail + i).sequence.store(link->tail + i + 1);
  link->show();
  peer.counts.done(Kind::length_beyond_ring, link->await_closed());
  peer.drop(target);
}

void length_of_other_method(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const MethodShape& shape = target.methods[peer.random.below(target.methods.size())];
  std::uint64_t length = peer.random.one_in(3) ? shape.request_bytes - 1 + 2 * peer.random.below(2)
                                               : peer.random.below(proto::max_payload_bytes + 1);
  if (length == shape.request_bytes) ++length;
  const std::vector<std::byte> payload(std::min<std::uint64_t>(length, proto::max_payload_bytes));
  if (payload.size() == shape.request_bytes) return;
  const Code code = link->ask(shape.opcode, payload);
  if (code == Code::ok) breach("a request of the wrong length was carried out");
  peer.counts.done(Kind::length_of_other_method, link->await_closed());
  peer.drop(target);
}

void consumed_ahead(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  // Beyond everything that the server may answer meanwhile. It looks when it needs room.
  const std::uint64_t lie = 4 * proto::slot_count + peer.random.edge() % (1ull << 62);
  link->header().consumed.store(link->head + lie);
  for (std::uint32_t i = 0; i < 2 * proto::slot_count && !link->closed(); ++i) {
    if (link->room(1)) link->publish(null_header, null_request);
    if (i % 32 == 0 || !link->room(1)) (void)link->await(false, 1000);
  }
  peer.counts.done(Kind::consumed_ahead, link->await_closed(false));
  peer.drop(target);
}

void consumed_back(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  // Far enough that the server has seen a later value.
  while (link->head < 2 * proto::slot_count) {
    for (int i = 0; i < 64; ++i) link->publish(null_header, null_request);
    if (link->await() != Outcome::consumed) return peer.drop(target);
  }
  const std::uint64_t back = 1 + proto::slot_count + peer.random.below(link->head - 2);
  const std::uint64_t lie = link->head - std::min(link->head, back);
  link->header().consumed.store(lie);
  // Without taking replies, which would correct the counter.
  for (std::uint32_t i = 0; i < 2 * proto::slot_count && !link->closed(); ++i) {
    if (link->room(1)) link->publish(null_header, null_request);
    if (i % 32 == 0 || !link->room(1)) (void)link->await(false, 1000);
  }
  peer.counts.done(Kind::consumed_back, link->await_closed(false));
  peer.drop(target);
}

/// Says that it waits for room, and that it does not, at the wrong times: it is rung, or not.
void stalled_lie(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const std::uint64_t n = 8 + peer.random.below(24);
  for (std::uint64_t i = 0; i < n; ++i) {
    link->header().stalled.store(peer.random.edge());
    link->publish(null_header, null_request);
  }
  const bool taken = link->await() == Outcome::consumed;
  link->header().stalled.store(0);
  peer.counts.done(Kind::stalled_lie, taken, n);
}

/// Fills its ring to the last slot before it rings once.
void full_ring(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  std::uint64_t n = 0;
  for (; link->room(1); ++n) link->publish(null_header, null_request);
  const bool taken = link->await() == Outcome::consumed;
  peer.counts.done(Kind::full_ring, taken, n);
  if (!taken) peer.drop(target);
}

/// Asks and never reads: the server parks this link alone. Then it reads, or goes, or lies.
void stopped_reader(Peer& peer) {
  Target& target = peer.target("echo");
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const std::byte request[264]{};
  const std::uint64_t before = link->consumed();
  std::uint64_t n = 0;
  for (; link->room(slots_of_echo_call); ++n) link->publish({1, sizeof request, 1}, request);
  const bool parked = link->await(false) == Outcome::parked;
  // Counted are those that were taken, and the one at which it stopped.
  const std::uint64_t taken = (link->consumed() - before) / slots_of_echo_call;
  peer.counts.injected(Kind::stopped_reader, n);
  peer.counts.consumed(Kind::stopped_reader, std::min(n, taken + (parked ? 1 : 0)));
  if (!peer.random.one_in(4) || link->await() != Outcome::consumed) peer.drop(target);
}

/// Lets the server owe more answers than its ring holds, and asks for them all at once without
/// reading one. It must not have accepted more than it can answer.
void held_replies(Peer& peer) {
  Target& target = peer.target("echo");
  RawLink* link = peer.link(target);
  RawLink* other = peer.link(target, 1);
  if (link == nullptr || other == nullptr) return;
  const std::uint64_t key = peer.random.any();
  std::uint64_t asked = 0;
  // More than a ring of answers, if the server takes them.
  for (; asked < 2 * proto::slot_count; ++asked) {
    if (!link->room(1)) (void)link->await(false, 20);
    if (!link->room(1)) break;
    link->publish({proto::echo::Hold::opcode, sizeof key, 1}, std::as_bytes(std::span(&key, 1)));
  }
  std::uint64_t released = 0;
  std::uint64_t answered = 0;
  for (int idle = 0; released < asked && idle < 200 && !link->closed();) {
    const bool parked = link->await(false, 20) == Outcome::parked;
    proto::echo::Release::Reply reply{};
    if (other->call<proto::echo::Release>({key}, &reply) != Code::ok) break;
    released += reply.released;
    // What was answered is read only when no more is accepted.
    if (parked && reply.released == 0) answered += link->take();
    idle = reply.released == 0 ? idle + 1 : 0;
  }
  const Deadline deadline = Deadline::after(patience_ms * ns_per_ms);
  while (answered < released) {
    if (link->closed()) breach("echo owed more answers than it had room for");
    if (deadline.passed()) breach("echo lost answers that it had accepted calls for");
    const std::uint32_t taken = link->take();
    answered += taken;
    if (taken == 0) link->wait(1);
  }
  peer.counts.injected(Kind::held_replies, asked);
  peer.counts.consumed(Kind::held_replies, std::min(released, asked));
  peer.drop(target);
}

}  // namespace

std::vector<WeightedAttack> ring_attacks() {
  return {{"sequence_forward", sequence_forward, 8},
          {"sequence_backward", sequence_backward, 8},
          {"sequence_lap", sequence_lap, 8},
          {"sequence_wrap", sequence_wrap, 8},
          {"middle_slot_missing", middle_slot_missing, 12},
          {"length_beyond_ring", length_beyond_ring, 12},
          {"length_of_other_method", length_of_other_method, 12},
          {"consumed_ahead", consumed_ahead, 2},
          {"consumed_back", consumed_back, 1},
          {"stalled_lie", stalled_lie, 8},
          {"full_ring", full_ring, 3},
          {"stopped_reader", stopped_reader, 2},
          {"held_replies", held_replies, 1}};
}

}  // namespace aios::hostile
