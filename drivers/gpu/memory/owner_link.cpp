#include "drivers/gpu/memory/owner_link.hpp"

#include "abi/runtime/log.hpp"

namespace aios::gpu {

using proto::memory::Attach;

namespace {

constexpr std::uint64_t attach_limit_ns = 20 * ns_per_s;
constexpr std::uint64_t retry_ns = 5 * ns_per_s;

}  // namespace

OwnerLink::OwnerLink(aios::Kernel& kernel, EventLoop& loop, Handle port, KeptMemory& memory)
    : kernel_(kernel),
      loop_(loop),
      memory_(memory),
      client_(kernel, &loop, port, proto::memory::Protocol::version, "the owner of device memory") {
  client_.on_disconnect([this] {
    if (!std::exchange(attached_, false)) return;
    memory_.disconnect();
    log_line("the owner of device memory has ended: what it held will not outlive this context");
    loop_.post([this] { attach(); });
  });
}

OwnerLink::~OwnerLink() {
  client_.on_disconnect(nullptr);
  client_.disconnect();
  loop_.cancel(limit_);
  loop_.cancel(retry_);
}

void OwnerLink::connect(std::uint64_t limit_ns, std::function<void()> then) {
  then_ = std::move(then);
  limit_ = loop_.after(limit_ns, [this] { go_on(); });
  attach();
}

void OwnerLink::go_on() {
  loop_.cancel(limit_);
  if (const auto then = std::exchange(then_, nullptr)) then();
}

void OwnerLink::attach() {
  auto made = kernel_.call<proto::kernel::FileCreate>({});
  if (!made || made->fds.size() != 1) {
    log_line("device memory will not outlive this context: there is no channel to its owner");
    return loop_.post([this] { go_on(); });
  }
  const Handle file = made->reply.file;
  client_.start_with_handles<Attach>(
      {0}, {{file, ObjectType::file, rights::info | rights::map_read, 0, false}},
      [](std::span<const Handle> numbers, Attach::Request& r) { r.channel = numbers.front(); },
      Deadline::after(attach_limit_ns),
      [this, file,
       channel = std::move(made->fds.front())](const Result<Attach::Reply>& reply) mutable {
        kernel_.close(file);
        attached(std::move(channel), reply);
      });
}

void OwnerLink::attached(Fd channel, const Result<Attach::Reply>& reply) {
  const auto outcome =
      reply ? memory_.connect(std::move(channel)) : Result<void>(std::unexpected(reply.error()));
  attached_ = outcome.has_value();
  if (!outcome) {
    if (!std::exchange(told_, true))
      log_line("device memory will not outlive this context: " + outcome.error().to_string());
    retry_ = loop_.after(retry_ns, [this] { attach(); });
  } else {
    told_ = false;
    if (reply->allocations != 0)
      log_line("device memory of the context before: " + std::to_string(reply->bytes) +
               " bytes in " + std::to_string(reply->allocations) + " pieces");
  }
  go_on();
}

}  // namespace aios::gpu
