// The client's side: what is lent, in which splits, and how the output comes into place.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "abi/lib/mapreduce/input.hpp"
#include "abi/lib/mapreduce/output.hpp"

namespace {

namespace fs = std::filesystem;
using namespace aios::mapreduce_client;
using aios::Code;

class Folder {
 public:
  Folder() {
    char path[] = "/tmp/aios-mapreduce-XXXXXX";
    path_ = ::mkdtemp(path);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void file(const std::string& name, const std::string& text) const {
    fs::create_directories(fs::path(*this / name).parent_path());
    std::ofstream(*this / name) << text;
  }
  std::string text(const std::string& name) const {
    std::ifstream in(*this / name);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::set<std::string> names(const std::string& below = "") const {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(*this / below))
      all.insert(entry.path().filename());
    return all;
  }

 private:
  std::string path_;
};

std::vector<InputFile> files_of(const std::vector<std::uint64_t>& sizes) {
  std::vector<InputFile> files;
  for (const std::uint64_t size : sizes) files.push_back({"f", size, 0, 0});
  return files;
}

constexpr std::uint64_t mib = 1u << 20;

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("A walk finds regular files in order of their names and passes the rest over") {
  const Folder folder;
  folder.file("b/z", "1");
  folder.file("b/a", "22");
  folder.file("a.txt", "");
  folder.file("B", "333");
  fs::create_symlink("a.txt", folder / "link");
  fs::create_directory(folder / "c");
  const auto files = walk_inputs(std::vector{folder / "", folder / "b/z"});
  REQUIRE(files);
  std::vector<std::string> names;
  for (const InputFile& file : *files) names.push_back(file.path.substr((folder / "").size()));
  CHECK(names == std::vector<std::string>{"B", "a.txt", "b/a", "b/z", "b/z"});
  CHECK((*files)[2].size_bytes == 2);
}

TEST_CASE("A walk names what is missing or no file") {
  const Folder folder;
  const auto missing = walk_inputs(std::vector{folder / "none"});
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code() == Code::not_found);
  CHECK(missing.error().message().find(folder / "none") != std::string::npos);
  const auto device = walk_inputs(std::vector<std::string>{"/dev/null"});
  REQUIRE_FALSE(device);
  CHECK(device.error().code() == Code::invalid_argument);
}

TEST_CASE("A file of no size is refused when it has content") {
  const auto made_up = walk_inputs(std::vector<std::string>{"/proc/self/status"});
  REQUIRE_FALSE(made_up);
  CHECK(made_up.error().code() == Code::invalid_argument);
  CHECK(made_up.error().message().starts_with("/proc/self/status: has no size"));
}

TEST_CASE("A sample holds pieces from all over the input, or nearly all of it") {
  const std::vector<InputFile> small = files_of({3, 0, 1000, 0, 5});
  std::uint64_t bytes = 0;
  for (const Piece& piece : plan_sample(small)) bytes += piece.length;
  CHECK(bytes > 900);
  CHECK(plan_sample(files_of({})).empty());
  CHECK(plan_sample(files_of({0, 0})).empty());

  const std::vector<InputFile> large = files_of({1000 * mib, 0, 1, 9000 * mib});
  const std::vector<Piece> pieces = plan_sample(large);
  CHECK(pieces.size() == sample_pieces);
  std::uint64_t begin = 0;
  for (const Piece& piece : pieces) {
    CHECK(piece.length != 0);
    CHECK(piece.offset + piece.length <= large[piece.file].size_bytes);
    const std::uint64_t at = piece.offset + (piece.file == 0 ? 0 : 1000 * mib + 1);
    CHECK(at >= begin);
    CHECK(at - begin < 100 * mib);
    begin = at + piece.length;
  }
}

TEST_CASE("Splits cover every byte once, in order, within their limits") {
  for (const std::uint32_t threads : {1u, 2u, 16u}) {
    for (const std::uint32_t most : {1u, 3u, 100u}) {
      const auto files = files_of({0, 5, 100 * mib, 3, 0, 17 * mib + 1, 16 * mib, 1, 0});
      const SplitPlan plan = plan_splits(files, threads, most);
      std::size_t next = 0;
      for (const Split& split : plan.splits) {
        CHECK(split.first_piece == next);
        CHECK(split.pieces >= 1);
        CHECK(split.pieces <= most);
        CHECK(split.bytes <= usual_split_bytes * 9 / 8);
        next += split.pieces;
      }
      CHECK(next == plan.pieces.size());
      std::vector<std::uint64_t> at(files.size());
      for (const Piece& piece : plan.pieces) {
        CHECK(piece.length > 0);
        CHECK(piece.offset == at[piece.file]);
        at[piece.file] += piece.length;
      }
      for (std::size_t i = 0; i < files.size(); ++i) CHECK(at[i] == files[i].size_bytes);
    }
  }
  CHECK(plan_splits({}, 2, 100).splits.empty());
}

TEST_CASE("A very large input has a bounded number of splits") {
  const SplitPlan plan = plan_splits(files_of({1ull << 42}), 2, 100);
  CHECK(plan.splits.size() <= 4097);
}

TEST_CASE("Lent files stay within the limit of open files") {
  for (const std::uint32_t threads : {1u, 2u, 8u, 64u})
    for (const std::uint64_t open_files : {256u, 1024u, 1u << 20}) {
      const std::uint64_t pieces = pieces_per_split(threads, open_files);
      CHECK(pieces >= 1);
      if (pieces > 1) CHECK(pieces * (threads + 2) <= open_files / 4);
      CHECK(pieces <= 1024);
    }
}

TEST_CASE("A committed folder holds the parts, a manifest and _SUCCESS, and nothing else") {
  const Folder folder;
  {
    auto output = OutputFolder::create(folder / "out", 2);
    REQUIRE(output);
    REQUIRE((*output)->append(1, bytes("one\t")));
    REQUIRE((*output)->append(1, bytes("1\n")));
    ManifestFacts facts;
    facts.job = "wordcount";
    facts.counters = {{"words", 7}};
    REQUIRE((*output)->commit(facts));
    CHECK((*output)->written_bytes() == 6);
  }
  CHECK(folder.names("out") ==
        std::set<std::string>{"part-00000", "part-00001", "manifest.json", "_SUCCESS"});
  CHECK(folder.text("out/part-00001") == "one\t1\n");
  CHECK(folder.text("out/part-00000").empty());
  CHECK(folder.text("out/manifest.json").find("\"words\": 7") != std::string::npos);
}

TEST_CASE("A job that does not commit leaves the folder as it was") {
  const Folder folder;
  { REQUIRE(OutputFolder::create(folder / "new", 3)); }
  CHECK_FALSE(fs::exists(folder / "new"));
  fs::create_directory(folder / "old");
  {
    auto output = OutputFolder::create(folder / "old", 1);
    REQUIRE(output);
    folder.file("old/foreign", "kept");
  }
  CHECK(folder.names("old") == std::set<std::string>{"foreign"});
}

TEST_CASE("A folder with something in it is refused and left alone") {
  const Folder folder;
  folder.file("out/x", "kept");
  const auto output = OutputFolder::create(folder / "out", 1);
  REQUIRE_FALSE(output);
  CHECK(output.error().code() == Code::already_exists);
  CHECK(folder.names("out") == std::set<std::string>{"x"});
  const auto nowhere = OutputFolder::create(folder / "a/b", 1);
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().code() == Code::not_found);
}

