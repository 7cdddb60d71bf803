// The output folder of a MapReduce job: written under DIR/_temporary, then moved into place.
//
// DIR/_SUCCESS appears last, when every part and manifest.json are there and on disk. A job that
// does not commit leaves nothing of its own and removes nothing of others'. What a program that was
// killed has left the next job removes: _temporary with a file that its program has locked while it
// lives, and what is linked from there into DIR, unless _SUCCESS says that the output is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

/// A record that the job failed on.
struct SkippedRecord {
  std::string file;
  std::uint64_t offset = 0;
  Code why = Code::crashed;
};

/// What manifest.json says beside the list of parts.
struct ManifestFacts {
  std::string job;
  std::vector<std::string> arguments;
  std::vector<std::string> inputs;
  std::string input_format{};  ///< with `field` told when it is not text
  std::string field{};
  /// The jobs after it in a chain, with their arguments.
  std::vector<std::pair<std::string, std::vector<std::string>>> then{};
  std::uint64_t input_files = 0;
  std::uint64_t input_bytes = 0;
  std::uint64_t records = 0;
  std::uint64_t distinct_keys = 0;
  std::vector<std::pair<std::string, std::uint64_t>> counters;
  std::vector<SkippedRecord> skipped;
};

class OutputFolder {
 public:
  /// Makes `path` if it is not there, and in it _temporary with `parts` empty parts.
  /// already_exists: there is something in it, or another job writes there. Otherwise the error of
  /// the system, naming the path.
  static Result<std::unique_ptr<OutputFolder>> create(const std::string& path, std::uint32_t parts);
  OutputFolder(const OutputFolder&) = delete;
  /// Removes what was written unless it was committed.
  ~OutputFolder();

  Result<void> append(std::uint32_t part, std::span<const std::byte> bytes);
  /// One more part, under a name of its own, whole. The system's error, naming it.
  Result<void> add(const std::string& name, std::span<const std::byte> bytes);
  /// Takes back what was appended.
  Result<void> clear();
  Result<void> commit(const ManifestFacts& facts);
  /// With a manifest of the caller's.
  Result<void> commit(const std::string& manifest);
  struct Written {
    std::string name;
    std::uint64_t bytes;
    std::string xxh3;  ///< in hexadecimal
  };
  /// What a manifest says of the parts.
  std::vector<Written> written() const;
  std::uint64_t written_bytes() const;
  /// Of the parts, where they lie until the commit.
  std::vector<std::string> part_paths() const;
  /// For what else has to lie somewhere until the commit; whoever puts it there removes it before.
  std::string temporary_path() const;

 private:
  struct Hasher;
  struct Part {
    std::string name;
    Fd fd;  ///< none once it is whole
    std::uint64_t bytes = 0;
    std::shared_ptr<Hasher> hasher;
  };

  explicit OutputFolder(std::string path) : path_(std::move(path)) {}
  Result<void> begin(std::uint32_t parts);
  Result<void> make_part(const std::string& name);
  Result<void> flush_part(const Part& part) const;
  Result<void> write_file(const std::string& name, const std::string& text);
  Result<void> publish(const std::string& name);
  void remove_temporary();
  std::string manifest(const ManifestFacts& facts) const;

  std::string path_;
  Fd folder_;
  Fd temporary_;
  Fd owner_;  ///< locked
  bool made_folder_ = false;
  bool committed_ = false;
  std::vector<Part> parts_;
  std::vector<std::string> published_;  ///< in the folder itself
};

}  // namespace aios::mapreduce_client
