// Buffers of the CUDA backend in memory that outlives their context, large ones whole and small
// ones in slabs: over the double of the driver, with an owner in a thread.
#include "drivers/gpu/cuda/borrowed_memory.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/cuda/cuda_gpu.hpp"
#include "tests/unit/device/test_support.hpp"
#include "tests/unit/gpu/fake_owner.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::cuda;
using proto::memory::AllocationCall;
using proto::memory::Ledger;
using proto::memory::slab_bytes;

namespace {

MemoryKey key(std::uint64_t serial, std::uint64_t length) {
  return {7, serial, 0, length};
}

/// Owns at most `limit` bytes of the emulated device.
class Owner {
 public:
  explicit Owner(std::uint64_t limit_bytes = 16 * slab_bytes)
      : ledger_file_(device::test::make_memory(sizeof(Ledger))),
        ledger_(*Mapping::map(ledger_file_, sizeof(Ledger), Mapping::Access::read_write)),
        maker_(open_memory(*DriverApi::load(CUDA_DOUBLE), uuid()).value()),
        memory_(*maker_, ledger_of(ledger_).contents, limit_bytes) {}
  ~Owner() { kept.disconnect(); }

  static std::string uuid() { return discover(**DriverApi::load(CUDA_DOUBLE))->front().uuid; }

  /// The context of now: what was lent before is in use no more.
  void begin_context() {
    kept.disconnect();
    answers_.reset();
    memory_.begin_use();
    auto [mine, theirs] = *make_socket_pair();
    answers_.emplace(std::move(theirs), [this](const auto& request, auto& reply) {
      return std::optional(answer(request, reply));
    });
    REQUIRE(kept.connect(std::move(mine)));
  }
  std::uint64_t bytes() const { return memory_.bytes(); }

  KeptMemory kept;

 private:
  Fd answer(const proto::memory::AllocationRequest& request,
            proto::memory::AllocationReply& reply) {
    switch (static_cast<AllocationCall>(request.call)) {
      case AllocationCall::ledger:
        return ledger_file_.duplicate().value();
      case AllocationCall::take: {
        auto taken = memory_.take(request.key);
        if (taken) {
          reply.slot = taken->slot;
          reply.bytes = taken->bytes;
          reply.found = taken->found ? 1 : 0;
          return std::move(taken->descriptor);
        }
        reply.status = static_cast<std::uint32_t>(taken.error().code());
        return {};
      }
      case AllocationCall::drop:
        CHECK(memory_.drop(request.slot).has_value());
        return {};
      case AllocationCall::drop_unused:
        memory_.drop_unused();
        return {};
    }
    return {};
  }

  const Fd ledger_file_;
  const Mapping ledger_;
  const std::unique_ptr<MemoryMaker> maker_;
  OwnedMemory memory_;
  std::optional<test::FakeOwner> answers_;
};

/// What a context has of it.
struct Fixture {
  explicit Fixture(Owner& owner, std::uint64_t limit_bytes = 64 * slab_bytes)
      : budget(limit_bytes) {
    REQUIRE(api->init(0) == cuda::Code::success);
    Context context = nullptr;
    REQUIRE(api->context_retain(&context, 0) == cuda::Code::success);
    REQUIRE(api->context_set(context) == cuda::Code::success);
    owner.begin_context();
    borrower.emplace(*api, 0, owner.kept, budget);
  }
  std::unique_ptr<BorrowedMemory> borrow(const MemoryKey& of) {
    auto borrowed = borrower->borrow(of);
    REQUIRE_MESSAGE(borrowed, borrowed.error().message());
    return std::move(*borrowed);
  }
  std::unique_ptr<const DriverApi> api = *DriverApi::load(CUDA_DOUBLE);
  MemoryBudget budget;
  std::optional<Borrower> borrower;
};

/// A context that dies gives nothing back.
template <class T>
T& of_the_dead(std::unique_ptr<T> object) {
  static std::vector<void*>& all = *new std::vector<void*>;
  all.push_back(object.get());
  return *object.release();
}

void note(const BorrowedMemory& memory, std::uint32_t content) {
  memory.mark()->end_change(memory.mark()->begin_change(), content);
}

}  // namespace

