#include "kernel/region.hpp"

#include <signal.h>
#include <sys/mman.h>

#include <cerrno>

#include "abi/proto/link.hpp"
#include "kernel/limits.hpp"
#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

namespace {

Result<std::shared_ptr<Region>> make(World& world, Process& process, std::uint64_t size_bytes,
                                     RegionKind kind = RegionKind::data, bool freezable = false) {
  return Region::create(world.registry, process, Name::from("r"), size_bytes, kind, freezable);
}

/// What the child says that freezes it.
sys::ExitStatus freeze(const Region& region) {
  const auto child = sys::freeze_in_child(region.writable());
  REQUIRE(child);
  REQUIRE(sys::wait_exit(child->pidfd, Deadline::after(20 * ns_per_s)));
  sys::ExitStatus status;
  REQUIRE(sys::reap(child->pidfd, status));
  return status;
}

}  // namespace

TEST_CASE("A region is charged to its creator's job until its last handle is closed") {
  World world;
  const auto job = world.job("job");
  const auto creator = world.process("creator", job);
  const auto other = world.process("other");
  const auto pages = job->used().memory_bytes;
  auto region = *make(world, *creator, 5000);
  CHECK(region->size_bytes() == 8192);
  const Handle a = *creator->handles.install(Reference(region, rights::all, rights::all));
  const Handle b = *other->handles.install(Reference(region, rights::all, rights::all));
  REQUIRE(job->keep("kept", Reference(region, 0, 0)));
  region.reset();
  CHECK(job->used().memory_bytes == pages + 8192);
  CHECK(creator->region_bytes == pages + 8192);
  REQUIRE(creator->handles.close(a));
  REQUIRE(other->handles.close(b));
  CHECK(job->used().memory_bytes == pages + 8192);
  REQUIRE(job->keep("kept", {}));
  CHECK(job->used().memory_bytes == pages);
  CHECK(world.root->used().memory_bytes == 2 * pages);
}

TEST_CASE("A region outlives its creator while another process has a handle") {
  World world;
  const auto job = world.job("job");
  auto creator = world.process("creator", job);
  const auto other = world.process("other");
  const Handle handle =
      *other->handles.install(Reference(*make(world, *creator, 4096), rights::info, 0));
  creator->die({});
  creator.reset();
  CHECK(job->used().memory_bytes == 4096);
  REQUIRE(other->handles.close(handle));
  CHECK(job->used().memory_bytes == 0);
}

TEST_CASE("Regions of no size, beyond the quota or beyond any number are refused, uncharged") {
  World world;
  const auto creator = world.process("creator");
  const auto before = world.root->used().memory_bytes;
  CHECK(code_of(make(world, *creator, 0)) == Code::invalid_argument);
  CHECK(code_of(make(world, *creator, ample.memory_bytes)) == Code::quota);
  CHECK(code_of(make(world, *creator, ~0ull)) == Code::quota);
  CHECK(world.root->used().memory_bytes == before);
  CHECK(world.registry.regions.size() == 2);
}

TEST_CASE("A data region is filled in slices, and its memory is given back in slices") {
  World world;
  const auto creator = world.process("creator");
  auto region = *make(world, *creator, limits::slice_bytes + 1);
  CHECK(*region->allocate_slice() == false);
  CHECK(*region->allocate_slice() == true);
  region.reset();
  REQUIRE(world.registry.released.size() == 1);
  CHECK(world.registry.released.front().size_bytes > limits::slice_bytes);
}

TEST_CASE("A sealed control region keeps its writer's mapping and admits no other") {
  World world;
  const auto creator = world.process("creator");
  const auto region = *make(world, *creator, 4096, RegionKind::control);
  const Fd writable = *region->writable().duplicate();
  const Mapping mapping = *Mapping::map(writable, 4096, Mapping::Access::read_write);
  REQUIRE(region->seal_writer());
  mapping.data()[0] = std::byte{7};
  CHECK_FALSE(Mapping::map(writable, 4096, Mapping::Access::read_write));
  const auto reader = Mapping::map(region->read_only(), 4096, Mapping::Access::read);
  REQUIRE(reader);
  CHECK(reader->data()[0] == std::byte{7});
  CHECK(::mprotect(reader->data(), 4096, PROT_READ | PROT_WRITE) == -1);
}

TEST_CASE("A data region can be sealed by nobody") {
  World world;
  const auto creator = world.process("creator");
  const auto region = *make(world, *creator, 4096);
  CHECK_FALSE(sys::seal(region->writable(), true));
}

TEST_CASE("A region that was made freezable is frozen once its file is, whatever the child says") {
  World world;
  const auto creator = world.process("creator");
  const auto region = *make(world, *creator, 4096, RegionKind::data, true);
  CHECK(region->freezable());
  CHECK(code_of(region->end_freeze({EBUSY, false})) == Code::busy);
  CHECK(code_of(region->end_freeze({SIGKILL, true})) == Code::busy);
  CHECK(code_of(region->end_freeze({EPERM, false})) == Code::denied);
  CHECK(region->region_kind() == RegionKind::data);
  CHECK(region->writable().valid());
  sys::ExitStatus status;
  {
    const auto writer = Mapping::map(region->writable(), 4096, Mapping::Access::read_write);
    REQUIRE(writer);
    status = freeze(*region);
    CHECK(status.code == EBUSY);
    CHECK_FALSE(sys::is_frozen(region->read_only()));
  }
  status = freeze(*region);
  CHECK(status.code == 0);
  CHECK(sys::is_frozen(region->read_only()));
  CHECK(region->end_freeze({SIGKILL, true}));
  CHECK(region->region_kind() == RegionKind::frozen);
  CHECK_FALSE(region->writable().valid());
  CHECK(region->end_freeze(status));
}

TEST_CASE("Memory that its seals forbid to punch is released all the same, and says so") {
  World world;
  const auto creator = world.process("creator");
  const auto before = world.root->used().memory_bytes;
  auto region = *make(world, *creator, limits::slice_bytes + 1, RegionKind::data, true);
  REQUIRE(*region->allocate_slice() == false);
  REQUIRE(*region->allocate_slice() == true);
  REQUIRE(freeze(*region).code == 0);
  REQUIRE(region->end_freeze({}));
  region.reset();
  CHECK(world.root->used().memory_bytes == before);
  REQUIRE(world.registry.released.size() == 1);
  ReleasedMemory& released = world.registry.released.front();
  CHECK(released.size_bytes > limits::slice_bytes);
  CHECK(released.file.valid());
  CHECK_FALSE(sys::deallocate(released.file, 0, limits::slice_bytes));
  const auto closer = sys::close_in_child(std::move(released.file));
  REQUIRE(closer);
  REQUIRE(sys::wait_exit(closer->pidfd, Deadline::after(20 * ns_per_s)));
  sys::ExitStatus status;
  CHECK(sys::reap(closer->pidfd, status));
  CHECK(status.code == 0);
}
