// Processes that end, by themselves or by SIGKILL, at every step of attach, connect, call, transfer
// and close. Each is a process of its own: this program again, told where to stop.
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "abi/proto/echo.hpp"
#include "abi/proto/storage.hpp"
#include "tests/hostile/peer.hpp"

extern char** environ;

namespace aios::hostile {
namespace {

namespace rights = proto::kernel::rights;

/// More than die_at has; those above its last are not counted.
constexpr unsigned steps = 21;
constexpr int no_such_step = 42;
constexpr std::uint64_t region_bytes = 8u << 20;

class Steps {
 public:
  Steps(unsigned at, bool by_signal) : left_(at), by_signal_(by_signal) {}
  void here() {
    if (left_-- != 0) return;
    if (by_signal_) (void)::raise(SIGKILL);
    ::_exit(0);
  }

 private:
  unsigned left_;
  bool by_signal_;
};

/// For a call whose reply is never read, or read after the step.
template <class M>
Code call_around(RawKernel& kernel, Steps& steps_left, const typename M::Request& request,
                 typename M::Reply* reply, std::vector<Fd>* descriptors = nullptr) {
  kernel.send<M>(request);
  steps_left.here();
  std::byte body[wire::max_packet_bytes];
  std::vector<Fd> fds;
  const Code code = kernel.receive(body, fds);
  if (code == Code::ok && reply != nullptr)
    std::memcpy(reply, body + sizeof(wire::KernelReply), sizeof *reply);
  if (descriptors != nullptr) *descriptors = std::move(fds);
  return code;
}

/// Half a message, a whole one, a rung one, an answered one.
void die_in_call(Steps& at, RawLink& link, Random& random, const Target& target) {
  const MethodShape& shape = target.methods[random.below(target.methods.size())];
  std::vector<std::byte> request(shape.request_bytes);
  const std::uint64_t next =
      link.prepare({shape.opcode, static_cast<std::uint16_t>(request.size()), 1}, request);
  at.here();
  link.show();
  link.tail = next;
  at.here();
  link.ring();
  at.here();
  (void)link.await(true, 1000);
  at.here();
}

void die_in_transfer(Steps& at, RawKernel& kernel, RawLink& link, Handle region,
                     const Target& target) {
  wire::LinkSend::Request send{};
  send.link = link.handle();
  send.count = 1;
  send.entries[0] = {region, static_cast<std::uint32_t>(wire::ObjectType::region), rights::map_read,
                     0, 1};
  wire::LinkSend::Reply sent{};
  (void)call_around<wire::LinkSend>(kernel, at, send, &sent);
  at.here();
  // Named, and not waited for: the server maps and reads memory of a process that is gone.
  const std::uint16_t opcode =
      target.name == "storage" ? proto::storage::AttachRegion::opcode : proto::echo::Sum::opcode;
  std::vector<std::byte> request(target.name == "storage" ? 16 : 8);
  std::memcpy(request.data(), &sent.handles[0], sizeof sent.handles[0]);
  link.publish({opcode, static_cast<std::uint16_t>(request.size()), 2}, request);
  link.ring();
  at.here();
  (void)link.await(true, 1000);
  at.here();
}

/// Runs this program to die at `step`; true when it did.
bool run_to_death(Peer& peer, unsigned step) {
  const std::string seed = std::to_string(peer.random.any());
  const std::string where = std::to_string(step);
  const char* argv[] = {"hostile-peer", "--socket",   peer.socket_path.c_str(),
                        "--seed",       seed.c_str(), "--die-at",
                        where.c_str(),  nullptr};
  pid_t pid = 0;
  if (::posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, const_cast<char**>(argv), environ) !=
      0)
    return false;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
  }
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (WIFEXITED(status) && WEXITSTATUS(status) == no_such_step) return false;
  breach("a process that should die at step " + where + " ended otherwise");
}

std::uint32_t processes_of_own_job(RawKernel& kernel) {
  return kernel.call<wire::JobInfo>({kernel.job()}).reply.used.processes;
}

void death(Peer& peer) {
  RawKernel& kernel = peer.kernel();
  const std::uint32_t before = processes_of_own_job(kernel);
  if (!run_to_death(peer, static_cast<unsigned>(peer.random.below(steps)))) return;
  // The kernel has noticed when the job has no more processes than before.
  for (int i = 0; processes_of_own_job(kernel) > before; ++i) {
    if (i == patience_ms) breach("a process that died is still counted in its job");
    kernel.wait_bell(1);
  }
  peer.counts.done(Kind::death, true);
}

}  // namespace

void die_at(const std::string& socket_path, std::uint64_t seed, unsigned step) {
  Random random(seed);
  Steps at(step, random.one_in(2));
  auto targets = all_targets();
  const Target& target = targets[random.below(targets.size())];
  auto kernel = RawKernel::connect(socket_path);
  if (kernel == nullptr) breach("the kernel refuses connections");
  at.here();
  if (!kernel->hello("hostile")) breach("the kernel refuses a greeting");
  at.here();
  if (!kernel->confirm()) breach("the kernel refuses `ready`");
  const Handle port = kernel->startup(target.name);
  at.here();
  wire::RegionCreate::Reply region{};
  (void)call_around<wire::RegionCreate>(*kernel, at, {region_bytes, wire::Name::from("dying")},
                                        &region);
  at.here();
  {
    // A connection that is asked for, and its reply with three descriptors never read.
    wire::PortConnect::Reply connected{};
    (void)call_around<wire::PortConnect>(*kernel, at, {port, target.version}, &connected);
    kernel->close(connected.link);
  }
  auto link = RawLink::begin(*kernel, port, target.version);
  if (link == nullptr) breach("the kernel refuses a connection to " + target.name);
  at.here();
  (void)link->confirm();
  at.here();
  if (!link->await_open()) breach(target.name + " does not accept");
  at.here();
  die_in_call(at, *link, random, target);
  if (!link->closed()) die_in_transfer(at, *kernel, *link, region.region, target);
  if (target.name == "echo") {
    const std::uint64_t key = random.any();
    link->publish({proto::echo::Hold::opcode, sizeof key, 3}, std::as_bytes(std::span(&key, 1)));
    (void)link->await(true, 1000);
    at.here();
  }
  (void)call_around<wire::HandleClose>(*kernel, at, {link->handle()}, nullptr);
  at.here();
  std::_Exit(no_such_step);
}

std::vector<WeightedAttack> death_attacks() {
  return {{"death", death, 3}};
}

}  // namespace aios::hostile
