// What k-means does beside its codelets: reading lines, choosing first centres, moving them; and
// the arguments of jobs that compute on devices.
#include "abi/lib/mapreduce/kmeans.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>

#include "abi/lib/mapreduce/device_job.hpp"
#include "abi/lib/mapreduce/place.hpp"
#include "services/mapreduce/jobs/point_line.hpp"

namespace {

using namespace aios::mapreduce_client;
using aios::Code;

std::vector<float> numbers(std::string_view line) {
  std::vector<float> all;
  const std::size_t count = aios::points::read_point(line, [&](float one) { all.push_back(one); });
  CHECK(count == all.size());
  return all;
}

std::string complaint(std::string_view line, std::size_t at) {
  try {
    (void)numbers(line);
  } catch (const aios::points::BadPoint& bad) {
    CHECK(bad.at == at);
    return bad.what();
  }
  return "";
}

PointView view(const std::vector<float>& points, std::uint32_t dimensions) {
  return {points.data(), points.size() / dimensions, dimensions};
}

}  // namespace

TEST_CASE("Numbers of a point are separated by commas, blanks or both") {
  CHECK(numbers("1,2.5,-3e2") == std::vector<float>{1, 2.5f, -300});
  CHECK(numbers(" 1\t 2 , +3\r") == std::vector<float>{1, 2, 3});
  CHECK(numbers("7") == std::vector<float>{7});
  CHECK(numbers("").empty());
  CHECK(numbers(" \t\r").empty());
}

TEST_CASE("What is no coordinate is named with its place") {
  CHECK(complaint("1,nan", 2) == "'nan' is not finite, and cannot be a coordinate");
  CHECK(complaint("-inf 1", 0) == "'-inf' is not finite, and cannot be a coordinate");
  CHECK(complaint("1,x2,3", 2) == "'x2' is no number");
  CHECK(complaint("1,0x10", 2) == "'0x10' is no number");
  CHECK(complaint("1 \x01\xff", 2) == "'?\?' is no number");
  CHECK(complaint("+-1", 0) == "'+-1' is no number");
  CHECK(complaint("1,,2", 2) == "a number is missing");
  CHECK(complaint(",1", 0) == "a number is missing");
  CHECK(complaint("1,2, ", 5) == "a number is missing");
  CHECK(complaint("1e400", 0) == "'1e400' is beyond double precision");
  CHECK(complaint("1 1.1e15", 2) == "'1.1e15' is beyond 1e15; scale the points");
  CHECK(complaint(std::string(50, 'z'), 0) == "'" + std::string(40, 'z') + "' is no number");
  std::string many;
  for (std::size_t i = 0; i <= aios::points::max_dimensions; ++i) many += "1 ";
  CHECK(complaint(many, 2 * aios::points::max_dimensions) == "a point has at most 65536 numbers");
}

TEST_CASE("First centres are different points, and the same for the same seed") {
  std::vector<float> points;
  for (int i = 0; i < 300; ++i) points.push_back(static_cast<float>(i % 7));
  const auto chosen = first_centres(view(points, 1), points.size(), 7, 5);
  REQUIRE(chosen);
  CHECK(std::set<float>(chosen->begin(), chosen->end()).size() == 7);
  CHECK(*first_centres(view(points, 1), points.size(), 7, 5) == *chosen);
  std::set<float> begun_with;
  for (std::uint64_t seed = 0; seed < 50; ++seed)
    begun_with.insert(first_centres(view(points, 1), points.size(), 1, seed)->front());
  CHECK(begun_with.size() > 3);
}

