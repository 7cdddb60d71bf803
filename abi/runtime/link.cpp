#include "abi/runtime/link.hpp"

#include <unistd.h>

#include <atomic>
#include <cassert>

#include "abi/runtime/cancel.hpp"

namespace aios {

namespace pk = proto::kernel;

namespace {
/// A bell that is full cannot ring. A peer rings at most once for each message it published and for
/// each that it took while this side was stalled: a page of bytes holds what a ring and a stall
/// have room for, and this beside.
constexpr std::uint32_t pops_between_drains = 1024;
static_assert(pops_between_drains + 2 * proto::slot_count < proto::page_bytes);
}  // namespace

Link::~Link() {
  kernel_.close(handle_);
}

Result<void> Link::adopt_own(std::vector<Fd>& fds) {
  if (fds.size() != 3) return error(Code::quota, "this process has no descriptors left for a link");
  own_half_ = TRY(Mapping::map(fds[0], proto::half_bytes, Mapping::Access::read_write));
  own_half_.exclude_from_fork();
  bell_ = std::move(fds[1]);
  peer_bell_ = std::move(fds[2]);
  return {};
}

Result<bool> Link::confirm() {
  auto ready = TRY(kernel_.call<pk::LinkReady>({handle_}));
  if (ready.reply.open == 0) return false;
  if (ready.fds.size() != 2)
    return error(Code::quota, "this process has no descriptors left for a link");
  peer_half_ = TRY(Mapping::map(ready.fds[0], proto::half_bytes, Mapping::Access::read));
  peer_status_ = TRY(Mapping::map(ready.fds[1], proto::page_bytes, Mapping::Access::read));
  peer_half_.exclude_from_fork();
  peer_status_.exclude_from_fork();
  sender_ = RingSender(own_half_.data(), peer_half_.data());
  receiver_ = RingReceiver(own_half_.data(), peer_half_.data());
  open_ = true;
  return true;
}

Result<std::unique_ptr<Link>> Link::begin_connect(Kernel& kernel, Handle port,
                                                  std::uint64_t protocol_version) {
  std::unique_ptr<Link> link(new Link(kernel));
  auto connected = TRY(kernel.call<pk::PortConnect>({port, protocol_version}));
  link->handle_ = connected.reply.link;
  link->index_ = connected.reply.index;
  TRY(link->adopt_own(connected.fds));
  TRY(link->confirm());
  return link;
}

Result<bool> Link::try_open() {
  if (open_) return true;
  if (closed()) return error(Code::peer_closed, "the server went away before it answered");
  return confirm();
}

Result<std::unique_ptr<Link>> Link::accept(Kernel& kernel, Handle port, PeerInfo& peer) {
  // Before it is accepted: there may be no memory for it.
  std::unique_ptr<Link> link(new Link(kernel));
  auto accepted = TRY(kernel.call<pk::PortAccept>({port}));
  link->handle_ = accepted.reply.link;
  link->index_ = accepted.reply.index;
  peer = {accepted.reply.peer_process_id,
          accepted.reply.peer_job_id,
          accepted.reply.uid,
          accepted.reply.protocol_version,
          static_cast<pk::PeerRole>(accepted.reply.role),
          std::string(accepted.reply.peer_name.view()),
          std::string(accepted.reply.peer_job_name.view())};
  TRY(link->adopt_own(accepted.fds));
  if (!TRY(link->confirm())) return error(Code::peer_closed, "the client went away");
  return link;
}

RingResult Link::push(const proto::MessageHeader& header, std::span<const std::byte> payload) {
  assert(open_);
  const RingResult result = sender_.push(header, payload);
  if (result == RingResult::done) pushed_ = true;
  return result;
}

RingResult Link::pop(Message& message) {
  const RingResult result = receiver_.pop(message);
  if (result != RingResult::done) return result;
  popped_ = true;
  if (++popped_since_drain_ >= pops_between_drains) {
    popped_since_drain_ = 0;
    empty_bell();
  }
  return result;
}

void Link::set_stalled(bool stalled) {
  sender_.set_stalled(stalled);
  if (!stalled) empty_bell();
}

/// By a thread that need not have slept. Another may: rung for already, not yet awake, and now it
/// would find a silent bell, which nobody rings again.
void Link::empty_bell() {
  drain_bell();
  renew_rings(kernel_.status_page());
  kernel_.bell_emptied();
}

void Link::notify_peer() {
  if (!pushed_ && !popped_) return;
  const auto* status = reinterpret_cast<const proto::StatusPage*>(peer_status_.data());
  if (waker_.sees_sleeper(*status) && (pushed_ || receiver_.peer_stalled())) {
    waker_.rang();
    ring();
  }
  peer_core_ = status->core.load(std::memory_order_relaxed);
  pushed_ = popped_ = false;
}

void Link::ring() const {
  const Uncancelled meanwhile;
  const char byte = 1;
  // A full pipe means that a ring is pending already.
  [[maybe_unused]] const ssize_t n = ::write(peer_bell_.get(), &byte, 1);
}

void Link::drain_bell() const {
  const Uncancelled meanwhile;
  // As much as the pipe holds: one read empties it.
  std::byte buffer[proto::page_bytes];
  [[maybe_unused]] const ssize_t n = ::read(bell_.get(), buffer, sizeof buffer);
}

Result<std::vector<Handle>> Link::send_handles(
    Kernel& kernel, Handle link, std::span<const proto::kernel::LinkSend::Entry> entries) {
  if (entries.size() > pk::max_sent_handles)
    return error(Code::too_large, "at most 16 handles travel at once");
  pk::LinkSend::Request request{};
  request.link = link;
  request.count = entries.size();
  std::copy(entries.begin(), entries.end(), request.entries);
  const auto reply = TRY(kernel.call<pk::LinkSend>(request)).reply;
  return std::vector<Handle>(reply.handles, reply.handles + entries.size());
}

}  // namespace aios
