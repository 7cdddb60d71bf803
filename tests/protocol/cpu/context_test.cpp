// A context's side of the device protocol, over a real kernel.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "abi/include/aios/codelet.h"
#include "abi/runtime/socket.hpp"
#include "tests/protocol/cpu/rig.hpp"

using namespace aios;
using namespace aios::cpu::test;
using proto::driver::ContextEnd;

namespace {

/// The next context of a tenant whose last one has ended or is about to.
proto::driver::OpenContext::Reply successor(Rig& rig, Handle tenant, const ContextLink& former) {
  rig.await_exit(former.opened().process_id);
  const auto opened = rig.open_context(tenant);
  REQUIRE(opened);
  CHECK(opened->generation == former.opened().generation + 1);
  return *opened;
}

bool contains(std::string_view text, const char* part) {
  return text.find(part) != std::string_view::npos;
}

HandleToSend sendable(Handle region, std::uint32_t use) {
  return {.handle = region,
          .type = ObjectType::region,
          .use = use | rights::info,
          .grant = 0,
          .move = false};
}

}  // namespace

TEST_CASE("A task runs over its grid and returns its result and times") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("good", "count");
  REQUIRE(codelet);
  const auto done = context.run(*codelet);
  REQUIRE(done);
  CHECK(done->result[0] == 6);
  CHECK(done->result[1] == 15);
  CHECK(done->start_ns != 0);
  CHECK(done->end_ns >= done->start_ns);
  CHECK(done->busy_ns > 0);
  CHECK(done->busy_ns <= (done->end_ns - done->start_ns) * std::thread::hardware_concurrency());
  CHECK(done->peak_memory_bytes > 0);
}

TEST_CASE("A task reads and writes the memory of its tenant") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("good", "increment");
  REQUIRE(codelet);
  REQUIRE(context.bind_text(0, "HAL"));
  const auto out = Region::create(rig.kernel(), 4096, "out");
  REQUIRE(context.bind({.object = 0, .offset = 8, .length = 3, .id = 1, .writable = 1},
                       sendable(out->handle(), rights::map_read | rights::map_write)));
  REQUIRE(context.run(*codelet, 0, {{0, AIOS_MODE_READ}, {1, AIOS_MODE_WRITE}}));
  CHECK(std::memcmp(out->data() + 8, "IBM", 3) == 0);
  CHECK(context.run(*codelet, 0, {{0, AIOS_MODE_WRITE}}).error().code() == Code::denied);
  CHECK(context.unbind(0));
  CHECK(context.run(*codelet, 0, {{0, AIOS_MODE_READ}}).error().code() == Code::invalid_argument);
}

TEST_CASE("Modules that cannot be loaded are refused with the reason, and harm nothing") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto foreign = context.load("needs_library", "use");
  CHECK(foreign.error().code() == Code::denied);
  CHECK(contains(foreign.error().message(), "libnuma.so.1"));
  CHECK(context.load("no_entry", "x").error().code() == Code::invalid_argument);
  CHECK(context.load("good", "cuont").error().code() == Code::not_found);
  CHECK(context.load("good", "count"));
  CHECK(context.run(UINT32_MAX).error().code() == Code::invalid_argument);
}

TEST_CASE("A module that never finishes loading does not stop the context from answering") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  CHECK(context.load("hangs", "nothing", Deadline::after(100 * ns_per_ms)).error().code() ==
        Code::timed_out);
  CHECK(context.run(UINT32_MAX).error().code() == Code::invalid_argument);
  CHECK(context.bind_text(0, "text"));
}

