// Input formats: where records begin, for every way to cut a file, and what a job sees of them.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <aios/mapreduce/json.hpp>
#include <functional>
#include <random>

#include "abi/lib/mapreduce/format.hpp"
#include "tests/unit/mapreduce/local_job.hpp"

namespace {

using namespace aios::test;
namespace mr = aios::mapreduce;
using aios::Code;
using aios::mapreduce_client::align_pieces;
using aios::mapreduce_client::InputFile;
using aios::mapreduce_client::parse_input_format;
using aios::mapreduce_client::Piece;

/// Every text that the job is given, with escapes, in order.
struct Texts : mr::Records {
  using Json = mr::Json;
  void map(std::string_view text, auto& out) {
    std::string line;
    for (const char c : text) line += c == '\n' ? std::string("\\n") : std::string(1, c);
    out.emit("all", line);
  }
  void each(std::string_view, std::string_view line, auto& out) { out.line(line); }
};
struct Words : mr::Words {
  using Value = std::uint64_t;
  using Json = mr::Json;
  void map(std::string_view word, auto& out) { out.emit(word, 1); }
};
struct Sorted : mr::Lines {
  static constexpr bool total_order = true;
  void map(std::string_view line, auto& out) { out.emit(line, std::string_view()); }
  void each(std::string_view line, std::string_view, auto& out) { out.line(line); }
};

engine::InputFormat format_of(const std::string& format, const std::string& field = {}) {
  const auto parsed = parse_input_format(format, field);
  REQUIRE_MESSAGE(parsed, parsed.error().message());
  return *parsed;
}

/// One file, cut where it is told to and then aligned as the client does it.
class File {
 public:
  explicit File(const std::string& text) : fd_(file_with(text)), size_(text.size()) {
    struct stat info {};
    REQUIRE(::fstat(fd_.get(), &info) == 0);
    file_ = {"/proc/self/fd/" + std::to_string(fd_.get()), size_, info.st_dev, info.st_ino};
  }

  std::vector<std::vector<aios_file_piece>> cut(const engine::InputFormat& format,
                                                std::vector<std::uint64_t> at) const {
    std::vector<Piece> pieces;
    at.insert(at.begin(), 0);
    at.push_back(size_);
    for (std::size_t i = 0; i + 1 < at.size(); ++i) pieces.push_back({0, at[i], at[i + 1] - at[i]});
    const auto aligned = align_pieces(format, std::span(&file_, 1), pieces, [] { return true; });
    REQUIRE_MESSAGE(aligned, aligned.error().message());
    std::vector<std::vector<aios_file_piece>> splits;
    for (const Piece& piece : pieces)
      splits.push_back({piece_of(fd_, piece.offset, piece.length, size_)});
    return splits;
  }

  template <class Job>
  std::string run(const engine::InputFormat& format, std::vector<std::uint64_t> at = {}) {
    LocalOptions options;
    options.format = format;
    options.run_bytes = 64u << 10;
    options.table_bytes = 1u << 20;
    LocalJob<Job> job(options);
    const auto parts = job.run(cut(format, std::move(at)));
    message = job.message;
    code = static_cast<Code>(job.code);
    records = job.records;
    return parts.empty() ? "failed" : parts[0];
  }

  std::string message;
  Code code = Code::ok;
  std::uint64_t records = 0;

 private:
  aios::Fd fd_;
  std::uint64_t size_;
  InputFile file_;
};

/// Where records end, byte by byte.
std::vector<std::size_t> ends_of(const std::string& text) {
  enum { start, plain, quoted, closing } state = start;
  std::vector<std::size_t> ends;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (state == quoted) {
      if (c == '"') state = closing;
    } else if (c == '"' && state != plain) {
      state = quoted;
    } else if (c == '\n') {
      ends.push_back(i + 1);
      state = start;
    } else {
      state = c == ',' ? start : plain;
    }
  }
  return ends;
}

