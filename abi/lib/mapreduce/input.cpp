#include "abi/lib/mapreduce/input.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/lib/file_channel.hpp"
#include "abi/proto/mapreduce.hpp"

namespace aios::mapreduce_client {

namespace {

using proto::kernel::max_lent_files;

/// What a context may have open for all its tasks, with some to spare.
constexpr std::uint64_t context_files = 896;
/// Linux counts lent files by user, also against the kernel of the instance: most is left free.
constexpr std::uint64_t lent_share = 4;
constexpr std::uint32_t splits_ahead = 2;
constexpr std::uint64_t most_splits = 4096;
constexpr std::uint64_t sample_piece_bytes = 32u << 10;
constexpr std::size_t max_depth = 256;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

class Walk {
 public:
  Result<void> add(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return errno_error(path, errno);
    if (S_ISDIR(info.st_mode)) return folder(path, 0);
    if (!S_ISREG(info.st_mode))
      return error(Code::invalid_argument, path + ": neither a regular file nor a folder");
    return file(path, info);
  }
  std::vector<InputFile> take() { return std::move(files_); }

 private:
  Result<void> file(const std::string& path, const struct stat& info) {
    if (files_.size() == max_input_files)
      return error(Code::quota,
                   "more than " + std::to_string(max_input_files) + " input files; " + path);
    if (info.st_size == 0 && has_content(path))
      return error(
          Code::invalid_argument,
          path + ": has no size, and yet content, as files in /proc have; name a copy of it");
    files_.push_back({path, static_cast<std::uint64_t>(info.st_size), info.st_dev, info.st_ino});
    return {};
  }

  static bool has_content(const std::string& path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    char byte;
    return fd.valid() && ::read(fd.get(), &byte, 1) == 1;
  }