TEST_CASE("Buffers that make no sense are refused") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto region = Region::create(rig.kernel(), 4096, "region");
  const auto bind = [&](std::uint64_t offset, std::uint64_t length, std::uint32_t id,
                        std::uint32_t writable, std::uint32_t use) {
    const auto bound = context.bind(
        {.object = 0, .offset = offset, .length = length, .id = id, .writable = writable},
        sendable(region->handle(), use));
    return bound ? Code::ok : bound.error().code();
  };
  CHECK(bind(4095, 1, 0, 0, rights::map_read) == Code::ok);
  CHECK(bind(4095, 2, 0, 0, rights::map_read) == Code::invalid_argument);
  CHECK(bind(UINT64_MAX, 2, 0, 0, rights::map_read) == Code::invalid_argument);
  CHECK(bind(0, 0, 0, 0, rights::map_read) == Code::invalid_argument);
  CHECK(bind(0, 1, 4096, 0, rights::map_read) == Code::invalid_argument);
  CHECK(bind(0, 1, 0, 2, rights::map_read) == Code::invalid_argument);
  CHECK(bind(0, 1, 0, 1, rights::map_read) == Code::denied);
  CHECK(bind(0, 1, 0, 0, 0) == Code::denied);
  CHECK(context.unbind(77).error().code() == Code::not_found);
}

TEST_CASE("Handles that were not sent cannot be named") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  for (const Handle guess : {Handle{0}, UINT64_MAX}) {
    const auto bound = context.client().call<proto::context::Bind>(
        {.object = guess, .offset = 0, .length = 1, .id = 0, .writable = 0}, soon());
    CHECK(bound.error().code() == Code::bad_handle);
  }
  // The context's own handles: whatever their numbers, none of them is a region or a file.
  for (Handle guess = 1; guess < 8; ++guess)
    for (const Handle generation : {0, 1, 2}) {
      const auto loaded =
          context.client().call<proto::context::Load>({.region = generation << 32 | guess,
                                                       .offset = 0,
                                                       .length = 1,
                                                       .codelet = proto::Text<64>::from("x")},
                                                      soon());
      CHECK(!loaded);
    }
  CHECK(context.load("good", "count"));
}

TEST_CASE("Lent files are read by tasks of the lender's job") {
  Rig rig;
  // Lent by this program, so the tenant is this program's own job.
  ContextLink context(rig, rig.kernel().job());
  const auto channel = rig.kernel().call<proto::kernel::FileCreate>({});
  REQUIRE(channel);
  const HandleToSend file{.handle = channel->reply.file,
                          .type = ObjectType::file,
                          .use = rights::map_read,
                          .grant = 0,
                          .move = false};
  CHECK(context.bind({}, file).error().code() == Code::not_found);

  const Fd lent(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  std::byte
      description[sizeof(proto::context::FileSplitHeader) + sizeof(proto::context::FilePiece)] = {};
  const proto::context::FileSplitHeader header{.count = 1, .reserved = 0};
  const proto::context::FilePiece piece{.offset = 1, .length = 3, .file_size = 4};
  std::memcpy(description, &header, sizeof header);
  std::memcpy(description + sizeof header, &piece, sizeof piece);
  const int descriptor = lent.get();
  REQUIRE(send_packet(channel->fds.front().get(), description, std::span(&descriptor, 1), 0));
  CHECK(context.bind({.length = 1}, file).error().code() == Code::invalid_argument);
  CHECK(context.bind({.writable = 1}, file).error().code() == Code::invalid_argument);
  CHECK(context.bind({.id = 5}, file));
  const auto codelet = context.load("good", "read_file");
  REQUIRE(codelet);
  const auto done = context.run(*codelet, 0, {{5, AIOS_MODE_READ}});
  REQUIRE(done);
  CHECK(std::memcmp(done->result, "ELF", 3) == 0);
  CHECK(context.unbind(5));
}

TEST_CASE("A task that faults takes its context down, and the next one knows why") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink context(rig, tenant);
  const auto codelet = context.load("faulty", "fault");
  REQUIRE(codelet);
  CHECK(context.run(*codelet).error().code() == Code::peer_closed);
  const auto next = successor(rig, tenant, context);
  CHECK(next.previous_end == static_cast<std::uint32_t>(ContextEnd::fault));
  CHECK(next.previous_cause.view() == "segmentation fault (signal 11)");
  CHECK(contains(rig.context_log(), "segmentation fault at address"));
}

