// hostile-peer: attacks the instance at --socket until --actions were consumed, and prints what it
// did: one line a kind, NAME INJECTED CONSUMED. `breach: ...` and exit code 3 when a promise of the
// kernel or of a server was broken.
//
//   hostile-peer --socket S --seed N --actions N [--only NAME,...] [--target SERVER]
//   hostile-peer --socket S --seed N --die-at STEP
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "tests/hostile/peer.hpp"

using namespace aios::hostile;

namespace {

struct Options {
  std::string socket;
  std::uint64_t seed = 1;
  std::uint64_t actions = 0;
  std::string only;
  std::string target;
  std::optional<unsigned> die_at;
};

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const char* value = argv[i + 1];
    if (name == "--socket")
      options.socket = value;
    else if (name == "--seed")
      options.seed = std::strtoull(value, nullptr, 10);
    else if (name == "--actions")
      options.actions = std::strtoull(value, nullptr, 10);
    else if (name == "--only")
      options.only = std::string(",") + value + ",";
    else if (name == "--target")
      options.target = value;
    else if (name == "--die-at")
      options.die_at = static_cast<unsigned>(std::strtoul(value, nullptr, 10));
  }
  return options;
}

std::vector<WeightedAttack> chosen_attacks(const std::string& only) {
  std::vector<WeightedAttack> all;
  for (const auto& part : {ring_attacks(), message_attacks(), handle_attacks(), bell_attacks(),
                           kernel_attacks(), death_attacks()})
    all.insert(all.end(), part.begin(), part.end());
  if (!only.empty())
    std::erase_if(all, [&](const WeightedAttack& attack) {
      return only.find(std::string(",") + attack.name + ",") == std::string::npos;
    });
  return all;
}

const WeightedAttack& pick(Random& random, const std::vector<WeightedAttack>& attacks) {
  std::uint64_t total = 0;
  for (const WeightedAttack& attack : attacks) total += attack.weight;
  std::uint64_t at = random.below(total);
  for (const WeightedAttack& attack : attacks) {
    if (at < attack.weight) return attack;
    at -= attack.weight;
  }
  return attacks.back();
}

}  // namespace

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  const Options options = parse(argc, argv);
  if (options.die_at) {
    die_at(options.socket, options.seed, *options.die_at);
    return 1;
  }
  const std::vector<WeightedAttack> attacks = chosen_attacks(options.only);
  if (options.socket.empty() || options.actions == 0 || attacks.empty()) {
    std::fprintf(stderr,
                 "usage: hostile-peer --socket S --seed N --actions N [--only NAME,...] "
                 "[--target SERVER]\n");
    return 2;
  }
  Peer peer(options.socket, options.seed);
  peer.favourite = options.target;
  EvilServer evil(options.socket, options.seed + 2);
  std::atomic<bool> stopping{false};
  std::thread server([&] { evil.run(stopping); });
  while (peer.counts.total_consumed() < options.actions) pick(peer.random, attacks).attack(peer);
  stopping = true;
  server.join();
  peer.counts.add(evil.counts());
  peer.counts.print(stdout);
  return 0;
}