std::string random_of(std::mt19937_64& random, std::string_view letters, std::size_t length) {
  std::string text;
  while (text.size() < length) text += letters[random() % letters.size()];
  return text;
}

const std::string small_csv =
    "name,\"a \"\"text\"\"\",n\r\n"
    "x,\"one\ntwo\r\n\"\"three\"\",\",1\n"
    "\n"
    "\"y\",,2\r\n"
    "z,\"\n\n\",3\n"
    "last,no newline,4";

std::string malformed(const std::string& record) {
  try {
    mr::csv_fields(record);
  } catch (const mr::Failure& failure) {
    return failure.what();
  }
  return "";
}

std::string json(const std::string& field, const std::string& line) {
  mr::Json json(field);
  try {
    const auto text = json.text(line);
    return text ? "=" + std::string(*text) : "none";
  } catch (const mr::Failure& failure) {
    return failure.what();
  }
}

}  // namespace

TEST_CASE("The ends of CSV records are found over any number of buffers") {
  std::mt19937_64 random(1);
  for (int round = 0; round < 3000; ++round) {
    const std::string text = random_of(random, "a,\"\"\n\r", random() % 60);
    std::vector<std::size_t> found;
    engine::CsvScanner scanner(',');
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % 9, text.size() - begin);
      const std::size_t end = scanner.end_of_record(text.data() + begin, size);
      begin += end == scanner.goes_on ? size : end;
      if (end != scanner.goes_on) found.push_back(begin);
    }
    REQUIRE_MESSAGE(found == ends_of(text), text);
  }
}

TEST_CASE("A line of very many quotes takes no longer than others") {
  std::string text;
  for (int i = 0; i < 4'000'000; ++i) text += "\"\",";
  engine::CsvScanner scanner(',');
  CHECK(scanner.end_of_record(text.data(), text.size()) == scanner.goes_on);
  CHECK(scanner.end_of_record("\n", 1) == 1);
}

TEST_CASE("CSV fields are what RFC 4180 says, and what is malformed is told") {
  using Fields = std::vector<std::string>;
  CHECK(mr::csv_fields("a,b c,") == Fields{"a", "b c", ""});
  CHECK(mr::csv_fields("") == Fields{""});
  CHECK(mr::csv_fields("\"a,b\",\"\",\"say \"\"no\"\"\"") == Fields{"a,b", "", "say \"no\""});
  CHECK(mr::csv_fields("a;\"b;\nc\";,", ';') == Fields{"a", "b;\nc", ","});
  CHECK(mr::csv_fields(std::string("a\0b,\"c\0\"", 8)) ==
        Fields{std::string("a\0b", 3), std::string("c\0", 2)});
  CHECK(malformed("a,\"b") == "field 2 of the CSV record here has a quote that is never closed");
  CHECK(malformed("a,\"b\"\"") ==
        "field 2 of the CSV record here has a quote that is never closed");
  CHECK(malformed("\"a\"b,c") == "field 1 of the CSV record here goes on behind its closing quote");
  CHECK(malformed("a,b,5\" disk") ==
        "field 3 of the CSV record here has a quote, but does not begin with one");
}

TEST_CASE("A CSV file gives the same records wherever it is cut, within quotes too") {
  File file(small_csv);
  const auto second = format_of("csv", "2");
  const std::string all = "a \"text\"\none\\ntwo\r\\n\"three\",\n\n\\n\\n\nno newline\n";
  CHECK(file.run<Texts>(second) == all);
  CHECK(file.records == 5);
  const auto named = format_of("csv", "a \"text\"");
  const std::string body = all.substr(all.find('\n') + 1);
  for (std::uint64_t i = 0; i <= small_csv.size(); ++i) {
    REQUIRE(file.run<Texts>(second, {i}) == all);
    REQUIRE_MESSAGE(file.run<Texts>(named, {i}) == body, file.message);
    for (std::uint64_t j = i; j <= small_csv.size(); ++j)
      REQUIRE(file.run<Texts>(second, {i, j}) == all);
  }
}