#ifndef __SANITIZE_ADDRESS__  // sanitizers do without the filter
TEST_CASE("A task that makes a system call which no task needs takes its context down") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink context(rig, tenant);
  const auto codelet = context.load("faulty", "connect");
  REQUIRE(codelet);
  CHECK(context.run(*codelet).error().code() == Code::peer_closed);
  const auto next = successor(rig, tenant, context);
  CHECK(next.previous_end == static_cast<std::uint32_t>(ContextEnd::fault));
  CHECK(next.previous_cause.view() == "bad system call (signal 31)");
}
#endif

TEST_CASE("A task that aborts or exits is at fault") {
  Rig rig;
  for (const char* name : {"abort", "exit"}) {
    const Handle tenant = rig.make_tenant(name);
    ContextLink context(rig, tenant);
    const auto codelet = context.load("faulty", name);
    REQUIRE(codelet);
    CHECK(context.run(*codelet).error().code() == Code::peer_closed);
    CHECK(successor(rig, tenant, context).previous_end ==
          static_cast<std::uint32_t>(ContextEnd::fault));
  }
}

TEST_CASE("A task that exceeds its time limit is told so, and its context ends") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink context(rig, tenant);
  const auto codelet = context.load("faulty", "loop");
  REQUIRE(codelet);
  const auto late = context.run(*codelet, 20 * ns_per_ms);
  CHECK(late.error().code() == Code::timed_out);
  CHECK(contains(late.error().message(), "20 ms"));
  CHECK(successor(rig, tenant, context).previous_end ==
        static_cast<std::uint32_t>(ContextEnd::limit));
}

TEST_CASE("An exception that escapes a task fails it alone") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("throws", "throw_error");
  REQUIRE(codelet);
  const auto failed = context.run(*codelet);
  CHECK(failed.error().code() == Code::crashed);
  CHECK(contains(failed.error().message(), "out of patience"));
  CHECK(context.client().call<proto::Null>({}, soon()));
}

TEST_CASE("A context whose client leaves while a task runs ends in order") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink context(rig, tenant);
  const auto codelet = context.load("faulty", "loop");
  REQUIRE(codelet);
  proto::context::Run::Request request{};
  request.codelet = *codelet;
  request.grid[0] = request.grid[1] = request.grid[2] = 1;
  CHECK(context.client()
            .call<proto::context::Run>(request, Deadline::after(ns_per_ms))
            .error()
            .code() == Code::timed_out);
  // A link is served in order: by now it has begun.
  REQUIRE(context.client().call<proto::Null>({}, soon()));
  context.client().disconnect();
  CHECK(successor(rig, tenant, context).previous_end ==
        static_cast<std::uint32_t>(ContextEnd::exited));
}

TEST_CASE("A context keeps its modules for the next client, but not the buffers of the last") {
  Rig rig;
  const Handle tenant = rig.make_tenant("tenant");
  ContextLink first(rig, tenant);
  const auto codelet = first.load("good", "count");
  REQUIRE(codelet);
  REQUIRE(first.bind_text(0, "text"));
  REQUIRE(first.run(*codelet, 0, {{0, AIOS_MODE_READ}}));
  first.client().disconnect();
  ContextLink second(rig, tenant);
  CHECK(second.opened().process_id == first.opened().process_id);
  CHECK(second.load("good", "count") == *codelet);
  CHECK(second.run(*codelet));
  CHECK(second.run(*codelet, 0, {{0, AIOS_MODE_READ}}).error().code() == Code::invalid_argument);
}

