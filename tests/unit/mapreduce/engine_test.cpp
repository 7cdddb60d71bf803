// The engine that is compiled into every job: random texts against a plain count, over splits,
// budgets and partitions.
#include <doctest/doctest.h>

#include <sstream>

#include "tests/unit/mapreduce/local_job.hpp"
#include "tests/unit/mapreduce/texts.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;

struct WordCount : mr::Words {
  using Value = std::uint64_t;
  static constexpr const char* counters[] = {"words", "upper"};
  void map(std::string_view word, auto& out) {
    out.emit(word, 1);
    out.count(0);
    if (word[0] >= 'A' && word[0] <= 'Z') out.count(1);
  }
};

struct LineCount : mr::Lines {
  using Value = std::uint64_t;
  void map(std::string_view line, auto& out) { out.emit(line, 1); }
};

/// Every word of a line, with all the lines' beginnings it occurs in, in order of the input.
struct Index : mr::Lines {
  void map(std::string_view line, auto& out) {
    std::istringstream words{std::string(line)};
    for (std::string word; words >> word;) out.emit(word, line.substr(0, 6));
  }
  void reduce(std::string_view, mr::Values& values, auto& out) {
    std::string all;
    while (auto value = values.next()) (all += *value) += ',';
    out.emit(all);
  }
};

}  // namespace

TEST_CASE("Words are counted the same for every way to cut the input") {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    Input input = random_input(seed, 4, seed < 5 ? 1500 : 20000);
    const std::string expected = count_words(input.texts);
    for (const std::uint64_t piece_bytes : {1u, 7u, 64u, 1000u, 100000u}) {
      if (piece_bytes < 64 && seed > 4) continue;
      input.cut(piece_bytes, 5);
      LocalJob<WordCount> job({});
      const auto parts = job.run(input.splits);
      REQUIRE_MESSAGE(parts.size() == 1, job.message);
      CHECK(parts[0] == expected);
    }
  }
}

TEST_CASE("A table or run that is too small for a split only makes more runs") {
  Input input = random_input(7, 3, 400000);
  input.cut(150000, 2);
  const std::string expected = count_words(input.texts);
  for (const std::uint64_t run_bytes : {20u << 10, 64u << 10, 1u << 20}) {
    for (const std::uint64_t table_bytes : {200u << 10, 4u << 20}) {
      LocalOptions options;
      options.run_bytes = run_bytes;
      options.table_bytes = table_bytes;
      LocalJob<WordCount> job(options);
      const auto parts = job.run(input.splits);
      REQUIRE_MESSAGE(parts.size() == 1, job.message);
      CHECK(parts[0] == expected);
      if (run_bytes == 20u << 10) CHECK(job.map_tasks > input.splits.size());
    }
  }
}

TEST_CASE("Small windows and small outputs give the same lines in more tasks") {
  Input input = random_input(8, 3, 300000);
  input.cut(50000, 1);
  const std::string expected = count_words(input.texts);
  for (const std::uint64_t window_bytes : {16u, 300u, 5000u}) {
    LocalOptions options;
    options.window_bytes = window_bytes;
    options.output_bytes = 3000;
    LocalJob<WordCount> job(options);
    const auto parts = job.run(input.splits);
    REQUIRE_MESSAGE(parts.size() == 1, job.message);
    CHECK(parts[0] == expected);
    CHECK(job.reduce_tasks > 10);
  }
}

TEST_CASE("Partitions hold every key once, each in order") {
  Input input = random_input(9, 3, 200000);
  input.cut(30000, 1);
  LocalOptions options;
  options.partitions = 7;
  LocalJob<WordCount> job(options);
  const auto parts = job.run(input.splits);
  REQUIRE(parts.size() == 7);
  std::vector<std::string> lines;
  for (const std::string& part : parts) {
    std::string previous;
    for (std::size_t at = 0; at < part.size();) {
      const std::size_t end = part.find('\n', at);
      const std::string line = part.substr(at, end - at);
      const std::string key = line.substr(0, line.find('\t'));
      CHECK((at == 0 || previous < key));
      previous = key;
      lines.push_back(line);
      at = end + 1;
    }
  }
  std::sort(lines.begin(), lines.end(), [](const std::string& a, const std::string& b) {
    return a.substr(0, a.find('\t')) < b.substr(0, b.find('\t'));
  });
  std::string joined;
  for (const std::string& line : lines) joined += line + "\n";
  CHECK(joined == count_words(input.texts));
}

