#include "abi/lib/mapreduce/unpack.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>

namespace aios::mapreduce_client {

namespace {

constexpr std::size_t chunk_bytes = 1u << 20;

/// Bytes still to be unpacked.
struct Packed {
  const char* at;
  std::size_t left;
};

class Format {
 public:
  virtual ~Format() = default;
  /// Unpacks into `out` as far as there is room or input; how many bytes. Nothing: it is damaged.
  virtual std::optional<std::size_t> unpack(Packed& in, std::span<char> out) = 0;
  /// The input may end here.
  virtual bool complete() const = 0;
};

class Gzip : public Format {
 public:
  Gzip() { ready_ = ::inflateInit2(&stream_, MAX_WBITS + gzip_only) == Z_OK; }
  ~Gzip() override { ::inflateEnd(&stream_); }

  std::optional<std::size_t> unpack(Packed& in, std::span<char> out) override {
    if (!ready_ || (ended_ && ::inflateReset(&stream_) != Z_OK)) return std::nullopt;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in.at));
    stream_.avail_in = static_cast<uInt>(in.left);
    stream_.next_out = reinterpret_cast<Bytef*>(out.data());
    stream_.avail_out = static_cast<uInt>(out.size());
    const int result = ::inflate(&stream_, Z_NO_FLUSH);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return std::nullopt;
    ended_ = result == Z_STREAM_END;
    in = {in.at + (in.left - stream_.avail_in), stream_.avail_in};
    return out.size() - stream_.avail_out;
  }
  bool complete() const override { return ended_; }

 private:
  static constexpr int gzip_only = 16;
  z_stream stream_{};
  bool ready_ = false;
  bool ended_ = false;
};

class Zstd : public Format {
 public:
  std::optional<std::size_t> unpack(Packed& in, std::span<char> out) override {
    ZSTD_inBuffer from{in.at, in.left, 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    const std::size_t result = ::ZSTD_decompressStream(context_.get(), &to, &from);
    if (::ZSTD_isError(result) != 0) return std::nullopt;
    ended_ = result == 0;
    in = {in.at + from.pos, in.left - from.pos};
    return to.pos;
  }
  bool complete() const override { return ended_; }

 private:
  std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context_{::ZSTD_createDCtx(),
                                                                   ::ZSTD_freeDCtx};
  bool ended_ = false;
};

std::unique_ptr<Format> format_of(const std::string& path) {
  if (path.ends_with(".gz")) return std::make_unique<Gzip>();
  if (path.ends_with(".zst")) return std::make_unique<Zstd>();
  return nullptr;
}

bool is_packed(const InputFile& file) {
  return file.size_bytes != 0 && format_of(file.name()) != nullptr;
}

Result<void> write_all(const Fd& fd, std::span<const char> bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error("cannot unpack to " + path, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::size_t> read_some(const Fd& fd, std::span<char> into, const std::string& path) {
  ssize_t got;
  do {
    got = ::read(fd.get(), into.data(), into.size());
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno_error(path, errno);
  return static_cast<std::size_t>(got);
}

/// Told how many bytes of a file were read.
using OnRead = std::function<bool(std::uint64_t)>;

Result<void> unpack(Format& format, const Fd& from, const std::string& path, const Fd& to,
                    const std::string& target, const OnRead& on_read) {
  std::vector<char> in(chunk_bytes), out(chunk_bytes);
  std::uint64_t read = 0;
  while (const std::size_t got = TRY(read_some(from, in, path))) {
    read += got;
    Packed packed{in.data(), got};
    // Output that fills the buffer may leave more behind, though all input is taken.
    for (std::size_t made = out.size(); packed.left != 0 || made == out.size();) {
      // A little input may unpack to very much.
      if (!on_read(read - packed.left)) return error(Code::cancelled, "the job was cancelled");
      const auto unpacked = format.unpack(packed, out);
      if (!unpacked)
        return error(Code::corrupt, path + ": damaged, or not of the kind its name says");
      made = *unpacked;
      TRY(write_all(to, std::span(out).first(made), target));
      if (format.complete() && packed.left == 0) break;
    }
  }
  if (!format.complete())
    return error(Code::corrupt, path + ": ends before its compressed text does");
  return {};
}

Result<void> replace(InputFile& file, Format& format, const std::string& target,
                     const OnRead& on_read) {
  const Fd from(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!from.valid()) return errno_error(file.name(), errno);
  const Fd to(::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!to.valid()) return errno_error(target, errno);
  TRY(unpack(format, from, file.name(), to, target, on_read));
  struct stat info {};
  if (::fstat(to.get(), &info) != 0) return errno_error(target, errno);
  file = {target, static_cast<std::uint64_t>(info.st_size), info.st_dev, info.st_ino, file.name()};
  return {};
}

}  // namespace

Result<UnpackedInputs> UnpackedInputs::create(std::vector<InputFile>& files,
                                              const std::string& folder, const OnBytes& on_bytes) {
  UnpackedInputs unpacked;
  std::uint64_t before = 0, all = 0;
  for (const InputFile& file : files)
    if (is_packed(file)) all += file.size_bytes;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!is_packed(files[i])) continue;
    const std::unique_ptr<Format> format = format_of(files[i].name());
    if (unpacked.folder_.empty()) {
      if (::mkdir(folder.c_str(), 0700) != 0) return errno_error(folder, errno);
      unpacked.folder_ = folder;
    }
    const std::uint64_t packed_bytes = files[i].size_bytes;
    TRY(replace(files[i], *format, folder + "/" + std::to_string(i),
                [&](std::uint64_t read) { return on_bytes(std::min(before + read, all), all); }));
    before += packed_bytes;
  }
  return unpacked;
}

UnpackedInputs::~UnpackedInputs() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

}  // namespace aios::mapreduce_client
