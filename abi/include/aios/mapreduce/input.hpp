// Reads the records of a split's pieces: words or lines. Those of input formats are in records.hpp.
//
// A record belongs to the piece in which it begins. A piece that does not begin its file skips the
// record that the byte before it is part of, and reads past its end to finish its last one.
#pragma once

#include <aios/codelet.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <aios/mapreduce/format.hpp>
#include <aios/mapreduce/key.hpp>

namespace aios::mapreduce {

enum class InputKind { words, lines, records };

namespace engine {

/// Where reading goes on: `piece` counts over all file buffers, `offset` is in its file.
struct Position {
  std::uint32_t piece = 0;
  std::uint64_t offset = 0;
};

/// A failure at a place in the input. The service reads "@PIECE:OFFSET " and names the file.
[[noreturn]] inline void fail_at(Position at, std::int32_t code, const std::string& message) {
  throw Failure(code,
                "@" + std::to_string(at.piece) + ":" + std::to_string(at.offset) + " " + message);
}

/// Private memory that is only taken when touched.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    void* address = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (address == MAP_FAILED)
      throw Failure(Failure::no_memory,
                    "no memory for a task's table; lower --memory-mb or "
                    "--threads");
    if (bytes >= huge_from_bytes) ::madvise(address, bytes_, MADV_HUGEPAGE);
    data_ = static_cast<char*>(address);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Memory() {
    if (data_ != nullptr) ::munmap(data_, bytes_);
  }
  char* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  static constexpr std::size_t huge_from_bytes = 4u << 20;
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// The part of a file that is in memory. `padding` bytes after it may be read.
class FileWindow {
 public:
  static constexpr std::size_t chunk_bytes = 256u << 10;
  static constexpr std::size_t padding = 64;

  FileWindow() : memory_(2 * chunk_bytes + padding) {}

  void open(const aios_file_piece& piece, std::uint32_t index, std::uint64_t offset) {
    piece_ = &piece;
    index_ = index;
    base_ = offset;
    size_ = 0;
  }
  const char* data() const { return memory_.data(); }
  std::size_t size() const { return size_; }
  std::uint64_t base() const { return base_; }
  Position position(std::size_t at) const { return {index_, base_ + at}; }
  bool at_end() const { return base_ + size_ >= piece_->file_size; }

  /// Forgets what lies before `keep` and reads on. False at the end of the file.
  bool more(std::size_t keep) {
    size_ -= keep;
    if (size_ != 0 && keep != 0) std::memmove(memory_.data(), memory_.data() + keep, size_);
    base_ += keep;
    if (at_end()) return false;
    if (size_ + chunk_bytes + padding > memory_.size()) {
      Memory larger(2 * memory_.size());
      std::memcpy(larger.data(), memory_.data(), size_);
      memory_ = std::move(larger);
    }
    const std::uint64_t left = piece_->file_size - base_ - size_;
    read(std::min<std::uint64_t>(left, chunk_bytes));
    return true;
  }

 private:
  void read(std::size_t bytes) {
    ssize_t got;
    do {
      got = ::pread(piece_->fd, memory_.data() + size_, bytes, static_cast<off_t>(base_ + size_));
    } while (got < 0 && errno == EINTR);
    if (got < 0) fail_at(position(size_), Failure::io_error, std::strerror(errno));
    if (got == 0)
      fail_at(position(size_), Failure::source_changed,
              "the file has become shorter since the job began");
    size_ += static_cast<std::size_t>(got);
  }

