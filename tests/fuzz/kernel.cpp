// The kernel's calls, on an instance in memory: packets of several hostile processes, served as the
// kernel's event loop would.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <fstream>
#include <list>
#include <set>

#include "kernel/calls.hpp"
#include "tests/fuzz/entry.hpp"
#include "tests/fuzz/fake_linux.hpp"
#include "tests/fuzz/values.hpp"

namespace aios {

/// In place of the runtime's: what a hostile process makes the kernel log is of interest to people.
void log_line(std::string_view text) {
  static const bool wanted = std::getenv("AIOS_FUZZ_LOG") != nullptr;
  if (wanted) std::fprintf(stderr, "%.*s\n", static_cast<int>(text.size()), text.data());
}

}  // namespace aios

namespace {

using namespace aios;
using namespace aios::fuzz;
namespace ak = aios::kernel;
namespace pk = proto::kernel;

constexpr int max_steps = 256;
constexpr std::size_t max_processes = 6;
/// Regions are really allocated, so few pages for all.
constexpr std::uint64_t max_region_bytes = 1u << 20;

const ProtocolShape& protocol() {
  static const ProtocolShape shape = protocol_shape<pk::Protocol>();
  return shape;
}

/// What one process knows and holds.
struct Actor {
  std::uint64_t id;
  Fd end;  ///< its end of its connection
  Known known{};
  std::vector<Mapping> halves{};
  const MethodShape* asked = nullptr;  ///< its last call; null: a raw packet
  std::vector<std::byte> request{};    ///< that call's
  std::set<ak::Handle> closed{};       ///< handles that it had
};

class World {
 public:
  explicit World(Bytes input);
  ~World();
  void run();
  /// Whether handles went over a link.
  bool has_sent() const { return has_sent_; }

 private:
  void step();
  void attach();
  void adopt_children();
  void call(Actor& actor, std::uint16_t opcode, std::span<const std::byte> request);
  void call_method(Actor& actor);
  void call_raw(Actor& actor);
  template <class M>
  void call_with(Actor& actor, const typename M::Request& request) {
    call(actor, M::opcode, std::as_bytes(std::span(&request, 1)));
  }
  void serve(ak::Process& process, Actor& actor, std::span<const std::byte> packet,
             const MethodShape* method);
  void check(Actor& actor, std::span<const std::byte> reply, const MethodShape* method,
             std::size_t fd_count);
  void check_handles(Actor& actor, std::span<const std::byte> reply);
  void replied(ak::Process& process, const ak::Packet& reply, std::span<const Fd> fds);
  void map_half(Actor& actor, std::span<const Fd> fds);
  void poke(Actor& actor);
  void hang_up(Actor& actor);
  void bury_ended();
  void release();
  std::shared_ptr<ak::Process> process_of(const Actor& actor);

  Bytes input_;
  Fd epoll_{::epoll_create1(EPOLL_CLOEXEC)};
  std::unique_ptr<ak::Instance> instance_;
  std::unique_ptr<ak::Calls> calls_;
  std::list<Actor> actors_;
  std::size_t adopted_ = 0;
  std::uint64_t next_call_ = 1;
  bool has_sent_ = false;
};

World::World(Bytes input) : input_(input) {
  forget_children();
  instance_ =
      std::make_unique<ak::Instance>(ak::Settings{"/nonexistent", "/supervisor", {}}, epoll_);
  calls_ = std::make_unique<ak::Calls>(
      *instance_, [this](ak::Process& process, const ak::Packet& reply, std::span<const Fd> fds) {
        replied(process, reply, fds);
        return Result<void>();
      });
  if (!instance_->start_supervisor()) finding("the supervisor cannot be started");
  adopt_children();
  attach();
}

World::~World() {
  actors_.clear();
  calls_.reset();
  instance_.reset();
}

std::shared_ptr<ak::Process> World::process_of(const Actor& actor) {
  const auto found = instance_->registry.processes.find(actor.id);
  return found == instance_->registry.processes.end() ? nullptr : found->second;
}

void World::run() {
  for (int i = 0; i < max_steps && !input_.empty() && !instance_->finished(); ++i) step();
}

void World::step() {
  const std::uint8_t what = input_.byte();
  std::erase_if(actors_, [this](const Actor& actor) { return process_of(actor) == nullptr; });
  if (actors_.empty()) attach();
  if (actors_.empty()) return;
  Actor& actor = *std::next(actors_.begin(), static_cast<long>((what >> 4) % actors_.size()));
  switch (what & 15) {
    case 10:
      return attach();
    case 11:
      return hang_up(actor);
    case 12:
      return call_raw(actor);
    case 13:
      return poke(actor);
    case 14:
      return bury_ended();
    case 15:
      instance_->begin_shutdown();
      return;
    default:
      call_method(actor);
  }
  adopt_children();
}

/// A program from outside, greeted and ready, mostly.
void World::attach() {
  if (actors_.size() >= max_processes) return;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) finding("no socket pair");
  const std::uint64_t id = instance_->registry.next_id;
  Actor actor{id, Fd(ends[0])};
  if (!instance_->attach(Fd(ends[1]))) return;
  actors_.push_back(std::move(actor));
  const std::uint8_t manner = input_.byte();
  if (manner % 8 == 7) return;
  const auto job = manner % 2 == 0 ? pk::Name{} : pk::Name::from(manner % 4 == 1 ? "a" : "b");
  call_with<pk::Hello>(actors_.back(), {pk::abi_version, 0, job, {}});
  if (manner % 8 == 6) return;
  call_with<pk::Ready>(actors_.back(), {});
  call_with<pk::Startup>(actors_.back(), {0});
}

