#include "tests/fuzz/session.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "abi/runtime/log.hpp"
#include "abi/runtime/socket.hpp"

namespace aios::fuzz {

namespace pk = proto::kernel;

namespace {

constexpr int max_steps = 192;
constexpr std::size_t max_links = 4;
constexpr std::size_t max_objects = 12;
constexpr int turns_to_open = 16;
constexpr std::uint64_t patience_ns = 20 * ns_per_s;
constexpr std::size_t region_sizes[] = {64u << 10, 4096, 1u << 20, 3 * 4096};
constexpr std::uint32_t all_rights = rights::all;

/// Something of the client's that it can send.
struct Thing {
  Handle handle;
  ObjectType type;
  std::uint32_t grant;
  Mapping memory{};
  Fd channel{};
  bool fixed = false;  ///< its memory is not to be written
};

struct ClientLink {
  std::unique_ptr<Link> link;
  bool version_matches;
  struct Owed {
    std::uint16_t opcode;
    const MethodShape* method;  ///< null: only an error may come
  };
  std::map<std::uint32_t, Owed> owed{};
};

class Session {
 public:
  Session(const ProtocolShape& protocol, const MakeHost& make, Bytes input);
  void run();

 private:
  void step();
  void turn(Deadline deadline = {0});
  void open(bool right_version);
  void close(std::size_t index);
  void call(ClientLink& link);
  void call_with_handles(ClientLink& link);
  std::uint64_t send_fresh(ClientLink& link, ObjectType type);
  void send_raw(ClientLink& link);
  void repeat(ClientLink& link);
  void push(ClientLink& link, std::uint16_t opcode, std::span<const std::byte> payload);
  void drain(ClientLink& link);
  void check(ClientLink& link, const Message& message);
  void settle();
  void wait_for_reply(ClientLink& link);
  void send_handles(ClientLink& link);
  void make_region();
  void make_port();
  void lend_files();
  void write_memory(bool record);
  void prove_alive();
  Thing* region();

