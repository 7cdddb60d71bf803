// Messages that the ring carries and no server should act on, and contents that change while they
// are read.
#include <algorithm>

#include "abi/proto/echo.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/proto/storage.hpp"
#include "tests/hostile/peer.hpp"

namespace aios::hostile {
namespace {

/// How many messages one attack sends at most before it waits for them.
constexpr std::uint64_t longest_batch = 48;
/// A server keeps a method's answer back; so many of them and it takes no more from this link.
constexpr std::uint64_t most_held_back = 40;

/// Publishes up to `longest_batch` messages that `make` makes, waits until they were taken. A link
/// that was ended, or on which answers are held back, is given up.
template <class Make>
void send_batch(Peer& peer, Target& target, Kind kind, Make make) {
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  std::array<std::uint64_t, longest_batch> ends{};
  const std::uint64_t n = 1 + peer.random.below(longest_batch);
  std::uint64_t sent = 0;
  while (sent < n && link->room(proto::max_message_slots)) {
    const auto [opcode, payload] = make();
    link->publish({opcode, static_cast<std::uint16_t>(payload.size()),
                   static_cast<std::uint32_t>(peer.random.any())},
                  payload);
    ends[sent++] = link->tail;
  }
  const Outcome outcome = link->await(true, link->parked() ? 50 : patience_ms);
  const std::uint64_t passed = link->consumed();
  peer.counts.injected(kind, sent);
  peer.counts.consumed(kind, static_cast<std::uint64_t>(std::count_if(
                                 ends.begin(), ends.begin() + static_cast<std::ptrdiff_t>(sent),
                                 [passed](std::uint64_t end) { return end <= passed; })));
  if (outcome == Outcome::silent && !link->parked()) breach(target.name + " takes no message");
  if (outcome != Outcome::consumed) peer.drop(target);
}

struct Sent {
  std::uint16_t opcode;
  std::vector<std::byte> payload;
};

void unknown_opcode(Peer& peer) {
  Target& target = peer.any_target();
  send_batch(peer, target, Kind::unknown_opcode, [&] {
    std::uint16_t opcode = 0;
    do
      opcode = static_cast<std::uint16_t>(peer.random.one_in(2) ? peer.random.below(256)
                                                                : peer.random.below(0x8000));
    while (std::ranges::find(target.methods, opcode, &MethodShape::opcode) !=
               target.methods.end() ||
           (target.name == "supervisor" && opcode < 16));
    return Sent{opcode, std::vector<std::byte>(peer.random.below(proto::max_payload_bytes + 1))};
  });
}

void reply_as_request(Peer& peer) {
  Target& target = peer.any_target();
  send_batch(peer, target, Kind::reply_as_request, [&] {
    const MethodShape& shape = target.methods[peer.random.below(target.methods.size())];
    return Sent{static_cast<std::uint16_t>(shape.opcode | proto::reply_flag),
                peer.request_of(shape, true)};
  });
}

/// Methods that are answered later, or never, would fill the link with answers that are owed.
bool answered_at_once(const Target& target, std::uint16_t opcode) {
  if (target.name == "echo") return opcode != proto::echo::Hold::opcode;
  if (target.name == "scheduler") return opcode != proto::scheduler::Completions::opcode;
  return true;
}

void random_fields(Peer& peer) {
  Target& target = peer.any_target();
  std::uint64_t held_back = 0;
  send_batch(peer, target, Kind::random_fields, [&] {
    const MethodShape* shape = nullptr;
    do shape = &target.methods[peer.random.below(target.methods.size())];
    while (!answered_at_once(target, shape->opcode) && ++held_back > most_held_back);
    return Sent{shape->opcode, peer.request_of(*shape, peer.random.one_in(3))};
  });
}

void reserved_bits(Peer& peer) {
  Target& target = peer.any_target();
  send_batch(peer, target, Kind::reserved_bits, [&] {
    const MethodShape& shape = target.methods[peer.random.below(target.methods.size())];
    std::vector<std::byte> request(shape.request_bytes);
    for (const proto::FieldInfo& field : shape.fields)
      if (std::string_view(field.name) == "reserved")
        peer.random.fill(std::span(request).subspan(field.offset, field.size));
    return Sent{shape.opcode, std::move(request)};
  });
}

/// Well-formed calls as fast as the ring takes them, with the replies read as they come.
void flood(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  constexpr std::uint64_t calls = 256;
  const std::byte request[8]{};
  for (std::uint64_t i = 0; i < calls && !link->closed();) {
    if (link->room(1)) {
      link->publish({proto::Null::opcode, sizeof request, 1}, request);
      ++i;
    } else {
      link->ring();
      if (link->take() == 0) link->wait(1);
    }
  }
  const bool taken = link->await() == Outcome::consumed;
  peer.counts.done(Kind::flood, taken, calls);
  if (!taken) peer.drop(target);
}

/// Calls whose header, or whose slots, another thread writes meanwhile: each is taken for what it
/// was at some moment, or ends the link.
void changing(Peer& peer, Kind kind, Mutator::Mode mode) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const MethodShape& shape = target.methods[peer.random.below(target.methods.size())];
  if (!answered_at_once(target, shape.opcode)) return;
  const std::vector<std::byte> request = peer.request_of(shape, peer.random.one_in(2));
  const std::uint64_t first = link->tail;
  const bool whole = mode != Mutator::Mode::lengths;
  // The slots that this message takes, without those beyond the ring's end.
  const std::uint64_t in_lap = proto::slot_count - first % proto::slot_count;
  const std::size_t slots = std::min<std::uint64_t>(8, in_lap);
  auto* memory = reinterpret_cast<std::byte*>(&link->slot(first));
  const std::uint64_t next =
      link->prepare({shape.opcode, static_cast<std::uint16_t>(request.size()), 1}, request);
  peer.mutator.start(
      whole ? std::span(memory, slots * sizeof(proto::Slot)) : std::span(link->slot(first).payload),
      mode);
  link->show();
  link->tail = next;
  const Outcome outcome = link->await(true, 200);
  peer.mutator.stop();
  // A shorter length was read: what follows it is not where the server looks next.
  peer.counts.done(kind, outcome != Outcome::silent || link->consumed() > first);
  peer.drop(target);
}
void changing_header(Peer& peer) {
  changing(peer, Kind::changing_header, Mutator::Mode::lengths);
}
void changing_slots(Peer& peer) {
  changing(peer, Kind::changing_slots,
           peer.random.one_in(2) ? Mutator::Mode::bytes : Mutator::Mode::sequences);
}

}  // namespace

std::vector<WeightedAttack> message_attacks() {
  return {{"unknown_opcode", unknown_opcode, 32},
          {"reply_as_request", reply_as_request, 24},
          {"random_fields", random_fields, 80},
          {"reserved_bits", reserved_bits, 24},
          {"flood", flood, 3},
          {"changing_header", changing_header, 12},
          {"changing_slots", changing_slots, 12}};
}

}  // namespace aios::hostile
