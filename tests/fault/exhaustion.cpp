// Running out: of descriptors and memory in a server or the kernel, of a job's quotas, of contexts,
// of disk. What runs out is always given back; who went without must then get it.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "abi/lib/storage_client.hpp"
#include "abi/lib/task_client.hpp"
#include "abi/proto/echo.hpp"
#include "tests/fault/injector.hpp"

namespace aios::fault {

namespace {

constexpr std::uint64_t patience_ns = 20 * ns_per_s;

/// A limit of another process, lowered until the end of the scope; of one that ends, it goes along.
class Lowered {
 public:
  Lowered(pid_t pid, __rlimit_resource which, rlim_t value) : pid_(pid), which_(which) {
    if (::prlimit(pid_, which_, nullptr, &before_) != 0) return;
    rlimit lower = before_;
    lower.rlim_cur = std::min(value, before_.rlim_max);
    done_ = ::prlimit(pid_, which_, &lower, nullptr) == 0;
  }
  ~Lowered() {
    if (done_) ::prlimit(pid_, which_, &before_, nullptr);
  }
  Lowered(const Lowered&) = delete;
  bool done() const { return done_; }

 private:
  pid_t pid_;
  __rlimit_resource which_;
  rlimit before_{};
  bool done_ = false;
};

/// One above its highest descriptor: nothing can be opened but in gaps.
rlim_t descriptors_of(pid_t pid) {
  std::error_code failure;
  rlim_t count = 0;
  for (auto entry =
           std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", failure);
       !failure && entry != std::filesystem::directory_iterator(); entry.increment(failure))
    ++count;
  return count;
}

rlim_t address_space_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  rlim_t pages = 0;
  file >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

/// Attaches, connects to `name` and makes a null call.
Result<void> reach(System& system, const std::string& name, std::uint64_t timeout_ns) {
  const auto visitor = TRY(system.instance().attach());
  const auto client = TRY(visitor->client(name, 0));
  TRY(client->call<proto::Null>({}, Deadline::after(timeout_ns)));
  return {};
}

/// After the fault whoever asks is served again.
void expect_served(Scene& scene, const std::string& name) {
  if (const auto reached = reach(scene.system, name, patience_ns); !reached)
    scene.breach(name + " is not reached although nothing is short any more: " +
                 reached.error().to_string());
}

}  // namespace

/// The kernel, or a server, has no descriptor left while others connect to it.
Outcome exhaust_descriptors(Scene& scene, Parts harmed) {
  const auto part = static_cast<Part>(scene.below(static_cast<std::uint64_t>(Part::supervisor)));
  if ((harmed & bit(part)) != 0) return Outcome::none;
  const auto server = scene.system.server(name_of(part));
  if (!server) return Outcome::none;
  const bool of_kernel = scene.below(3) == 0;
  const pid_t pid = of_kernel ? scene.system.instance().kernel_pid() : server->pid;
  bool refused = false;
  {
    // Whoever connects meanwhile may be refused, and so may who needs the one that is short.
    const Disturbance disturbance(scene.ground.disturbances, all_parts, want);
    const Lowered limit(pid, RLIMIT_NOFILE, descriptors_of(pid));
    if (!limit.done()) return Outcome::none;
    for (int i = 0; i < 3; ++i)
      refused |= !reach(scene.system, server->name, 20 * ns_per_ms).has_value();
  }
  expect_served(scene, server->name);
  return refused ? Outcome::activated : Outcome::injected;
}

/// A server has no memory for more than it has. It refuses, or ends: then it is a kill.
Outcome exhaust_memory(Scene& scene, Part part, RecoveryTimes& recovery) {
  const auto server = scene.system.server(name_of(part));
  if (!server) return Outcome::none;
  bool refused = false;
  const Disturbance disturbance(scene.ground.disturbances,
                                bit(part) | (part == Part::scheduler ? bit(Part::contexts) : 0),
                                death | want);
  const std::uint64_t begin = now_ns();
  {
    const Lowered limit(server->pid, RLIMIT_AS, address_space_of(server->pid));
    if (!limit.done()) return Outcome::none;
    for (int i = 0; i < 3 && server->alive(); ++i)
      refused |= !reach(scene.system, server->name, 20 * ns_per_ms).has_value();
  }
  const bool ended = !server->alive();
  const auto served = scene.system.await_serving(server->name, Deadline::after(patience_ns));
  if (!served) {
    scene.breach(server->name +
                 " does not serve again after it had no memory: " + served.error().to_string());
    return Outcome::injected;
  }
  if (ended) recovery[server->name + ", no memory"].push_back(*served - begin);
  if (const auto noted = scene.system.note(server->name); !noted)
    scene.breach(server->name + ": " + noted.error().to_string());
  expect_served(scene, server->name);
  return refused || ended ? Outcome::activated : Outcome::injected;
}

/// A greedy job asks for memory until it is refused.
Outcome exhaust_region_quota(Scene& scene) {
  constexpr std::uint64_t quota = 8u << 20;
  constexpr std::uint64_t piece = 1u << 20;
  const auto visitor = scene.system.instance().attach(
      {.job_name = "greedy-memory", .quota = {.memory_bytes = quota}});
  if (!visitor) return Outcome::none;
  std::vector<Region> regions;
  for (std::uint64_t held = 0; held <= quota; held += piece) {
    auto region = Region::create((*visitor)->kernel(), piece, "greedy");
    if (region) {
      regions.push_back(*std::move(region));
      continue;
    }
    if (region.error().code() == Code::quota) return Outcome::activated;
    scene.breach("a region beyond the quota: " + region.error().to_string());
    return Outcome::injected;
  }
  scene.breach("a job got more memory than its quota");
  return Outcome::injected;
}

Outcome exhaust_handles(Scene& scene) {
  constexpr std::uint32_t quota = 200;
  const auto visitor =
      scene.system.instance().attach({.job_name = "greedy-handles", .quota = {.handles = quota}});
  if (!visitor) return Outcome::none;
  Kernel& kernel = (*visitor)->kernel();
  const auto region = Region::create(kernel, 4096, "greedy");
  if (!region) return Outcome::none;
  for (std::uint32_t i = 0; i <= quota; ++i) {
    const auto copy = kernel.duplicate(region->handle(), rights::info, 0);
    if (copy) continue;
    if (copy.error().code() == Code::quota) return Outcome::activated;
    scene.breach("a handle beyond the quota: " + copy.error().to_string());
    return Outcome::injected;
  }
  scene.breach("a job got more handles than its quota");
  return Outcome::injected;
}

Outcome exhaust_links(Scene& scene) {
  constexpr std::uint32_t quota = 24;
  const auto visitor =
      scene.system.instance().attach({.job_name = "greedy-links", .quota = {.links = quota}});
  if (!visitor) return Outcome::none;
  std::vector<std::unique_ptr<Client>> clients;
  for (std::uint32_t i = 0; i <= quota; ++i) {
    auto client = (*visitor)->client<proto::echo::Protocol>();
    if (!client) return Outcome::none;
    const auto reply = (*client)->call<proto::Null>({}, Deadline::after(call_timeout_ns));
    clients.push_back(*std::move(client));
    if (reply) continue;
    if (reply.error().code() == Code::quota) return Outcome::activated;
    // Under way, echo may hang by another fault.
    if (reply.error().code() != Code::timed_out && reply.error().code() != Code::peer_closed)
      scene.breach("a connection beyond the quota: " + reply.error().to_string());
    return Outcome::injected;
  }
  scene.breach("a job got more links than its quota");
  return Outcome::injected;
}

namespace {

/// A tenant of a job of its own, with one task that has run: its context is there.
struct GreedyTenant {
  std::unique_ptr<test::Visitor> visitor;
  std::unique_ptr<TaskLink> link;
  std::unique_ptr<TaskTenant> tenant;

