#include "services/scheduler/costs/copy_costs.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace aios::scheduler {
namespace {

using Told = CopyCosts::Copies;

constexpr std::uint32_t alice = 1000;
constexpr std::uint64_t mib = 1u << 20;
constexpr std::uint64_t second = 1'000'000'000;

/// So many copies of a size over a bus of so much latency and time per byte.
Told::Sum copies(std::uint64_t count, std::uint64_t bytes, double latency_ns, double ns_per_byte) {
  const double each = latency_ns + ns_per_byte * static_cast<double>(bytes);
  return {count, count * bytes, static_cast<std::uint64_t>(each * static_cast<double>(count))};
}

Told::Reply to_device(const Told::Sum& small, const Told::Sum& large = {}) {
  return {{small, large}, {}};
}

}  // namespace

TEST_CASE("Before anything was copied a bus is as is usual") {
  const CopyCosts costs;
  CHECK(costs.samples() == 0);
  CHECK(costs.to_device().of(mib) > 10'000);
  CHECK(costs.to_device().of(mib) < 1'000'000);
  CHECK(costs.to_device().of(mib) == costs.to_host().of(mib));
}

TEST_CASE("Small and large copies together tell what each takes and what a byte does") {
  CopyCosts costs;
  costs.learn(alice, to_device(copies(10, 1000, 20'000, 0.5), copies(10, 8 * mib, 20'000, 0.5)),
              second);
  CHECK(costs.samples() == 20);
  CHECK(costs.to_device().latency_ns == doctest::Approx(20'000).epsilon(0.01));
  CHECK(costs.to_device().ns_per_byte == doctest::Approx(0.5).epsilon(0.01));
  CHECK(costs.to_host().of(mib) == CopyCosts().to_host().of(mib));
}

TEST_CASE("Large copies alone tell what large ones take, small ones alone what small ones do") {
  CopyCosts large;
  large.learn(alice, to_device({}, copies(3, 4 * mib, 5000, 2)), second);
  CHECK(large.to_device().of(4 * mib) == doctest::Approx(5000 + 8.0 * mib).epsilon(0.01));
  CHECK(large.to_device().of(16 * mib) == doctest::Approx(32.0 * mib).epsilon(0.01));
  CopyCosts small;
  small.learn(alice, to_device(copies(3, 100, 7000, 2)), second);
  CHECK(small.to_device().of(100) == doctest::Approx(7200).epsilon(0.02));
}

TEST_CASE("A bus that has become slower is known as that soon") {
  CopyCosts costs;
  costs.learn(alice, to_device({}, copies(1000, mib, 0, 0.1)), second);
  for (int i = 0; i < 100; ++i) costs.learn(alice, to_device({}, copies(1, mib, 0, 1)), second);
  CHECK(costs.to_device().of(mib) == doctest::Approx(mib).epsilon(0.1));
}

TEST_CASE("What no bus takes, or no copies could be, is not believed") {
  CopyCosts costs;
  const double usual = costs.to_device().of(mib);
  for (const Told::Sum& nonsense : {Told::Sum{0, 5, 5}, Told::Sum{5, 0, 5}, Told::Sum{5, 500, 0},
                                    Told::Sum{~0ull, ~0ull, ~0ull}})
    costs.learn(alice, to_device({}, nonsense), second);
  CHECK(costs.to_device().of(mib) == usual);
  CHECK(costs.samples() == 0);
  // Large ones among the small.
  costs.learn(alice, to_device(copies(1, mib, 0, 1)), second);
  CHECK(costs.to_device().of(mib) == usual);
  costs.learn(alice, to_device({}, {1, mib, ~0ull}), second);
  CHECK(costs.to_device().of(mib) == usual);
  CHECK(costs.samples() == 0);
}

TEST_CASE("More copies or bytes than a device could do since it was asked are not believed") {
  CopyCosts costs;
  constexpr std::uint64_t huge = 1ull << 60;
  for (const Told::Sum& nonsense :
       {Told::Sum{huge, huge * 15, huge}, Told::Sum{1, huge, huge}, Told::Sum{1, mib, huge},
        Told::Sum{huge, huge, huge}, Told::Sum{1000, 1000 * huge / 100, 1000}})
    costs.learn(alice, {{nonsense, nonsense}, {nonsense, nonsense}}, second);
  // Not even of one that was asked long ago.
  costs.learn(alice, to_device({}, {1, huge, huge}), ~0ull);
  CHECK(costs.samples() == 0);
  CHECK(costs.save(0).empty());
  // What is one after a second is none after a microsecond.
  const Told::Sum many = copies(1000, mib, 0, 0.1);
  costs.learn(alice, to_device({}, many), 1000);
  CHECK(costs.samples() == 0);
  costs.learn(alice, to_device({}, many), second);
  CHECK(costs.samples() == 1000);
}

TEST_CASE("Whatever contexts say, what is kept of it can be read again") {
  CopyCosts costs;
  for (int bit = 0; bit < 64; ++bit)
    for (int shift = 0; shift < 64; ++shift)
      for (const std::uint64_t within : {std::uint64_t{1000}, second, ~std::uint64_t{0}}) {
        const Told::Sum sum{1ull << bit, 1ull << shift, 1ull << (bit ^ shift)};
        costs.learn(alice, {{sum, sum}, {sum, sum}}, within);
      }
  CHECK(costs.samples() > 0);
  SavedCosts of;
  of.devices = {"gpu 7"};
  const auto read = read_history(write_history(of, {}, costs.save(0)));
  REQUIRE(read);
  REQUIRE(read->copies.size() == 1);
  for (const auto& way : read->copies[0].means)
    for (const SavedCopies::Mean& mean : way) CHECK(mean.weight <= 32);
}

TEST_CASE("Of what was kept, means of no copies are none") {
  SavedCopies saved{0, alice, {}};
  saved.means[0][0] = {0, std::nan(""), std::nan("")};
  saved.means[0][1] = {std::nan(""), 1, 1};
  CopyCosts costs;
  costs.restore(saved);
  CHECK(costs.samples() == 0);
  costs.learn(alice, to_device(copies(4, 1000, 20'000, 0)), second);
  CHECK(costs.to_device().latency_ns == doctest::Approx(20'000));
}

TEST_CASE("A user whose contexts lie keeps nobody from a device") {
  CopyCosts costs;
  costs.learn(alice, to_device({}, copies(10, mib, 0, 0.1)), second);
  const double honest = costs.to_device().of(mib);
  costs.learn(2000, to_device({}, copies(10, mib, 0, 90)), second);
  CHECK(costs.to_device().of(mib) == honest);
  costs.learn(3000, to_device({}, copies(10, mib, 0, 0.2)), second);
  CHECK(costs.to_device().of(mib) == doctest::Approx(0.2 * mib).epsilon(0.1));
  // However many there have been, the last ones are remembered.
  for (std::uint32_t user = 0; user < 1000; ++user)
    costs.learn(10'000 + user, to_device({}, copies(1, mib, 0, 0.3)), second);
  CHECK(costs.to_device().of(mib) == doctest::Approx(0.3 * mib).epsilon(0.1));
}

TEST_CASE("What copies took is kept over restarts, and overruled by what is measured now") {
  CopyCosts before;
  before.learn(alice, to_device(copies(100, 1000, 20'000, 0.5), copies(100, 8 * mib, 20'000, 0.5)),
               second);
  before.learn(alice + 1, to_device({}, copies(3, mib, 0, 3)), second);
  CopyCosts after;
  for (const SavedCopies& saved : before.save(4)) {
    CHECK(saved.device == 4);
    after.restore(saved);
  }
  CHECK(after.to_device().of(mib) == doctest::Approx(before.to_device().of(mib)));
  CHECK(after.to_device().latency_ns == doctest::Approx(before.to_device().latency_ns));
  CHECK(after.samples() == 16 + 16 + 3);
  // It says what is known of that user now, so what was before no longer counts.
  after.restore(before.save(4).front());
  CHECK(after.samples() == 16 + 16 + 3);
  for (int i = 0; i < 100; ++i) {
    after.learn(alice, to_device({}, copies(1, 8 * mib, 0, 2)), second);
    after.learn(alice + 1, to_device({}, copies(1, 8 * mib, 0, 2)), second);
  }
  CHECK(after.to_device().of(8 * mib) == doctest::Approx(16.0 * mib).epsilon(0.1));
}

}  // namespace aios::scheduler
