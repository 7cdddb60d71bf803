// What the GPU backend keeps on a device, and when it copies: over a device that only takes notes.
#include "drivers/gpu/gpu_backend.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <optional>

#include "abi/include/aios/codelet.h"
#include "tests/unit/device/test_support.hpp"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using device::Buffer;
using device::BufferTable;

namespace {

constexpr std::size_t page = 4096;

/// Memory that outlives contexts: what marks there are, by key.
struct Kept {
  std::shared_ptr<ContentMark> mark(const MemoryKey& key) {
    const auto known = std::ranges::find(keys, key);
    const auto slot = static_cast<std::uint32_t>(known - keys.begin());
    if (known == keys.end()) keys.push_back(key);
    return std::make_shared<ContentMark>(ledger,
                                         reinterpret_cast<std::uint32_t*>(ledger->data())[slot]);
  }
  std::shared_ptr<const Mapping> ledger = std::make_shared<const Mapping>(
      *Mapping::map(device::test::make_memory(page), page, Mapping::Access::read_write));
  std::vector<MemoryKey> keys;
};

/// Holds `room` bytes; remembers which buffers of its last launch it was told to fetch.
class Notes final : public Gpu {
 public:
  struct Held final : DeviceBuffer {
    Held(Notes& notes, std::size_t bytes) : of(notes), size(bytes) { of.used += size; }
    Held(const Held&) = delete;
    ~Held() override {
      of.used -= size;
      of.being_freed += size;
    }
    std::shared_ptr<ContentMark> mark() const override { return noted; }
    void source_changes() override { ++of.sources_changed; }
    Notes& of;
    const std::size_t size;
    std::shared_ptr<ContentMark> noted;
  };
  const DeviceInfo& info() const override { return info_; }
  Result<std::vector<std::unique_ptr<Kernel>>> compile(const KernelModule& module) override {
    std::vector<std::unique_ptr<Kernel>> kernels;
    for (const KernelInfo& info : module.kernels) kernels.push_back(std::make_unique<Kernel>(info));
    return kernels;
  }
  Result<std::unique_ptr<DeviceBuffer>> attach(std::span<std::byte> memory, bool,
                                               const MemoryKey& key) override {
    if (used + memory.size() > room) return error(Code::no_memory, "full");
    auto made = std::make_unique<Held>(*this, memory.size());
    if (kept != nullptr && key != MemoryKey{}) made->noted = kept->mark(key);
    return made;
  }
  Result<std::unique_ptr<Flight>> start(const Launch& launch) override {
    if (fails) return error(Code::invalid_argument, "not so");
    fetched.clear();
    for (const gpu::BufferUse& use : launch.buffers) fetched.push_back(use.copy_in);
    return std::make_unique<Flight>();
  }
  Result<Times> wait(std::unique_ptr<Flight>) override {
    if (fault) return error(*fault, "a fault");
    return Times{1, 2, copied_in, copied_out, ahead};
  }
  void wait_for_freed() override { being_freed = 0; }
  int sources_changed = 0;
  std::uint64_t peak_memory_bytes() const override { return used; }

  std::size_t room = 1u << 20;
  std::size_t used = 0;
  std::size_t being_freed = 0;
  bool fails = false;
  std::optional<Code> fault;  ///< to which launches come
  Kept* kept = nullptr;
  std::vector<bool> fetched;
  Copied copied_in, copied_out;
  bool ahead = false;

 private:
  DeviceInfo info_;
};

class Fixture {
 public:
  explicit Fixture(Kept* kept = nullptr) : notes(new Notes), backend(std::unique_ptr<Gpu>(notes)) {
    notes->kept = kept;
    number = backend.load(test::module_image("vector"), "axpy").value();
  }
  void bind(std::uint32_t id, std::uint64_t offset = 0, std::uint64_t length = page,
            device::MemoryOrigin origin = {}) {
    static const Fd memory = device::test::make_memory(4 * page);
    REQUIRE(
        buffers.bind(id,
                     *Buffer::memory(*Mapping::map(memory, 4 * page, Mapping::Access::read),
                                     *Mapping::map(memory, 4 * page, Mapping::Access::read_write),
                                     offset, length, origin),
                     [] {}));
  }
  /// y += a x, begun.
  std::shared_ptr<device::Work> begin_axpy(std::uint16_t x, std::uint32_t x_content,
                                           std::uint16_t y, std::uint32_t y_content) {
    proto::context::Run::Request request{};
    request.codelet = number;
    request.grid[0] = request.grid[1] = request.grid[2] = 1;
    request.argument_bytes = 8;
    request.buffer_count = 2;
    request.buffers[0] = {x, AIOS_MODE_READ, x_content};
    request.buffers[1] = {y, AIOS_MODE_READ_WRITE, y_content};
    const auto work = backend.prepare(request, buffers);
    REQUIRE(work);
    return (*work)->begin() ? *work : nullptr;
  }
  /// The same to its end: what of x and y was fetched.
  std::vector<bool> axpy(std::uint16_t x, std::uint32_t x_content, std::uint16_t y,
                         std::uint32_t y_content) {
    const auto work = begin_axpy(x, x_content, y, y_content);
    if (work == nullptr) return {};
    CHECK(work->run_block(0).has_value() != notes->fault.has_value());
    return notes->fetched;
  }
  /// x as 0 and y as 1, as a scheduler binds them that is process `binder`.
  void bind_both(std::uint64_t binder = 9) {
    bind(0, 0, page, {.region = 4, .binder = binder, .serial = 1});
    bind(1, page, page, {.region = 4, .binder = binder, .serial = 2});
  }