TEST_CASE("Small memory is where the context before has left it, and says what it holds") {
  Owner owner;
  Fixture& dead = of_the_dead(std::make_unique<Fixture>(owner));
  const BorrowedMemory& left = of_the_dead(dead.borrow(key(1, 1000)));
  (void)of_the_dead(dead.borrow(key(2, 1000)));
  note(left, 5);
  std::memset(reinterpret_cast<void*>(left.address()), 42, 1000);
  CHECK(owner.bytes() == slab_bytes);

  Fixture next(owner);
  const auto found = next.borrow(key(1, 1000));
  CHECK(found->mark()->content() == 5);
  std::uint8_t last = 0;
  std::memcpy(&last, reinterpret_cast<void*>(found->address() + 999), 1);
  CHECK(last == 42);
  CHECK(next.borrow(key(2, 1000))->mark()->content() == 0);
  CHECK(owner.bytes() == slab_bytes);
}

TEST_CASE("Small memory is counted by slabs, which are given back but for one") {
  Owner owner;
  Fixture f(owner);
  auto first = f.borrow(key(1, slab_bytes - 256));
  auto second = f.borrow(key(2, 256));
  CHECK(f.budget.peak_bytes() == slab_bytes);
  auto third = f.borrow(key(3, 256));
  CHECK(owner.bytes() == 2 * slab_bytes);
  third.reset();
  CHECK(owner.bytes() == slab_bytes);
  CHECK(!f.borrower->give_back_unused());
  first.reset();
  second.reset();
  CHECK(owner.bytes() == slab_bytes);
  CHECK(f.borrower->give_back_unused());
  CHECK(owner.bytes() == 0);
}

TEST_CASE("A slab that the owner has dropped holds nothing of what was left") {
  Owner owner;
  Fixture& dead = of_the_dead(std::make_unique<Fixture>(owner));
  note(of_the_dead(dead.borrow(key(1, 1000))), 5);
  Fixture next(owner);
  CHECK(owner.kept.drop_unused());
  CHECK(owner.bytes() == 0);
  CHECK(next.borrow(key(1, 1000))->mark()->content() == 0);
}

TEST_CASE("Where there is no other slab, what was left makes room") {
  Owner owner(slab_bytes);
  Fixture& dead = of_the_dead(std::make_unique<Fixture>(owner));
  note(of_the_dead(dead.borrow(key(1, slab_bytes - 512))), 5);
  note(of_the_dead(dead.borrow(key(2, 512))), 6);
  Fixture next(owner);
  const auto found = next.borrow(key(2, 512));
  CHECK(found->mark()->content() == 6);
  const auto other = next.borrow(key(3, slab_bytes - 512));
  CHECK(other->mark()->content() == 0);
  CHECK(next.borrower->borrow(key(1, 512)).error().code() == aios::Code::no_memory);
}

TEST_CASE("With another owner small memory is in its slabs, and what is in use stays") {
  Owner owner;
  Fixture f(owner);
  const auto before = f.borrow(key(1, 1000));
  // To the context the owner is another one since.
  owner.begin_context();
  const auto after = f.borrow(key(2, 1000));
  note(*before, 3);
  CHECK(before->mark()->content() == 3);
  CHECK(after->address() != before->address());
}

TEST_CASE("Without room for a slab a small buffer is the context's own, and large ones find room") {
  Owner owner;
  owner.begin_context();
  std::vector<std::byte> memory(4 * slab_bytes);
  const auto attach = [&](Gpu& gpu, std::uint64_t serial, std::size_t bytes) {
    return gpu.attach(std::span(memory).first(bytes), true, key(serial, bytes));
  };
  {
    const auto gpu =
        cuda::open(*DriverApi::load(CUDA_DOUBLE), Owner::uuid(), slab_bytes / 2, &owner.kept);
    REQUIRE(gpu);
    const auto small = attach(**gpu, 1, 1000);
    REQUIRE(small);
    CHECK((*small)->mark() == nullptr);
  }
  const auto gpu =
      cuda::open(*DriverApi::load(CUDA_DOUBLE), Owner::uuid(), 4 * slab_bytes, &owner.kept);
  REQUIRE(gpu);
  {
    const auto small = attach(**gpu, 1, 1000);
    REQUIRE(small);
    CHECK((*small)->mark() != nullptr);
    CHECK(attach(**gpu, 2, 4 * slab_bytes).error().code() == aios::Code::no_memory);
  }
  CHECK(attach(**gpu, 2, 4 * slab_bytes).has_value());
}