/// Children say hello as well.
void World::adopt_children() {
  for (; adopted_ < fake_children().size(); ++adopted_) {
    FakeChild& child = fake_children()[adopted_];
    for (const auto& [id, process] : instance_->registry.processes) {
      if (process->pidfd.get() != child.pidfd || actors_.size() >= max_processes) continue;
      actors_.push_back({id, std::move(child.socket)});
      call_with<pk::Hello>(actors_.back(), {pk::abi_version, 0, {}, {}});
      call_with<pk::Ready>(actors_.back(), {});
      call_with<pk::Startup>(actors_.back(), {0});
      break;
    }
  }
}

void World::call_method(Actor& actor) {
  const MethodShape& method = protocol().methods[input_.below(protocol().methods.size())];
  std::vector<std::byte> bytes(method.request.size);
  fill(input_, actor.known, method.request, bytes);
  if (method.opcode == pk::RegionCreate::opcode) {
    pk::RegionCreate::Request request;
    std::memcpy(&request, bytes.data(), sizeof request);
    // Beyond the machine's memory it is refused.
    if (request.size_bytes < 1ull << 60) request.size_bytes %= max_region_bytes;
    std::memcpy(bytes.data(), &request, sizeof request);
  }
  call(actor, method.opcode, bytes);
}

void World::call(Actor& actor, std::uint16_t opcode, std::span<const std::byte> request) {
  const pk::CallHeader header{opcode, static_cast<std::uint32_t>(request.size()), next_call_++};
  std::vector<std::byte> packet(sizeof header + request.size());
  std::memcpy(packet.data(), &header, sizeof header);
  std::copy(request.begin(), request.end(), packet.begin() + sizeof header);
  const MethodShape* method = nullptr;
  for (const MethodShape& each : protocol().methods)
    if (each.opcode == opcode) method = &each;
  actor.request.assign(request.begin(), request.end());
  if (const auto process = process_of(actor)) serve(*process, actor, packet, method);
}

void World::call_raw(Actor& actor) {
  std::vector<std::byte> packet(input_.below(256));
  input_.fill(packet);
  if (packet.size() >= sizeof(pk::CallHeader) && input_.byte() % 2 == 0) {
    const auto length = static_cast<std::uint32_t>(packet.size() - sizeof(pk::CallHeader));
    const auto opcode = static_cast<std::uint32_t>(input_.below(80));
    const pk::CallHeader header{opcode, length, 0};
    std::memcpy(packet.data(), &header, sizeof header);
  }
  pk::CallHeader header{};
  if (!packet.empty()) std::memcpy(&header, packet.data(), std::min(packet.size(), sizeof header));
  // Regions without a bound are not for this machine; see call_method.
  if (header.opcode == pk::RegionCreate::opcode) return;
  if (const auto process = process_of(actor)) serve(*process, actor, packet, nullptr);
}

/// As KernelServer::serve_call.
void World::serve(ak::Process& process, Actor& actor, std::span<const std::byte> packet,
                  const MethodShape* method) {
  if (process.awaited_call) return;
  const auto alive = process.shared_from_this();
  actor.asked = method;
  const bool well_formed = calls_->serve(process, packet);
  while (calls_->has_slices()) calls_->fill_slice();
  if (!well_formed) instance_->disconnect(process);
  release();
}

