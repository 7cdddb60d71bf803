// The input of a MapReduce job: files and folders walked, cut into splits, and lent split by split.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "abi/runtime/fd.hpp"
#include "abi/runtime/kernel.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

inline constexpr std::size_t max_input_files = 4u << 20;
inline constexpr std::uint64_t least_split_bytes = 1u << 20;
inline constexpr std::uint64_t usual_split_bytes = 16u << 20;

/// Told now and then how many bytes are done, and of how many; false ends what is being done.
using OnBytes = std::function<bool(std::uint64_t done_bytes, std::uint64_t all_bytes)>;

struct InputFile {
  std::string path;
  std::uint64_t size_bytes;
  dev_t device;
  ino_t inode;
  std::string known_as{};  ///< what this is a copy of: a compressed file or an object

  /// As the user knows it.
  const std::string& name() const { return known_as.empty() ? path : known_as; }
};

/// The regular files that the paths are or contain: paths in the order given, within a folder in
/// order of their names' bytes. In a folder, symbolic links and what is no regular file are passed
/// over. not_found or denied, naming the path; invalid_argument: neither a file nor a folder, or a
/// file that has content but no size, as those in /proc; quota: too many files.
Result<std::vector<InputFile>> walk_inputs(std::span<const std::string> paths);

/// Opens one of them. The file's errors, naming it; source_changed when it is no longer the file
/// that was walked, or shorter.
Result<Fd> open_input(const InputFile& file);

std::uint64_t total_bytes(std::span<const InputFile> files);

struct Piece {
  std::uint32_t file;
  std::uint64_t offset;
  std::uint64_t length;
};

struct Split {
  std::size_t first_piece;
  std::uint32_t first_document;
  std::uint32_t pieces;
  std::uint64_t bytes;
};

/// Every byte of every file in exactly one piece, in order; empty files in none.
struct SplitPlan {
  std::vector<Piece> pieces;
  std::vector<Split> splits;
  std::uint64_t input_bytes = 0;
};

/// `threads` tasks will run at once; a split has at most `max_pieces` pieces.
SplitPlan plan_splits(std::span<const InputFile> files, std::uint32_t threads,
                      std::uint32_t max_pieces);

/// Pieces from all over the input, evenly, of at most 32 KiB each. The same for the same files,
/// however they are split.
inline constexpr std::size_t sample_pieces = proto::kernel::max_lent_files;
std::vector<Piece> plan_sample(std::span<const InputFile> files);

/// The names of files that are not empty, as engine::DocumentNames: numbered in order, as the
/// pieces of the plan come. Nothing when they are too many.
std::vector<std::byte> document_names(std::span<const InputFile> files);

/// How many files a split may hold when `threads + 2` splits are lent at once and this process may
/// have `open_files` open: lent files count against that, and against a context's limit.
std::uint32_t pieces_per_split(std::uint32_t threads, std::uint64_t open_files);

/// Opens the files of these pieces and puts them on channels of at most 128 files each, whose
/// handles are the caller's. Errors are those of open_input; quota when too many files are lent at
/// once.
Result<std::vector<Handle>> lend_pieces(Kernel& kernel, std::span<const InputFile> files,
                                        std::span<const Piece> pieces);

}  // namespace aios::mapreduce_client