  const Machine& machine_ = Machine::get();
  const ProtocolShape& protocol_;
  Bytes input_;
  Known known_;
  std::unique_ptr<Kernel> server_;
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<Kernel> client_;
  std::unique_ptr<Host> host_;
  Handle port_ = 0;
  std::vector<Thing> things_;
  std::vector<std::unique_ptr<ClientLink>> links_;
  std::uint32_t next_call_ = 1;
  std::uint16_t last_opcode_ = 0;
  std::vector<std::byte> last_;  ///< the last payload
};

Session::Session(const ProtocolShape& protocol, const MakeHost& make, Bytes input)
    : protocol_(protocol), input_(input), server_(machine_.attach()) {
  const Handle port = machine_.publish_port(*server_);
  auto loop = EventLoop::create(server_.get());
  if (!loop) finding("no event loop: " + loop.error().to_string());
  loop_ = *std::move(loop);
  // Nothing happens but by this thread.
  loop_->allow_spinning(false);
  client_ = machine_.attach();
  port_ = client_->startup("fuzzed").value().handle;
  host_ = make({*server_, *loop_, port, machine_.folder()});
  // Numbers that a client may guess: the server's own.
  for (const StartupHandle& own : server_->startup()) known_.handle(own.handle);
  known_.handle(port);
  known_.handle(server_->job());
  if (const std::size_t size = host_->contents().size(); size != 0) known_.name("length", 8, size);
  constexpr std::uint32_t job_grant = rights::info | rights::act | rights::send | rights::duplicate;
  things_.push_back({client_->job(), ObjectType::job, job_grant});
  make_region();
  open(true);
}

void Session::run() {
  for (int i = 0; i < max_steps && !input_.empty(); ++i) step();
  while (!links_.empty()) close(0);
  turn();
  prove_alive();
  links_.clear();
  if (host_->starts_programs()) machine_.kill_children(*server_);
  host_.reset();
}

/// The low half of a step's first byte says what, the high half on which link, and whether the
/// server waits.
void Session::step() {
  const std::uint8_t what = input_.byte();
  if (links_.empty()) open(true);
  if (links_.empty()) return;
  ClientLink& link = *links_[(what >> 4 & 7) % links_.size()];
  switch (what & 15) {
    case 4:
      call_with_handles(link);
      break;
    case 5:
      send_raw(link);
      break;
    case 6:
      send_handles(link);
      break;
    case 7:
      make_region();
      break;
    case 8:
      write_memory(false);
      break;
    case 9:
      write_memory(true);
      break;
    case 10:
      if (links_.size() < max_links) open(input_.byte() % 4 != 3);
      break;
    case 11:
      return close((what >> 4 & 7) % links_.size());
    case 12:
      repeat(link);
      break;
    case 13:
      lend_files();
      break;
    case 14:
      make_port();
      break;
    case 15:
      turn();
      drain(link);
      wait_for_reply(link);
      break;
    default:
      call(link);
  }
  if ((what & 0x80) == 0) {
    turn();
    for (const auto& each : links_) drain(*each);
  }
  std::erase_if(links_, [](const auto& each) { return each->link->closed(); });
}

void Session::turn(Deadline deadline) {
  if (!loop_->turn(deadline)) machine_.lost("the server lost its kernel");
  host_->turn();
}

void Session::open(bool right_version) {
  const std::uint64_t version = right_version ? protocol_.version : 0;
  auto link = Link::begin_connect(*client_, port_, version);
  if (!link) machine_.lost("cannot connect: " + link.error().to_string());
  for (int i = 0; i < turns_to_open; ++i) {
    turn();
    const Result<bool> opened = (*link)->try_open();
    if (!opened) finding("a connection was refused: " + opened.error().to_string());
    if (!*opened) continue;
    links_.push_back(std::make_unique<ClientLink>(*std::move(link), right_version));
    return;
  }
  finding("a connection was not accepted");
}

void Session::close(std::size_t index) {
  if (host_->must_settle()) settle();
  if (index < links_.size()) links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(index));
  turn();
}

void Session::call(ClientLink& link) {
  const MethodShape& method = protocol_.methods[input_.below(protocol_.methods.size())];
  std::vector<std::byte> request(method.request.size);
  fill(input_, known_, method.request, request);
  push(link, method.opcode, std::span(request).first(method.sent_bytes(request)));
}

/// A call whose handles are sent before it, so that it can succeed; if it is not to be otherwise,
/// only those that no reply has named.
void Session::call_with_handles(ClientLink& link) {
  const MethodShape& method = protocol_.methods[input_.below(protocol_.methods.size())];
  const bool all = input_.byte() % 2 == 0;
  Known known = known_;
  for (const proto::FieldInfo& field : method.request.fields) {
    const ObjectType type = handle_in(field);
    if (type == ObjectType::none || (!all && known_.named(field) != nullptr)) continue;
    if (const std::uint64_t number = send_fresh(link, type); number != 0)
      known.name(field.name, sizeof(Handle), number);
  }
  std::vector<std::byte> request(method.request.size);
  fill(input_, known, method.request, request);
  push(link, method.opcode, std::span(request).first(method.sent_bytes(request)));
}

/// One of the client's things of that type, with all it may grant; its number at the server.
std::uint64_t Session::send_fresh(ClientLink& link, ObjectType type) {
  std::vector<const Thing*> fitting;
  for (const Thing& thing : things_)
    if (thing.type == type) fitting.push_back(&thing);
  if (fitting.empty()) return 0;
  const Thing& thing = *fitting[fitting.size() - 1 - input_.below(fitting.size())];
  const std::uint32_t mask = thing.grant & ~(thing.fixed ? rights::map_write : 0);
  const pk::LinkSend::Entry entry{thing.handle, static_cast<std::uint32_t>(type), mask, mask, 0};
  const Result<std::vector<Handle>> numbers = link.link->send_handles(std::span(&entry, 1));
  if (!numbers) return 0;
  known_.handle(numbers->front());
  return numbers->front();
}

void Session::send_raw(ClientLink& link) {
  // A malformed message closes the link.
  if (host_->must_settle()) settle();
  if (links_.empty()) return;
  const auto opcode = static_cast<std::uint16_t>(
      input_.byte() % 4 == 0 ? input_.take<std::uint16_t>() : input_.below(64));
  std::vector<std::byte> payload(input_.below(proto::max_payload_bytes + 1));
  input_.fill(payload);
  push(link, opcode, payload);
}

void Session::repeat(ClientLink& link) {
  const std::vector<std::byte> payload = last_;
  for (std::size_t times = input_.below(80); times != 0; --times) push(link, last_opcode_, payload);
}

void Session::push(ClientLink& link, std::uint16_t opcode, std::span<const std::byte> payload) {
  std::vector<std::byte> bytes(payload.begin(), payload.end());
  const MethodShape* method = nullptr;
  for (const MethodShape& each : protocol_.methods)
    if (each.opcode == opcode && each.takes(bytes)) method = &each;
  if (method != nullptr) host_->guard(opcode, bytes);
  if (!link.version_matches && opcode != proto::Null::opcode) method = nullptr;
  const std::uint32_t id = next_call_++;
  const proto::MessageHeader header{opcode, static_cast<std::uint16_t>(bytes.size()), id};
  switch (link.link->push(header, bytes)) {
    case RingResult::done:
      link.owed[id] = {opcode, method};
      link.link->notify_peer();
      break;
    case RingResult::would_block:
      break;
    case RingResult::broken:
      finding("the server's counters make no sense");
  }
  last_opcode_ = opcode;
  last_ = std::move(bytes);
}

void Session::drain(ClientLink& link) {
  Message message;
  bool any = false;
  for (;;) {
    const RingResult result = link.link->pop(message);
    if (result == RingResult::broken) finding("the server's ring makes no sense");
    if (result != RingResult::done) break;
    any = true;
    check(link, message);
  }
  if (any) link.link->notify_peer();
}

void Session::check(ClientLink& link, const Message& message) {
  const auto found = link.owed.find(message.header.call_id);
  if (found == link.owed.end()) finding("a reply to no call, or a second one");
  const ClientLink::Owed owed = found->second;
  link.owed.erase(found);
  const std::string name = owed.method != nullptr ? owed.method->name : "malformed call";
  if (message.header.opcode != (owed.opcode | proto::reply_flag))
    finding(name + ": the reply is of another method");
  proto::ReplyHeader head{};
  if (message.bytes().size() < sizeof head) finding(name + ": a reply without a header");
  std::memcpy(&head, message.bytes().data(), sizeof head);
  const auto body = message.bytes().subspan(sizeof head);
  if (head.status > static_cast<std::uint32_t>(Code::too_late))
    finding(name + ": status " + std::to_string(head.status) + " does not exist");
  if (head.text_bytes != (head.status == 0 ? 0 : body.size()))
    finding(name + ": a text of the wrong length");
  log_line(name + ": " + std::string(code_name(static_cast<Code>(head.status))) + " " +
           std::string(reinterpret_cast<const char*>(body.data()), head.text_bytes));
  if (head.status != 0) return;
  if (owed.method == nullptr) finding(name + " was answered as if it were one");
  const std::vector<std::byte> reply = owed.method->whole_reply(body);
  if (const std::string flaw = flaw_of(owed.method->reply, reply); !flaw.empty())
    finding(name + ": the reply has " + flaw);
  known_.reply(owed.method->reply, reply);
}

/// Until nothing is owed.
void Session::settle() {
  const Deadline end = Deadline::after(patience_ns);
  for (;;) {
    turn(Deadline::after(host_->wait_ns()));
    bool owed = false;
    for (const auto& link : links_) {
      drain(*link);
      owed = owed || (!link->owed.empty() && !link->link->closed());
    }
    std::erase_if(links_, [](const auto& each) { return each->link->closed(); });
    if (!owed) return;
    if (end.passed()) finding("a call is not answered");
  }
}

/// Where threads work on the answer.
void Session::wait_for_reply(ClientLink& link) {
  const std::size_t owed = link.owed.size();
  for (int i = 0; i < 4 && owed != 0 && link.owed.size() == owed && host_->wait_ns() != 0; ++i) {
    turn(Deadline::after(host_->wait_ns()));
    drain(link);
  }
}

void Session::send_handles(ClientLink& link) {
  std::vector<pk::LinkSend::Entry> entries;
  for (std::size_t count = 1 + input_.below(3); count != 0; --count) {
    const Thing& thing = things_[things_.size() - 1 - input_.below(things_.size())];
    std::uint32_t masks[2];
    for (std::uint32_t& mask : masks) {
      const std::uint8_t choice = input_.byte() % 4;
      mask = choice == 0   ? all_rights
             : choice == 1 ? rights::map_read
             : choice == 2 ? 0
                           : input_.take<std::uint16_t>();
      mask &= thing.grant & ~(thing.fixed ? rights::map_write : 0);
    }
    const bool move = input_.byte() % 8 == 7 && thing.type != ObjectType::job;
    entries.push_back(
        {thing.handle, static_cast<std::uint32_t>(thing.type), masks[0], masks[1], move ? 1u : 0u});
  }
  const Result<std::vector<Handle>> numbers = link.link->send_handles(entries);
  if (!numbers) return;
  for (const Handle number : *numbers) known_.handle(number);
}

void Session::make_region() {
  if (things_.size() >= max_objects) return;
  const std::uint8_t choice = input_.byte();
  const std::span<const std::byte> contents = host_ ? host_->contents() : std::span<std::byte>{};
  const bool fixed = choice % 2 == 0 && !contents.empty();
  const std::size_t size = fixed ? contents.size() : region_sizes[choice / 2 % 4];
  const auto made = client_->call<pk::RegionCreate>({size, pk::Name::from("fuzz")});
  if (!made) machine_.lost("no region: " + made.error().to_string());
  const Handle region = made->reply.region;
  const auto mapped = client_->call<pk::RegionMap>({region, 1, 0});
  if (!mapped || mapped->fds.size() != 1) machine_.lost("a region cannot be mapped");
  auto memory = Mapping::map(mapped->fds[0], made->reply.size_bytes, Mapping::Access::read_write);
  if (!memory) finding("a region cannot be mapped: " + memory.error().to_string());
  if (fixed) std::copy(contents.begin(), contents.end(), memory->data());
  constexpr std::uint32_t grant =
      rights::info | rights::duplicate | rights::send | rights::map_read | rights::map_write;
  things_.push_back({region, ObjectType::region, grant, *std::move(memory), {}, fixed});
}

void Session::make_port() {
  if (things_.size() >= max_objects) return;
  const auto made = client_->call<pk::PortCreate>({pk::Name::from("fuzz")});
  if (made) things_.push_back({made->reply.port, ObjectType::port, all_rights & 0x7f});
}

/// A channel with a description of a few files and, mostly, as many files.
void Session::lend_files() {
  if (things_.size() >= max_objects) return;
  auto made = client_->call<pk::FileCreate>({});
  if (!made || made->fds.size() != 1) return;
  const std::size_t count = input_.below(4);
  proto::context::FileSplitHeader header{static_cast<std::uint32_t>(count), 0};
  if (input_.byte() % 8 == 7) header.count = input_.take<std::uint32_t>();
  std::vector<std::byte> packet(sizeof header + count * sizeof(proto::context::FilePiece));
  std::memcpy(packet.data(), &header, sizeof header);
  static constexpr auto piece = record_shape<proto::context::FilePiece>;
  for (std::size_t i = 0; i < count; ++i)
    fill(input_, known_, piece(),
         std::span(packet).subspan(sizeof header + i * piece().size, piece().size));
  const std::string path = machine_.folder() / "lent";
  const Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file.valid() || ::ftruncate(file.get(), 8192) != 0) finding("cannot make a file to lend");
  const std::vector<int> files(count, file.get());
  (void)send_packet(made->fds[0].get(), packet, files, MSG_DONTWAIT);
  constexpr std::uint32_t grant =
      rights::info | rights::duplicate | rights::send | rights::map_read;
  things_.push_back({made->reply.file, ObjectType::file, grant, {}, std::move(made->fds[0])});
}