TEST_CASE("Ranges of keys put together are the whole part") {
  Input input = random_input(10, 2, 200000);
  input.cut(30000, 1);
  LocalJob<WordCount> job({});
  for (const auto& split : input.splits) REQUIRE(job.map(split));
  const std::uint64_t a = aios::mapreduce::engine::key_prefix("aba", 3);
  const std::uint64_t b = aios::mapreduce::engine::key_prefix("abbbbbbb", 8);
  std::string part;
  REQUIRE(job.reduce(0, 0, a, true, part));
  REQUIRE(job.reduce(0, a, b, true, part));
  REQUIRE(job.reduce(0, b, 0, false, part));
  CHECK(part == count_words(input.texts));
}

TEST_CASE("Lines may lack the last newline and span pieces") {
  Input input;
  input.add("one\ntwo\n\none");
  input.add("");
  input.add("\n");
  input.add("two\r\none\n");
  for (const std::uint64_t piece_bytes : {1u, 2u, 3u, 5u, 100u}) {
    input.cut(piece_bytes, 3);
    LocalJob<LineCount> job({});
    const auto parts = job.run(input.splits);
    REQUIRE_MESSAGE(parts.size() == 1, job.message);
    CHECK(parts[0] == "\t2\none\t3\ntwo\t1\ntwo\r\t1\n");
    CHECK(job.records == 7);
  }
}

TEST_CASE("Byte-string values reach reduce in the order of the input for every way to cut it") {
  std::mt19937_64 random(11);
  std::string text;
  for (int i = 100000; i < 103000; ++i) {
    text += std::to_string(i);
    for (unsigned n = random() % 6; n != 0; --n) text += " w" + std::to_string(random() % 50);
    text += '\n';
  }
  Input input;
  input.add(text);
  std::string expected;
  for (const std::uint64_t piece_bytes : {1000000u, 10000u, 777u}) {
    for (const std::uint64_t window_bytes : {0u, 400u}) {
      input.cut(piece_bytes, 2);
      LocalOptions options;
      options.run_bytes = piece_bytes == 777 ? 16u << 10 : 1u << 20;
      options.window_bytes = window_bytes;
      options.output_bytes = window_bytes == 0 ? 1u << 20 : 9000;
      LocalJob<Index> job(options);
      const auto parts = job.run(input.splits);
      REQUIRE_MESSAGE(parts.size() == 1, job.message);
      if (expected.empty()) expected = parts[0];
      CHECK(parts[0] == expected);
    }
  }
  CHECK(expected.find("w7\t10") != expected.npos);
}

TEST_CASE("A word of 1 MiB is counted and a longer one is refused with its place") {
  Input input;
  input.add("x " + std::string(mr::engine::max_word_bytes, 'y') + " z\n");
  input.cut(700000, 1);
  LocalOptions options;
  options.run_bytes = 64 << 10;  // grows when one record needs it
  LocalJob<WordCount> job(options);
  const auto parts = job.run(input.splits);
  REQUIRE_MESSAGE(parts.size() == 1, job.message);
  CHECK(parts[0] == count_words(input.texts));

  Input longer;
  longer.add("x");
  longer.add("abc " + std::string(mr::engine::max_word_bytes + 1, 'y'));
  longer.cut(10 << 20, 2);
  LocalJob<WordCount> refused({});
  CHECK(refused.run(longer.splits).empty());
  CHECK(refused.code == mr::Failure::too_large);
  CHECK(refused.message == "@1:4 a word here is longer than 1 MiB");
}

TEST_CASE("Words that share very long beginnings are told apart and take no more stack") {
  std::string text;
  for (int i = 0; i < 700; ++i)
    text +=
        std::string(static_cast<std::size_t>(3000 + i % 50), 'y') + std::to_string(i % 300) + " ";
  Input input;
  input.add(text + std::string(800000, 'z') + "b " + std::string(800000, 'z') + "a " +
            std::string(800000, 'z'));
  input.cut(10 << 20, 1);
  LocalOptions options;
  options.table_bytes = 64u << 20;
  options.run_bytes = 16u << 20;
  options.output_bytes = 16u << 20;
  LocalJob<WordCount> job(options);
  const auto parts = job.run(input.splits);
  REQUIRE_MESSAGE(parts.size() == 1, job.message);
  CHECK(parts[0] == count_words(input.texts));
}

