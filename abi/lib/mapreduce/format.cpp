#include "abi/lib/mapreduce/format.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string_view>
#include <vector>

#include "abi/include/aios/mapreduce/csv.hpp"

namespace aios::mapreduce_client {

namespace {

namespace engine = mapreduce::engine;
using engine::FieldKind;
using engine::RecordKind;

constexpr std::size_t chunk_bytes = 1u << 20;

std::unexpected<Status> bad(const std::string& what) {
  return error(Code::invalid_argument, what);
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc() || read.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

Result<InputFormat> parse_records(const std::string& format) {
  InputFormat parsed{};
  const std::string_view kind = std::string_view(format).substr(0, format.find(':'));
  const std::string_view rest =
      std::string_view(format).substr(std::min(kind.size() + 1, format.size()));
  const bool plain = kind.size() == format.size();
  if (plain && (kind.empty() || kind == "text")) return parsed;
  if (plain && kind == "jsonl") {
    parsed.records = RecordKind::json_lines;
    return parsed;
  }
  if (kind == "csv") {
    const std::string_view delimiter = plain ? "," : rest == "tab" ? "\t" : rest;
    if (delimiter.size() != 1 || delimiter.find_first_of("\"\r\n") != delimiter.npos)
      return bad("input format '" + format +
                 "': the delimiter is one byte, or tab, and no quote or line end");
    parsed.records = RecordKind::csv;
    parsed.delimiter = delimiter[0];
    return parsed;
  }
  if (kind == "fixed" && !plain) {
    const auto bytes = number(rest);
    if (!bytes || *bytes == 0 || *bytes > engine::max_record_bytes)
      return bad("input format '" + format + "': a record has 1 to " +
                 std::to_string(engine::max_record_bytes) + " bytes");
    parsed.records = RecordKind::fixed;
    parsed.record_bytes = *bytes;
    return parsed;
  }
  return bad("there is no input format '" + format +
             "': write text, csv, csv:D with another delimiter, jsonl or fixed:N");
}

Result<void> name_field(InputFormat& format, std::string_view name) {
  if (name.size() > sizeof format.name)
    return error(Code::too_large, "the name of a field has at most " +
                                      std::to_string(sizeof format.name) + " bytes");
  format.field = FieldKind::name;
  format.name_bytes = static_cast<std::uint16_t>(name.copy(format.name, sizeof format.name));
  return {};
}

Result<void> csv_field(InputFormat& format, const std::string& field) {
  const auto count = number(field);
  if (!count) return name_field(format, std::string_view(field).substr(field.starts_with('=')));
  if (*count == 0) return bad("field 0: the first field of a record is number 1");
  format.field = FieldKind::number;
  format.field_begin = *count - 1;
  return {};
}

Result<void> json_field(InputFormat& format, const std::string& field) {
  for (std::size_t at = 0; field.starts_with('/') && (at = field.find('~', at)) != field.npos; ++at)
    if (at + 1 == field.size() || (field[at + 1] != '0' && field[at + 1] != '1'))
      return bad("field '" + field + "': in a JSON pointer a '~' is written ~0, and a '/' ~1");
  return name_field(format, field);
}

Result<void> fixed_field(InputFormat& format, const std::string& field) {
  const std::size_t colon = std::min(field.find(':'), field.size());
  const auto begin = number(std::string_view(field).substr(0, colon));
  const auto bytes = number(std::string_view(field).substr(std::min(colon + 1, field.size())));
  if (!begin || !bytes || *bytes == 0 || *bytes > format.record_bytes ||
      *begin > format.record_bytes - *bytes)
    return bad("field '" + field + "': write OFFSET:BYTES, within a record's " +
               std::to_string(format.record_bytes) + " bytes");
  format.field = FieldKind::number;
  format.field_begin = *begin;
  format.field_bytes = *bytes;
  return {};
}

/// Finds where the records of one CSV file begin, from its beginning on.
class CsvFile {
 public:
  CsvFile(const InputFile& file, Fd fd, char delimiter)
      : file_(&file), fd_(std::move(fd)), scanner_(delimiter) {}

  /// The first record that begins at `offset`, which never goes back, or after it.
  Result<std::uint64_t> from(std::uint64_t offset, const std::function<bool()>& keep_going) {
    while (begin_ < offset) {
      if (at_ == chunk_.size() && !TRY(fill(keep_going))) return begin_ = file_->size_bytes;
      const std::size_t end = scanner_.end_of_record(chunk_.data() + at_, chunk_.size() - at_);
      at_ = end == scanner_.goes_on ? chunk_.size() : at_ + end;
      if (end != scanner_.goes_on) begin_ = read_ - (chunk_.size() - at_);
    }
    return begin_;
  }

 private:
  /// False at the end of the file, as long as it was when the job began.
  Result<bool> fill(const std::function<bool()>& keep_going) {
    if (!keep_going()) return error(Code::cancelled, "the job was cancelled");
    chunk_.resize(std::min<std::uint64_t>(chunk_bytes, file_->size_bytes - read_));
    ssize_t got;
    do {
      got = ::pread(fd_.get(), chunk_.data(), chunk_.size(), static_cast<off_t>(read_));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return errno_error(file_->name(), errno);
    if (got == 0 && !chunk_.empty())
      return error(Code::source_changed, file_->name() + ": became shorter since the job began");
    chunk_.resize(static_cast<std::size_t>(got));
    at_ = read_ == 0 ? engine::byte_order_mark({chunk_.data(), chunk_.size()}) : 0;
    read_ += chunk_.size();
    return !chunk_.empty();
  }

  const InputFile* file_;
  Fd fd_;
  engine::CsvScanner scanner_;
  std::vector<char> chunk_;
  std::size_t at_ = 0;       ///< in the chunk: what is before was scanned
  std::uint64_t read_ = 0;   ///< of the file, up to the chunk's end
  std::uint64_t begin_ = 0;  ///< of the last record that was found
};

/// Whether pieces have to begin where records do, which tasks could not find out by themselves.
bool needs_begins(const InputFormat& format) {
  return format.records == RecordKind::csv || format.records == RecordKind::fixed;
}

/// Where in one file the first record at an offset, which never goes back, or after it begins.
class RecordBegins {
 public:
  using Open = std::function<Result<Fd>()>;

  RecordBegins(const InputFormat& format, const InputFile& file, Open open,
               const std::function<bool()>& keep_going)
      : format_(format), file_(file), open_(std::move(open)), keep_going_(keep_going) {}

  Result<std::uint64_t> from(std::uint64_t offset) {
    if (offset == 0 || offset >= file_.size_bytes) return offset;
    if (format_.records == RecordKind::fixed) {
      const std::uint64_t record = format_.record_bytes;
      return std::min((offset + record - 1) / record * record, file_.size_bytes);
    }
    if (!csv_) csv_.emplace(file_, TRY(open_()), format_.delimiter);
    return csv_->from(offset, keep_going_);
  }

 private:
  const InputFormat& format_;
  const InputFile& file_;
  Open open_;
  const std::function<bool()>& keep_going_;
  std::optional<CsvFile> csv_;
};

}  // namespace

Result<InputFormat> parse_input_format(const std::string& format, const std::string& field) {
  InputFormat parsed = TRY(parse_records(format));
  if (field.empty()) return parsed;
  switch (parsed.records) {
    case RecordKind::csv:
      TRY(csv_field(parsed, field));
      break;
    case RecordKind::json_lines:
      TRY(json_field(parsed, field));
      break;
    case RecordKind::fixed:
      TRY(fixed_field(parsed, field));
      break;
    case RecordKind::by_job:
      return bad("field '" + field + "': text has no fields; name an input format that does");
  }
  return parsed;
}

Result<void> align_pieces(const InputFormat& format, std::span<const InputFile> files,
                          std::span<Piece> pieces, const std::function<bool()>& keep_going) {
  if (!needs_begins(format)) return {};
  std::optional<RecordBegins> begins;
  std::uint32_t number = 0;  // of the file that they are of
  for (Piece& piece : pieces) {
    const InputFile& file = files[piece.file];
    if (!begins || number != piece.file)
      begins.emplace(
          format, file, [&file] { return open_input(file); }, keep_going);
    number = piece.file;
    const std::uint64_t end = piece.offset + piece.length;
    piece.offset = TRY(begins->from(piece.offset));
    piece.length = std::max(piece.offset, TRY(begins->from(end))) - piece.offset;
  }
  return {};
}

Result<void> align_offsets(const InputFormat& format, int fd, std::span<std::uint64_t> offsets) {
  if (!needs_begins(format)) return {};
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno_error("an input", errno);
  const InputFile file{"the file", static_cast<std::uint64_t>(info.st_size), 0, 0};
  const std::function<bool()> always = [] { return true; };
  const auto open = [fd]() -> Result<Fd> {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return errno_error("an input", errno);
    return copy;
  };
  std::optional<RecordBegins> begins;
  std::uint64_t before = 0;
  for (std::uint64_t& offset : offsets) {
    if (!begins || offset < before) begins.emplace(format, file, open, always);
    before = offset;
    offset = TRY(begins->from(offset));
  }
  return {};
}

}  // namespace aios::mapreduce_client
