#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "services/mapreduce/run.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;

struct Counting : mr::Words {
  using Value = std::uint64_t;
  void map(std::string_view word, auto& out) { out.emit(word, 1); }
};

std::vector<char> make_run(std::uint64_t seed, std::uint32_t partitions) {
  std::mt19937_64 random(seed);
  Input input;
  std::string text;
  for (int i = 0; i < 30000; ++i) text += std::to_string(random()) + " ";
  input.add(text);
  input.cut(1u << 30, 1);
  LocalOptions options;
  options.partitions = partitions;
  LocalJob<Counting> job(options);
  REQUIRE(job.map(input.splits[0]));
  REQUIRE(job.runs.size() == 1);
  return job.runs[0];
}

std::span<const std::byte> bytes_of(const std::vector<char>& run) {
  return std::as_bytes(std::span(run));
}

}  // namespace

TEST_CASE("A run says where its partitions are and which part of one holds a range of keys") {
  const std::vector<char> run = make_run(1, 3);
  const auto info = mr::read_run(bytes_of(run), 3);
  REQUIRE(info);
  std::uint64_t records = 0;
  for (const auto& partition : info->partitions) records += partition.records;
  CHECK(records == info->records);
  const std::uint64_t middle = mr::engine::key_prefix("5", 1);
  for (std::uint32_t p = 0; p < 3; ++p) {
    const std::uint64_t all = info->partitions[p].bytes;
    CHECK(info->extent(p, 0, false, 0) == std::pair<std::uint64_t, std::uint64_t>(0, all));
    const auto low = info->extent(p, 0, true, middle), high = info->extent(p, middle, false, 0);
    CHECK(low.first == 0);
    CHECK(high.second == all);
    CHECK(high.first <= low.second);
    CHECK(low.second - high.first <= 2 * mr::engine::index_stride_bytes + 64);
  }
}

TEST_CASE("Boundaries cut a partition into ranges of about the size asked for") {
  const std::vector<char> first = make_run(1, 1), second = make_run(2, 1);
  const auto a = mr::read_run(bytes_of(first), 1), b = mr::read_run(bytes_of(second), 1);
  REQUIRE((a && b));
  const auto boundaries = mr::choose_boundaries({&*a, &*b}, 0, 200000);
  CHECK(boundaries.size() >= 4);
  CHECK(std::is_sorted(boundaries.begin(), boundaries.end()));
  CHECK(std::adjacent_find(boundaries.begin(), boundaries.end()) == boundaries.end());
  CHECK(mr::choose_boundaries({}, 0, 1000).empty());
}

TEST_CASE("A run that makes no sense is refused and never read outside of it") {
  const std::vector<char> whole = make_run(3, 4);
  CHECK_FALSE(mr::read_run(bytes_of(whole).first(40), 4));
  CHECK_FALSE(mr::read_run(bytes_of(whole), 3));
  CHECK_FALSE(mr::read_run(bytes_of(whole).first(whole.size() - 1), 4));
  std::mt19937_64 random(4);
  mr::engine::RunHeader header;
  std::memcpy(&header, whole.data(), sizeof header);
  for (int i = 0; i < 500; ++i) {
    std::vector<char> run = whole;
    const bool in_index = random() % 2 == 0;
    const std::size_t begin = in_index ? header.index_offset : 0;
    const std::size_t length = in_index ? whole.size() - begin : 320;
    for (unsigned n = 1 + random() % 3; n != 0; --n)
      run[begin + random() % length] = static_cast<char>(random());
    const auto info = mr::read_run(bytes_of(run), 4);
    if (!info) continue;
    for (std::uint32_t p = 0; p < 4; ++p) {
      const auto extent = info->extent(p, random(), true, random());
      CHECK(extent.first <= extent.second);
      CHECK(extent.second <= info->partitions[p].bytes);
    }
  }
}