  Memory memory_;
  const aios_file_piece* piece_ = nullptr;
  std::uint32_t index_ = 0;
  std::uint64_t base_ = 0;
  std::size_t size_ = 0;
};

inline bool is_space(char byte) {
  return byte == ' ' || static_cast<unsigned char>(byte - '\t') <= '\r' - '\t';
}

/// Bit i is set when at[i] is ASCII white space; reads 64 bytes.
inline std::uint64_t space_mask(const char* at) {
  std::uint64_t mask = 0;
#if defined(__SSE2__)
  const __m128i space = _mm_set1_epi8(' '), tab = _mm_set1_epi8('\t'), span = _mm_set1_epi8(4);
  for (int i = 0; i < 4; ++i) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + i);
    const __m128i control = _mm_sub_epi8(bytes, tab);
    const __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, space),
                                       _mm_cmpeq_epi8(_mm_min_epu8(control, span), control));
    mask |= static_cast<std::uint64_t>(static_cast<unsigned>(_mm_movemask_epi8(found))) << (16 * i);
  }
#else
  for (int i = 0; i < 64; ++i) mask |= static_cast<std::uint64_t>(is_space(at[i])) << i;
#endif
  return mask;
}

/// Hands every word that begins in the piece to `sink.record(word, offset)`, which says false to
/// stop after it; `sink.release()` precedes every move of the memory that words point into.
template <class Sink>
class WordReader {
 public:
  WordReader(FileWindow& window, const aios_file_piece& piece, Sink& sink)
      : window_(window),
        end_(std::min(piece.file_size, piece.offset + piece.length)),
        sink_(sink) {}

  /// True when the piece is done; false when the sink stopped: go on from `offset()`.
  bool read(bool skip_partial) {
    std::size_t at = 0;
    if (skip_partial && !skip(at)) return true;
    while (true) {
      if (window_.base() + at >= end_) return true;
      const auto limit =
          static_cast<std::size_t>(std::min<std::uint64_t>(window_.size(), end_ - window_.base()));
      if (!scan(at, limit) || (in_word_ && !finish(limit))) return false;
      at = in_word_ ? next_ : limit;
      in_word_ = false;
      if (at < window_.size()) continue;
      sink_.release();
      if (!window_.more(at)) return true;
      at = 0;
    }
  }
  std::uint64_t offset() const { return window_.base() + next_; }

 private:
  /// Over the rest of a word that began before the piece; false when the piece has no other.
  bool skip(std::size_t& at) {
    while (true) {
      for (; at < window_.size(); ++at)
        if (is_space(window_.data()[at])) return true;
      if (window_.base() + at >= end_ || !window_.more(at)) return false;
      at = 0;
    }
  }

  bool emit(std::size_t begin, std::size_t end) {
    if (end - begin > max_word_bytes) [[unlikely]]
      too_long(begin);
    next_ = end;
    return sink_.record(std::string_view(window_.data() + begin, end - begin),
                        window_.base() + begin);
  }

  [[noreturn]] void too_long(std::size_t begin) {
    fail_at(window_.position(begin), Failure::too_large, "a word here is longer than 1 MiB");
  }

  /// Emits the words within [at, limit); leaves in_word_ and word_ set when the last one goes on.
  bool scan(std::size_t at, std::size_t limit) {
    std::uint64_t before = 1;  // what precedes `at` is no part of a word of ours
    for (std::size_t block = at; block < limit; block += 64) {
      const std::uint64_t spaces = space_mask(window_.data() + block);
      std::uint64_t edges = spaces ^ (spaces << 1 | before);
      if (limit - block < 64) edges &= (1ull << (limit - block)) - 1;
      before = spaces >> 63;
      if (in_word_) {
        if (edges == 0) continue;
        in_word_ = false;
        if (!emit(word_, block + std::countr_zero(edges))) return false;
        edges &= edges - 1;
      }
      while (edges != 0) {
        word_ = block + std::countr_zero(edges);
        edges &= edges - 1;
        if (edges == 0) {
          in_word_ = true;
          break;
        }
        if (!emit(word_, block + std::countr_zero(edges))) return false;
        edges &= edges - 1;
      }
    }
    return true;
  }

