// Attacks on the kernel's socket and on the pages it gives out.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "tests/hostile/peer.hpp"

namespace aios::hostile {
namespace {

struct KernelMethod {
  std::uint32_t opcode;
  std::size_t request_bytes;
  std::span<const proto::FieldInfo> fields;
};

template <class... Ms>
std::vector<KernelMethod> methods_of(proto::MethodList<Ms...>) {
  static const auto fields = std::make_tuple(Ms::Request::fields()...);
  return std::apply(
      [](const auto&... each) {
        return std::vector<KernelMethod>{
            {Ms::opcode, sizeof(typename Ms::Request), std::span(each)}...};
      },
      fields);
}

/// All but those that by right end the instance or this program's own job.
const std::vector<KernelMethod>& kernel_methods() {
  static const std::vector<KernelMethod> methods = [] {
    auto all = methods_of(wire::Protocol::Methods{});
    std::erase_if(all, [](const KernelMethod& method) {
      return method.opcode == wire::InstanceShutdown::opcode ||
             method.opcode == wire::JobKill::opcode || method.opcode == wire::ProcessSignal::opcode;
    });
    return all;
  }();
  return methods;
}

std::vector<std::byte> packet_of(std::uint32_t opcode, std::uint32_t announced,
                                 std::span<const std::byte> request) {
  const wire::CallHeader header{opcode, announced, 7};
  std::vector<std::byte> packet(sizeof header + request.size());
  std::memcpy(packet.data(), &header, sizeof header);
  std::ranges::copy(request, packet.begin() + sizeof header);
  return packet;
}

/// A connection of its own: greeted or, one in four, not.
std::unique_ptr<RawKernel> stranger(Peer& peer) {
  auto kernel = RawKernel::connect(peer.socket_path);
  if (kernel == nullptr) breach("the kernel refuses connections");
  if (!peer.random.one_in(4)) {
    if (!kernel->hello("hostile") || !kernel->confirm()) return nullptr;
    kernel->close(kernel->startup("root"));
  }
  return kernel;
}

void malformed(Peer& peer) {
  auto kernel = stranger(peer);
  if (kernel == nullptr) return;
  const auto& methods = kernel_methods();
  const KernelMethod& method = methods[peer.random.below(methods.size())];
  std::vector<std::byte> request(method.request_bytes);
  auto announced = static_cast<std::uint32_t>(request.size());
  std::uint32_t opcode = method.opcode;
  switch (peer.random.below(5)) {
    case 0:
      request.resize(peer.random.below(wire::max_packet_bytes));
      break;
    case 1:
      announced = static_cast<std::uint32_t>(peer.random.edge());
      break;
    case 2:
      opcode = 0x100u + static_cast<std::uint32_t>(peer.random.below(1u << 24));
      break;
    case 3:
      request.resize(wire::max_packet_bytes + peer.random.below(60'000));
      announced = static_cast<std::uint32_t>(request.size());
      break;
    default:
      request.resize(request.size() - 1 + 2 * peer.random.below(2));
      announced = static_cast<std::uint32_t>(request.size());
  }
  std::vector<std::byte> packet = packet_of(opcode, announced, request);
  if (peer.random.one_in(6)) packet.resize(peer.random.below(sizeof(wire::CallHeader)) + 1);
  if (packet.size() == sizeof(wire::CallHeader) + method.request_bytes &&
      announced == method.request_bytes && opcode == method.opcode)
    return;
  (void)kernel->send_bytes(packet, {});
  std::byte body[wire::max_packet_bytes];
  std::vector<Fd> fds;
  Code code = kernel->receive(body, fds);
  // A hello that is no hello of this version is told the version, and ended like all others.
  const bool told = code == Code::protocol_error ||
                    (code == Code::version_mismatch && opcode == wire::Hello::opcode);
  if (told) code = kernel->receive(body, fds);
  if (code != Code::peer_closed) breach("the kernel went on after a malformed packet");
  peer.counts.done(Kind::kernel_malformed, true);
}

/// What a random call may have left with this process: handles and descriptors go with it.
void random_calls(Peer& peer) {
  auto kernel = stranger(peer);
  if (kernel == nullptr) return;
  const auto& methods = kernel_methods();
  for (int i = 0; i < 64 && !kernel->lost(); ++i) {
    const KernelMethod& method = methods[peer.random.below(methods.size())];
    std::vector<std::byte> request = peer.request_of(
        {static_cast<std::uint16_t>(method.opcode), method.request_bytes, method.fields},
        peer.random.one_in(3));
    // A region as large as the quota allows takes as long to fill as one may expect.
    if (method.opcode == wire::RegionCreate::opcode && peer.random.below(16) != 0) {
      const std::uint64_t size =
          peer.random.one_in(2) ? ~0ull - peer.random.below(8192) : peer.random.below(65536);
      std::memcpy(request.data(), &size, sizeof size);
    }
    if (!kernel->send_bytes(
            packet_of(method.opcode, static_cast<std::uint32_t>(request.size()), request), {}))
      break;
    std::byte body[wire::max_packet_bytes];
    std::vector<Fd> fds;
    const Code code = kernel->receive(body, fds);
    if (code == Code::internal) breach("the kernel calls an error internal");
    peer.counts.done(Kind::kernel_random, true);
  }
}

void reserved_fields(Peer& peer) {
  RawKernel& kernel = peer.kernel();
  for (const KernelMethod& method : kernel_methods()) {
    std::vector<std::byte> request(method.request_bytes);
    bool any = false;
    for (const proto::FieldInfo& field : method.fields) {
      if (std::string_view(field.name) != "reserved") continue;
      request[field.offset + peer.random.below(field.size)] = std::byte{1};
      any = true;
    }
    if (!any) continue;
    (void)kernel.send_bytes(
        packet_of(method.opcode, static_cast<std::uint32_t>(request.size()), request), {});
    std::byte body[wire::max_packet_bytes];
    std::vector<Fd> fds;
    if (kernel.receive(body, fds) != Code::invalid_argument)
      breach("the kernel took a reserved field that is not zero");
    peer.counts.done(Kind::kernel_reserved, true);
  }
}

/// Calls without reading the replies: served one by one as they are read at last.
void pipelined(Peer& peer) {
  auto kernel = RawKernel::ready(peer.socket_path, "hostile");
  if (kernel == nullptr) breach("the kernel no longer accepts a process");
  const std::uint64_t n = 2 + peer.random.below(6);
  for (std::uint64_t i = 0; i < n; ++i) kernel->send<wire::InstanceInfo>({});
  const bool read = !peer.random.one_in(4);
  std::byte body[wire::max_packet_bytes];
  for (std::uint64_t i = 0; i < n; ++i) {
    std::vector<Fd> fds;
    peer.counts.injected(Kind::kernel_pipelined);
    if (read && kernel->receive(body, fds) == Code::ok)
      peer.counts.consumed(Kind::kernel_pipelined);
  }
}

/// Descriptors by the dozen, with packets that are right otherwise and with ones that are not.
void descriptors(Peer& peer) {
  auto kernel = stranger(peer);
  if (kernel == nullptr) return;
  const std::byte request[8]{};
  const auto packet = packet_of(wire::InstanceInfo::opcode, peer.random.one_in(2) ? 8 : 9, request);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return;
  const Fd reader(ends[0]);
  const Fd writer(ends[1]);
  std::vector<int> fds;
  for (std::uint64_t i = 1 + peer.random.below(max_packet_fds); i != 0; --i)
    fds.push_back(i % 2 == 0 ? reader.get() : kernel->socket());
  if (!kernel->send_bytes(packet, fds)) {
    // Refused where Linux can refuse them: the sender was told.
    return peer.counts.done(Kind::kernel_descriptors, true, fds.size());
  }
  std::byte body[wire::max_packet_bytes];
  std::vector<Fd> received;
  (void)kernel->receive(body, received);
  peer.counts.done(Kind::kernel_descriptors, true, fds.size());
}

/// Everything that could make a page of its own writable, short or unsealed for others.
void page_seals(Peer& peer) {
  Target& target = peer.target("echo");
  auto link = RawLink::begin(peer.kernel(), peer.kernel().startup(target.name), target.version);
  if (link == nullptr) return;
  const int half = link->half().get();
  const bool first = peer.random.one_in(2);
  if (first && ::fcntl(half, F_ADD_SEALS, F_SEAL_SEAL) == 0) {
    // The kernel can no longer seal it, so nobody may ever see it.
    if (link->confirm() == Code::ok) breach("the kernel trusts a half that it could not seal");
    return peer.counts.done(Kind::page_seals, true);
  }
  if (!first) {
    (void)!::fallocate(half, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, proto::half_bytes);
    (void)!::ftruncate(half, 0);
  }
  if (link->confirm() != Code::ok || !link->await_open()) return;
  const bool writable = ::mmap(nullptr, proto::half_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, half,
                               0) != MAP_FAILED ||
                        ::ftruncate(half, 0) == 0 || ::pwrite(half, "", 1, 0) == 1;
  if (writable) breach("a half can be written through another mapping after it was confirmed");
  const std::byte request[8]{};
  peer.counts.done(Kind::page_seals, link->ask(proto::Null::opcode, request) == Code::ok);
}

}  // namespace

std::vector<WeightedAttack> kernel_attacks() {
  return {{"malformed", malformed, 24},
          {"random_calls", random_calls, 5},
          {"reserved_fields", reserved_fields, 4},
          {"pipelined", pipelined, 6},
          {"descriptors", descriptors, 1},
          {"page_seals", page_seals, 10}};
}

}  // namespace aios::hostile
