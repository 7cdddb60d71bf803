#include "services/supervisor/supervisor.hpp"

#include <csignal>

#include "abi/runtime/log.hpp"
#include "services/supervisor/last_words.hpp"

namespace aios::supervisor {

Supervisor::Supervisor(ObjectStore& store, EventLoop& loop, const Plan& plan)
    : store_(store), loop_(loop), timing_(plan.timing), fleet_(plan) {
  for (const PlannedServer& server : plan.servers) {
    Entry& entry = entries_.emplace_back();
    entry.spec = server.spec;
  }
}

Supervisor::~Supervisor() {
  loop_.cancel(act_timer_);
  loop_.cancel(heartbeat_timer_);
  loop_.forget_signal(store_.root());
  for (const Entry& entry : entries_)
    if (entry.process.process != 0) loop_.forget_signal(entry.process.process);
}

Result<void> Supervisor::start(Handle own_port) {
  ports_[std::string(supervisor_name)] = own_port;
  for (std::size_t i = 0; i < entries_.size(); ++i) TRY(prepare(i));
  // Last, so that who sees this port sees the others as well.
  TRY(store_.publish(std::string(supervisor_name), own_port));
  loop_.on_signal(store_.root(), [this](std::uint32_t signals) {
    if ((signals & proto::kernel::signal::shutdown) == 0 || fleet_.stopping()) return;
    begin_stop();
  });
  heartbeat_timer_ = loop_.after(timing_.heartbeat_ns, [this] { ask_all(); });
  changed();
  return {};
}

void Supervisor::begin_stop() {
  log_line("shutting down");
  const std::uint64_t until_ns = now_ns() + timing_.drain_ns;
  fleet_.stop(until_ns);
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    if (!fleet_.machine(i).alive()) continue;
    // A server without work to finish knows no such method, and one that does not answer in time
    // is stopped all the same.
    entries_[i].client->start<proto::Drain>({}, {until_ns}, [this, i](const Result<proto::Empty>&) {
      fleet_.drained(i);
      changed();
    });
  }
  changed();
}

Result<void> Supervisor::prepare(std::size_t index) {
  Entry& entry = entries_[index];
  entry.objects = TRY(store_.objects_of(entry.spec));
  ports_[entry.spec.name] = entry.objects.port;
  if (entry.spec.publish) TRY(store_.publish(entry.spec.name, entry.objects.port));
  // Version 0 exists in no protocol: such a link may make null calls only.
  entry.client =
      std::make_unique<Client>(store_.kernel(), &loop_, entry.objects.port, 0, entry.spec.name);
  if (const auto process = TRY(store_.find_process(entry.spec, entry.objects))) {
    log_line("found " + entry.spec.name + " running as pid " + std::to_string(process->pid));
    begin_life(index, *process);
  } else if (TRY(store_.is_down(entry.objects.port))) {
    entry.port_down = true;
    fleet_.machine(index).found_down();
    log_line(failure_of(index) + revival_of(index));
  }
  return {};
}

void Supervisor::changed() {
  if (act_posted_) return;
  act_posted_ = true;
  loop_.post([this] {
    act_posted_ = false;
    act();
  });
}

void Supervisor::act() {
  while (const auto due = fleet_.step(now_ns())) carry_out(due->server, due->action);
  loop_.cancel(act_timer_);
  if (const std::uint64_t wake = fleet_.wake_ns(); wake != never_ns)
    act_timer_ = loop_.at({wake}, [this] { act(); });
  if (on_change_) on_change_();
  if (fleet_.stopping() && fleet_.ended()) loop_.stop();
}

void Supervisor::carry_out(std::size_t index, Action action) {
  switch (action) {
    case Action::spawn:
      return spawn(index);
    case Action::terminate:
      if (!fleet_.stopping() && !fleet_.machine(index).restarting())
        log_line(entries_[index].spec.name + " does not answer; ending it");
      return send_signal(index, SIGTERM);
    case Action::kill:
      log_line(entries_[index].spec.name + " has not ended in time; killing it");
      return send_signal(index, SIGKILL);
    case Action::none:
      return;
  }
}

