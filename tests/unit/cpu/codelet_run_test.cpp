#include "drivers/cpu/codelet_run.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/unit/cpu/test_support.hpp"
#include "tests/unit/device/test_support.hpp"

using namespace aios;
using namespace aios::cpu;
using device::Buffer;
using device::BufferTable;
using device::test::make_memory;
using Request = proto::context::Run::Request;

namespace {

constexpr std::uint32_t threads = 3;

const Codelet& codelet(const std::string& module, const std::string& name) {
  const auto number = test::modules().load(test::module_image(module), name);
  REQUIRE(number);
  return **test::modules().codelet(*number);
}

Request request_of(std::uint32_t x, std::uint32_t y = 1, std::uint32_t z = 1) {
  Request request{};
  request.grid[0] = x;
  request.grid[1] = y;
  request.grid[2] = z;
  return request;
}

std::shared_ptr<CodeletRun> run_of(const Codelet& codelet, const Request& request) {
  auto run = CodeletRun::create(codelet, request, BufferTable(), threads,
                                *std::pmr::get_default_resource());
  REQUIRE(run);
  return *run;
}

Code refused(const Request& request, const BufferTable& buffers = {}) {
  const auto run = CodeletRun::create(codelet("good", "count"), request, buffers, threads,
                                      *std::pmr::get_default_resource());
  REQUIRE(!run);
  return run.error().code();
}

Result<> run_failing(std::uint32_t status) {
  Request request = request_of(4);
  const std::uint32_t words[2] = {2, status};
  std::memcpy(request.arguments, words, sizeof words);
  request.argument_bytes = sizeof words;
  const auto run = run_of(codelet("good", "fail"), request);
  CHECK(run->run_block(1));
  return run->run_block(2);
}

}  // namespace

TEST_CASE("Blocks are numbered with x first and share the result") {
  const auto run = run_of(codelet("good", "count"), request_of(3, 4, 5));
  REQUIRE(run->block_count() == 60);
  for (std::uint32_t block = 0; block < 60; ++block) REQUIRE(run->run_block(block));
  CHECK(run->result()[0] == 60);
  CHECK(run->result()[1] == 59 * 60 / 2);
  CHECK(run->result()[2] == 0);
}

TEST_CASE("Grids with an empty side or too many blocks are refused") {
  CHECK(run_of(codelet("good", "count"), request_of(1 << 24))->block_count() == 1 << 24);
  for (const Request& request :
       {request_of(0), request_of(1, 0), request_of(1, 1, 0), request_of((1 << 24) + 1),
        request_of(1 << 12, 1 << 12, 2), request_of(UINT32_MAX, UINT32_MAX, UINT32_MAX)})
    CHECK(refused(request) == Code::invalid_argument);
}

TEST_CASE("Counts beyond the fields of a request are refused") {
  Request request = request_of(1);
  request.buffer_count = 17;
  CHECK(refused(request) == Code::invalid_argument);
  request.buffer_count = UINT32_MAX;
  CHECK(refused(request) == Code::invalid_argument);
  request = request_of(1);
  request.argument_bytes = 65;
  CHECK(refused(request) == Code::invalid_argument);
}

TEST_CASE("A task uses only what is bound, and only in a mode it was bound for") {
  constexpr std::size_t size_bytes = 4096;
  BufferTable buffers;
  const Fd memory = make_memory(size_bytes);
  Mapping read = *Mapping::map(memory, size_bytes, Mapping::Access::read);
  REQUIRE(buffers.bind(3, *Buffer::memory(std::move(read), {}, 0, 8), [] {}));
  Request request = request_of(1);
  request.buffer_count = 1;
  request.buffers[0] = {.id = 4, .mode = AIOS_MODE_READ};
  CHECK(refused(request, buffers) == Code::invalid_argument);
  request.buffers[0] = {.id = 3, .mode = AIOS_MODE_WRITE};
  CHECK(refused(request, buffers) == Code::denied);
  request.buffers[0] = {.id = 3, .mode = 9};
  CHECK(refused(request, buffers) == Code::invalid_argument);
  request.buffers[0] = {.id = 3, .mode = AIOS_MODE_READ};
  const auto run = CodeletRun::create(codelet("good", "count"), request, buffers, threads,
                                      *std::pmr::get_default_resource());
  CHECK(run);
  CHECK(buffers.unbind(3).error().code() == Code::busy);
}