void World::check(Actor& actor, std::span<const std::byte> reply, const MethodShape* method,
                  std::size_t fd_count) {
  const std::string name = method != nullptr ? method->name : "raw packet";
  pk::KernelReply head{};
  if (reply.size() < sizeof head) finding(name + ": a reply without a head");
  std::memcpy(&head, reply.data(), sizeof head);
  if (head.fd_count != fd_count) finding(name + ": the reply counts its descriptors wrongly");
  if (head.status > static_cast<std::uint32_t>(Code::internal) || !head.text.valid())
    finding(name + ": the reply's head is not valid");
  log_line(name + ": " + std::string(code_name(static_cast<Code>(head.status))) + " " +
           std::string(head.text.view()));
  const auto body = reply.subspan(sizeof head);
  if (head.status != 0 && (!body.empty() || fd_count != 0))
    finding(name + ": an error with a reply");
  if (head.status == static_cast<std::uint32_t>(Code::internal)) finding(name + ": internal error");
  if (head.status != 0 || method == nullptr) return;
  if (const std::string flaw = flaw_of(method->reply, body); !flaw.empty())
    finding(name + ": the reply has " + flaw);
  check_handles(actor, body);
  actor.known.reply(method->reply, body);
  for (std::size_t at = 0; at + 8 <= body.size() && at < 512; at += 8) {
    std::uint64_t number = 0;
    std::memcpy(&number, body.data() + at, sizeof number);
    // An index and a small generation.
    if (number >> 32 != 0 && number >> 32 < 64 && (number & 0xffffffff) < 4096)
      actor.known.handle(number);
  }
}

