#include "tools/aiosctl/instances/doctor_limits.hpp"

#include <unistd.h>

#include "abi/runtime/cgroup.hpp"

namespace aios::ctl {

namespace {

namespace pk = proto::kernel;

/// What a job gets that asks for every limit.
Result<std::uint32_t> ask(const Session& session) {
  AttachOptions attach;
  attach.job_name = "doctor-" + std::to_string(::getpid());
  attach.quota = {.memory_bytes = 1u << 30, .processes = 16, .cpu_millis = 1000};
  Operator attached = TRY(Operator::attach(session, attach));
  return TRY(attached.kernel().call<pk::JobInfo>({attached.kernel().job()})).reply.enforced;
}

}  // namespace

Result<std::vector<JobLimit>> job_limits(const Session* running) {
  std::uint32_t enforced = 0;
  std::string reason = "the instance's STATE/logs/kernel.log says why";
  if (running != nullptr) {
    enforced = TRY(ask(*running));
  } else {
    const cgroup::Tree tree = cgroup::Tree::create(cgroup::find_places_here());
    enforced = tree.limits();
    reason = tree.missing();
  }
  std::vector<JobLimit> limits{
      {"memory", "has no more memory of its own than its quota says",
       "may use up the machine's memory, but for regions"},
      {"cpus", "has no more than its share of the processors", "may keep every processor busy"},
      {"processes", "starts no more processes and threads than its quota says",
       "may start processes without end"}};
  constexpr std::uint32_t bits[] = {pk::enforced::memory, pk::enforced::cpu,
                                    pk::enforced::processes};
  for (std::size_t i = 0; i < limits.size(); ++i) {
    limits[i].enforced = (enforced & bits[i]) != 0;
    if (!limits[i].enforced) limits[i].reason = reason;
  }
  return limits;
}

}  // namespace aios::ctl