TEST_CASE("CSV files of any bytes give the same records wherever they are cut") {
  std::mt19937_64 random(2);
  for (int round = 0; round < 300; ++round) {
    const std::string text = random_of(random, std::string_view("ab,\"\"\n\n\r\0", 9), 80);
    File file(text);
    // Not looked into, so that malformed ones count as well.
    const engine::InputFormat format = format_of("csv", "1");
    const auto starts = [&](const std::vector<std::vector<aios_file_piece>>& splits) {
      struct Sink {
        std::vector<std::uint64_t> offsets;
        void enter(std::uint32_t) {}
        void release() {}
        bool record(std::string_view, std::uint64_t offset) {
          offsets.push_back(offset);
          return true;
        }
      } sink;
      for (const auto& split : splits) {
        std::vector<const aios_file_piece*> pieces;
        for (const auto& piece : split) pieces.push_back(&piece);
        engine::read_pieces<engine::CsvReader>(pieces, {}, sink, format);
      }
      return sink.offsets;
    };
    const auto whole = starts(file.cut(format, {}));
    for (std::uint64_t at = 0; at <= text.size(); at += 7)
      REQUIRE(starts(file.cut(format, {at})) == whole);
  }
}

TEST_CASE("A header names the field in every file, whatever it begins with") {
  File mark("\xef\xbb\xbf\"id\",text\n1,one\n");
  CHECK(mark.run<Texts>(format_of("csv", "id")) == "1\n");
  CHECK(mark.run<Texts>(format_of("csv", "text")) == "one\n");
  CHECK(mark.run<Texts>(format_of("csv", "1")) == "id\n1\n");
  File blank("\n\r\n7,text\na,one\n");
  CHECK(blank.run<Texts>(format_of("csv", "=7")) == "a\n");
  File other("id,word\n1,one\n");
  CHECK(other.run<Texts>(format_of("csv", "text")) == "failed");
  CHECK(other.code == Code::not_found);
  CHECK(other.message == "@0:0 the header has no field 'text', but: id, word");
  File broken("id,\"text\n1,one\n");
  CHECK(broken.run<Texts>(format_of("csv", "text")) == "failed");
  CHECK(broken.code == Code::corrupt);
  CHECK(broken.message.starts_with("@0:0 field 2 of the CSV record here has a quote"));
  File alone("id,text");
  CHECK(alone.run<Texts>(format_of("csv", "text")) == "");
}

TEST_CASE("A malformed record fails with its place, and so does one that lacks the field") {
  File quote("a,b\nc,5\" disk\nd,e\n");
  CHECK(quote.run<Texts>(format_of("csv", "1")) == "failed");
  CHECK(quote.code == Code::invalid_argument);
  CHECK(quote.message.starts_with("@0:4 field 2"));
  File cut("a,b\nc,\"d\ne,f\n");
  CHECK(cut.run<Texts>(format_of("csv", "1")) == "failed");
  CHECK(cut.message == "@0:4 field 2 of the CSV record here has a quote that is never closed");
  File ragged("a,b\nc\n");
  CHECK(ragged.run<Texts>(format_of("csv", "2")) == "failed");
  CHECK(ragged.message == "@0:4 the CSV record here ends after field 1: it has no field 2");
}

TEST_CASE("A record may be longer than a split and a window, but not than 16 MiB") {
  const std::string field = "\"" + std::string(3u << 20, '\n') + "x\"";
  File file("a,1\n" + field + ",2\nb,3\n");
  const auto first = format_of("csv", "2");
  for (const std::uint64_t at : {100u, 1u << 20, (3u << 20) + 5})
    CHECK(file.run<Texts>(first, {at, at + 10}) == "1\n2\n3\n");
  File endless("a,1\nb,\"" + std::string(17u << 20, 'x'));
  CHECK(endless.run<Texts>(first) == "failed");
  CHECK(endless.code == Code::too_large);
  CHECK(endless.message.starts_with("@0:4 the CSV record here is longer than 16 MiB"));
}

