// What was learned, kept over restarts: the record, and what costs make of it.
#include "services/scheduler/costs/history_record.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "services/scheduler/core/parts/admission.hpp"
#include "services/scheduler/costs/learned_costs.hpp"

namespace aios::scheduler {
namespace {

constexpr DeviceId cpu = 0;
constexpr DeviceId gpu = 1;
constexpr std::uint64_t hash = 77;

void add_devices(LearnedCosts& costs, bool with_gpu = true) {
  costs.set_device(cpu, {.name = "cpu0", .backend = 1, .identity = "cpu of here"});
  if (with_gpu) costs.set_device(gpu, {.name = "gpu1", .backend = 2, .identity = "gpu 7"});
}

WorkId size_of(LearnedCosts& costs, CodeletId codelet, double bytes) {
  return costs.work(codelet, {static_cast<std::uint64_t>(bytes), bytes, 1});
}

/// Costs that have seen two codelets on two devices; times by size.
LearnedCosts taught() {
  LearnedCosts costs;
  add_devices(costs);
  std::mt19937_64 random(5);
  std::normal_distribution<double> noise(0, 0.1);
  for (const char* name : {"one", "two"}) {
    const CodeletId codelet = costs.open_codelet({hash, 1000, name}, {});
    for (int i = 0; i < 40; ++i)
      for (const double bytes : {1e4, 1e5, 1e6}) {
        const WorkId work = size_of(costs, codelet, bytes);
        costs.learn({work, cpu, bytes * 10 * std::exp(noise(random)), bytes});
        costs.learn({work, gpu, bytes * std::exp(noise(random)), 0});
      }
    costs.close_codelet(codelet);
  }
  return costs;
}

std::vector<std::byte> record_of(const LearnedCosts& costs) {
  return write_history(costs.save(max_history_bytes), {{1000, 9, 0.25, 0.01, 1.5}});
}

}  // namespace

TEST_CASE("What was learned predicts the same after it was stored and restored") {
  LearnedCosts before = taught();
  const auto record = record_of(before);
  const auto read = read_history(record);
  REQUIRE(read);
  LearnedCosts after;
  add_devices(after);
  after.restore(read->costs);
  for (const char* name : {"one", "two"}) {
    const CodeletId a = before.open_codelet({hash, 1000, name}, {});
    const CodeletId b = after.open_codelet({hash, 1000, name}, {});
    for (const double bytes : {1e4, 1e5, 1e6, 3e5})
      for (const DeviceId device : {cpu, gpu}) {
        const Estimate x = before.estimate(size_of(before, a, bytes), device);
        const Estimate y = after.estimate(size_of(after, b, bytes), device);
        CHECK(y.time.mean == doctest::Approx(x.time.mean).epsilon(0.02));
        CHECK(y.level >= Level::regression);
        CHECK(y.samples <= most_restored_samples);
      }
    CHECK(after.estimate(size_of(after, b, 1e5), cpu).memory.mean ==
          doctest::Approx(1e5).epsilon(0.02));
  }
  REQUIRE(read->users.size() == 1);
  CHECK(read->users[0].mean == 0.25);
}

TEST_CASE("A restored history is overruled by what is measured now within a few samples") {
  const auto read = read_history(record_of(taught()));
  LearnedCosts after;
  add_devices(after);
  after.restore(read->costs);
  const CodeletId codelet = after.open_codelet({hash, 1000, "one"}, {});
  const WorkId work = size_of(after, codelet, 1e5);
  for (int i = 0; i < 12; ++i) after.learn({work, cpu, 4e6, 0});
  CHECK(after.estimate(work, cpu).time.mean == doctest::Approx(4e6).epsilon(0.1));
}

TEST_CASE("What is known already is not overwritten, and other users and modules get nothing") {
  const auto read = read_history(record_of(taught()));
  LearnedCosts after;
  add_devices(after);
  const CodeletId own = after.open_codelet({hash, 1000, "one"}, {});
  const WorkId work = size_of(after, own, 1e5);
  for (int i = 0; i < 5; ++i) after.learn({work, cpu, 3e7, 0});
  after.restore(read->costs);
  CHECK(after.estimate(work, cpu).time.mean == doctest::Approx(3e7).epsilon(0.1));
  for (const CodeletKey& key : {CodeletKey{hash, 1001, "one"}, CodeletKey{hash + 1, 1000, "one"}}) {
    const CodeletId other = after.open_codelet(key, {});
    CHECK(after.estimate(size_of(after, other, 1e5), cpu).level == Level::none);
  }
}

TEST_CASE("A device that comes later gets its history then, another in its place gets none") {
  const auto read = read_history(record_of(taught()));
  LearnedCosts after;
  add_devices(after, false);
  after.restore(read->costs);
  const CodeletId codelet = after.open_codelet({hash, 1000, "one"}, {});
  after.set_device(gpu, {.name = "gpu1", .backend = 2, .identity = "gpu 8"});
  after.restore(read->costs);
  CHECK(after.estimate(size_of(after, codelet, 1e5), gpu).level < Level::regression);
  after.set_device(2, {.name = "gpu2", .backend = 2, .identity = "gpu 7"});
  after.restore(read->costs);
  CHECK(after.estimate(size_of(after, codelet, 1e5), 2).time.mean ==
        doctest::Approx(1e5).epsilon(0.1));
}

TEST_CASE("A record is bounded: those used last are in it") {
  LearnedCosts costs = taught();
  const SavedCosts all = costs.save(max_history_bytes);
  REQUIRE(all.codelets.size() == 2);
  CHECK(all.codelets[0].key.function == "two");
  const SavedCosts some = costs.save(bytes_of(all.codelets[0]) + 10);
  REQUIRE(some.codelets.size() == 1);
  CHECK(some.codelets[0].key.function == "two");
  const CodeletId nameless = costs.open_codelet({0, 1000, "no hash"}, {});
  costs.learn({size_of(costs, nameless, 1), cpu, 5, 0});
  CHECK(costs.save(max_history_bytes).codelets.size() == 2);
}

TEST_CASE("Damaged, cut, extended and foreign records are refused, and nonsense with a checksum") {
  const auto record = record_of(taught());
  for (std::size_t at = 0; at < record.size(); at += 7) {
    auto damaged = record;
    damaged[at] ^= std::byte{0x10};
    CHECK_FALSE(read_history(damaged));
  }
  for (std::size_t length = 0; length < record.size(); length += 13)
    CHECK_FALSE(read_history(std::span(record).first(length)));
  auto extended = record;
  extended.push_back(std::byte{0});
  CHECK(read_history(extended).error().code() == Code::corrupt);
  auto foreign = record;
  foreign[8] = std::byte{99};
  CHECK(read_history(foreign).error().code() == Code::version_mismatch);
  SavedCosts costs = taught().save(max_history_bytes);
  for (int what = 0; what < 5; ++what) {
    SavedCosts wrong = costs;
    SavedSeries& series = wrong.codelets[0].sizes[0].series[0];
    if (what == 0) series.mean = std::nan("");
    if (what == 1) series.variance = -1;
    if (what == 2) series.device = 2;
    if (what == 3) wrong.codelets[0].trends[0].regression.weights[1] = INFINITY;
    if (what == 4) wrong.codelets[0].sizes[0].features.bytes = -4;
    CHECK(read_history(write_history(wrong, {})).error().code() == Code::corrupt);
  }
}

TEST_CASE("How far a user's predictions were off is restored for that user alone") {
  Admission admission;
  admission.restore({{1000, 40, std::log(2.0), 0.01, 1.0}});
  constexpr std::uint64_t ms = 1'000'000;
  CHECK(admission.look({10e6, 0, 900 * ms, 1000}, 0).finish_ns == 20 * ms);
  CHECK(admission.look({10e6, 0, 900 * ms, 1001}, 0).finish_ns == 10 * ms);
  REQUIRE(admission.save().size() == 1);
  CHECK(admission.save()[0].samples == most_restored_samples);
}

TEST_CASE(
    "What copies took is stored beside what tasks take; what makes no sense is left out alone") {
  SavedCopies copies{gpu, 1000, {}};
  copies.means[0][0] = {5, 1000, 20'000};
  copies.means[1][1] = {7, 1u << 20, 300'000};
  const auto read = read_history(write_history(taught().save(max_history_bytes), {}, {copies}));
  REQUIRE(read);
  REQUIRE(read->copies.size() == 1);
  CHECK(read->costs.devices.at(read->copies[0].device) == "gpu 7");
  CHECK(read->copies[0].means[0][0].ns == 20'000);
  CHECK(read->copies[0].means[1][1].weight == 7);
  CHECK(read->costs.codelets.size() == 2);
  const auto refused = [&](auto change) {
    SavedCopies bad = copies;
    change(bad);
    bad.user = 66;
    const auto told = read_history(write_history(taught().save(max_history_bytes),
                                                 {{1000, 9, 0.25, 0.01, 1.5}}, {bad, copies}));
    REQUIRE(told);
    CHECK(told->costs.codelets.size() == 2);
    CHECK(told->users.size() == 1);
    REQUIRE(!told->copies.empty());
    CHECK(told->copies.back().user == 1000);
    return told->copies.size() == 1;
  };
  CHECK_FALSE(refused([](SavedCopies&) {}));
  CHECK(refused([](SavedCopies& bad) { bad.means[0][0].weight = 1e18; }));
  CHECK(refused([](SavedCopies& bad) { bad.means[0][1].weight = std::nan(""); }));
  CHECK(refused([](SavedCopies& bad) { bad.means[1][1].ns = 1e19; }));
  CHECK(refused([](SavedCopies& bad) { bad.device = 2; }));
  CHECK(refused([](SavedCopies& bad) { bad.means[0][0].ns = -1; }));
  CHECK(refused([](SavedCopies& bad) { bad.means[0][0].bytes = std::nan(""); }));
  // Small copies that are large.
  CHECK(refused([](SavedCopies& bad) { bad.means[0][0].bytes = 1u << 20; }));
  CHECK(refused([](SavedCopies& bad) { bad.means[1][1].bytes = 1000; }));
}

}  // namespace aios::scheduler
