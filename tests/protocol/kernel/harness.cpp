#include "tests/protocol/kernel/harness.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace aios::test {

namespace {

/// How long an event may take before a test counts as hung.
constexpr int patience_ms = 20'000;

bool readable(int fd) {
  pollfd event{fd, POLLIN, 0};
  return ::poll(&event, 1, patience_ms) == 1;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  REQUIRE_MESSAGE(value != nullptr, name);
  return value;
}

}  // namespace

TemporaryFolder::TemporaryFolder(const std::string& tail) {
  std::string name = std::filesystem::temp_directory_path() / "aios-test-XXXXXX";
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  top_ = name;
  path_ = tail.empty() ? top_ : top_ / tail;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(top_, ignored);
}

std::string kernel_binary() {
  return environment("AIOS_TEST_KERNEL");
}
std::string child_binary() {
  return environment("AIOS_TEST_CHILD");
}

// ---- programs -------------------------------------------------------------------------------

Program::Program(const std::vector<std::string>& arguments) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  errors_ = Fd(ends[0]);
  Fd write_end(ends[1]);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_ = ::fork();
  REQUIRE(pid_ >= 0);
  if (pid_ > 0) return;
  ::dup2(write_end.get(), STDERR_FILENO);
  ::execv(argv[0], argv.data());
  ::_exit(127);
}

Program::~Program() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    wait();
  }
}

bool Program::await_line(const std::string& text) {
  while (output_.find(text) == std::string::npos) {
    if (!readable(errors_.get())) return false;
    char buffer[512];
    const ssize_t got = ::read(errors_.get(), buffer, sizeof buffer);
    if (got <= 0) return false;
    output_.append(buffer, static_cast<std::size_t>(got));
  }
  return true;
}