TEST_CASE("A field is words or lines for a job that wants those") {
  File file("1,\"to be\nor not\"\n2,\"to\tbe\"\n3,\n");
  CHECK(file.run<Words>(format_of("csv", "2")) == "be\t2\nnot\t1\nor\t1\nto\t2\n");
  LocalOptions options;
  options.format = format_of("csv", "2");
  options.partitions = 2;
  LocalJob<Sorted> job(options);
  const auto parts = job.run(file.cut(options.format, {9}));
  REQUIRE_MESSAGE(parts.size() == 2, job.message);
  CHECK(parts[0] + parts[1] == "\nor not\nto\tbe\nto be\n");
}

TEST_CASE("A job that cannot read a format says so before any input is read") {
  LocalOptions options;
  options.format = format_of("jsonl", "a");
  LocalJob<Sorted> no_json(options);
  CHECK_FALSE(no_json.describe());
  CHECK(no_json.message.find("json.hpp") != std::string::npos);
  for (const char* format : {"csv", "jsonl"}) {
    options.format = format_of(format);
    LocalJob<Words> words(options);
    CHECK_FALSE(words.describe());
    CHECK(words.message.find("--field") != std::string::npos);
    LocalJob<Texts> texts(options);
    CHECK(texts.describe());
  }
}

TEST_CASE("Members of JSON lines are found by name or pointer") {
  CHECK(json("a", R"({"b":{"a":"no"},"a":"yes"})") == "=yes");
  CHECK(json("/b/a", R"({"a":"no","b":{"c":[1],"a":"yes"}})") == "=yes");
  CHECK(json("/a/1/b", R"({"a":[{"b":0},{"b":"yes"},{"b":2}]})") == "=yes");
  CHECK(json("/a/1", R"({"x":["n","n"],"a":[["n","n"],"yes"]})") == "=yes");
  CHECK(json("/0", R"(["yes","no"])") == "=yes");
  CHECK(json("/x~1y/~0", R"({"x/y":{"~":"yes"}})") == "=yes");
  CHECK(json("a", R"({"a":"once","a":"twice"})") == "=twice");
  CHECK(json("a", R"({"a":"once","a":null})") == "none");
  CHECK(json("a", R"({"b":1})") == "none");
  CHECK(json("a", R"(7)") == "none");
  CHECK(json("/a/b", R"({"a":"b"})") == "none");
  CHECK(json("a", R"({"a":18446744073709551615})") == "=18446744073709551615");
  CHECK(json("a", R"({"a":-12})") == "=-12");
  CHECK(json("a", R"({"a":1.50e3})") == "=1.50e3");
  CHECK(json("a", R"({"a":false})") == "=false");
  CHECK(json("a", "{\"a\":\"\\u00e9\\n\\u0000x\"}") == std::string("=\xc3\xa9\n\0x", 6));
  CHECK(json("a", "  {\"a\":\"x\"} \r") == "=x");
}

TEST_CASE("What is no JSON, or no text, is told with its place") {
  CHECK(json("a", R"({"a":{"a":1}})") == "the field here is an object or array, and not a text");
  for (const std::string line :
       {R"({"a":"x)", R"({"a":"x"} {})", "{\"a\":\"\xff\"}", "{'a':1}", "nul", "",
        "{\"a\":\"x\ny\"}", R"({"a":1e999})", "{\"a\":\"x\t\"}"})
    CHECK_MESSAGE(json("a", line).starts_with("no JSON: it goes wrong at byte "), line);
  CHECK(json("a", std::string("{\"a\":\"x\0\"}", 10)).starts_with("no JSON"));
  const std::string deep(1u << 20, '[');
  CHECK(json("/0/0", deep).starts_with("no JSON"));
  CHECK(json("/1/0", "[" + deep + std::string(deep.size(), ']') + ",[\"yes\"]]") == "=yes");
}

