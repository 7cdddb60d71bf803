// Handles that are not the sender's to name, ranges that lie outside of what they name, and memory
// that changes while a server reads it. What must be refused and is not, is a breach.
#include <algorithm>
#include <optional>

#include "abi/proto/echo.hpp"
#include "abi/proto/mapreduce.hpp"
#include "abi/proto/scheduler.hpp"
#include "abi/proto/storage.hpp"
#include "tests/hostile/peer.hpp"

namespace aios::hostile {
namespace {

namespace echo = proto::echo;
namespace mapreduce = proto::mapreduce;
namespace scheduler = proto::scheduler;
namespace storage = proto::storage;
namespace rights = proto::kernel::rights;

constexpr std::uint32_t read_write = rights::map_read | rights::map_write;

/// Names `number` to the target as a region of its own; what it says.
Code name_region(Peer& peer, Target& target, std::size_t who, Handle number) {
  RawLink* link = peer.link(target, who);
  if (link == nullptr) return Code::peer_closed;
  if (target.name == "echo") return link->call<echo::Sum>({number});
  if (target.name == "scheduler") return link->call<scheduler::SetArena>({number});
  storage::AttachRegion::Reply attached{};
  const Code code = link->call<storage::AttachRegion>({number, 0}, &attached);
  if (code == Code::ok) (void)link->call<storage::DetachRegion>({attached.region});
  return code;
}

Target& region_taker(Peer& peer) {
  constexpr std::string_view takers[] = {"echo", "scheduler", "storage"};
  return peer.target(takers[peer.random.below(std::size(takers))]);
}

/// A region that one process sent, named by another.
void foreign_handle(Peer& peer) {
  Target& target = region_taker(peer);
  RawLink* owner = peer.link(target, 1);
  if (owner == nullptr) return;
  const Handle number = peer.send_region(*owner, 1, peer.region(1), read_write, 0);
  if (number == 0) return;
  const Code code = name_region(peer, target, 0, number);
  if (code == Code::ok) breach(target.name + " used a handle for a client that had not sent it");
  peer.counts.done(Kind::foreign_handle, true);
  const Code own = name_region(peer, target, 1, number);
  if (own != Code::ok && own != Code::peer_closed)
    breach(target.name +
           " refused a handle to the client that had sent it: " + std::string(code_name(own)));
}

/// A region that was used up, named once more.
void stale_handle(Peer& peer) {
  Target& target = region_taker(peer);
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const Handle number = peer.send_region(*link, 0, peer.region(), read_write, 0);
  if (number == 0 || name_region(peer, target, 0, number) != Code::ok) return;
  for (const Handle again :
       std::initializer_list<Handle>{number, number + (1ull << 32), number - (1ull << 32)}) {
    const Code code = name_region(peer, target, 0, again);
    // The scheduler still holds its arena: the number is in use there, and refused all the same.
    if (code == Code::ok) breach(target.name + " used a handle that was closed or in use");
    peer.counts.done(Kind::stale_handle, code != Code::peer_closed);
  }
}

/// Numbers that nobody sent, in every field that names a handle.
void guessed_handle(Peer& peer) {
  Target& target = region_taker(peer);
  for (int i = 0; i < 12; ++i) {
    const std::uint64_t index = peer.random.one_in(4) ? peer.random.edge() : peer.random.below(96);
    const Handle number =
        peer.random.one_in(8) ? peer.random.edge() : (1 + peer.random.below(2)) << 32 | index;
    if (std::ranges::find(peer.known_numbers, number) != peer.known_numbers.end()) continue;
    const Code code = name_region(peer, target, 0, number);
    if (code == Code::ok) breach(target.name + " used a handle that was guessed");
    peer.counts.done(Kind::guessed_handle, code != Code::peer_closed);
  }
}

/// Its own job, named as a region; and a region, named as a job.
void wrong_type_handle(Peer& peer) {
  Target& target = region_taker(peer);
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  wire::LinkSend::Request request{};
  request.link = link->handle();
  request.count = 1;
  request.entries[0] = {peer.kernel().job(), static_cast<std::uint32_t>(wire::ObjectType::job),
                        rights::act, rights::act, 0};
  const auto sent = peer.kernel().call<wire::LinkSend>(request);
  if (!sent.ok()) return peer.drop(target);
  if (name_region(peer, target, 0, sent.reply.handles[0]) == Code::ok)
    breach(target.name + " took a job for a region");
  peer.counts.done(Kind::wrong_type_handle, true);
  RawLink* to_scheduler = peer.link(peer.target("scheduler"));
  if (to_scheduler == nullptr) return;
  const Handle region = peer.send_region(*to_scheduler, 0, peer.region(), read_write, read_write);
  const Code code = to_scheduler->call<scheduler::OpenTenant>({region, 0});
  if (code == Code::ok) breach("the scheduler took a region for a job");
  peer.counts.done(Kind::wrong_type_handle, code != Code::peer_closed);
}

/// Handles that no message ever names. The link goes soon after, and they should with it.
void unnamed_handle(Peer& peer) {
  Target& target = peer.any_target();
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  wire::LinkSend::Request request{};
  request.link = link->handle();
  request.count = wire::max_sent_handles;
  for (auto& entry : request.entries)
    entry = {peer.region(), static_cast<std::uint32_t>(wire::ObjectType::region), rights::map_read,
             0, 0};
  const auto sent = peer.kernel().call<wire::LinkSend>(request);
  peer.counts.done(Kind::unnamed_handle, sent.ok(), wire::max_sent_handles);
  peer.drop(target);
}

/// An (offset, length) of which at least one byte lies outside of `size`.
std::pair<std::uint64_t, std::uint64_t> bad_range(Random& random, std::uint64_t size) {
  for (;;) {
    std::uint64_t offset = random.edge();
    std::uint64_t length = random.edge();
    if (random.one_in(2)) offset = 0 - length + random.below(size + 1);  // its end wraps to inside
    if (length != 0 && (length > size || offset > size - length)) return {offset, length};
  }
}

void storage_ranges(Peer& peer) {
  RawLink* link = peer.link(peer.target("storage"));
  if (link == nullptr) return;
  const Handle number = peer.send_region(*link, 0, peer.region(), read_write, 0);
  storage::AttachRegion::Reply attached{};
  if (number == 0 || link->call<storage::AttachRegion>({number, 1}, &attached) != Code::ok) return;
  const auto name = storage::ObjectName::from("hostile/range");
  for (int i = 0; i < 8; ++i) {
    const auto [offset, length] = bad_range(peer.random, Peer::region_bytes);
    const Code codes[] = {
        link->call<storage::Put>({offset, length, attached.region, 0, name}),
        link->call<storage::Get>({offset, length, 0, 0, attached.region, 0, name}),
        link->call<storage::List>({offset, length, attached.region, 0, {}, {}})};
    for (const Code code : codes) {
      if (code == Code::ok) breach("storage took a range outside of its region");
      peer.counts.done(Kind::range_wraps, code != Code::peer_closed);
    }
  }
  (void)link->call<storage::DetachRegion>({attached.region});
}

/// A tenant for the hostile job; 0 when there is none.
std::optional<std::uint32_t> open_tenant(Peer& peer, RawLink& link) {
  wire::LinkSend::Request request{};
  request.link = link.handle();
  request.count = 1;
  request.entries[0] = {peer.kernel().job(), static_cast<std::uint32_t>(wire::ObjectType::job),
                        rights::act | rights::send, rights::act | rights::info, 0};
  const auto sent = peer.kernel().call<wire::LinkSend>(request);
  scheduler::OpenTenant::Reply reply{};
  if (!sent.ok() ||
      link.call<scheduler::OpenTenant>({sent.reply.handles[0], 0}, &reply) != Code::ok)
    return std::nullopt;
  return reply.tenant;
}

void scheduler_ranges(Peer& peer) {
  Target& target = peer.target("scheduler");
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  const auto tenant = open_tenant(peer, *link);
  if (!tenant) return peer.drop(target);
  const Handle arena = peer.send_region(*link, 0, peer.region(), read_write, 0);
  (void)link->call<scheduler::SetArena>({arena});
  for (int i = 0; i < 8; ++i) {
    const auto [offset, length] = bad_range(peer.random, Peer::region_bytes);
    const Handle number = peer.send_region(*link, 0, peer.region(), rights::send, read_write);
    Code code = link->call<scheduler::RegisterBuffer>({number, offset, length, *tenant, 0});
    if (code == Code::ok) breach("the scheduler took a buffer outside of its region");
    peer.counts.done(Kind::range_wraps, code != Code::peer_closed);
    const auto count = static_cast<std::uint32_t>(length / sizeof(scheduler::TaskRecord) + 1);
    code = link->call<scheduler::Submit>({offset, count, *tenant});
    if (code == Code::ok) breach("the scheduler read records outside of the arena");
    peer.counts.done(Kind::range_wraps, code != Code::peer_closed);
  }
  (void)link->call<scheduler::CloseTenant>({*tenant, 0});
}

/// A job whose region does not hold what the request says it holds.
void region_too_small(Peer& peer) {
  Target& target = peer.target("mapreduce");
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  wire::LinkSend::Request send{};
  send.link = link->handle();
  send.count = 2;
  send.entries[0] = {peer.region(), static_cast<std::uint32_t>(wire::ObjectType::region),
                     read_write, read_write | rights::send | rights::info, 0};
  send.entries[1] = {peer.kernel().job(), static_cast<std::uint32_t>(wire::ObjectType::job),
                     rights::act | rights::send, rights::act | rights::send | rights::info, 0};
  const auto sent = peer.kernel().call<wire::LinkSend>(send);
  if (!sent.ok()) return peer.drop(target);
  const auto [offset, bytes] = bad_range(peer.random, Peer::region_bytes);
  mapreduce::Submit::Request submit{};
  submit.region = sent.reply.handles[0];
  submit.job = sent.reply.handles[1];
  const bool module = peer.random.one_in(2);
  submit.module_offset = module ? offset : mapreduce::description_bytes;
  submit.module_bytes = module ? bytes : 64;
  submit.parameter_offset = module ? mapreduce::description_bytes : offset;
  submit.parameter_bytes = module ? 64 : bytes;
  submit.split_count = 1;
  submit.input_bytes = 1;
  submit.memory_bytes = mapreduce::min_memory_bytes;
  submit.reducers = submit.threads = 1;
  submit.label = proto::Text<32>::from("hostile");
  const Code code = link->call<mapreduce::Submit>(submit);
  if (code == Code::ok) breach("mapreduce took a module outside of its region");
  peer.counts.done(Kind::region_too_small, code != Code::peer_closed);
  peer.drop(target);
}

/// A region of the peer's that it also writes; unmapped and closed at the end.
struct OwnRegion {
  OwnRegion(Peer& of) : peer(of) {
    handle = peer.kernel()
                 .call<wire::RegionCreate>({Peer::region_bytes, wire::Name::from("changing")})
                 .reply.region;
    auto mapped = peer.kernel().call<wire::RegionMap>({handle, 1, 0});
    if (!mapped.ok()) return;
    auto mapping = Mapping::map(mapped.fds[0], Peer::region_bytes, Mapping::Access::read_write);
    if (mapping) memory = std::move(*mapping);
  }
  ~OwnRegion() {
    peer.mutator.stop();
    peer.kernel().close(handle);
  }
  Peer& peer;
  Handle handle = 0;
  Mapping memory;
};

/// Task records in an arena that changes while the scheduler reads them.
void changing_records(Peer& peer) {
  Target& target = peer.target("scheduler");
  RawLink* link = peer.link(target);
  if (link == nullptr) return;
  OwnRegion region(peer);
  const auto tenant = open_tenant(peer, *link);
  if (!tenant || !region.memory.valid()) return peer.drop(target);
  for (int i = 0; i < 16; ++i) {
    scheduler::TaskRecord record{};
    record.tag = peer.random.any();
    record.grid[0] = record.grid[1] = record.grid[2] = 1;
    record.buffer_count = static_cast<std::uint32_t>(peer.random.below(3));
    std::memcpy(region.memory.data() + static_cast<std::size_t>(i) * sizeof record, &record,
                sizeof record);
  }
  const Handle arena = peer.send_region(*link, 0, region.handle, read_write, 0);
  if (link->call<scheduler::SetArena>({arena}) != Code::ok) return peer.drop(target);
  peer.mutator.start(region.memory.bytes().first(16 * sizeof(scheduler::TaskRecord)),
                     Mutator::Mode::bytes);
  for (int i = 0; i < 32; ++i) {
    const std::uint64_t first = peer.random.below(16);
    const auto count = static_cast<std::uint32_t>(1 + peer.random.below(16 - first));
    const Code code =
        link->call<scheduler::Submit>({first * sizeof(scheduler::TaskRecord), count, *tenant});
    peer.counts.done(Kind::changing_records, code != Code::peer_closed);
  }
  peer.mutator.stop();
  (void)link->call<scheduler::CloseTenant>({*tenant, 0});
}

/// A put of bytes that change while they are read: stored as they were at some moment, or refused;
/// what is stored matches its checksum.
void changing_region(Peer& peer) {
  RawLink* link = peer.link(peer.target("storage"));
  if (link == nullptr) return;
  OwnRegion region(peer);
  const Handle number = peer.send_region(*link, 0, region.handle, read_write, 0);
  storage::AttachRegion::Reply attached{};
  if (number == 0 || !region.memory.valid() ||
      link->call<storage::AttachRegion>({number, 1}, &attached) != Code::ok)
    return;
  const auto name =
      storage::ObjectName::from("hostile/changing-" + std::to_string(peer.random.below(4)));
  peer.mutator.start(region.memory.bytes(), Mutator::Mode::bytes);
  const Code put = link->call<storage::Put>({0, Peer::region_bytes, attached.region, 0, name});
  peer.mutator.stop();
  if (put != Code::ok && put != Code::source_changed && put != Code::peer_closed)
    breach("a put of changing bytes ended with " + std::string(code_name(put)));
  peer.counts.done(Kind::changing_region, put != Code::peer_closed);
  if (put == Code::ok) {
    peer.mutator.start(region.memory.bytes(), Mutator::Mode::bytes);
    const Code get =
        link->call<storage::Get>({0, Peer::region_bytes, 0, 0, attached.region, 0, name});
    peer.mutator.stop();
    peer.counts.done(Kind::changing_region, get != Code::peer_closed);
  }
  (void)link->call<storage::DetachRegion>({attached.region});
}

}  // namespace

std::vector<WeightedAttack> handle_attacks() {
  return {{"foreign_handle", foreign_handle, 30},    {"stale_handle", stale_handle, 24},
          {"guessed_handle", guessed_handle, 16},    {"wrong_type_handle", wrong_type_handle, 16},
          {"unnamed_handle", unnamed_handle, 6},     {"storage_ranges", storage_ranges, 8},
          {"scheduler_ranges", scheduler_ranges, 8}, {"region_too_small", region_too_small, 10},
          {"changing_records", changing_records, 6}, {"changing_region", changing_region, 2}};
}

}  // namespace aios::hostile