  /// Emits the word at word_, known to reach `at`.
  bool finish(std::size_t at) {
    while (true) {
      for (; at < window_.size(); ++at)
        if (is_space(window_.data()[at])) return emit(word_, at);
      if (window_.at_end()) return emit(word_, at);
      if (at - word_ > max_word_bytes) too_long(word_);
      sink_.release();
      at -= word_;
      window_.more(word_);
      word_ = 0;
    }
  }

  FileWindow& window_;
  std::uint64_t end_;
  Sink& sink_;
  bool in_word_ = false;
  std::size_t word_ = 0;
  std::size_t next_ = 0;
};

/// The same for lines, given without their newline; the last of a file need not have one.
template <class Sink>
class LineReader {
 public:
  LineReader(FileWindow& window, const aios_file_piece& piece, Sink& sink)
      : window_(window),
        end_(std::min(piece.file_size, piece.offset + piece.length)),
        sink_(sink) {}

  bool read(bool skip_partial) {
    if (skip_partial && !skip()) return true;
    while (window_.base() + next_ < end_) {
      std::size_t line_end;
      const bool newline = find(line_end);
      if (line_end - next_ > max_line_bytes) too_long();
      const std::size_t begin = next_;
      next_ = line_end + newline;
      if (!sink_.record(std::string_view(window_.data() + begin, line_end - begin),
                        window_.base() + begin))
        return false;
    }
    return true;
  }
  std::uint64_t offset() const { return window_.base() + next_; }

 private:
  bool skip() {
    while (true) {
      const void* found = std::memchr(window_.data(), '\n', window_.size());
      if (found != nullptr) {
        next_ = static_cast<std::size_t>(static_cast<const char*>(found) - window_.data()) + 1;
        return true;
      }
      if (window_.base() + window_.size() >= end_ || !window_.more(window_.size())) return false;
    }
  }

  [[noreturn]] void too_long() {
    fail_at(window_.position(next_), Failure::too_large, "the line here is longer than 16 MiB");
  }

  /// The end of the line at next_; true when a newline ends it, false when the file does.
  bool find(std::size_t& line_end) {
    std::size_t searched = next_;
    while (true) {
      const void* found = std::memchr(window_.data() + searched, '\n', window_.size() - searched);
      line_end = found != nullptr
                     ? static_cast<std::size_t>(static_cast<const char*>(found) - window_.data())
                     : window_.size();
      if (found != nullptr) return true;
      if (line_end - next_ > max_line_bytes) too_long();
      sink_.release();
      searched = window_.size() - next_;
      const bool grown = window_.more(next_);
      next_ = 0;
      line_end = window_.size();
      if (!grown) return false;
    }
  }

  FileWindow& window_;
  std::uint64_t end_;
  Sink& sink_;
  std::size_t next_ = 0;
};

/// A reader for pieces that begin where a record does.
template <class Reader>
concept Aligned = requires {
  requires Reader::aligned;
};

/// Reads all pieces from `start` on; returns where it stopped (piece = count: everything is read).
/// `more`: what the reader wants to know beside.
template <template <class> class Reader, class Sink, class... More>
Position read_pieces(const std::vector<const aios_file_piece*>& pieces, Position start, Sink& sink,
                     const More&... more) {
  FileWindow window;
  for (std::uint32_t i = start.piece; i < pieces.size(); ++i) {
    const aios_file_piece& piece = *pieces[i];
    const std::uint64_t from =
        i == start.piece ? std::max(start.offset, piece.offset) : piece.offset;
    if (from >= std::min(piece.file_size, piece.offset + piece.length)) continue;
    const bool skip_partial = from > 0 && !Aligned<Reader<Sink>>;
    window.open(piece, i, from - skip_partial);
    window.more(0);
    Reader<Sink> reader(window, piece, sink, more...);
    sink.enter(i);
    const bool done = reader.read(skip_partial);
    sink.release();
    if (!done) return {i, reader.offset()};
  }
  return {static_cast<std::uint32_t>(pieces.size()), 0};
}

}  // namespace engine
}  // namespace aios::mapreduce
