#include <limits>

#include "services/scheduler/core/parts/record_check.hpp"
#include "tests/unit/scheduler/fixture.hpp"

namespace aios::scheduler {

namespace {
template <class F>
Code checked(F change) {
  TaskRecord record = task(1);
  change(record);
  const Result<void> result = check_record(record);
  return result ? Code::ok : result.error().code();
}
}  // namespace

TEST_CASE("A plain record is accepted") {
  CHECK(checked([](TaskRecord&) {}) == Code::ok);
  CHECK(checked([](TaskRecord& r) { r.grid[0] = 1u << 24; }) == Code::ok);
}

TEST_CASE("A record with counts beyond its arrays is invalid_argument") {
  CHECK(checked([](TaskRecord& r) { r.buffer_count = 17; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.dependency_count = 13; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.argument_bytes = 65; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.buffer_count = ~0u; }) == Code::invalid_argument);
}

TEST_CASE("A record with an empty or too large grid is invalid_argument") {
  CHECK(checked([](TaskRecord& r) { r.grid[1] = 0; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.grid[0] = (1u << 24) + 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) {
          r.grid[0] = r.grid[1] = r.grid[2] = std::numeric_limits<std::uint32_t>::max();
        }) == Code::invalid_argument);
}

TEST_CASE("A join with buffers or arguments is invalid_argument") {
  const auto join = [](TaskRecord& r) { r.flags = proto::scheduler::task_flag::join; };
  CHECK(checked(join) == Code::ok);
  CHECK(checked([&](TaskRecord& r) { join(r), r.argument_bytes = 4; }) == Code::invalid_argument);
  CHECK(checked([&](TaskRecord& r) {
          join(r);
          r.buffer_count = 1;
          r.buffers[0] = AIOS_MODE_READ << 28;
        }) == Code::invalid_argument);
}

TEST_CASE("A gang has two members at least, and a join is none") {
  namespace flag = proto::scheduler::task_flag;
  const auto of = [](std::uint32_t size, std::uint32_t flags = 0) {
    return checked([=](TaskRecord& r) { r.flags = flag::gang | flags, r.gang_size = size; });
  };
  CHECK(of(2) == Code::ok);
  CHECK(of(proto::scheduler::max_gang, flag::idempotent) == Code::ok);
  CHECK(of(1) == Code::invalid_argument);
  CHECK(of(proto::scheduler::max_gang + 1) == Code::invalid_argument);
  CHECK(of(2, flag::join) == Code::invalid_argument);
}

TEST_CASE("A record with unknown flags, modes or unused fields that are not zero is refused") {
  CHECK(checked([](TaskRecord& r) { r.flags = 1u << 31; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.reserved_word = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.gang = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.gang_size = 2; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.buffers[0] = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.dependencies[3] = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.arguments[63] = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) { r.buffer_count = 1; }) == Code::invalid_argument);
  CHECK(checked([](TaskRecord& r) {
          r.buffer_count = 1;
          r.buffers[0] = 5u << 28;
        }) == Code::invalid_argument);
}

}  // namespace aios::scheduler