void Supervisor::send_signal(std::size_t index, int signal_number) {
  const Entry& entry = entries_[index];
  // Fails when the process has ended meanwhile: its `exited` is on the way.
  if (const auto sent = store_.signal(entry.process.process, signal_number); !sent)
    log_line("cannot signal " + entry.spec.name + ": " + sent.error().to_string());
}

void Supervisor::spawn(std::size_t index) {
  Entry& entry = entries_[index];
  ServerMachine& machine = fleet_.machine(index);
  update_port(index);
  entry.log_from = log_size(log_of(index));
  const bool crashed = machine.epoch() != 0 && !machine.last_end_from_outside();
  const Result<ServerProcessRef> process = store_.spawn(entry.spec, entry.objects, ports_, crashed);
  if (process) return begin_life(index, *process);
  const std::string why = "cannot start: " + process.error().to_string();
  entry.last_words.clear();
  machine.spawn_failed(now_ns(), why);
  log_line(machine.ended() ? failure_of(index) + revival_of(index) : entry.spec.name + ": " + why);
  update_port(index);
}

/// Who connects to a server that was given up is told so, until it is started again.
void Supervisor::update_port(std::size_t index) {
  Entry& entry = entries_[index];
  const bool down = fleet_.machine(index).given_up();
  if (entry.port_down == down) return;
  entry.port_down = down;
  if (down) entry.client->disconnect();
  if (const Result<void> set = store_.set_down(entry.objects.port, down); !set)
    log_line("cannot take the port of " + entry.spec.name + (down ? " down: " : " up: ") +
             set.error().to_string());
}

std::string Supervisor::log_of(std::size_t index) const {
  return store_.folders().state + "/logs/" + entries_[index].spec.name + ".log";
}

void Supervisor::begin_life(std::size_t index, const ServerProcessRef& process) {
  Entry& entry = entries_[index];
  entry.process = process;
  loop_.on_signal(process.process, [this, index](std::uint32_t) { process_exited(index); });
  fleet_.machine(index).spawned(now_ns(), process.epoch);
  // Whatever was asked of an earlier process is of no interest any more.
  ++entry.life;
  entry.client->disconnect();
  entry.asked = false;
  ask(index);
}

void Supervisor::process_exited(std::size_t index) {
  Entry& entry = entries_[index];
  const Result<Exit> exit = store_.exit_of(entry.process.process);
  if (!exit && exit.error().code() == Code::busy) return;
  loop_.forget_signal(entry.process.process);
  store_.kernel().close(entry.process.process);
  entry.process = {};
  // Only a kernel that is gone fails here, and with it ends everything.
  ServerMachine& machine = fleet_.machine(index);
  machine.exited(now_ns(), exit.value_or(Exit{}));
  constexpr std::size_t most = sizeof(proto::supervisor::Server::Reply::last_words) - 1;
  entry.last_words = last_words(log_of(index), entry.log_from, most);
  update_port(index);
  if (machine.given_up())
    log_line(failure_of(index) + revival_of(index));
  else if (!fleet_.stopping())
    log_line(entry.spec.name + " " + machine.last_end() + "; restarting it");
  changed();
}

void Supervisor::ask(std::size_t index) {
  Entry& entry = entries_[index];
  entry.asked = true;
  const std::uint64_t asked_ns = now_ns();
  const std::uint64_t life = entry.life;
  entry.client->start<proto::Null>({}, {asked_ns + timing_.heartbeat_ns},
                                   [this, index, life, asked_ns](Result<proto::Empty> reply) {
                                     if (entries_[index].life == life)
                                       answer(index, asked_ns, reply);
                                   });
}

