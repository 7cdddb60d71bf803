// One run of a server: a real server object in this process, fed by a hostile client in the same
// thread, step by step as the fuzzer's bytes say. Both are attached to a real kernel, under fresh
// connections, so that every run begins alike.
//
// Findings beside crashes and what the sanitizers see: a reply that is not one, and a server that
// no longer answers a null call of a new client when the run is over.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/link.hpp"
#include "tests/fuzz/machine.hpp"
#include "tests/fuzz/values.hpp"

namespace aios::fuzz {

/// What a server is made from.
struct Place {
  Kernel& kernel;
  EventLoop& loop;
  Handle port;  ///< to accept at
  std::filesystem::path folder;
};

/// A server under test. Its constructor takes a Place.
class Host {
 public:
  virtual ~Host() = default;
  /// Turns whatever loops it has beside its place's.
  virtual void turn() {}
  /// How long a reply of this server may take that needs its threads; 0: it has none.
  virtual std::uint64_t wait_ns() const { return 0; }
  /// The server ends its process when a link closes on which it owes a reply.
  virtual bool must_settle() const { return false; }
  /// It has the kernel start programs.
  virtual bool starts_programs() const { return false; }
  /// Takes out of a request what would end or stall the process as designed.
  virtual void guard(std::uint16_t opcode, std::span<std::byte> request) {
    (void)opcode, (void)request;
  }
  /// What every other region holds, for reading only; empty: nothing special.
  virtual std::span<const std::byte> contents() const { return {}; }
};
using MakeHost = std::function<std::unique_ptr<Host>(Place)>;

/// Runs one input.
void run_session(const ProtocolShape& protocol, const MakeHost& make,
                 std::span<const std::uint8_t> input);

/// Writes inputs for a corpus: every method once with what its fields suggest, all in a row, and
/// behind those before it every method with each of its fields at every edge.
void write_seeds(const ProtocolShape& protocol, const std::filesystem::path& folder);

}  // namespace aios::fuzz
