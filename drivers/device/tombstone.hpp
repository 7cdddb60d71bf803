// Stands at the port of a context that has ended.
#pragma once

#include "abi/runtime/server.hpp"

namespace aios::device {

/// Accepts whoever still connects there and closes the link at the first message: a call to a
/// context that is gone ends with peer_closed instead of waiting for its deadline.
class Tombstone final : public ServerBase {
 public:
  Tombstone(Kernel& kernel, EventLoop& loop);

 private:
  void dispatch(ClientId client, Peer& peer, const Message& message) override;
  void opened(ClientId, const PeerInfo&) override {}
  void closed(ClientId) override {}

  Kernel& kernel_;
};

}  // namespace aios::device
