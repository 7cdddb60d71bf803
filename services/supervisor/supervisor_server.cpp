#include "services/supervisor/supervisor_server.hpp"

#include <csignal>

namespace aios::supervisor {

namespace {
namespace wire = proto::supervisor;
constexpr std::size_t max_waiting = 1024;
}  // namespace

SupervisorServer::SupervisorServer(EventLoop& loop, Supervisor& supervisor)
    : supervisor_(supervisor), server_(*loop.kernel(), loop, *this) {
  supervisor_.on_change([this] {
    answer_waiting();
    answer_restarting();
  });
}

Answer<wire::Server::Reply> SupervisorServer::handle(wire::Server,
                                                     const wire::Server::Request& request,
                                                     CallContext&) {
  return supervisor_.describe(request.index);
}

Answer<wire::Crash::Reply> SupervisorServer::handle(wire::Crash,
                                                    const wire::Crash::Request& request,
                                                    CallContext& context) {
  if (Result<void> allowed = check_operator(context); !allowed)
    return std::unexpected(allowed.error());
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

Result<void> SupervisorServer::check_operator(const CallContext& context) {
  if (context.peer().is_operator()) return {};
  return error(Code::denied,
               "only root and the user who booted the instance may crash or restart servers");
}

Answer<wire::Restart::Reply> SupervisorServer::handle(wire::Restart,
                                                      const wire::Restart::Request& request,
                                                      CallContext& context) {
  const auto begin = [&]() -> Result<void> {
    TRY(check_operator(context));
    if (!request.server.valid()) return error(Code::invalid_argument, "not a server name");
    if (restarting_.size() >= max_waiting)
      return error(Code::quota, "too many wait for restarts already");
    const std::size_t index = TRY(supervisor_.restart(request.server.view()));
    restarting_.push_back({context.token(), index, supervisor_.fleet().machine(index).epoch()});
    return {};
  };
  if (Result<void> begun = begin(); !begun) return std::unexpected(begun.error());
  return deferred;
}

void SupervisorServer::answer_restarting() {
  std::erase_if(restarting_, [this](const Restarting& entry) {
    const ServerMachine& machine = supervisor_.fleet().machine(entry.server);
    Result<wire::Restart::Reply> reply = wire::Restart::Reply{};
    if (supervisor_.fleet().stopping())
      reply = error(Code::cancelled, "the instance is shutting down");
    else if (machine.given_up())
      reply = error(Code::io_error, supervisor_.failure_of(entry.server));
    else if (machine.state() == ServerState::running && machine.epoch() > entry.epoch)
      reply = wire::Restart::Reply{supervisor_.describe(entry.server)->pid};
    else
      return false;
    server_.reply<wire::Restart>(entry.token, reply);
    return true;
  });
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
  else if (const auto lost = fleet.first_given_up())
    reply = error(Code::io_error, supervisor_.failure_of(*lost));
  else if (!fleet.all_running())
    return;
  std::vector<ReplyToken> waiting;
  waiting.swap(waiting_);
  for (const ReplyToken token : waiting) server_.reply<wire::WaitRunning>(token, reply);
}

void SupervisorServer::client_closed(ClientId client) {
  std::erase_if(waiting_, [client](const ReplyToken& token) { return token.client == client; });
  std::erase_if(restarting_,
                [client](const Restarting& entry) { return entry.token.client == client; });
}

}  // namespace aios::supervisor