TEST_CASE("First centres are the same when only the sample is given") {
  std::vector<float> points, sample;
  for (int i = 0; i < 10'000; ++i) points.push_back(static_cast<float>(i * 7919 % 6007));
  for (std::uint64_t i = 0; i < sample_count(10'000, 5); ++i)
    sample.push_back(points[sample_point(i, sample_count(10'000, 5), 10'000)]);
  REQUIRE(sample.size() < points.size());
  CHECK(*first_centres(view(points, 1), 10'000, 5, 3) ==
        *first_centres(view(sample, 1), 10'000, 5, 3));
}

TEST_CASE("The line of a centre has the shortest text of each number") {
  std::string text = "before\n";
  const std::vector<float> at{0.1f, -3, 1e-20f};
  append_centre(text, 4, 1'000'000, at);
  CHECK(text == "before\n4\t1000000\t0.1,-3,1e-20\n");
}

TEST_CASE("More centres than points, or than different ones, are refused") {
  CHECK(check_centres(3, 3));
  const auto more = check_centres(4, 3);
  REQUIRE_FALSE(more);
  CHECK(more.error().code() == Code::invalid_argument);
  CHECK(more.error().message().find("k=4") == 0);
  const std::vector<float> points{1, 2, 1, 2, 1, 2, 1, 2};
  CHECK(first_centres(view(points, 2), points.size() / 2, 1, 0));
  const auto same = first_centres(view(points, 2), points.size() / 2, 2, 0);
  REQUIRE_FALSE(same);
  CHECK(same.error().message().find("there is only 1 different point in the input") !=
        std::string::npos);
}

TEST_CASE("The sample is all of a small input and evenly spread over a large one") {
  CHECK(sample_count(4000, 3) == 4000);
  CHECK(sample_count(1'000'000, 3) == 4096);
  CHECK(sample_count(1'000'000, 1000) == 16000);
  CHECK(sample_point(0, 4096, 1'000'000) == 0);
  CHECK(sample_point(4095, 4096, 1'000'000) == 999'755);
  CHECK(sample_point((1u << 24) - 1, 1u << 24, ~0ull) == ~0ull - (1ull << 40));
}

TEST_CASE("Centres move to the means of their points, and those without points stay") {
  // Two shares of three centres in two dimensions.
  const std::vector<float> sums{1, 2, 0, 0, 9, 9, 3, 2, 0, 0, 0, 3};
  const std::vector<std::uint32_t> counts{1, 0, 2, 3, 0, 1};
  const ShareSums shares{sums, counts, 2};
  const auto points_of = points_of_centres(shares, 3, 7);
  REQUIRE(points_of);
  CHECK(*points_of == std::vector<std::uint64_t>{4, 0, 3});
  std::vector<float> centres{1, 1, 50, 60, 0, 0};
  CHECK(move_centres(shares, *points_of, centres) == doctest::Approx(5));
  CHECK(centres == std::vector<float>{1, 1, 50, 60, 3, 4});
  CHECK(move_centres(shares, *points_of, centres) == 0);
}

TEST_CASE("Points that a device lost are noticed") {
  const std::vector<std::uint32_t> counts{1, 2};
  const auto lost = points_of_centres({{}, counts, 1}, 2, 4);
  REQUIRE_FALSE(lost);
  CHECK(lost.error().code() == Code::corrupt);
}

TEST_CASE("Arguments of the form NAME=VALUE are told apart from what they are not") {
  const auto parse = [](std::vector<std::string> all) {
    return JobArguments::parse(all, {"k", "tolerance"}, "say k=");
  };
  const auto given = parse({"k=7", "tolerance=1e-3"});
  REQUIRE(given);
  CHECK(*given->whole("k", {}, 1, 10) == 7);
  CHECK(*given->whole("other", 4, 1, 10) == 4);
  CHECK(*given->real("tolerance", 0) == 1e-3);
  CHECK_FALSE(given->whole("k", {}, 8, 10));
  CHECK_FALSE(given->whole("k", {}, 1, 6));
  const auto missing = parse({})->whole("k", {}, 1, 10);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().message() == "k is missing; say k=");
  for (const std::string bad : {"7", "m=7", "=7"}) CHECK_FALSE(parse({bad}));
  CHECK_FALSE(parse({"k=1", "k=2"}));
  for (const std::string bad :
       {"k=", "k=x", "k=1x", "k=-1", "k= 1", "k=1.5", "k=99999999999999999999"})
    CHECK_FALSE(parse({bad})->whole("k", {}, 0, ~0ull));
  for (const std::string bad : {"tolerance=", "tolerance=-1", "tolerance=nan", "tolerance=inf"})
    CHECK_FALSE(parse({bad})->real("tolerance", 0));
}

TEST_CASE("The place of a failure is taken off its message") {
  const auto placed = take_place("@3:17 a number is missing");
  REQUIRE(placed.place);
  CHECK(placed.place->piece == 3);
  CHECK(placed.place->offset == 17);
  CHECK(placed.text == "a number is missing");
  for (const std::string text : {"", "@", "@3", "@3:", "@3:1", "3:1 x", "@x:1 y", "@3:x y"}) {
    CHECK_FALSE(take_place(text).place);
    CHECK(take_place(text).text == text);
  }
}

TEST_CASE("A module without the section is no device job") {
  CHECK_FALSE(device_job_of({}));
  const std::string text(1000, 'x');
  CHECK_FALSE(device_job_of(std::as_bytes(std::span(text))));
}