void Supervisor::answer(std::size_t index, std::uint64_t asked_ns,
                        const Result<proto::Empty>& reply) {
  Entry& entry = entries_[index];
  ServerMachine& machine = fleet_.machine(index);
  const ServerState before = machine.state();
  entry.asked = false;
  if (reply) {
    machine.answered(now_ns() - asked_ns);
    if (before == ServerState::starting) {
      log_line(entry.spec.name + " runs as pid " + std::to_string(entry.process.pid));
      changed();
    }
    return;
  }
  switch (reply.error().code()) {
    case Code::timed_out:
      machine.missed(now_ns());
      changed();
      return ask(index);
    case Code::peer_closed:
    case Code::protocol_error:
      // Mostly it is about to be reported as ended; if not, it is not well either.
      machine.missed(now_ns());
      return changed();
    default:
      log_line("cannot ask " + entry.spec.name + ": " + reply.error().to_string());
  }
}

void Supervisor::ask_all() {
  heartbeat_timer_ = loop_.after(timing_.heartbeat_ns, [this] { ask_all(); });
  for (std::size_t i = 0; i < entries_.size(); ++i)
    if (fleet_.machine(i).alive() && !entries_[i].asked) ask(i);
}

Result<proto::supervisor::Server::Reply> Supervisor::describe(std::uint64_t index) const {
  if (index >= entries_.size())
    return error(Code::not_found, "there are only " + std::to_string(entries_.size()) + " servers");
  const Entry& entry = entries_[index];
  const ServerMachine& machine = fleet_.machine(index);
  proto::supervisor::Server::Reply reply{};
  reply.count = static_cast<std::uint32_t>(entries_.size());
  reply.state = static_cast<std::uint32_t>(machine.state());
  reply.restarts = machine.restarts();
  reply.missed_heartbeats = machine.missed_heartbeats();
  reply.pid = entry.process.pid;
  reply.process_id = entry.process.process_id;
  reply.epoch = machine.epoch();
  reply.started_ns = entry.process.started_ns;
  reply.heartbeat_ns = machine.heartbeat_ns();
  reply.server = proto::kernel::Name::from(entry.spec.name);
  reply.last_end = proto::Text<96>::from(machine.last_end());
  reply.last_words = proto::Text<160>::from(entry.last_words);
  return reply;
}

Result<std::uint64_t> Supervisor::crash(std::string_view server, int signal_number) {
  const std::size_t index = TRY(index_of(server));
  const Entry& entry = entries_[index];
  if (fleet_.machine(index).state() != ServerState::running)
    return error(Code::busy, "server '" + entry.spec.name + "' is not running");
  TRY(store_.signal(entry.process.process, signal_number));
  log_line(entry.spec.name + " gets signal " + std::to_string(signal_number) +
           " by an operator's wish");
  return entry.process.pid;
}

Result<std::size_t> Supervisor::restart(std::string_view server) {
  const std::size_t index = TRY(index_of(server));
  if (fleet_.stopping() || !fleet_.machine(index).restart(now_ns()))
    return error(Code::busy, "the instance is shutting down");
  log_line(entries_[index].spec.name + " is started anew by an operator's wish");
  changed();
  return index;
}

Result<std::size_t> Supervisor::index_of(std::string_view server) const {
  for (std::size_t i = 0; i < entries_.size(); ++i)
    if (entries_[i].spec.name == server) return i;
  return error(Code::not_found, "no server is named '" + std::string(server) + "'");
}

std::string Supervisor::failure_of(std::size_t index) const {
  const Entry& entry = entries_[index];
  const ServerMachine& machine = fleet_.machine(index);
  const RestartRule& rule = entry.spec.restart;
  std::string text = "server '" + entry.spec.name + "' has failed to start: ";
  if (machine.state() == ServerState::quarantined)
    text = "server '" + entry.spec.name + "' is in quarantine, more than " +
           std::to_string(rule.count) + " restarts within " +
           std::to_string(rule.window_ns / ns_per_ms) + " ms, at last: ";
  text += machine.last_end();
  if (!entry.last_words.empty()) text += ", saying: " + entry.last_words;
  return text + "; see " + log_of(index);
}

std::string Supervisor::revival_of(std::size_t index) const {
  return "; start it with: aiosctl restart " + entries_[index].spec.name;
}

}  // namespace aios::supervisor