TEST_CASE("JSON lines are the same wherever the file is cut, and blank ones are none") {
  const std::string text =
      "{\"t\":\"one two\"}\r\n\n  \n{\"u\":1}\n{\"t\":\"a\\nb\"}\n{\"t\":null}\n{\"t\":3}";
  File file(text);
  const auto format = format_of("jsonl", "t");
  for (std::uint64_t at = 0; at <= text.size(); ++at) {
    REQUIRE(file.run<Texts>(format, {at}) == "one two\na\\nb\n3\n");
    CHECK(file.records == 5);
  }
  CHECK(file.run<Texts>(format_of("jsonl")) ==
        "{\"t\":\"one two\"}\r\n{\"u\":1}\n{\"t\":\"a\\nb\"}\n{\"t\":null}\n{\"t\":3}\n");
  File bad("{\"t\":1}\n{\"t\"}\n");
  CHECK(bad.run<Texts>(format) == "failed");
  CHECK(bad.code == Code::invalid_argument);
  CHECK(bad.message == "@0:8 no JSON: it goes wrong at byte 5 of the line");
}

TEST_CASE("Records of a fixed length are the same wherever the file is cut") {
  const std::string bytes = std::string("ab\ncd\0gh", 8) + "12345678" + std::string(8, '\n');
  File file(bytes);
  const std::string all =
      std::string("ab\\ncd\0gh", 9) + "\n12345678\n" + "\\n\\n\\n\\n\\n\\n\\n\\n\n";
  for (std::uint64_t at = 0; at <= bytes.size(); ++at) {
    REQUIRE(file.run<Texts>(format_of("fixed:8"), {at}) == all);
    REQUIRE(file.run<Texts>(format_of("fixed:8", "1:2"), {at}) == "b\\n\n23\n\\n\\n\n");
  }
  CHECK(file.records == 3);
  File cut(bytes + "xyz");
  CHECK(cut.run<Texts>(format_of("fixed:8")) == "failed");
  CHECK(cut.code == Code::invalid_argument);
  CHECK(cut.message == "@0:24 the last record has 3 bytes of 8");
  File large(std::string(3'000'000, 'a') + std::string(3'000'000, 'b'));
  CHECK(large.run<Texts>(format_of("fixed:3000000", "2999999:1"), {1u << 20, 4u << 20}) ==
        "a\nb\n");
}

TEST_CASE("A format or field that makes no sense is refused by name") {
  const auto refused = [](const std::string& format, const std::string& field, const char* what) {
    const auto parsed = parse_input_format(format, field);
    REQUIRE_FALSE(parsed);
    CHECK_MESSAGE(parsed.error().message().find(what) != std::string::npos,
                  parsed.error().message());
    CHECK(parsed.error().code() == Code::invalid_argument);
  };
  for (const char* format : {"CSV", "json", "text:", "jsonl:x", "fixed", "parquet"})
    refused(format, "", format);
  for (const char* format : {"csv:", "csv:ab", "csv:\"", "csv:\n"})
    refused(format, "", "delimiter");
  for (const char* format : {"fixed:", "fixed:0", "fixed:-1", "fixed:8k", "fixed:16777217"})
    refused(format, "", "1 to 16777216 bytes");
  refused("", "a", "text has no fields");
  refused("csv", "0", "number 1");
  refused("jsonl", "/a~", "JSON pointer");
  refused("jsonl", "/a~2", "JSON pointer");
  for (const char* field : {"3", ":", "4:5", "8:1", "0:0", "0:9", "18446744073709551615:2", "a:1"})
    refused("fixed:8", field, "OFFSET:BYTES");
  const auto long_name = parse_input_format("csv", std::string(1025, 'x'));
  CHECK((!long_name && long_name.error().code() == Code::too_large));
  CHECK(parse_input_format("csv:tab", "a")->delimiter == '\t');
  CHECK(parse_input_format("fixed:16777216", "0:16777216"));
}