Thing* Session::region() {
  std::vector<Thing*> regions;
  for (Thing& thing : things_)
    if (thing.memory.valid() && !thing.fixed) regions.push_back(&thing);
  return regions.empty() ? nullptr : regions[regions.size() - 1 - input_.below(regions.size())];
}

/// What a server reads there may change at any time.
void Session::write_memory(bool record) {
  Thing* thing = region();
  if (thing == nullptr) return;
  const std::span<std::byte> memory = thing->memory.bytes();
  if (!record || protocol_.records.empty()) {
    std::byte bytes[64];
    input_.fill(bytes);
    const std::size_t at = input_.take<std::uint32_t>() % (memory.size() - sizeof bytes);
    std::copy(std::begin(bytes), std::end(bytes), memory.begin() + static_cast<std::ptrdiff_t>(at));
    return;
  }
  const RecordShape& shape = protocol_.records[input_.below(protocol_.records.size())];
  const std::size_t at = input_.below(8) * shape.size;
  if (at + shape.size > memory.size()) return;
  std::vector<std::byte> bytes(shape.size);
  fill(input_, known_, shape, bytes);
  std::copy(bytes.begin(), bytes.end(), memory.begin() + static_cast<std::ptrdiff_t>(at));
}

void Session::prove_alive() {
  open(true);
  ClientLink& link = *links_.back();
  const std::byte nothing[sizeof(proto::Empty)]{};
  push(link, proto::Null::opcode, nothing);
  const Deadline end = Deadline::after(patience_ns);
  while (!link.owed.empty()) {
    turn(Deadline::after(ns_per_ms));
    drain(link);
    if (end.passed()) finding("the server answers no new client any more");
  }
}

}  // namespace

void run_session(const ProtocolShape& protocol, const MakeHost& make,
                 std::span<const std::uint8_t> input) {
  Session(protocol, make, Bytes(input)).run();
}

}  // namespace aios::fuzz
