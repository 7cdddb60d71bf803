// What Linux and the processor do without AIOS, between two processes: the yardsticks.
#pragma once

#include "tools/bench/peer.hpp"
#include "tools/bench/samples.hpp"

namespace aios::bench {

/// Round trips of one cache line in each direction, both sides spinning.
Result<Samples> bare_pingpong(const Cores& cores, std::size_t count);
/// Round trips over two eventfds, both sides blocking in read.
Result<Samples> bare_eventfd(const Cores& cores, std::size_t count);
/// Round trips of 64 bytes over a Unix seqpacket socket, both sides blocking.
Result<Samples> unix_seqpacket(const Cores& cores, std::size_t count);
/// One copy of `bytes` between two buffers that are both in memory already.
Result<Samples> bare_memcpy(std::uint64_t bytes, std::size_t count);

}  // namespace aios::bench