  Notes* notes;
  GpuBackend backend;
  BufferTable buffers;
  std::uint32_t number = 0;
};

using Fetched = std::vector<bool>;

}  // namespace

TEST_CASE("Bytes that a device holds under the same number are not fetched again") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  CHECK(f.axpy(0, 5, 1, 9) == Fetched{true, true});
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{false, false});
  CHECK(f.axpy(0, 6, 1, 11) == Fetched{true, false});
  // Somebody else has written y meanwhile.
  CHECK(f.axpy(0, 6, 1, 13) == Fetched{false, true});
}

TEST_CASE("Bytes of which nothing is known are fetched each time") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  CHECK(f.axpy(0, 0, 1, 0) == Fetched{true, true});
  CHECK(f.axpy(0, 0, 1, 0) == Fetched{true, true});
}

TEST_CASE("Frozen memory is fetched once") {
  Fixture f;
  f.bind(0, 0, page, {.region = 0, .constant = true});
  f.bind(1);
  CHECK(f.axpy(0, 1, 1, 1) == Fetched{true, true});
  CHECK(f.axpy(0, 7, 1, 3) == Fetched{false, true});
}

TEST_CASE("Writing a buffer makes stale what overlaps it, and nothing else of its region") {
  Fixture f;
  f.bind(0, 0, 2 * page, {.region = 4});
  f.bind(1, page, page, {.region = 4});
  f.bind(2, 2 * page, page, {.region = 4});
  f.bind(3, 3 * page, page, {.region = 5});
  (void)f.axpy(0, 1, 3, 1);
  (void)f.axpy(2, 1, 3, 2);
  // Of the whole, when the part was written; the part was not there yet for the first.
  CHECK(f.notes->sources_changed == 0);
  CHECK(f.axpy(0, 1, 1, 1) == Fetched{false, true});
  CHECK(f.notes->sources_changed == 1);
  CHECK(f.axpy(0, 1, 3, 3) == Fetched{true, false});
  CHECK(f.axpy(2, 1, 3, 4) == Fetched{false, false});
  // One that comes to be known later may lie over what is on its way.
  f.bind(4, page, page, {.region = 4});
  CHECK(f.axpy(4, 1, 3, 5) == Fetched{true, false});
  CHECK(f.notes->sources_changed == 2);
}

TEST_CASE("A launch that fails leaves nothing to rely on") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  (void)f.axpy(0, 1, 1, 1);
  f.notes->fails = true;
  CHECK(f.axpy(0, 1, 1, 2).empty());
  f.notes->fails = false;
  CHECK(f.axpy(0, 1, 1, 2) == Fetched{true, true});
}

TEST_CASE("A launch that ends badly, but not the device with it, leaves nothing to rely on") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  (void)f.axpy(0, 1, 1, 1);
  f.notes->fault = Code::no_memory;
  CHECK(f.axpy(0, 1, 1, 2) == Fetched{false, false});
  f.notes->fault.reset();
  CHECK(f.axpy(0, 1, 1, 3) == Fetched{true, true});
}

TEST_CASE(
    "Where there is no room, what was not used for longest goes, and is fetched when needed") {
  Fixture f;
  f.notes->room = 3 * page;
  for (std::uint32_t id = 0; id < 4; ++id) f.bind(id);
  (void)f.axpy(0, 1, 1, 1);
  (void)f.axpy(2, 1, 1, 2);
  CHECK(f.axpy(3, 1, 1, 3) == Fetched{true, false});
  CHECK(f.notes->used == 3 * page);
  CHECK(f.axpy(2, 1, 1, 4) == Fetched{false, false});
  CHECK(f.axpy(0, 1, 1, 5) == Fetched{true, false});
}

TEST_CASE("A launch that needs more than there is gets no_memory") {
  Fixture f;
  f.notes->room = page;
  f.bind(0);
  f.bind(1);
  CHECK(f.axpy(0, 1, 1, 1).empty());
}

TEST_CASE("What is unbound is released") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  (void)f.axpy(0, 1, 1, 1);
  REQUIRE(f.buffers.unbind(0));
  f.backend.release_unbound();
  CHECK(f.notes->used == page);
  CHECK(f.notes->being_freed == 0);
}

