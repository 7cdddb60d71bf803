#include "tests/hostile/raw_kernel.hpp"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace aios::hostile {

void breach(const std::string& what) {
  std::fprintf(stdout, "breach: %s\n", what.c_str());
  std::fflush(stdout);
  std::_Exit(3);
}

std::unique_ptr<RawKernel> RawKernel::connect(const std::string& socket_path) {
  auto socket = connect_seqpacket(socket_path);
  if (!socket) return nullptr;
  auto kernel = std::make_unique<RawKernel>();
  kernel->socket_ = std::move(*socket);
  return kernel;
}

std::unique_ptr<RawKernel> RawKernel::ready(const std::string& socket_path, std::string_view job) {
  auto kernel = connect(socket_path);
  if (!kernel || !kernel->hello(job) || !kernel->confirm()) return nullptr;
  return kernel;
}

bool RawKernel::hello(std::string_view job) {
  // Small enough that other programs of this user keep what they need.
  constexpr wire::Quota quota{256u << 20, 0, 2048, 128, 0};
  auto answer = call<wire::Hello>({wire::abi_version, 0, wire::Name::from(job), quota});
  if (!answer.ok() || answer.fds.size() != 3) return false;
  hello_ = answer.reply;
  status_fd_ = std::move(answer.fds[0]);
  auto kernel_page = Mapping::map(answer.fds[1], proto::page_bytes, Mapping::Access::read);
  auto status = Mapping::map(status_fd_, proto::page_bytes, Mapping::Access::read_write);
  bell_ = std::move(answer.fds[2]);
  if (!kernel_page || !status) return false;
  kernel_page_ = std::move(*kernel_page);
  status_ = std::move(*status);
  return true;
}

bool RawKernel::confirm() {
  return call<wire::Ready>({}).ok();
}

bool RawKernel::send_bytes(std::span<const std::byte> packet, std::span<const int> fds) {
  if (lost_) return false;
  // A kernel that does not read holds its callers up for ever: then this blocks, and the caller's
  // caller sees the hang.
  if (!send_packet(socket_.get(), packet, fds, 0)) lost_ = true;
  return !lost_;
}

Code RawKernel::receive(std::span<std::byte> body, std::vector<Fd>& fds) {
  // Also after a failed send: a last reply may say why.
  pollfd event{socket_.get(), POLLIN, 0};
  if (::poll(&event, 1, patience_ms) != 1) breach("the kernel does not answer");
  ReceivedPacket packet;
  if (!receive_packet(socket_.get(), body, 0, packet) || packet.bytes < sizeof(wire::KernelReply)) {
    lost_ = true;
    return Code::peer_closed;
  }
  wire::KernelReply head{};
  std::memcpy(&head, body.data(), sizeof head);
  if (head.fd_count != packet.fds.size())
    breach("a reply came with other descriptors than it says");
  fds = std::move(packet.fds);
  return static_cast<Code>(head.status);
}

Handle RawKernel::startup(std::string_view label) {
  std::uint64_t cursor = 0;
  do {
    const auto page = call<wire::Startup>({cursor});
    if (!page.ok()) return 0;
    for (std::uint64_t i = 0; i < page.reply.count; ++i)
      if (page.reply.entries[i].label.view() == label) return page.reply.entries[i].handle;
    cursor = page.reply.next;
  } while (cursor != 0);
  return 0;
}

bool RawKernel::link_closed(std::uint32_t index) const {
  const auto* page = reinterpret_cast<const proto::KernelPage*>(kernel_page_.data());
  return (page->closed[index / 64].load(std::memory_order_acquire) >> (index % 64) & 1) != 0;
}

void RawKernel::sleep_again() {
  // The sleepers' number, and above it how often one went to sleep: never the same word twice.
  auto* word = reinterpret_cast<std::atomic<std::uint64_t>*>(status_.data());
  word->fetch_add((std::uint64_t{1} << 32) + 1);
}

void RawKernel::wait_bell(int timeout_ms) const {
  pollfd event{bell_.get(), POLLIN, 0};
  (void)::poll(&event, 1, timeout_ms);
  char rings[256];
  while (::read(bell_.get(), rings, sizeof rings) > 0) {
  }
}

}  // namespace aios::hostile
