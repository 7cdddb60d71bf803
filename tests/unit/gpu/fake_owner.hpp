// A thread that answers a context as the owner of its memory would.
#pragma once

#include <sys/socket.h>

#include <functional>
#include <optional>
#include <thread>

#include "abi/proto/device.hpp"
#include "abi/runtime/socket.hpp"

namespace aios::gpu::test {

/// Answers until the other end is closed, or an answer is none.
class FakeOwner {
 public:
  /// Fills the reply and returns what goes with it; nothing: hangs up.
  using Answer = std::function<std::optional<Fd>(const proto::memory::AllocationRequest&,
                                                 proto::memory::AllocationReply&)>;

  FakeOwner(Fd socket, Answer answer)
      : thread_([socket = std::move(socket), answer = std::move(answer)] {
          for (;;) {
            proto::memory::AllocationRequest request{};
            ReceivedPacket packet;
            if (!receive_packet(socket.get(), std::as_writable_bytes(std::span(&request, 1)), 0,
                                packet))
              return;
            proto::memory::AllocationReply reply{};
            const auto with = answer(request, reply);
            if (!with) return;
            const int descriptor = with->get();
            (void)send_packet(socket.get(), std::as_bytes(std::span(&reply, 1)),
                              {&descriptor, with->valid() ? 1u : 0u}, 0);
          }
        }) {}
  ~FakeOwner() { thread_.join(); }
  FakeOwner(const FakeOwner&) = delete;

 private:
  std::thread thread_;
};

}  // namespace aios::gpu::test