TEST_CASE("A context finds on the device what the one before had brought there") {
  Kept kept;
  {
    Fixture dead(&kept);
    dead.bind_both();
    CHECK(dead.axpy(0, 5, 1, 9) == Fetched{true, true});
  }
  Fixture f(&kept);
  f.bind_both();
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{false, false});
  Fixture later(&kept);
  later.bind_both();
  CHECK(later.axpy(0, 5, 1, 10) == Fetched{false, true});
}

TEST_CASE("What was on its way when a context died is fetched by the next") {
  Kept kept;
  Fixture dead(&kept);
  dead.bind_both();
  (void)dead.axpy(0, 5, 1, 9);
  const auto unfinished = dead.begin_axpy(0, 5, 1, 10);
  REQUIRE(unfinished != nullptr);
  Fixture f(&kept);
  f.bind_both();
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{false, true});
}

TEST_CASE("What a launch that faulted wrote is fetched by the next context") {
  Kept kept;
  Fixture dead(&kept);
  dead.bind_both();
  (void)dead.axpy(0, 5, 1, 9);
  dead.notes->fault = Code::crashed;
  (void)dead.axpy(0, 5, 1, 10);
  Fixture f(&kept);
  f.bind_both();
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{false, true});
}

TEST_CASE("Numbers of another scheduler mean nothing") {
  Kept kept;
  Fixture dead(&kept);
  dead.bind_both(9);
  (void)dead.axpy(0, 5, 1, 9);
  Fixture f(&kept);
  f.bind_both(10);
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{true, true});
}

TEST_CASE("Frozen memory is found by whoever binds it, and not as what it was before") {
  Kept kept;
  const auto bind = [](Fixture& to, bool constant, std::uint64_t binder) {
    to.bind(0, 0, page, {.region = 4, .constant = constant, .binder = binder, .serial = binder});
    to.bind(1);
  };
  Fixture first(&kept);
  bind(first, false, 9);
  (void)first.axpy(0, 1, 1, 1);
  Fixture frozen(&kept);
  bind(frozen, true, 9);
  CHECK(frozen.axpy(0, 1, 1, 1) == Fetched{true, true});
  Fixture next(&kept);
  bind(next, true, 10);
  CHECK(next.axpy(0, 3, 1, 1) == Fetched{false, true});
}

TEST_CASE("What a context wrote before it knew of a copy that was left makes that stale") {
  Kept kept;
  Fixture dead(&kept);
  dead.bind_both();
  (void)dead.axpy(0, 5, 1, 9);
  Fixture f(&kept);
  // All of the region, by another buffer.
  f.bind(2, 0, 2 * page, {.region = 4, .binder = 9, .serial = 3});
  f.bind(3, 0, page, {.region = 5, .binder = 9, .serial = 4});
  (void)f.axpy(3, 1, 2, 1);
  f.bind_both();
  CHECK(f.axpy(0, 5, 1, 10) == Fetched{true, true});
}

TEST_CASE("What copies take is summed up, apart for small and for large ones") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  const auto is = [](const proto::context::Copies::Sum& sum, std::uint64_t count,
                     std::uint64_t bytes, std::uint64_t ns) {
    return sum.count == count && sum.bytes == bytes && sum.ns == ns;
  };
  (void)f.axpy(0, 1, 1, 1);
  CHECK(is(f.backend.copies().to_device[0], 0, 0, 0));
  f.notes->copied_in = {2, 8192, 30};
  (void)f.axpy(0, 1, 1, 3);
  f.notes->copied_in = {2, 4u << 20, 500};
  f.notes->copied_out = {1, 1u << 20, 200};
  (void)f.axpy(0, 1, 1, 5);
  (void)f.axpy(0, 1, 1, 7);
  const auto sums = f.backend.copies();
  CHECK(is(sums.to_device[0], 2, 8192, 30));
  CHECK(is(sums.to_device[1], 4, 8u << 20, 1000));
  CHECK(is(sums.to_host[0], 0, 0, 0));
  CHECK(is(sums.to_host[1], 2, 2u << 20, 400));
}

TEST_CASE("A task knows what copying its data there and back took") {
  Fixture f;
  f.bind(0);
  f.bind(1);
  f.notes->copied_in = {2, 8192, 30};
  f.notes->copied_out = {1, 4096, 12};
  const auto work = f.begin_axpy(0, 1, 1, 1);
  REQUIRE(work != nullptr);
  CHECK(work->transfer_ns() == 0);
  REQUIRE(work->run_block(0));
  CHECK(work->transfer_ns() == 42);
  CHECK(work->ahead_ns() == 0);
  f.notes->ahead = true;
  const auto next = f.begin_axpy(0, 1, 1, 3);
  REQUIRE(next != nullptr);
  REQUIRE(next->run_block(0));
  CHECK(next->transfer_ns() == 42);
  CHECK(next->ahead_ns() == 30);
}
