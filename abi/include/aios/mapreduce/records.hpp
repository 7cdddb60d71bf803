// Input formats: CSV, JSON Lines and records of a fixed length, and the part of a record that a job
// sees.
//
// CSV and fixed records cannot be found from the middle of a file, so the client lets pieces of
// them begin where a record does.
#pragma once

#include <aios/codelet.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <aios/mapreduce/csv.hpp>
#include <aios/mapreduce/input.hpp>

namespace aios::mapreduce::engine {

/// The records that begin in a piece, without their line ends; empty lines are none. A header is
/// passed over.
template <class Sink>
class CsvReader {
 public:
  static constexpr bool aligned = true;

  CsvReader(FileWindow& window, const aios_file_piece& piece, Sink& sink, const InputFormat& format)
      : window_(window),
        end_(std::min(piece.file_size, piece.offset + piece.length)),
        file_end_(piece.file_size),
        sink_(sink),
        format_(format) {}

  bool read(bool) {
    if (window_.base() == 0) {
      next_ = byte_order_mark({window_.data(), window_.size()});
      const bool header = format_.field == FieldKind::name;
      while (header && window_.base() + next_ < file_end_ && take().empty()) continue;
    }
    while (window_.base() + next_ < end_) {
      const std::string_view record = take();
      if (!record.empty() && !sink_.record(record, begin_)) return false;
    }
    return true;
  }
  std::uint64_t offset() const { return window_.base() + next_; }

 private:
  /// The record at next_, which moves on behind it.
  std::string_view take() {
    begin_ = window_.base() + next_;
    CsvScanner scanner(format_.delimiter);
    std::size_t searched = next_;
    while (true) {
      const std::size_t end =
          scanner.end_of_record(window_.data() + searched, window_.size() - searched);
      if (end != scanner.goes_on) return until(searched + end, true);
      if (window_.size() - next_ > max_record_bytes) too_long();
      sink_.release();
      searched = window_.size() - next_;
      const bool grown = window_.more(next_);
      next_ = 0;
      if (!grown) return until(window_.size(), false);
    }
  }

  std::string_view until(std::size_t behind, bool newline) {
    const std::size_t begin = std::exchange(next_, behind);
    std::string_view record(window_.data() + begin, behind - begin - (newline ? 1 : 0));
    if (newline && record.ends_with('\r')) record.remove_suffix(1);
    if (record.size() > max_record_bytes) too_long();
    return record;
  }

  [[noreturn]] void too_long() {
    fail_at({window_.position(0).piece, begin_}, Failure::too_large,
            "the CSV record here is longer than 16 MiB; is a quote never closed?");
  }

  FileWindow& window_;
  std::uint64_t end_;
  std::uint64_t file_end_;
  Sink& sink_;
  const InputFormat& format_;
  std::size_t next_ = 0;
  std::uint64_t begin_ = 0;  ///< in the file
};

/// Records of the same length; the last one of a file may turn out shorter.
template <class Sink>
class FixedReader {
 public:
  static constexpr bool aligned = true;

  FixedReader(FileWindow& window, const aios_file_piece& piece, Sink& sink,
              const InputFormat& format)
      : window_(window),
        end_(std::min(piece.file_size, piece.offset + piece.length)),
        sink_(sink),
        record_bytes_(format.record_bytes) {}

  bool read(bool) {
    while (window_.base() + next_ < end_) {
      while (window_.size() - next_ < record_bytes_) {
        sink_.release();
        const bool grown = window_.more(next_);
        next_ = 0;
        if (!grown) break;
      }
      const std::size_t begin = next_;
      next_ += std::min(record_bytes_, window_.size() - begin);
      if (!sink_.record(std::string_view(window_.data() + begin, next_ - begin),
                        window_.base() + begin))
        return false;
    }
    return true;
  }
  std::uint64_t offset() const { return window_.base() + next_; }

 private:
  FileWindow& window_;
  std::uint64_t end_;
  Sink& sink_;
  std::size_t record_bytes_;
  std::size_t next_ = 0;
};

template <class Job>
concept ReadsJson = requires {
  typename Job::Json;
};

/// Throws when the job cannot read such input.
template <class Job>
void check_input(const InputFormat& format) {
  if (format.records == RecordKind::json_lines && !ReadsJson<Job>)
    throw Failure("this job was built without <aios/mapreduce/json.hpp>: it reads no JSON Lines");
  const bool whole = Job::input_kind == InputKind::records || format.records == RecordKind::fixed;
  if (format.records != RecordKind::by_job && format.field == FieldKind::none && !whole)
    throw Failure("name the field of a record that this job is to see (--field)");
}

/// Makes of a record what the job sees of it.
template <class Job>
class RecordDecoder {
 public:
  /// `header` is what the parameter buffer begins with.
  explicit RecordDecoder(const char* header) : format_(read_format(header)) {
    if constexpr (ReadsJson<Job>)
      if (format_.records == RecordKind::json_lines && format_.field == FieldKind::name)
        json_.emplace(name());
    field_ = format_.field_begin;
  }
  RecordDecoder(const RecordDecoder&) = delete;

  static InputFormat read_format(const char* header) {
    InputFormat format;
    std::memcpy(&format, header + input_format_offset, sizeof format);
    return format;
  }
  const InputFormat& format() const { return format_; }

