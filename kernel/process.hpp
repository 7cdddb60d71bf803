// A process: a child that the kernel spawned, or an outside program that attached. It has a job, a
// handle table, its pages, and indices for its links. When it dies all of that goes at once; the
// object stays for those who hold a handle to it. And a spawner, which starts processes of one
// kind.
#pragma once

#include <bitset>
#include <optional>

#include "abi/proto/link.hpp"
#include "kernel/handle_table.hpp"
#include "kernel/limits.hpp"
#include "kernel/region.hpp"
#include "kernel/sys_linux.hpp"

namespace aios::kernel {

class Process final : public Object, public std::enable_shared_from_this<Process> {
 public:
  static constexpr ObjectType object_type = ObjectType::process;
  /// Of a handle that spawning gives.
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::wait | rights::manage | rights::duplicate | rights::send;
  enum class Kind { child, outside };

  Process(Registry& registry, std::uint64_t id, Kind kind, const Name& name)
      : Object(object_type, id, name),
        handles([this] { signalled(); }),
        registry_(registry),
        kind_(kind) {}
  /// Handles go first: what they end still uses the pages.
  ~Process() override { handles.clear(); }
  bool is_outside() const { return kind_ == Kind::outside; }
  std::uint64_t detail() const override { return static_cast<std::uint64_t>(pid); }

  /// Takes its place in a job, once, before anything else is asked of it. denied when the job was
  /// killed; quota.
  Result<void> join(std::shared_ptr<Job> job);
  const std::shared_ptr<Job>& job() const { return job_; }
  bool joined() const { return job_ != nullptr; }

  struct StartupHandle {
    std::string label;
    Handle handle;
    bool kept;
  };
  /// Installs a handle and lists it in `startup`. quota.
  Result<void> give(std::string_view label, Reference reference, bool kept);
  const std::vector<StartupHandle>& startup() const { return startup_; }

  /// Makes status page, kernel page and kernel doorbell. quota; no_memory.
  Result<void> open_pages();
  bool has_pages() const { return kernel_bell_.valid(); }
  /// The status page is mapped. denied when its owner prevented the seal.
  Result<void> seal_status_page() { return status_page_->seal_writer(); }
  bool ready() const { return has_pages() && !status_page_->writable().valid(); }
  const Region& status_page() const { return *status_page_; }
  /// What it says of its own confinement; 0 before that.
  std::uint64_t sandbox() const;
  const Region& kernel_page() const { return *kernel_page_; }
  const sys::Doorbell& kernel_bell() const { return kernel_bell_; }

  /// An unused bit of the kernel page, cleared. quota.
  Result<std::uint32_t> take_link_index();
  void release_link_index(std::uint32_t index) { link_indices_.reset(index); }
  void mark_link_closed(std::uint32_t index);
  std::uint32_t link_count() const { return static_cast<std::uint32_t>(link_indices_.count()); }

  /// The connection is over.
  void close_socket();
  /// Releases all it holds and raises `exited`. Once.
  void die(sys::ExitStatus status);
  bool alive() const { return alive_; }
  const sys::ExitStatus& exit_status() const { return exit_status_; }
  std::uint32_t standing_signals() const override { return alive_ ? 0 : signal::exited; }

  // Facts, set by who makes it.
  pid_t pid = 0;
  uid_t uid = 0;
  proto::kernel::PeerRole role = proto::kernel::PeerRole::child;
  std::uint64_t epoch = 0;
  std::uint64_t started_ns = 0;
  std::uint64_t region_bytes = 0;  ///< kept by Region
  bool namespaces = false;
  Fd pidfd;
  Fd socket;  ///< the kernel's end
  bool socket_refuses_files = false;
  std::optional<std::uint64_t> awaited_call;  ///< one that is answered later

  HandleTable handles;

 private:
  proto::KernelPage& page() const {
    // A page of zeros is a KernelPage of zeros, and nobody else writes it.
    return *reinterpret_cast<proto::KernelPage*>(kernel_page_mapping_.data());
  }
  void signalled();

  Registry& registry_;
  Kind kind_;
  std::shared_ptr<Job> job_;
  Charge charge_;
  std::vector<StartupHandle> startup_;
  std::shared_ptr<Region> status_page_;
  std::shared_ptr<Region> kernel_page_;
  Mapping kernel_page_mapping_;
  sys::Doorbell kernel_bell_;
  std::bitset<limits::links_per_process> link_indices_;
  bool alive_ = true;
  sys::ExitStatus exit_status_;
};

/// What a new process runs. Opened once, so it cannot be exchanged later.
struct SpawnImage {
  proto::kernel::Profile profile = proto::kernel::Profile::open;
  std::string path;
  Fd fd;
};

/// The permission to start one image under one profile on behalf of any job that is shown with
/// `act`.
class Spawner final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::spawner;
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::duplicate | rights::send | rights::spawn;

  Spawner(std::uint64_t id, const Name& name, SpawnImage image)
      : Object(object_type, id, name), image(std::move(image)) {}

  const SpawnImage image;
};

}  // namespace aios::kernel
