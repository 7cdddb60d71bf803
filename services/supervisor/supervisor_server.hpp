// The supervisor's protocol, for operators: abi/proto/supervisor.hpp.
#pragma once

#include <vector>

#include "abi/proto/supervisor.hpp"
#include "abi/runtime/server.hpp"
#include "services/supervisor/supervisor.hpp"

namespace aios::supervisor {

class SupervisorServer {
 public:
  /// Both outlive it. Takes the supervisor's on_change.
  SupervisorServer(EventLoop& loop, Supervisor& supervisor);

  Result<void> listen(Handle port) { return server_.listen(port); }

  using Wire = proto::supervisor::Protocol;
  Answer<proto::supervisor::Server::Reply> handle(proto::supervisor::Server,
                                                  const proto::supervisor::Server::Request& request,
                                                  CallContext& context);
  Answer<proto::supervisor::Crash::Reply> handle(proto::supervisor::Crash,
                                                 const proto::supervisor::Crash::Request& request,
                                                 CallContext& context);
  Answer<proto::Empty> handle(proto::supervisor::WaitRunning, const proto::Empty& request,
                              CallContext& context);
  Answer<proto::supervisor::Restart::Reply> handle(
      proto::supervisor::Restart, const proto::supervisor::Restart::Request& request,
      CallContext& context);
  void client_closed(ClientId client);

 private:
  struct Restarting {
    ReplyToken token;
    std::size_t server;
    std::uint64_t epoch;  ///< of the life that is to end
  };
  static Result<void> check_operator(const CallContext& context);
  void answer_waiting();
  void answer_restarting();

  Supervisor& supervisor_;
  Server<proto::supervisor::Protocol, SupervisorServer> server_;
  std::vector<ReplyToken> waiting_;
  std::vector<Restarting> restarting_;
};

}  // namespace aios::supervisor
