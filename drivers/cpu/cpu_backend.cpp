#include "drivers/cpu/cpu_backend.hpp"

#include <sys/resource.h>

namespace aios::cpu {

Result<std::shared_ptr<device::Work>> CpuBackend::prepare(
    const proto::context::Run::Request& request, const device::BufferTable& buffers) {
  const Codelet* codelet = TRY(modules_.codelet(request.codelet));
  return TRY(CodeletRun::create(*codelet, request, buffers, threads_, work_memory_));
}

std::uint64_t CpuBackend::peak_memory_bytes() const {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace aios::cpu
