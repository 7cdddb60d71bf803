#include "abi/runtime/kernel.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "abi/runtime/socket.hpp"

namespace aios {

namespace pk = proto::kernel;

namespace {

/// Why a greeting was not answered, to those to whom the name of the call means nothing: it is the
/// first one, and no other.
Status refusal(const Status& why) {
  const std::string prefix = std::string(pk::Hello::name) + ": ";
  std::string text = why.message();
  if (text.starts_with(prefix)) text.erase(0, prefix.size());
  if (why.code() == Code::version_mismatch)
    text += ", and this program version " + std::to_string(pk::abi_version) +
            "; build or install both from the same sources, and boot anew";
  return Status(why.code(), text);
}

}  // namespace

Result<std::unique_ptr<Kernel>> Kernel::attach_child() {
  std::unique_ptr<Kernel> kernel(new Kernel);
  kernel->socket_ = Fd(pk::child_socket_fd);
  if (::fcntl(pk::child_socket_fd, F_SETFD, FD_CLOEXEC) != 0)
    return error(Code::unreachable, "this program is started by AIOS itself (no kernel socket)");
  TRY(kernel->introduce({}));
  return kernel;
}

Kernel::~Kernel() {
  if (socket_.get() == pk::child_socket_fd) (void)socket_.release();
}

Result<std::unique_ptr<Kernel>> Kernel::attach(const std::string& socket_path,
                                               const AttachOptions& options) {
  std::unique_ptr<Kernel> kernel(new Kernel);
  const auto introduced = [&]() -> Result<void> {
    kernel->answer_by_ = Deadline::after(answer_ns);
    kernel->socket_ = TRY(connect_seqpacket(socket_path, kernel->answer_by_));
    return kernel->introduce(options);
  }();
  kernel->answer_by_ = Deadline::never();
  if (introduced) return kernel;
  if (introduced.error().code() != Code::timed_out) return std::unexpected(introduced.error());
  return error(Code::unreachable,
               socket_path + ": the kernel did not answer within " +
                   std::to_string(answer_ns / ns_per_s) +
                   " s; is it stopped? (kill -CONT has a stopped process go on)");
}

Result<void> Kernel::introduce(const AttachOptions& options) {
  if (!pk::Name::fits(options.job_name))
    return error(Code::invalid_argument, "job name is longer than 31 bytes: " + options.job_name);
  pk::Hello::Request request{pk::abi_version, options.confine ? 1u : 0u,
                             pk::Name::from(options.job_name), options.quota};
  Result<Called<pk::Hello>> answer = call<pk::Hello>(request);
  if (!answer) return std::unexpected(refusal(answer.error()));
  Called<pk::Hello>& hello = *answer;
  if (hello.fds.size() != 3)
    return error(Code::quota, "this process has no descriptors left to attach with");
  hello_ = hello.reply;
  status_page_ = TRY(Mapping::map(hello.fds[0], proto::page_bytes, Mapping::Access::read_write));
  kernel_page_ = TRY(Mapping::map(hello.fds[1], proto::page_bytes, Mapping::Access::read));
  status_page_.exclude_from_fork();
  kernel_page_.exclude_from_fork();
  bell_ = std::move(hello.fds[2]);
  TRY(call<pk::Ready>({}));
  return load_startup();
}

Result<void> Kernel::load_startup() {
  std::uint64_t cursor = 0;
  do {
    const auto page = TRY(call<pk::Startup>({cursor})).reply;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(page.count, std::size(page.entries));
         ++i) {
      const pk::Startup::Entry& e = page.entries[i];
      startup_.push_back({std::string(e.label.view()), e.handle, static_cast<ObjectType>(e.type),
                          e.use, e.grant, e.kept != 0});
    }
    cursor = page.next;
  } while (cursor != 0);
  return {};
}

Result<StartupHandle> Kernel::startup(std::string_view label) const {
  for (const StartupHandle& handle : startup_)
    if (handle.label == label) return handle;
  return error(Code::not_found,
               "no handle labelled '" + std::string(label) + "' was given to this process");
}

