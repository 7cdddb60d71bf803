#include "services/supervisor/supervisor_server.hpp"

#include <unistd.h>

#include <csignal>

namespace aios::supervisor {

namespace {
namespace wire = proto::supervisor;
constexpr std::size_t max_waiting = 1024;
}  // namespace

SupervisorServer::SupervisorServer(EventLoop& loop, Supervisor& supervisor)
    : supervisor_(supervisor), server_(*loop.kernel(), loop, *this) {
  supervisor_.on_change([this] { answer_waiting(); });
}

Answer<wire::Server::Reply> SupervisorServer::handle(wire::Server,
                                                     const wire::Server::Request& request,
                                                     CallContext&) {
  return supervisor_.describe(request.index);
}

Answer<wire::Crash::Reply> SupervisorServer::handle(wire::Crash,
                                                    const wire::Crash::Request& request,
                                                    CallContext& context) {
  if (context.peer().uid != ::geteuid())
    return error(Code::denied, "only the owner of the instance may crash servers");
  if (!request.server.valid()) return error(Code::invalid_argument, "not a server name");
  int signal_number = 0;
  switch (static_cast<wire::CrashHow>(request.how)) {
    case wire::CrashHow::kill:
      signal_number = SIGKILL;
      break;
    case wire::CrashHow::abort:
      signal_number = SIGABRT;
      break;
    case wire::CrashHow::hang:
      signal_number = SIGSTOP;
      break;
    default:
      return error(Code::invalid_argument, "a server can be crashed by kill, abort or hang");
  }
  Result<std::uint64_t> pid = supervisor_.crash(request.server.view(), signal_number);
  if (!pid) return std::unexpected(std::move(pid).error());
  return wire::Crash::Reply{*pid};
}

Answer<proto::Empty> SupervisorServer::handle(wire::WaitRunning, const proto::Empty&,
                                              CallContext& context) {
  if (waiting_.size() >= max_waiting)
    return error(Code::quota, "too many wait for the servers already");
  waiting_.push_back(context.token());
  answer_waiting();
  return deferred;
}

void SupervisorServer::answer_waiting() {
  const Fleet& fleet = supervisor_.fleet();
  Result<proto::Empty> reply = proto::Empty{};
  if (fleet.stopping())
    reply = error(Code::cancelled, "the instance is shutting down");
  else if (const auto failed = fleet.first_failed())
    reply = error(Code::io_error, supervisor_.failure_of(*failed));
  else if (!fleet.all_running())
    return;
  std::vector<ReplyToken> waiting;
  waiting.swap(waiting_);
  for (const ReplyToken token : waiting) server_.reply<wire::WaitRunning>(token, reply);
}

void SupervisorServer::client_closed(ClientId client) {
  std::erase_if(waiting_, [client](const ReplyToken& token) { return token.client == client; });
}

}  // namespace aios::supervisor
