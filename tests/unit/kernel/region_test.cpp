#include "kernel/region.hpp"

#include <sys/mman.h>

#include "abi/proto/link.hpp"
#include "kernel/limits.hpp"
#include "tests/unit/kernel/fixture.hpp"

using namespace aios;
using namespace aios::kernel;

namespace {

Result<std::shared_ptr<Region>> make(World& world, Process& process, std::uint64_t size_bytes,
                                     RegionKind kind = RegionKind::data) {
  return Region::create(world.registry, process, Name::from("r"), size_bytes, kind);
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