  /// Before the records of a piece: looks at the header of its file where the field has a name.
  void enter(const aios_file_piece& piece, std::uint32_t index) {
    if (format_.records != RecordKind::csv || format_.field != FieldKind::name) return;
    aios_file_piece file = piece;
    file.offset = 0;
    file.length = file.file_size;
    InputFormat plain = format_;
    plain.field = FieldKind::number;  // so that the header is a record
    if (!header_window_) header_window_.emplace();
    header_window_->open(file, index, 0);
    header_window_->more(0);
    HeaderSink sink{*this};
    try {
      CsvReader<HeaderSink>(*header_window_, file, sink, plain).read(false);
      if (!sink.seen) choose({});
    } catch (const Failure& failure) {
      if (failure.what()[0] == '@') throw;  // says where
      fail_at({index, 0},
              failure.code() == Failure::not_found ? Failure::not_found : Failure::corrupt,
              failure.what());
    }
  }

  /// No record at all.
  bool is_blank(std::string_view record) const {
    return format_.records == RecordKind::json_lines &&
           std::all_of(record.begin(), record.end(), is_space);
  }

  /// Hands the record's text to `map`: whole, or its words or lines. Failure: it is malformed.
  template <class Map>
  void decode(std::string_view record, Map map) {
    const std::optional<std::string_view> text = text_of(record);
    if (!text) return;
    if constexpr (Job::input_kind == InputKind::records)
      map(*text);
    else if constexpr (Job::input_kind == InputKind::words)
      map_words(*text, map);
    else
      map_lines(*text, map);
  }

 private:
  struct HeaderSink {
    RecordDecoder& decoder;
    bool seen = false;
    void enter(std::uint32_t) {}
    void release() {}
    bool record(std::string_view header, std::uint64_t) {
      seen = true;
      decoder.choose(header);
      return false;
    }
  };

  std::string_view name() const { return {format_.name, format_.name_bytes}; }

  /// Finds the field's name in a header.
  void choose(std::string_view header) {
    std::string scratch, known;
    CsvFields fields(header, format_.delimiter);
    field_ = 0;
    for (std::optional<std::string_view> one; (one = fields.next(scratch)); ++field_) {
      if (*one == name()) return;
      if (known.size() < 200) known.append(known.empty() ? "" : ", ").append(*one);
    }
    throw Failure(Failure::not_found,
                  "the header has no field '" + std::string(name()) + "', but: " + known);
  }

  std::optional<std::string_view> text_of(std::string_view record) {
    switch (format_.records) {
      case RecordKind::csv:
        return csv_text(record);
      case RecordKind::fixed:
        return fixed_text(record);
      case RecordKind::json_lines:
        if constexpr (ReadsJson<Job>)
          if (json_) return json_->text(record);
        return record;
      case RecordKind::by_job:
        break;
    }
    return record;
  }

  std::string_view csv_text(std::string_view record) {
    std::optional<std::string_view> found;
    std::uint64_t count = 0;
    CsvFields fields(record, format_.delimiter);
    // All of it is looked at: what is malformed behind the field is malformed as well.
    while (const auto field = fields.next(count == field_ ? text_ : other_))
      if (count++ == field_) found = *field;
    if (format_.field == FieldKind::none) return record;
    if (!found)
      throw Failure("the CSV record here ends after field " + std::to_string(count) +
                    ": it has no field " + std::to_string(field_ + 1));
    return *found;
  }

  std::string_view fixed_text(std::string_view record) const {
    if (record.size() != format_.record_bytes)
      throw Failure("the last record has " + std::to_string(record.size()) + " bytes of " +
                    std::to_string(format_.record_bytes));
    if (format_.field == FieldKind::none) return record;
    return record.substr(format_.field_begin, format_.field_bytes);
  }

  template <class Map>
  static void map_words(std::string_view text, Map& map) {
    for (std::size_t at = 0, end; at < text.size(); at = end + 1) {
      for (end = at; end < text.size() && !is_space(text[end]);) ++end;
      if (end - at > max_word_bytes)
        throw Failure(Failure::too_large, "a word here is longer than 1 MiB");
      if (end != at) map(text.substr(at, end - at));
    }
  }
  template <class Map>
  static void map_lines(std::string_view text, Map& map) {
    std::size_t at = 0;
    do {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      map(text.substr(at, end - at));
      at = end + 1;
    } while (at < text.size());
  }

  struct NoJson {};
  template <class J>
  struct JsonOf {
    using Type = NoJson;
  };
  template <ReadsJson J>
  struct JsonOf<J> {
    using Type = typename J::Json;
  };

  InputFormat format_;
  std::uint64_t field_ = 0;  ///< csv: its number in this piece's file
  std::optional<typename JsonOf<Job>::Type> json_;
  std::optional<FileWindow> header_window_;
  std::string text_, other_;
};

/// Gives the records of a format to a sink that knows how they differ from words and lines.
template <class Sink>
struct RecordSink {
  Sink& sink;
  void enter(std::uint32_t index) { sink.enter(index); }
  void release() { sink.release(); }
  bool record(std::string_view record, std::uint64_t offset) {
    return sink.structured(record, offset);
  }
};

/// Reads all pieces from `start` on, as the format says, else as the job wants; returns where it
/// stopped. `sink.record` sees what a job takes as it is, `sink.structured` records of a format.
template <class Job, class Sink>
Position read_input(const std::vector<const aios_file_piece*>& pieces, Position start,
                    const InputFormat& format, Sink& sink) {
  RecordSink<Sink> records{sink};
  switch (format.records) {
    case RecordKind::csv:
      return read_pieces<CsvReader>(pieces, start, records, format);
    case RecordKind::json_lines:
      return read_pieces<LineReader>(pieces, start, records);
    case RecordKind::fixed:
      return read_pieces<FixedReader>(pieces, start, records, format);
    case RecordKind::by_job:
      break;
  }
  if constexpr (Job::input_kind == InputKind::words)
    return read_pieces<WordReader>(pieces, start, sink);
  else
    return read_pieces<LineReader>(pieces, start, sink);
}

}  // namespace aios::mapreduce::engine
