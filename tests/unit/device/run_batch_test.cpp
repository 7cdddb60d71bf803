// Batches of brief tasks: one after the other, and on a device with a queue of its own.
#include "drivers/device/run_batch.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "abi/runtime/time.hpp"

using namespace aios;
using namespace aios::device;

namespace {

/// What happened, in order: "b1" for the begin of task 1, "e1" for its end.
using Diary = std::vector<std::string>;

class NotedWork final : public Work {
 public:
  NotedWork(Diary& diary, std::uint32_t number, std::uint32_t refuses, std::uint32_t fails,
            std::uint32_t crashes)
      : diary_(diary), number_(number), refuses_(refuses), fails_(fails), crashes_(crashes) {}
  std::uint32_t block_count() const override { return 1; }
  Result<> begin() override {
    diary_.push_back("b" + std::to_string(number_));
    if (number_ == refuses_) return error(Code::invalid_argument, "not launched");
    return {};
  }
  Result<> run_block(std::uint32_t) override {
    diary_.push_back("e" + std::to_string(number_));
    result_[0] = number_ * 10;
    if (number_ == fails_) return error(Code::io_error, "task " + std::to_string(number_));
    if (number_ == crashes_) return error(Code::crashed, "task " + std::to_string(number_));
    return {};
  }
  const std::array<std::uint64_t, AIOS_RESULT_WORDS>& result() const override { return result_; }
  std::uint64_t transfer_ns() const override { return number_ * 1'000; }
  std::uint64_t ahead_ns() const override { return number_ * 700; }

 private:
  Diary& diary_;
  const std::uint32_t number_, refuses_, fails_, crashes_;
  std::array<std::uint64_t, AIOS_RESULT_WORDS> result_{};
};

class NotedBackend final : public Backend {
 public:
  Result<std::uint32_t> load(std::span<const std::byte>, std::string_view) override { return 0u; }
  Result<std::shared_ptr<Work>> prepare(const proto::context::Run::Request& request,
                                        const BufferTable&) override {
    if (request.grid[0] == unknown) return error(Code::invalid_argument, "no such codelet");
    return std::make_shared<NotedWork>(diary, request.grid[0], refuses, fails, crashes);
  }
  std::uint64_t peak_memory_bytes() const override { return 0; }

  Diary diary;
  std::uint32_t unknown = 0;  ///< task that cannot be prepared; 0: none
  std::uint32_t refuses = 0;  ///< that the device does not take
  std::uint32_t fails = 0;    ///< that fails there
  std::uint32_t crashes = 0;  ///< with which the device is lost
};

std::shared_ptr<RunBatch> batch_of(NotedBackend& backend, std::uint32_t count) {
  RunBatch::Message::Request request{.number = 1};
  for (std::uint32_t i = 1; i <= count; ++i) {
    const RunBatch::Message::PackedRun run{0, {i, 1, 1}, 0, 0};
    std::memcpy(request.packed + request.packed_bytes, &run, sizeof run);
    request.packed_bytes += sizeof run;
    ++request.count;
  }
  auto batch = RunBatch::create(request, backend, BufferTable{});
  REQUIRE(batch);
  return *batch;
}

void check_ended(const RunBatch& batch, std::uint32_t count) {
  REQUIRE(batch.reply().count == count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto& ended = batch.reply().ended[i];
    CHECK(ended.start_ns <= ended.end_ns);
    CHECK(batch.reply().results[i].words[0] == (i + 1) * 10);
  }
}

}  // namespace

TEST_CASE("A batch runs its tasks one after the other until one fails") {
  NotedBackend backend;
  backend.fails = 2;
  const auto batch = batch_of(backend, 3);
  CHECK_FALSE(batch->run());
  CHECK(backend.diary == Diary{"b1", "e1", "b2", "e2"});
  check_ended(*batch, 2);
  CHECK(batch->reply().status == static_cast<std::uint32_t>(Code::io_error));
  CHECK(batch->failure()->message() == "task 2");
}

TEST_CASE("A queue is handed all tasks of a batch before the first is waited for") {
  NotedBackend backend;
  const auto batch = batch_of(backend, 3);
  batch->begin_all();
  CHECK(backend.diary == Diary{"b1", "b2", "b3"});
  CHECK(batch->end_all());
  CHECK(backend.diary == Diary{"b1", "b2", "b3", "e1", "e2", "e3"});
  check_ended(*batch, 3);
  CHECK(batch->reply().transfer_ns == 6'000);
  CHECK(batch->reply().ahead_us == 4);
  CHECK_FALSE(batch->failure());
}

TEST_CASE("What a queue was handed behind a task that failed has ended when the batch is over") {
  NotedBackend backend;
  backend.fails = 2;
  const auto batch = batch_of(backend, 4);
  batch->begin_all();
  CHECK_FALSE(batch->end_all());
  CHECK(backend.diary.size() == 8);
  check_ended(*batch, 2);
  CHECK(batch->failure()->message() == "task 2");
}

TEST_CASE("That the device was lost is what a batch failed of, also where another failed before") {
  NotedBackend backend;
  backend.fails = 1;
  backend.crashes = 3;
  const auto batch = batch_of(backend, 3);
  batch->begin_all();
  CHECK(batch->end_all().error().code() == Code::crashed);
  CHECK(batch->failure()->message() == "task 3");
}

TEST_CASE("A queue that does not take a task gets none of those behind it") {
  NotedBackend backend;
  backend.refuses = 3;
  const auto batch = batch_of(backend, 4);
  CHECK(!batch->will_fail());
  batch->begin_all();
  CHECK(batch->will_fail());
  CHECK_FALSE(batch->end_all());
  CHECK(backend.diary == Diary{"b1", "b2", "b3", "e1", "e2"});
  CHECK(batch->reply().count == 3);
  CHECK(batch->failure()->message() == "not launched");
  // One that fails before it comes first.
  backend.diary.clear();
  backend.fails = 1;
  const auto other = batch_of(backend, 4);
  other->begin_all();
  CHECK_FALSE(other->end_all());
  CHECK(other->reply().count == 1);
  CHECK(other->failure()->message() == "task 1");
}

TEST_CASE("A task that cannot be prepared ends a batch on a queue as it does elsewhere") {
  NotedBackend backend;
  backend.unknown = 2;
  for (const bool queue : {false, true}) {
    backend.diary.clear();
    const auto batch = batch_of(backend, 3);
    if (queue) batch->begin_all();
    const Result<> outcome = queue ? batch->end_all() : batch->run();
    CHECK_FALSE(outcome);
    CHECK(backend.diary == Diary{"b1", "e1"});
    CHECK(batch->reply().count == 2);
    CHECK(batch->failure()->message() == "no such codelet");
  }
}