TEST_CASE("A task reads one buffer and writes another") {
  constexpr std::size_t size_bytes = 4096;
  BufferTable buffers;
  const Fd in = make_memory(size_bytes), out = make_memory(size_bytes);
  Mapping outside = *Mapping::map(in, size_bytes, Mapping::Access::read_write);
  std::memcpy(outside.data() + 10, "HAL", 3);
  REQUIRE(buffers.bind(
      0, *Buffer::memory(*Mapping::map(in, size_bytes, Mapping::Access::read), {}, 10, 3), [] {}));
  REQUIRE(buffers.bind(
      1,
      *Buffer::memory(*Mapping::map(out, size_bytes, Mapping::Access::read),
                      *Mapping::map(out, size_bytes, Mapping::Access::read_write), 4000, 3),
      [] {}));
  Request request = request_of(1);
  request.buffer_count = 2;
  request.buffers[0] = {.id = 0, .mode = AIOS_MODE_READ};
  request.buffers[1] = {.id = 1, .mode = AIOS_MODE_WRITE};
  const auto run = CodeletRun::create(codelet("good", "increment"), request, buffers, threads,
                                      *std::pmr::get_default_resource());
  REQUIRE(run);
  CHECK((*run)->run_block(0));
  const Mapping result = *Mapping::map(out, size_bytes, Mapping::Access::read);
  CHECK(std::memcmp(result.data() + 4000, "IBM", 3) == 0);
}

TEST_CASE("A codelet's status and message reach the caller") {
  CHECK(run_failing(22).error().to_string() == "source_changed: block 2 gave up");
}

TEST_CASE("A failure without a message names codelet and block") {
  const auto run = run_of(codelet("good", "fail_silently"), request_of(2, 2));
  const auto failed = run->run_block(3);
  REQUIRE(!failed);
  CHECK(failed.error().code() == Code::io_error);
  CHECK(failed.error().message().find("fail_silently failed in block (1, 1, 0)") !=
        std::string::npos);
}

TEST_CASE("A codelet cannot return what only AIOS may say") {
  for (const Code code : {Code::timed_out, Code::peer_closed, Code::crashed, Code::cancelled,
                          Code::protocol_error, Code::too_late})
    CHECK(run_failing(static_cast<std::uint32_t>(code)).error().code() == Code::invalid_argument);
  for (const std::uint32_t number : {27u, 1000u, UINT32_MAX, 1u << 31})
    CHECK(run_failing(number).error().code() == Code::invalid_argument);
}

TEST_CASE("An exception that escapes a codelet is reported as a crash") {
  const auto known = run_of(codelet("throws", "throw_error"), request_of(1))->run_block(0);
  CHECK(known.error().code() == Code::crashed);
  CHECK(known.error().message() == "uncaught exception in codelet throw_error: out of patience");
  const auto unknown = run_of(codelet("throws", "throw_number"), request_of(1))->run_block(0);
  CHECK(unknown.error().code() == Code::crashed);
}

TEST_CASE("A codelet that divides its grid is called once for each thread's share") {
  const auto run = run_of(codelet("shares", "mark"), request_of(8, 8));
  REQUIRE(run->block_count() == threads);
  for (std::uint32_t share = 0; share < threads; ++share) REQUIRE(run->run_block(share));
  CHECK(run->result()[0] == 0b111);
  CHECK(run->result()[1] == threads);
  CHECK(run->result()[2] == 0);
}

TEST_CASE("There are no more shares than blocks") {
  CHECK(run_of(codelet("shares", "mark"), request_of(2))->block_count() == 2);
}

TEST_CASE("A codelet without a function for shares is called for each block") {
  CHECK(run_of(codelet("shares", "plain"), request_of(5))->block_count() == 5);
}

TEST_CASE("A share that fails without a message is named") {
  const auto run = run_of(codelet("shares", "fail"), request_of(4));
  CHECK(run->run_block(0));
  const auto failed = run->run_block(1);
  REQUIRE(!failed);
  CHECK(failed.error().message() == "codelet fail failed in share 1 without saying why");
}