  Result<std::uint32_t> run(System& system, const std::string& job,
                            std::span<const std::byte> module, Deadline deadline) {
    visitor = TRY(system.instance().attach({.job_name = job, .quota = {}}));
    Kernel& kernel = visitor->kernel();
    link = std::make_unique<TaskLink>(kernel, nullptr, TRY(kernel.startup("scheduler")).handle);
    tenant = std::make_unique<TaskTenant>(*link);
    TRY(wait_for<void>(*link,
                       [&](auto done) { tenant->open(kernel.job(), deadline, std::move(done)); }));
    const Region region = TRY(module_region(kernel, module));
    const auto codelet = TRY(wait_for<std::uint32_t>(*link, [&](auto done) {
      tenant->register_codelet(region.handle(), 0, module.size(), "count", "count",
                               proto::driver::backend::cpu, deadline, std::move(done));
    }));
    const auto task = make_task(1, codelet);
    TRY(wait_for<void>(*link, [&](auto done) {
      tenant->submit({&task, 1}, deadline, std::move(done));
    }));
    const auto done = TRY(wait_for<TaskTenant::Completions>(
        *link, [&](auto end) { tenant->completions(deadline, std::move(end)); }));
    return done.at(0).status;
  }
};

}  // namespace

/// More jobs than the driver keeps contexts for want one at once.
Outcome exhaust_contexts(Scene& scene) {
  constexpr int most = 24;
  std::ifstream file(scene.ground.task_module, std::ios::binary);
  const std::string module{std::istreambuf_iterator<char>(file), {}};
  const std::uint64_t begin = now_ns();
  const Disturbance disturbance(scene.ground.disturbances,
                                parts({Part::scheduler, Part::cpu, Part::contexts}), death | want);
  std::vector<GreedyTenant> tenants(most);
  for (int i = 0; i < most; ++i) {
    const auto status = tenants[static_cast<std::size_t>(i)].run(
        scene.system, "greedy-" + std::to_string(i), std::as_bytes(std::span(module)),
        Deadline::after(patience_ns));
    if (status && *status == 0) continue;
    const Code code = status ? static_cast<Code>(*status) : status.error().code();
    if (code == Code::quota) return Outcome::activated;
    if (!scene.ground.disturbances.excuse(parts({Part::scheduler, Part::cpu, Part::contexts}), code,
                                          begin, 0))
      scene.breach("a context beyond what the driver keeps: " + std::string(code_name(code)));
    return Outcome::injected;
  }
  return Outcome::injected;
}

/// The file system of the instance is full, as root sees it, too. Puts are refused, all else goes
/// on, and when there is room again so do puts.
Outcome fill_disk(Scene& scene) {
  if (!scene.small_disk) return Outcome::none;
  const std::string folder = scene.system.instance().state();
  const std::string path = folder + "/filler";
  bool refused = false;
  {
    const Disturbance disturbance(scene.ground.disturbances,
                                  parts({Part::storage, Part::mapreduce}), codes({Code::no_space}));
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    struct statvfs space {};
    if (!file.valid() || ::fstatvfs(file.get(), &space) != 0) return Outcome::none;
    off_t size = 0;
    for (auto piece = static_cast<off_t>(space.f_bavail * space.f_frsize); piece >= 4096;
         piece /= 2)
      if (::fallocate(file.get(), 0, size, piece) == 0) size += piece;
    const auto visitor = scene.system.instance().attach();
    auto client =
        visitor ? (*visitor)->client<proto::storage::Protocol>() : std::unexpected(visitor.error());
    if (client) {
      StorageClient storage(*std::move(client));
      // Small ones lie in the metadata, which has no room of its own as the data file may have.
      constexpr std::uint64_t bytes = 10'000;
      const auto region = Region::create((*visitor)->kernel(), bytes, "filler");
      for (int i = 0; i < 8 && region && !refused; ++i) {
        const auto put = storage.put("campaign/filler", {*region, true, 0, bytes},
                                     Deadline::after(call_timeout_ns));
        refused = !put && put.error().code() == Code::no_space;
      }
    }
    ::unlink(path.c_str());
  }
  return refused ? Outcome::activated : Outcome::injected;
}

}  // namespace aios::fault
