#include "tools/bench/bare.hpp"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>

#include "abi/runtime/fd.hpp"

namespace aios::bench {

namespace {

struct Lines {
  alignas(128) std::atomic<std::uint64_t> request;
  alignas(128) std::atomic<std::uint64_t> answer;
};

struct Unmap {
  std::size_t bytes;
  void operator()(void* memory) const { ::munmap(memory, bytes); }
};
using Memory = std::unique_ptr<void, Unmap>;

Result<Memory> map(std::size_t bytes, int flags) {
  void* memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return errno_error("map memory", errno);
  return Memory(memory, Unmap{bytes});
}

void await(const std::atomic<std::uint64_t>& line, std::uint64_t value) {
  while (line.load(std::memory_order_acquire) != value) {
  }
}

/// Times `count` round trips after a tenth as many that are not counted.
template <class RoundTrip>
Result<Samples> repeat(std::size_t count, RoundTrip round_trip) {
  Samples samples(count);
  for (std::size_t i = 0; i < count / 10; ++i)
    if (!round_trip()) return errno_error("round trip", errno);
  std::uint64_t last = ticks();
  for (std::size_t i = 0; i < count; ++i) {
    if (!round_trip()) return errno_error("round trip", errno);
    const std::uint64_t now = ticks();
    samples.add(now - last);
    last = now;
  }
  return samples;
}

}  // namespace

Result<Samples> bare_pingpong(const Cores& cores, std::size_t count) {
  const Memory memory = TRY(map(sizeof(Lines), MAP_SHARED));
  Lines& lines = *static_cast<Lines*>(memory.get());
  const Peer peer = TRY(Peer::start(cores.server, [&lines] {
    for (std::uint64_t i = 1;; ++i) {
      await(lines.request, i);
      lines.answer.store(i, std::memory_order_release);
    }
  }));
  TRY(pin(cores.client));
  std::uint64_t i = 0;
  return repeat(count, [&] {
    lines.request.store(++i, std::memory_order_release);
    await(lines.answer, i);
    return true;
  });
}

Result<Samples> bare_eventfd(const Cores& cores, std::size_t count) {
  const Fd request(::eventfd(0, EFD_CLOEXEC));
  const Fd answer(::eventfd(0, EFD_CLOEXEC));
  if (!request.valid() || !answer.valid()) return errno_error("make eventfd", errno);
  const auto pass = [](const Fd& from, const Fd& to) {
    std::uint64_t word = 0;
    return ::read(from.get(), &word, sizeof word) == sizeof word &&
           ::write(to.get(), &word, sizeof word) == sizeof word;
  };
  const Peer peer = TRY(Peer::start(cores.server, [&] {
    while (pass(request, answer)) {
    }
  }));
  TRY(pin(cores.client));
  return repeat(count, [&] {
    std::uint64_t word = 1;
    return ::write(request.get(), &word, sizeof word) == sizeof word &&
           ::read(answer.get(), &word, sizeof word) == sizeof word;
  });
}

Result<Samples> unix_seqpacket(const Cores& cores, std::size_t count) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return errno_error("make a socket pair", errno);
  const Fd client(ends[0]);
  const Fd server(ends[1]);
  constexpr std::size_t bytes = 64;
  const Peer peer = TRY(Peer::start(cores.server, [&] {
    char packet[bytes];
    while (::recv(server.get(), packet, bytes, 0) == bytes &&
           ::send(server.get(), packet, bytes, MSG_NOSIGNAL) == bytes) {
    }
  }));
  TRY(pin(cores.client));
  char packet[bytes] = {};
  return repeat(count, [&] {
    return ::send(client.get(), packet, bytes, MSG_NOSIGNAL) == bytes &&
           ::recv(client.get(), packet, bytes, 0) == bytes;
  });
}

Result<Samples> bare_memcpy(std::uint64_t bytes, std::size_t count) {
  const Memory from = TRY(map(bytes, MAP_PRIVATE));
  const Memory to = TRY(map(bytes, MAP_PRIVATE));
  return repeat(count, [&] {
    std::memcpy(to.get(), from.get(), bytes);
    __asm__ volatile("" ::"r"(to.get()) : "memory");
    return true;
  });
}

}  // namespace aios::bench