Result<void> Kernel::call_raw(std::uint32_t opcode, const char* name,
                              std::span<const std::byte> request, std::span<std::byte> reply,
                              std::vector<Fd>& fds) {
  const std::lock_guard lock(mutex_);
  if (lost_) return error(Code::peer_closed, "the AIOS kernel is gone");
  const pk::CallHeader header{opcode, static_cast<std::uint32_t>(request.size()), next_call_++};
  iovec parts[2] = {{const_cast<pk::CallHeader*>(&header), sizeof header},
                    {const_cast<std::byte*>(request.data()), request.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t sent = 0;
  do sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  // What the kernel said before it hung up, such as why it refuses this process, is still there.
  if (sent < 0 && errno != EPIPE) {
    lost_ = true;
    return error(Code::peer_closed, std::string("the AIOS kernel went away before ") + name);
  }
  return receive(name, header.call_id, reply, fds);
}

/// timed_out when it did not come while the kernel was to answer.
Result<void> Kernel::await_answer() const {
  if (answer_by_.is_never()) return {};
  pollfd socket{socket_.get(), POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&socket, 1, answer_by_.poll_timeout_ms());
  while (ready < 0 && errno == EINTR);
  if (ready == 0) return error(Code::timed_out);
  return {};
}

Result<void> Kernel::receive(const char* name, std::uint64_t call_id, std::span<std::byte> reply,
                             std::vector<Fd>& fds) {
  pk::KernelReply head;
  ReceivedPacket packet;
  std::byte body[pk::max_packet_bytes];
  TRY(await_answer());
  Result<void> got = receive_packet(socket_.get(), body, 0, packet);
  if (!got || packet.bytes < sizeof head) {
    lost_ = true;
    return error(Code::peer_closed, std::string("the AIOS kernel went away during ") + name);
  }
  std::memcpy(&head, body, sizeof head);
  // Descriptors that this process has no room for are lost; the rest of the answer counts.
  if (packet.truncated) packet.fds.clear();
  if (head.call_id != call_id || (!packet.truncated && head.fd_count != packet.fds.size())) {
    lost_ = true;
    return error(Code::protocol_error,
                 std::string("the AIOS kernel's answer to ") + name + " is not one");
  }
  if (head.status != 0)
    return error(static_cast<Code>(head.status),
                 std::string(name) + ": " + std::string(head.text.view()));
  if (packet.bytes != sizeof head + reply.size())
    return error(Code::version_mismatch,
                 std::string(name) + ": this kernel answers in another layout");
  std::memcpy(reply.data(), body + sizeof head, reply.size());
  fds = std::move(packet.fds);
  return {};
}

proto::StatusPage& Kernel::status_page() const {
  return *reinterpret_cast<proto::StatusPage*>(status_page_.data());
}

void Kernel::drain_bell() const {
  std::byte buffer[512];
  while (::read(bell_.get(), buffer, sizeof buffer) > 0) {
  }
}

bool Kernel::lost() {
  const std::lock_guard lock(mutex_);
  return lost_;
}

std::uint64_t Kernel::signal_count() const {
  const auto* page = reinterpret_cast<const proto::KernelPage*>(kernel_page_.data());
  return page->signals.load(std::memory_order_acquire);
}

void Kernel::drop_signals() {
  drain_bell();
  for (;;) {
    const auto raised = call<pk::SignalNext>({});
    if (!raised || raised->reply.handle == 0) return;
  }
}

void Kernel::close(Handle handle) {
  // Fails only for a handle that is gone already, which is what the caller wants; and then there
  // may be no memory to say so.
  try {
    if (handle != 0) (void)call<pk::HandleClose>({handle});
  } catch (const std::bad_alloc&) {
  }
}

Result<Handle> Kernel::duplicate(Handle handle, std::uint32_t use, std::uint32_t grant) {
  return TRY(call<pk::HandleDuplicate>({handle, use, grant})).reply.handle;
}

namespace {

Result<Called<pk::RegionMap>> descriptor_of(Kernel& kernel, Handle handle, Mapping::Access access) {
  const bool writable = access == Mapping::Access::read_write;
  auto mapped = TRY(kernel.call<pk::RegionMap>({handle, writable ? 1u : 0u, 0}));
  if (mapped.fds.size() != 1)
    return error(Code::quota, "this process has no descriptor left to map a region");
  return mapped;
}

Result<Mapping> map_region(Kernel& kernel, Handle handle, Mapping::Access access) {
  const auto mapped = TRY(descriptor_of(kernel, handle, access));
  return Mapping::map(mapped.fds[0], mapped.reply.size_bytes, access);
}

}  // namespace

Result<Region> Region::create(Kernel& kernel, std::uint64_t size_bytes, std::string_view name,
                              const RegionOptions& options) {
  using HugePages = RegionOptions::HugePages;
  pk::RegionCreate::Request request{size_bytes, pk::Name::from(name), options.freezable ? 1u : 0u,
                                    0, options.nodes != 0 ? options.nodes : numa_node_here()};
  const std::uint64_t over = size_bytes % huge_page_bytes;
  if (options.huge_pages != HugePages::none && over != 0)
    request.size_bytes += std::min(huge_page_bytes - over, UINT64_MAX - size_bytes);
  auto created = kernel.call<pk::RegionCreate>(request);
  if (!created && options.nodes == 0 && created.error().code() == Code::invalid_argument) {
    // A node may have processors but no memory, or none that the kernel may take.
    request.numa_nodes = 0;
    created = kernel.call<pk::RegionCreate>(request);
  }
  if (!created) return std::unexpected(std::move(created).error());
  Region region = TRY(map(kernel, created->reply.region, Mapping::Access::read_write));
  if (options.huge_pages == HugePages::none) return region;
  if (auto put = use_huge_pages(region.bytes()); !put && options.huge_pages == HugePages::only)
    return std::unexpected(std::move(put).error());
  return region;
}

Result<Region> Region::map(Kernel& kernel, Handle handle, Mapping::Access access) {
  Region region;
  region.kernel_ = &kernel;
  region.handle_ = handle;
  region.mapping_ = TRY(map_region(kernel, handle, access));
  region.access_ = access;
  return region;
}

Result<void> Region::freeze() {
  if (!valid()) return error(Code::invalid_argument, "the region is not mapped");
  // For the way back. When it is needed there may be no descriptor left.
  const auto as_before = TRY(descriptor_of(*kernel_, handle_, access_));
  // Read-only first: with it this process is no writer, and its readers do not notice.
  TRY(mapping_.replace(TRY(map_region(*kernel_, handle_, Mapping::Access::read))));
  // At once: what follows may find no memory, and then it stays so.
  const Mapping::Access before = std::exchange(access_, Mapping::Access::read);
  const auto frozen = kernel_->call<pk::RegionFreeze>({handle_});
  if (frozen) return {};
  auto back = Mapping::map(as_before.fds[0], size(), before);
  if (back && mapping_.replace(*std::move(back))) access_ = before;
  return std::unexpected(frozen.error());
}

Result<RegionKind> Region::kind() const {
  if (!valid()) return error(Code::invalid_argument, "the region is not mapped");
  return static_cast<RegionKind>(TRY(kernel_->call<pk::HandleInfo>({handle_})).reply.region_kind);
}

Region::Region(Region&& other) noexcept
    : kernel_(other.kernel_),
      handle_(std::exchange(other.handle_, 0)),
      mapping_(std::move(other.mapping_)),
      access_(other.access_) {}

Region& Region::operator=(Region&& other) noexcept {
  if (this != &other) {
    reset();
    kernel_ = other.kernel_;
    handle_ = std::exchange(other.handle_, 0);
    mapping_ = std::move(other.mapping_);
    access_ = other.access_;
  }
  return *this;
}

void Region::reset() {
  mapping_.reset();
  if (kernel_ != nullptr) kernel_->close(std::exchange(handle_, 0));
}

namespace {

/// Of the user, where the environment does not say it.
std::string home_folder() {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return home;
  passwd entry{};
  passwd* found = nullptr;
  char text[4096];
  const int failure = ::getpwuid_r(::getuid(), &entry, text, sizeof text, &found);
  return failure == 0 && found != nullptr ? found->pw_dir : "";
}

/// Or whoever does is too busy for more.
bool somebody_listens(const std::string& path) {
  const auto connected = connect_seqpacket(path, Deadline::after(0));
  return connected || connected.error().code() == Code::timed_out;
}

}  // namespace

std::string default_state_folder() {
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return std::string(state) + "/aios";
  return home_folder() + "/.local/state/aios";
}

std::string default_socket_path(const std::string& state_folder) {
  if (const char* path = std::getenv("AIOS_SOCKET"); path != nullptr && *path != '\0') return path;
  const std::string own = state_folder + "/aios.sock";
  if (::access(system_socket_path, F_OK) != 0 || somebody_listens(own)) return own;
  return system_socket_path;
}

}  // namespace aios
