// The echo protocol: abi/proto/echo.hpp.
#pragma once

#include <map>
#include <vector>

#include "abi/proto/echo.hpp"
#include "abi/runtime/server.hpp"

namespace aios::echo {

/// Calls of `hold` that wait at once, over all clients; one more is `quota`.
inline constexpr std::size_t max_held = 4096;
/// Largest region that `sum` reads; above it `too_large`.
inline constexpr std::uint64_t max_sum_bytes = 64u << 20;
/// Largest region that `attach` takes; above it `too_large`.
inline constexpr std::uint64_t max_attached_bytes = 4ull << 30;

class EchoServer {
 public:
  EchoServer(Kernel& kernel, EventLoop& loop);

  Result<void> listen(Handle port) { return server_.listen(port); }
  void guard_by(InFlight& in_flight) { server_.guard_by(in_flight); }

  Answer<proto::echo::Echo::Reply> handle(proto::echo::Echo,
                                          const proto::echo::Echo::Request& request,
                                          CallContext& context);
  Answer<proto::Empty> handle(proto::echo::Hold, const proto::echo::Hold::Request& request,
                              CallContext& context);
  Answer<proto::echo::Release::Reply> handle(proto::echo::Release,
                                             const proto::echo::Release::Request& request,
                                             CallContext& context);
  Answer<proto::echo::Sum::Reply> handle(proto::echo::Sum, const proto::echo::Sum::Request& request,
                                         CallContext& context);
  Answer<proto::echo::Attach::Reply> handle(proto::echo::Attach,
                                            const proto::echo::Attach::Request& request,
                                            CallContext& context);
  Answer<proto::echo::Read::Reply> handle(proto::echo::Read,
                                          const proto::echo::Read::Request& request,
                                          CallContext& context);
  Answer<proto::Empty> handle(proto::echo::Detach, const proto::echo::Detach::Request& request,
                              CallContext& context);
  /// What it held and attached is forgotten.
  void client_closed(ClientId client);

 private:
  Result<Region> receive(Handle handle, std::uint64_t most_bytes, const CallContext& context);

  Kernel& kernel_;
  Server<proto::echo::Protocol, EchoServer> server_;
  std::map<std::pair<ClientId, std::uint64_t>, Region> attached_;  ///< by client and handle
  std::multimap<std::uint64_t, ReplyToken> held_;                  ///< by key
};

}  // namespace aios::echo
