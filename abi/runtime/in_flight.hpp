// Which requests a server has taken on and not answered, in memory that outlives it. From it the
// server's next life learns what may have ended the last one, and whom to be careful with.
//
// A request that was in flight when its server crashed is run again only while no other is. One
// that ends its server twice while it is the only one there is poison, and is refused; so is one
// whose server ended `max_attempts` times, for whatever reason. Who was answered is no longer
// suspected; what is known of the others is forgotten after `memory_ns`.
//
// A request is known again by its client and its bytes, so nobody needs to say that it is the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aios {

/// Tells requests apart. The key is a hash: two that share it are taken for one, which at worst
/// makes the server careful, or refuses an innocent client's request together with its own poison.
struct RequestId {
  std::uint64_t client;  ///< process id
  std::uint64_t key;
  friend bool operator==(const RequestId&, const RequestId&) = default;
};

class InFlight {
 public:
  static constexpr std::size_t memory_bytes = 48u << 10;
  static constexpr std::uint32_t max_running = 1024;
  static constexpr std::uint32_t max_suspects = 256;
  static constexpr std::uint32_t max_lone_crashes = 2;
  static constexpr std::uint32_t max_attempts = 8;
  static constexpr std::uint64_t memory_ns = 60'000'000'000;
  static constexpr std::uint32_t untracked = max_running;

  /// Takes over what the last life left in `memory`, at least `memory_bytes`, whatever that is.
  /// `crashed`: the last life ended by its own doing.
  InFlight(std::span<std::byte> memory, bool crashed, std::uint64_t now_ns);

  enum class Verdict {
    run,
    alone,  ///< when running() is 0, and nothing beside it
    poison,
    exhausted,
  };
  Verdict judge(const RequestId& id) const;
  /// It begins now: its slot, or `untracked` when there are too many.
  std::uint32_t begin(const RequestId& id);
  /// It was answered, or nobody waits for it any more.
  void end(std::uint32_t slot);

  std::uint32_t running() const { return running_; }
  bool suspects_any() const { return suspects_ != 0; }

 private:
  struct Memory;
  struct Suspect;
  void take_over(bool crashed, std::uint64_t now_ns);
  Suspect* find(const RequestId& id) const;
  Suspect& find_or_make(const RequestId& id);

  Memory& memory_;
  std::uint32_t running_ = 0;
  std::uint32_t suspects_ = 0;
  std::uint32_t next_ = 0;  ///< where a free slot is looked for
};

}  // namespace aios
