// Attacks on the doorbells: what a process holds of them is its own to spoil.
#include "tests/hostile/peer.hpp"

namespace aios::hostile {
namespace {

constexpr std::byte null_request[8]{};
constexpr proto::MessageHeader null_header{proto::Null::opcode, sizeof null_request, 1};

bool null_call(RawLink& link) {
  return link.ask(proto::Null::opcode, null_request) == Code::ok;
}

/// Takes its own rings back out of the server's doorbell; at last leaves one in.
void bell_drained(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const std::uint64_t n = 1 + peer.random.below(16);
  for (std::uint64_t i = 0; i < n; ++i) {
    link->publish(null_header, null_request);
    link->ring();
    (void)link->drain_ringer();
  }
  const bool taken = link->await() == Outcome::consumed;
  peer.counts.done(Kind::bell_drained, taken, n);
  if (!taken) peer.drop(target);
}

/// Writes the server's doorbell full: it is heard once, and the server empties it.
void bell_filled(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  (void)link->fill_ringer();
  for (int i = 0; i < patience_ms && link->unheard() != 0; ++i) link->wait(1);
  const bool served = link->unheard() == 0 && null_call(*link);
  peer.counts.done(Kind::bell_filled, served);
  if (!served) peer.drop(target);
}

/// Fills the doorbell that the server rings for it: the server's write finds it full and goes on.
void own_bell_filled(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr || !link->fill_own_bell()) return;
  const std::uint64_t n = 1 + peer.random.below(8);
  std::uint64_t served = 0;
  for (std::uint64_t i = 0; i < n && null_call(*link); ++i) ++served;
  peer.counts.injected(Kind::own_bell_filled, n);
  peer.counts.consumed(Kind::own_bell_filled, served);
  if (served != n) peer.drop(target);
}

/// Rings without having anything to say. Counted as heard are the rings that the server emptied.
void bell_flood(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  constexpr std::uint64_t rings = 64;
  for (std::uint64_t i = 0; i < rings; ++i) link->ring();
  for (int i = 0; i < patience_ms && link->unheard() != 0; ++i) link->wait(1);
  const bool heard = link->unheard() == 0 && null_call(*link);
  peer.counts.done(Kind::bell_flood, heard, rings);
  if (!heard) peer.drop(target);
}

}  // namespace

std::vector<WeightedAttack> bell_attacks() {
  return {{"bell_drained", bell_drained, 12},
          {"bell_filled", bell_filled, 16},
          {"own_bell_filled", own_bell_filled, 12},
          {"bell_flood", bell_flood, 4}};
}

}  // namespace aios::hostile