namespace {

using proto::context::RunBatch;

/// Appends a task without buffers, over a grid of `blocks`.
void pack(RunBatch::Request& batch, std::uint32_t codelet, std::uint32_t blocks) {
  const RunBatch::PackedRun run{codelet, {blocks, 1, 1}, 0, 0};
  std::memcpy(batch.packed + batch.packed_bytes, &run, sizeof run);
  batch.packed_bytes += static_cast<std::uint32_t>(sizeof run);
  ++batch.count;
}

}  // namespace

TEST_CASE("Tasks of a batch run one after the other, each with its own result and times") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("good", "count");
  REQUIRE(codelet);
  RunBatch::Request batch{.number = 1};
  for (std::uint32_t i = 1; i <= RunBatch::max_tasks; ++i) pack(batch, *codelet, i);
  const auto done = context.client().call<RunBatch>(batch, soon());
  REQUIRE(done);
  REQUIRE(done->count == RunBatch::max_tasks);
  CHECK(done->status == 0);
  CHECK(done->peak_memory_bytes > 0);
  for (std::uint32_t i = 0; i < done->count; ++i) {
    CHECK(done->results[i].words[0] == i + 1);
    CHECK(done->ended[i].end_ns >= done->ended[i].start_ns);
    if (i > 0) CHECK(done->ended[i].start_ns >= done->ended[i - 1].end_ns);
  }
}

TEST_CASE("Tasks without a result have none, whatever those beside them say") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto counts = context.load("good", "count");
  const auto silent = context.load("good", "fail_silently");  // in its second block
  REQUIRE(counts);
  REQUIRE(silent);
  RunBatch::Request batch{.number = 1};
  pack(batch, *silent, 1);
  pack(batch, *counts, 2);
  pack(batch, *silent, 1);
  const auto done = context.client().call<RunBatch>(batch, soon());
  REQUIRE(done);
  REQUIRE(done->count == 3);
  CHECK(done->result_count == 2);
  for (const std::uint32_t i : {0, 2}) CHECK(done->results[i].words[0] == 0);
  CHECK(done->results[1].words[0] == 2);
}

TEST_CASE("A hundred and fifty batches of one task wait in a context, which answers beside them") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("faulty", "loop");
  REQUIRE(codelet);
  int answered = 0;
  for (std::uint64_t number = 1; number <= 150; ++number) {
    RunBatch::Request batch{.number = number};
    pack(batch, *codelet, 1);
    context.client().start<RunBatch>(batch, Deadline::never(),
                                     [&](const Result<RunBatch::Reply>&) { ++answered; });
  }
  CHECK(context.client().call<proto::Null>({}, soon()));
  CHECK(answered == 0);
  context.client().disconnect();
  CHECK(answered == 150);
}

TEST_CASE("A batch of another length than it says ends its link") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  RunBatch::Request batch{.number = 1};
  pack(batch, 1, 1);
  Code code = Code::ok;
  context.client().start_raw(RunBatch::opcode, std::as_bytes(std::span(&batch, 1)), {}, {}, soon(),
                             [&](const Result<std::span<const std::byte>>& answer) {
                               code = answer ? Code::ok : answer.error().code();
                             });
  CHECK(context.client().call<proto::Null>({}, soon()).error().code() == Code::peer_closed);
  CHECK(code == Code::protocol_error);
  CHECK(context.client().call<proto::Null>({}, soon()));  // over the next one
}

TEST_CASE("A batch ends with the first task that fails, and says once why") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto good = context.load("good", "count");
  const auto bad = context.load("good", "fail_silently");
  REQUIRE(good);
  REQUIRE(bad);
  RunBatch::Request batch{};
  batch.number = 7;
  pack(batch, *good, 1);
  pack(batch, *bad, 6);
  pack(batch, *good, 1);
  const auto done = context.client().call<RunBatch>(batch, soon());
  REQUIRE(done);
  CHECK(done->count == 2);
  CHECK(done->status != 0);
  const auto why = context.client().call<proto::context::BatchFailure>({7}, soon());
  REQUIRE(why);
  CHECK(!why->why.view().empty());
  CHECK(context.client().call<proto::context::BatchFailure>({7}, soon()).error().code() ==
        Code::not_found);

  // What cannot be prepared is as good as run and failed.
  RunBatch::Request unknown{};
  unknown.number = 8;
  pack(unknown, *good, 1);
  pack(unknown, 999, 1);
  const auto half = context.client().call<RunBatch>(unknown, soon());
  REQUIRE(half);
  CHECK(half->count == 2);
  CHECK(half->status != 0);
  CHECK(context.client().call<proto::context::BatchFailure>({8}, soon()));
}

