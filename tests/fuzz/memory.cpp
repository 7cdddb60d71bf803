#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "drivers/gpu/memory/memory_owner.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;

/// Memory of the host in place of a device's.
class HostMemory final : public gpu::MemoryMaker {
 public:
  std::uint64_t granularity() const override { return 1 << 16; }
  Result<Number> make(std::uint64_t bytes) override {
    Fd made(::memfd_create("fuzz-memory", MFD_CLOEXEC));
    if (!made.valid() || ::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0)
      return error(Code::no_memory, "no memory in place of a device's");
    made_.emplace(++last_, std::move(made));
    return last_;
  }
  Result<Fd> share(Number number) override { return made_.at(number).duplicate(); }
  void release(Number number) override { made_.erase(number); }

 private:
  std::map<Number, Fd> made_;
  Number last_ = 0;
};

struct MemoryHost : fuzz::Host {
  explicit MemoryHost(fuzz::Place place)
      : owner(gpu::MemoryOwner::create(place.kernel, place.loop, memory, 1 << 20).value()),
        server(place.kernel, place.loop, *owner) {
    (void)server.listen(place.port);
  }
  HostMemory memory;
  std::unique_ptr<gpu::MemoryOwner> owner;
  Server<proto::memory::Protocol, gpu::MemoryOwner> server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::memory::Protocol, MemoryHost)