  static Result<std::vector<std::string>> names(const std::string& path) {
    const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
    if (folder == nullptr) return errno_error(path, errno);
    std::vector<std::string> names;
    while (true) {
      errno = 0;
      const dirent* entry = ::readdir(folder.get());
      if (entry == nullptr && errno != 0) return errno_error(path, errno);
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<void> folder(const std::string& path, std::size_t depth) {
    if (depth == max_depth)
      return error(Code::too_large, path + ": folders within folders, too deep");
    for (const std::string& name : TRY(names(path))) {
      const std::string below = path + (path.ends_with('/') ? "" : "/") + name;
      struct stat info {};
      if (::lstat(below.c_str(), &info) != 0) {
        if (errno == ENOENT) continue;  // removed since the folder was read
        return errno_error(below, errno);
      }
      if (S_ISDIR(info.st_mode)) TRY(folder(below, depth + 1));
      if (S_ISREG(info.st_mode)) TRY(file(below, info));
    }
    return {};
  }

  std::vector<InputFile> files_;
};

Result<Handle> lend_channel(Kernel& kernel, std::span<const InputFile> files,
                            std::span<const Piece> pieces) {
  std::vector<Fd> fds;
  std::vector<LentPiece> lent;
  for (const Piece& piece : pieces) {
    const InputFile& file = files[piece.file];
    fds.push_back(TRY(open_input(file)));
    lent.push_back({fds.back().get(), piece.offset, piece.length, file.size_bytes});
  }
  return lend_files(kernel, lent);
}

}  // namespace

Result<Fd> open_input(const InputFile& file) {
  Fd fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return errno_error(file.name(), errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return errno_error(file.name(), errno);
  if (!S_ISREG(info.st_mode) || info.st_dev != file.device || info.st_ino != file.inode)
    return error(Code::source_changed,
                 file.name() + ": replaced by another file since the job began");
  if (static_cast<std::uint64_t>(info.st_size) < file.size_bytes)
    return error(Code::source_changed, file.name() + ": became shorter since the job began");
  return fd;
}

Result<std::vector<InputFile>> walk_inputs(std::span<const std::string> paths) {
  Walk walk;
  for (const std::string& path : paths) TRY(walk.add(path));
  return walk.take();
}

std::uint64_t total_bytes(std::span<const InputFile> files) {
  std::uint64_t bytes = 0;
  for (const InputFile& file : files) bytes += file.size_bytes;
  return bytes;
}

SplitPlan plan_splits(std::span<const InputFile> files, std::uint32_t threads,
                      std::uint32_t max_pieces) {
  SplitPlan plan;
  plan.input_bytes = total_bytes(files);
  const std::uint64_t target =
      std::max(std::clamp(plan.input_bytes / (threads * 4), least_split_bytes, usual_split_bytes),
               plan.input_bytes / most_splits);
  std::uint32_t document = 0;
  for (std::uint32_t i = 0; i < files.size(); ++i) {
    for (std::uint64_t at = 0; at < files[i].size_bytes;) {
      if (plan.splits.empty() || plan.splits.back().bytes >= target ||
          plan.splits.back().pieces == max_pieces)
        plan.splits.push_back({plan.pieces.size(), document, 0, 0});
      Split& split = plan.splits.back();
      const std::uint64_t left = files[i].size_bytes - at, room = target - split.bytes;
      // What would be left for the next split is not worth one.
      const std::uint64_t length = left < room + target / 8 ? left : room;
      plan.pieces.push_back({i, at, length});
      ++split.pieces;
      split.bytes += length;
      at += length;
    }
    if (files[i].size_bytes != 0) ++document;
  }
  return plan;
}

std::vector<Piece> plan_sample(std::span<const InputFile> files) {
  const std::uint64_t total = total_bytes(files);
  std::vector<Piece> pieces;
  std::uint64_t file_begin = 0;  // in the input as a whole
  std::uint32_t file = 0;
  for (std::uint64_t i = 0; i < sample_pieces && total != 0; ++i) {
    const auto begin =
        static_cast<std::uint64_t>(static_cast<unsigned __int128>(total) * i / sample_pieces);
    const auto end =
        static_cast<std::uint64_t>(static_cast<unsigned __int128>(total) * (i + 1) / sample_pieces);
    while (begin - file_begin >= files[file].size_bytes) file_begin += files[file++].size_bytes;
    const std::uint64_t offset = begin - file_begin;
    const std::uint64_t length =
        std::min({end - begin, sample_piece_bytes, files[file].size_bytes - offset});
    if (length != 0) pieces.push_back({file, offset, length});
  }
  return pieces;
}

std::vector<std::byte> document_names(std::span<const InputFile> files) {
  std::vector<std::uint64_t> words = {0};
  std::uint64_t name_bytes = 0;
  for (const InputFile& file : files)
    if (file.size_bytes != 0) {
      words.push_back(name_bytes);
      name_bytes += file.name().size();
    }
  words[0] = words.size() - 1;
  words.push_back(name_bytes);
  const std::uint64_t head_bytes = words.size() * sizeof words[0];
  if (head_bytes + name_bytes > mapreduce::engine::max_names_bytes) return {};
  for (std::size_t i = 1; i < words.size(); ++i) words[i] += head_bytes;
  std::vector<std::byte> all(head_bytes + name_bytes);
  std::memcpy(all.data(), words.data(), head_bytes);
  std::byte* at = all.data() + head_bytes;
  for (const InputFile& file : files)
    if (file.size_bytes != 0) {
      std::memcpy(at, file.name().data(), file.name().size());
      at += file.name().size();
    }
  return all;
}

std::uint32_t pieces_per_split(std::uint32_t threads, std::uint64_t open_files) {
  const std::uint64_t of_context = context_files / (threads + 1);
  const std::uint64_t of_client = open_files / lent_share / (threads + splits_ahead);
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
      std::min(of_context, of_client), 1, proto::mapreduce::max_channels * max_lent_files));
}

Result<std::vector<Handle>> lend_pieces(Kernel& kernel, std::span<const InputFile> files,
                                        std::span<const Piece> pieces) {
  std::vector<Handle> channels;
  while (!pieces.empty()) {
    const std::size_t count = std::min<std::size_t>(pieces.size(), max_lent_files);
    const Result<Handle> channel = lend_channel(kernel, files, pieces.first(count));
    if (!channel) {
      for (const Handle lent : channels) kernel.close(lent);
      return std::unexpected(channel.error());
    }
    channels.push_back(*channel);
    pieces = pieces.subspan(count);
  }
  return channels;
}

}  // namespace aios::mapreduce_client