template <class T>
T read_as(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

/// Of a call that succeeded: it named no closed handle, and nobody got more rights than it gave.
void World::check_handles(Actor& actor, std::span<const std::byte> reply) {
  const auto process = process_of(actor);
  if (process == nullptr) return;
  const auto opcode = actor.asked->opcode;
  if (opcode == pk::HandleClose::opcode || opcode == pk::HandleInfo::opcode ||
      opcode == pk::HandleDuplicate::opcode) {
    const auto handle = read_as<ak::Handle>(actor.request);
    if (actor.closed.contains(handle)) finding("a closed handle was served");
    if (opcode == pk::HandleClose::opcode) actor.closed.insert(handle);
    if (opcode != pk::HandleDuplicate::opcode) return;
    const ak::Reference& old = process->handles.find(handle).value()->reference;
    const auto made = read_as<pk::HandleDuplicate::Reply>(reply).handle;
    const ak::Reference& copy = process->handles.find(made).value()->reference;
    if ((copy.use & ~old.use) != 0 || (copy.grant & ~old.grant) != 0)
      finding("a duplicate has more rights than the handle");
  }
  if (opcode != pk::LinkSend::opcode) return;
  const auto sent = read_as<pk::LinkSend::Request>(actor.request);
  const auto numbers = read_as<pk::LinkSend::Reply>(reply);
  const auto end = process->handles.get<ak::LinkEnd>(sent.link, 0);
  has_sent_ = has_sent_ || sent.count != 0;
  for (std::size_t i = 0; end && i < sent.count; ++i) {
    const auto own = process->handles.find(sent.entries[i].handle);
    const auto theirs = (*end)->peer().process->handles.find(numbers.handles[i]);
    if (!theirs) finding("what was sent has not come");
    // What moved is gone.
    if (own && (((*theirs)->reference.use | (*theirs)->reference.grant) & ~(*own)->reference.grant))
      finding("more rights were sent than the handle may grant");
  }
}

/// A reply, at once or later.
void World::replied(ak::Process& process, const ak::Packet& reply, std::span<const Fd> fds) {
  for (const Fd& fd : fds)
    if (!fd.valid()) finding("a descriptor that is none");
  for (Actor& actor : actors_) {
    if (actor.id != process.id()) continue;
    check(actor, reply, actor.asked, fds.size());
    map_half(actor, fds);
  }
}

/// A process maps its half of a link, and goes on to write it when it is sealed.
void World::map_half(Actor& actor, std::span<const Fd> fds) {
  if (fds.size() != 3 || actor.halves.size() >= 8) return;
  auto half = Mapping::map(fds.front(), proto::half_bytes, Mapping::Access::read_write);
  if (half) actor.halves.push_back(std::move(*half));
}

void World::poke(Actor& actor) {
  if (actor.halves.empty()) return;
  const std::span<std::byte> half = actor.halves[input_.below(actor.halves.size())].bytes();
  input_.fill(half.first(16));
}

void World::hang_up(Actor& actor) {
  const auto process = process_of(actor);
  if (process != nullptr) instance_->disconnect(*process);
  release();
}

void World::bury_ended() {
  std::vector<std::shared_ptr<ak::Process>> ended;
  for (const auto& [id, process] : instance_->registry.processes)
    for (const FakeChild& child : fake_children())
      if (child.ended && process->pidfd.get() == child.pidfd) ended.push_back(process);
  for (const auto& process : ended) instance_->bury(process);
  epoll_event events[32];
  const int count = ::epoll_wait(epoll_.get(), events, 32, 0);
  // Of a process's id it does nothing.
  for (int i = 0; i < count; ++i)
    if ((events[i].data.u64 & ak::Instance::pidfd_bit) != 0)
      instance_->end_helper(events[i].data.u64 & ~ak::Instance::pidfd_bit);
  release();
  adopt_children();
}

/// As the event loop does between calls.
void World::release() {
  for (ak::ReleasedMemory& memory : instance_->registry.released)
    (void)ak::sys::deallocate(memory.file, 0, memory.size_bytes);
  instance_->registry.released.clear();
  instance_->registry.released_sockets.clear();
}

/// Calls of the second actor, the program from outside, in a row.
class Script {
 public:
  /// With what the fields suggest, or for each field what `fields` says, in the words of `fill`.
  template <class M>
  Script& call(std::string fields = {}) {
    const auto& methods = protocol().methods;
    const auto found = std::ranges::find(methods, M::opcode, &MethodShape::opcode);
    return call(static_cast<std::size_t>(found - methods.begin()), std::move(fields));
  }
  Script& call(std::size_t number, std::string fields = {}) {
    fields.resize(std::max(fields.size(), protocol().methods[number].request.fields.size()));
    bytes_ += std::string{0x10, static_cast<char>(number)} + fields;
    return *this;
  }
  void write(const std::filesystem::path& path) const {
    std::ofstream(path, std::ios::binary) << bytes_;
  }
  Bytes bytes() const {
    return Bytes({reinterpret_cast<const std::uint8_t*>(bytes_.data()), bytes_.size()});
  }

 private:
  std::string bytes_ = std::string(1, '\0');
};

/// The call again and again, with every edge between the bytes `before` and `behind`.
void write_edges(Script script, std::size_t number, const std::string& before,
                 const std::string& behind, const std::filesystem::path& path) {
  for (std::size_t edge = 0; edge < edge_count; ++edge)
    script.call(number, before + std::string{at_edge, static_cast<char>(edge)} + behind);
  script.write(path);
}

/// A link to oneself, and a region sent over it: one entry of three words, the last handle, its
/// type and no rights.
void write_link_seeds(const std::filesystem::path& folder) {
  const auto& methods = protocol().methods;
  const auto send = static_cast<std::size_t>(
      std::ranges::find(methods, pk::LinkSend::opcode, &MethodShape::opcode) - methods.begin());
  Script open;
  open.call<pk::PortCreate>()
      .call<pk::PortConnect>()
      .call<pk::LinkReady>()
      .call<pk::PortAccept>()
      .call<pk::LinkReady>();
  Script one = open;
  one.call<pk::RegionCreate>().call(send, {0, 1, 1, 2, 0, 2, 2, 0, 1, 3, 5});
  one.write(folder / "send");
  // A seed that a new field has made invalid is none, and nothing else would tell.
  World world(one.bytes());
  world.run();
  if (!world.has_sent()) finding("the seed that sends a region sends nothing");
  Script counts = open, grants = open;
  for (std::size_t edge = 0; edge < edge_count; ++edge) {
    const auto at = static_cast<char>(edge);
    counts.call<pk::RegionCreate>().call(send, {0, at_edge, at, 2, 0, 2, 2, 0, 1, 3, 5});
    grants.call<pk::RegionCreate>().call(send, {0, 1, 1, 2, 0, 2, 2, 0, 1, 3, at_edge, at});
  }
  counts.write(folder / "send-edge-count");
  grants.write(folder / "send-edge-grant");
}

void write_seeds(const std::filesystem::path& folder) {
  const auto& methods = protocol().methods;
  Script all;
  for (std::size_t i = 0; i < methods.size(); ++i) {
    const std::string name = methods[i].name;
    const auto& fields = methods[i].request.fields;
    Script().call(i).write(folder / name);
    for (std::size_t j = 0; j < fields.size(); ++j) {
      std::string before(j, '\0');
      if (fields[j].size > sizeof(std::uint64_t)) before += {2, 0, 0};  // an array of one word
      write_edges(all, i, before, std::string(fields.size() - j - 1, '\0'),
                  folder / (name + "-edge-" + fields[j].name));
    }
    all.call(i);
  }
  all.write(folder / "all");
  write_link_seeds(folder);
  // A slot of the handle table that is used again.
  Script()
      .call<pk::RegionCreate>()
      .call<pk::HandleClose>()
      .call<pk::RegionCreate>()
      .call<pk::HandleInfo>({2, 0})
      .call<pk::HandleDuplicate>({2, 0, 5, 5})
      .write(folder / "close-and-create");
}

void run(std::span<const std::uint8_t> input) {
  World(Bytes(input)).run();
}

}  // namespace

AIOS_FUZZ_PROGRAM(write_seeds, run)