TEST_CASE("A line longer than 16 MiB is refused with its place") {
  Input input;
  input.add("short\n" + std::string(mr::engine::max_line_bytes + 1, 'y') + "\n");
  input.cut(1u << 30, 1);
  LocalJob<LineCount> job({});
  CHECK(job.run(input.splits).empty());
  CHECK(job.message == "@0:6 the line here is longer than 16 MiB");
}

TEST_CASE("A file that became shorter is source_changed with its place") {
  Input input;
  input.add("one two three");
  input.cut(100, 1);
  REQUIRE(::ftruncate(input.files[0].get(), 4) == 0);
  LocalJob<WordCount> job({});
  CHECK(job.run(input.splits).empty());
  CHECK(job.code == mr::Failure::source_changed);
  CHECK(job.message.substr(0, 5) == "@0:4 ");
}

namespace {

struct Picky : mr::Lines {
  using Value = std::uint64_t;
  explicit Picky(const mr::Arguments& arguments) {
    if (arguments.size() != 1) throw mr::Failure("one argument is needed");
    bad_ = arguments[0];
  }
  void map(std::string_view line, auto& out) {
    if (line == bad_) throw std::runtime_error("cannot use this line");
    if (line == "newline") out.emit("a\nb", 1);
    for (int i = 0; line == "many" && i < 20000; ++i) out.emit("key" + std::to_string(i), 1);
    out.emit(line, 1);
  }
  std::string_view bad_;
};

}  // namespace

TEST_CASE("What a job throws fails the task with the message and the place") {
  Input input;
  input.add("fine\nbad\n");
  input.cut(100, 1);
  LocalOptions options;
  options.arguments = {"bad"};
  LocalJob<Picky> job(options);
  CHECK(job.run(input.splits).empty());
  CHECK(job.message == "@0:5 cannot use this line");
  LocalJob<Picky> no_arguments({});
  CHECK(no_arguments.run(input.splits).empty());
  CHECK(no_arguments.message == "one argument is needed");
}

TEST_CASE("A key with a newline is refused") {
  Input input;
  input.add("newline\n");
  input.cut(100, 1);
  LocalOptions options;
  options.arguments = {"bad"};
  LocalJob<Picky> job(options);
  CHECK(job.run(input.splits).empty());
  CHECK(job.message == "the job emitted a key with a newline");
}

TEST_CASE("A record that emits more than fits is left to the next task, whole") {
  Input input;
  std::string text;
  for (int i = 0; i < 500; ++i) text += "line" + std::to_string(i) + "\n";
  input.add(text + "many\n" + text);
  input.cut(1000000, 1);
  LocalOptions options;
  options.arguments = {"bad"};
  options.run_bytes = 64 << 10;
  LocalJob<Picky> job(options);
  const auto parts = job.run(input.splits);
  REQUIRE_MESSAGE(parts.size() == 1, job.message);
  CHECK(job.records == 1001);
  CHECK(job.keys == 20501);
  CHECK(parts[0].find("key19999\t1\n") != std::string::npos);
  CHECK(parts[0].find("line0\t2\n") != std::string::npos);
}

TEST_CASE("Counters of a run count its own records") {
  Input input;
  input.add("Ab cd Ef");
  input.cut(100, 1);
  LocalJob<WordCount> job({});
  REQUIRE(job.run(input.splits).size() == 1);
  mr::engine::RunHeader header;
  std::memcpy(&header, job.runs[0].data(), sizeof header);
  CHECK(header.counters[0] == 3);
  CHECK(header.counters[1] == 2);
}

TEST_CASE("A damaged run is refused") {
  Input input = random_input(12, 1, 50000);
  input.cut(1u << 20, 1);
  LocalJob<WordCount> job({});
  REQUIRE(job.map(input.splits[0]));
  const mr::engine::PartitionEntry entry = job.partition(0, 0);
  std::string part;
  std::fill_n(job.runs[0].begin() + static_cast<std::ptrdiff_t>(entry.offset + entry.bytes / 2),
              2000, '\0');
  CHECK_FALSE(job.reduce(0, 0, 0, false, part));
  CHECK(job.code == mr::Failure::corrupt);
}
