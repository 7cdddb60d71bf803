// The hostile peer: a program of its own that attacks every server with a published port and the
// kernel. What it does follows from its seed; how others' moments fall in between does not.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "abi/proto/wire.hpp"
#include "tests/hostile/counts.hpp"
#include "tests/hostile/raw_kernel.hpp"
#include "tests/hostile/raw_link.hpp"

namespace aios::hostile {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::uint64_t any() { return engine_(); }
  /// Below `end`.
  std::uint64_t below(std::uint64_t end) { return engine_() % end; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  void fill(std::span<std::byte> bytes) {
    for (std::byte& b : bytes) b = static_cast<std::byte>(engine_());
  }
  /// A number where checks go wrong: 0, small, powers of two and their neighbours, all ones.
  std::uint64_t edge();

 private:
  std::mt19937_64 engine_;
};

/// A request of some protocol, as its method list describes it.
struct MethodShape {
  std::uint16_t opcode;
  std::size_t request_bytes;
  std::span<const proto::FieldInfo> fields;
};

/// A server with a published port.
struct Target {
  std::string name;
  std::uint64_t version;
  std::vector<MethodShape> methods;
  Handle port = 0;
};
std::vector<Target> all_targets();

/// Writes to memory that somebody else is reading, from a thread of its own.
class Mutator {
 public:
  enum class Mode {
    lengths,    ///< of the header that begins the memory: right and wrong in turns
    bytes,      ///< any
    sequences,  ///< of the slots that the memory is
  };
  explicit Mutator(std::uint64_t seed);
  ~Mutator();
  void start(std::span<std::byte> memory, Mode mode);
  /// After this the memory is not touched.
  void stop();

 private:
  void run(std::uint64_t seed);
  void write_some(Random& random);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::span<std::byte> memory_;
  Mode mode_ = Mode::bytes;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the above
};

/// What the attacks share.
struct Peer {
  Peer(std::string socket_path, std::uint64_t seed);

  /// An open link to the target, the one that is there or a new one. `who` 0 and 1 are two
  /// processes in the kernel's eyes. Null when the connection was refused.
  RawLink* link(Target& target, std::size_t who = 0);
  void drop(Target& target, std::size_t who = 0);
  RawKernel& kernel(std::size_t who = 0);
  /// Any, or the one that it was told to keep to.
  Target& any_target() {
    return favourite.empty() ? targets[random.below(targets.size())] : target(favourite);
  }
  Target& target(std::string_view name);
  /// A handle to a small region of `who`'s, with every right in both masks, and its size.
  Handle region(std::size_t who = 0);
  static constexpr std::uint64_t region_bytes = 65536;
  /// Sends it over the link: its number there, or 0.
  Handle send_region(RawLink& link, std::size_t who, Handle handle, std::uint32_t use,
                     std::uint32_t grant);
  /// Random or telling bytes for a request of this shape; the handles in it come from `handles`.
  std::vector<std::byte> request_of(const MethodShape& shape, bool random_bytes);

  std::string socket_path;
  std::string favourite;
  Random random;
  Mutator mutator;
  Counts counts;
  std::vector<Target> targets;
  std::vector<Handle> known_numbers;  ///< handles that servers were sent at some time

 private:
  std::array<std::unique_ptr<RawKernel>, 2> kernels_;
  std::array<std::vector<Handle>, 2> ports_;
  std::array<Handle, 2> regions_{};
  std::map<std::pair<std::string, std::size_t>, std::unique_ptr<RawLink>> links_;
};

using Attack = void (*)(Peer&);
struct WeightedAttack {
  const char* name;
  Attack attack;
  unsigned weight;
};
/// By file: ring_attacks.cpp, message_attacks.cpp and so on.
std::vector<WeightedAttack> ring_attacks();
std::vector<WeightedAttack> message_attacks();
std::vector<WeightedAttack> handle_attacks();
std::vector<WeightedAttack> bell_attacks();
std::vector<WeightedAttack> kernel_attacks();
std::vector<WeightedAttack> death_attacks();

/// Does nothing but die at step `step`; returns only when there are fewer steps.
void die_at(const std::string& socket_path, std::uint64_t seed, unsigned step);

/// Serves a port labelled `evil`, badly, until told to stop. On a thread of its own.
class EvilServer {
 public:
  EvilServer(const std::string& socket_path, std::uint64_t seed);
  void run(const std::atomic<bool>& stopping);
  const Counts& counts() const { return counts_; }

 private:
  void treat(RawLink& link);
  void answer_wrongly(RawLink& link, const proto::MessageHeader& request);

  Random random_;
  std::unique_ptr<RawKernel> kernel_;
  Handle port_ = 0;
  Counts counts_;
};

}  // namespace aios::hostile