TEST_CASE("What a killed program left in the folder makes room for the next job") {
  const Folder folder;
  folder.file("out/_temporary/_owner", "");
  folder.file("out/_temporary/unpacked/0.txt", "text");
  folder.file("out/_temporary/part-00000", "half");
  fs::create_hard_link(folder / "out/_temporary/part-00000", folder / "out/part-00000");
  {
    auto output = OutputFolder::create(folder / "out", 1);
    REQUIRE(output);
    REQUIRE((*output)->append(0, bytes("whole\n")));
    REQUIRE((*output)->commit(ManifestFacts{}));
  }
  CHECK(folder.names("out") == std::set<std::string>{"part-00000", "manifest.json", "_SUCCESS"});
  CHECK(folder.text("out/part-00000") == "whole\n");
}

TEST_CASE("Of a killed program's folder only what is its own is removed") {
  const Folder folder;
  folder.file("out/_temporary/_owner", "");
  folder.file("out/_temporary/part-00000", "half");
  folder.file("out/part-00000", "somebody else's");
  const auto output = OutputFolder::create(folder / "out", 1);
  REQUIRE_FALSE(output);
  CHECK(output.error().code() == Code::already_exists);
  CHECK(folder.names("out") == std::set<std::string>{"part-00000"});
  CHECK(folder.text("out/part-00000") == "somebody else's");
}

TEST_CASE("An output that was complete when its program was killed stays, without its leftovers") {
  const Folder folder;
  folder.file("out/_temporary/_owner", "");
  folder.file("out/_temporary/part-00000", "whole");
  folder.file("out/_SUCCESS", "");
  fs::create_hard_link(folder / "out/_temporary/part-00000", folder / "out/part-00000");
  const auto output = OutputFolder::create(folder / "out", 1);
  REQUIRE_FALSE(output);
  CHECK(output.error().code() == Code::already_exists);
  CHECK(folder.names("out") == std::set<std::string>{"part-00000", "_SUCCESS"});
}

TEST_CASE("A folder that a job writes to is not taken for left over") {
  const Folder folder;
  auto first = OutputFolder::create(folder / "out", 1);
  REQUIRE(first);
  REQUIRE((*first)->append(0, bytes("first\n")));
  const auto second = OutputFolder::create(folder / "out", 1);
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::already_exists);
  CHECK(second.error().message().find("another job") != std::string::npos);
  REQUIRE((*first)->commit(ManifestFacts{}));
  CHECK(folder.text("out/part-00000") == "first\n");
  // Somebody else's folder of that name, which nobody of AIOS owns.
  folder.file("other/_temporary/part-00000", "kept");
  CHECK_FALSE(OutputFolder::create(folder / "other", 1));
  CHECK(folder.text("other/_temporary/part-00000") == "kept");
}

TEST_CASE("What is written again after it was taken back is all there is") {
  const Folder folder;
  auto output = OutputFolder::create(folder / "out", 1);
  REQUIRE(output);
  REQUIRE((*output)->append(0, bytes("of an attempt that is given up\n")));
  REQUIRE((*output)->clear());
  CHECK((*output)->written_bytes() == 0);
  REQUIRE((*output)->append(0, bytes("b\n")));
  REQUIRE((*output)->commit(ManifestFacts{}));
  CHECK(folder.text("out/part-00000") == "b\n");
  CHECK(folder.text("out/manifest.json").find("\"bytes\": 2,") != std::string::npos);
}