int Program::wait() {
  if (pid_ <= 0) return -1;
  await_line("\1 no line holds this: reads to the end");
  int status = 0;
  ::waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Program::signal(int number) const {
  ::kill(pid_, number);
}

Machine::Machine(const std::string& supervisor_mode, const std::string& tail) : folder_(tail) {
  kernel_ = std::make_unique<Program>(
      std::vector<std::string>{kernel_binary(), "--state", folder_.path(), "--supervisor",
                               child_binary(), "--manifest", "/" + supervisor_mode});
  REQUIRE_MESSAGE(kernel_->await_line("serving"), kernel_->output());
  // What the supervisor makes when it starts would disturb tests that count.
  while (supervisor_mode == "serve" && Client::ready(socket_path()).startup("served") == 0) {
  }
}

Machine::~Machine() {
  if (kernel_->pid() > 0) CHECK_MESSAGE(stop() == 0, kernel_->output());
}

int Machine::stop() {
  kernel_->signal(SIGTERM);
  return kernel_->wait();
}

std::string Machine::log(const std::string& name) const {
  std::ifstream file(folder_.path() / "logs" / (name + ".log"));
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// ---- clients --------------------------------------------------------------------------------

Client::Client(const std::string& socket_path) {
  auto socket = connect_seqpacket(socket_path);
  REQUIRE(socket);
  socket_ = std::move(*socket);
}

void wait_for_room() {
  ::poll(nullptr, 0, 10);
}

Answer<wire::Hello> Client::greet(const std::string& job_name, const wire::Quota& quota) {
  auto answer = call<wire::Hello>({wire::abi_version, 0, wire::Name::from(job_name), quota});
  if (!answer.ok()) return answer;
  REQUIRE(answer.fds.size() == 3);
  hello = answer.reply;
  status_page = *Mapping::map(answer.fds[0], proto::page_bytes, Mapping::Access::read_write);
  kernel_page = *Mapping::map(answer.fds[1], proto::page_bytes, Mapping::Access::read);
  status_fd = std::move(answer.fds[0]);
  bell = std::move(answer.fds[2]);
  REQUIRE(call<wire::Ready>({}).ok());
  return answer;
}

Client Client::ready(const std::string& socket_path, const std::string& job_name,
                     const wire::Quota& quota) {
  const Deadline deadline = Deadline::after(room_patience_ns);
  for (;;) {
    Client client(socket_path);
    const auto greeted = client.greet(job_name, quota);
    if (greeted.ok()) return client;
    REQUIRE_MESSAGE(lacks_room(greeted), greeted.text);
    REQUIRE_MESSAGE(!deadline.passed(), no_room << greeted.text);
    wait_for_room();
  }
}

void Client::send_raw(std::span<const std::byte> packet) {
  // A connection that the kernel has just ended is for the reader to notice.
  (void)send_packet(socket_.get(), packet, {}, 0);
}

bool Client::receive_raw(ReceivedPacket& packet, std::span<std::byte> body) {
  REQUIRE(readable(socket_.get()));
  return receive_packet(socket_.get(), body, 0, packet).has_value();
}

bool Client::is_closed() {
  ReceivedPacket packet;
  std::byte body[wire::max_packet_bytes];
  return !receive_raw(packet, body);
}

wire::Handle Client::startup(const std::string& label) {
  std::uint64_t cursor = 0;
  do {
    const auto page = call<wire::Startup>({cursor});
    REQUIRE(page.ok());
    for (std::uint64_t i = 0; i < page.reply.count; ++i)
      if (page.reply.entries[i].label.view() == label) return page.reply.entries[i].handle;
    cursor = page.reply.next;
  } while (cursor != 0);
  return 0;
}

wire::SignalNext::Reply Client::await_signal(wire::Handle handle, std::uint32_t mask) {
  for (;;) {
    const auto next = call<wire::SignalNext>({});
    REQUIRE(next.ok());
    if ((handle == 0 || next.reply.handle == handle) && (next.reply.signals & mask) != 0)
      return next.reply;
    if (next.reply.handle != 0) continue;
    REQUIRE(readable(bell.get()));
    char rings[256];
    [[maybe_unused]] const auto drained = ::read(bell.get(), rings, sizeof rings);
  }
}

wire::Handle publish_port(Client& server, const std::string& label) {
  const auto port = server.call<wire::PortCreate>({wire::Name::from(label)});
  REQUIRE(port.ok());
  REQUIRE(server
              .call<wire::PortPublish>(
                  {server.startup("root"), port.reply.port, wire::Label::from(label)})
              .ok());
  return port.reply.port;
}

namespace {

/// Connects: the client's half of a link that is to be accepted.
OpenLink begin_link(Client& client, wire::Handle client_port) {
  OpenLink link;
  auto connected = call_with_room<wire::PortConnect>(client, {client_port, 1});
  REQUIRE_MESSAGE(connected.ok(), connected.text);
  link.client = connected.reply.link;
  link.client_index = connected.reply.index;
  link.client_map = *Mapping::map(connected.fds[0], proto::half_bytes, Mapping::Access::read_write);
  link.client_half = std::move(connected.fds[0]);
  link.client_bell = std::move(connected.fds[1]);
  link.client_ringer = std::move(connected.fds[2]);
  const auto waiting = client.call<wire::LinkReady>({link.client});
  REQUIRE(waiting.ok());
  REQUIRE(waiting.reply.open == 0);
  return link;
}

}  // namespace

OpenLink open_link(Client& client, wire::Handle client_port, Client& server,
                   wire::Handle server_port) {
  const Deadline deadline = Deadline::after(room_patience_ns);
  OpenLink link = begin_link(client, client_port);
  server.await_signal(server_port, wire::signal::connect_pending);
  auto accepted = server.call<wire::PortAccept>({server_port});
  for (; lacks_room(accepted); accepted = server.call<wire::PortAccept>({server_port})) {
    // A connection that is refused at its second end is over at the first.
    REQUIRE_MESSAGE(!deadline.passed(), no_room << accepted.text);
    client.await_signal(link.client, wire::signal::closed);
    REQUIRE(client.call<wire::HandleClose>({link.client}).ok());
    wait_for_room();
    link = begin_link(client, client_port);
    server.await_signal(server_port, wire::signal::connect_pending);
  }
  REQUIRE_MESSAGE(accepted.ok(), accepted.text);
  link.server = accepted.reply.link;
  link.server_index = accepted.reply.index;
  link.server_map = *Mapping::map(accepted.fds[0], proto::half_bytes, Mapping::Access::read_write);
  link.server_half = std::move(accepted.fds[0]);
  link.server_bell = std::move(accepted.fds[1]);
  link.server_ringer = std::move(accepted.fds[2]);
  const auto open = call_with_room<wire::LinkReady>(server, {link.server});
  REQUIRE_MESSAGE(open.ok(), open.text);
  REQUIRE(open.reply.open == 1);
  REQUIRE(open.fds.size() == 2);
  client.await_signal(link.client, wire::signal::established);
  auto mine = call_with_room<wire::LinkReady>(client, {link.client});
  REQUIRE_MESSAGE(mine.ok(), mine.text);
  REQUIRE(mine.reply.open == 1);
  REQUIRE(mine.fds.size() == 2);
  link.client_sees_half = std::move(mine.fds[0]);
  link.client_sees_status = std::move(mine.fds[1]);
  return link;
}

}  // namespace aios::test