TEST_CASE("Batches that are packed wrongly are refused, and nothing of them has run") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto codelet = context.load("good", "count");
  REQUIRE(codelet);
  const auto code_of = [&](const RunBatch::Request& batch) {
    const auto done = context.client().call<RunBatch>(batch, soon());
    return done ? Code::ok : done.error().code();
  };
  CHECK(code_of({.number = 1}) == Code::invalid_argument);
  RunBatch::Request batch{.number = 5};
  pack(batch, *codelet, 1);
  RunBatch::Request broken = batch;
  broken.count = 2;
  CHECK(code_of(broken) == Code::invalid_argument);
  broken = batch;
  broken.count = RunBatch::max_tasks + 1;
  CHECK(code_of(broken) == Code::invalid_argument);
  broken = batch;
  broken.packed_bytes = sizeof broken.packed + 4;
  CHECK(code_of(broken) == Code::invalid_argument);
  broken = batch;
  broken.packed_bytes += 4;
  CHECK(code_of(broken) == Code::invalid_argument);
  broken = batch;
  broken.packed[16] = 200;  // buffers
  CHECK(code_of(broken) == Code::invalid_argument);
  broken = batch;
  broken.after_count = RunBatch::max_after + 1;
  CHECK(code_of(broken) == Code::invalid_argument);
  for (const std::uint16_t distance : {0, 5, 4097, 65535}) {
    broken = batch;
    broken.after_count = 1;
    broken.after[0] = distance;
    CHECK(code_of(broken) == Code::invalid_argument);
  }
  CHECK(code_of(batch) == Code::ok);
  CHECK(code_of(batch) == Code::invalid_argument);  // the number again
}

TEST_CASE("Batches wait for those that they name, and are not begun after one that failed") {
  Rig rig;
  ContextLink context(rig, rig.make_tenant("tenant"));
  const auto good = context.load("good", "count");
  const auto bad = context.load("good", "fail_silently");
  REQUIRE(good);
  REQUIRE(bad);
  const auto run = [&](std::uint64_t number, std::uint32_t codelet, std::uint16_t after) {
    RunBatch::Request batch{.number = number};
    pack(batch, codelet, 6);  // the bad one fails in its sixth block
    if (after != 0) batch.after[batch.after_count++] = static_cast<std::uint16_t>(number - after);
    const auto done = context.client().call<RunBatch>(batch, soon());
    REQUIRE(done);
    return *done;
  };
  CHECK(run(1, *good, 0).count == 1);
  CHECK(run(2, *good, 1).count == 1);
  CHECK(run(3, *bad, 2).status != 0);
  // After the failure is known, and after one that was not begun for it.
  for (const std::uint16_t after : {3, 4}) {
    const auto not_begun = run(after + 1u, *good, after);
    CHECK(not_begun.count == 0);
    CHECK(not_begun.status == static_cast<std::uint32_t>(Code::cancelled));
  }
  CHECK(run(6, *good, 2).count == 1);
  // After one that was refused; which may come again, as it should have been.
  CHECK(!context.client().call<RunBatch>({.number = 7}, soon()));
  CHECK(run(7, *good, 6).count == 1);
  CHECK(!context.client().call<RunBatch>({.number = 8}, soon()));
  CHECK(run(9, *good, 8).count == 0);
}
