// inverted-index: for every word the files it occurs in, each once and in the order of the input:
// "WORD\tFILE\tFILE...". In a file's name a backslash, tab and newline are written \\, \t and \n.
#include <aios/mapreduce.hpp>
#include <aios/mapreduce/json.hpp>
#include <array>
#include <string>

#include "services/mapreduce/jobs/document.hpp"

namespace {

constexpr std::size_t slot_count = 1u << 14;
constexpr std::size_t kept_bytes = 24;

/// Words that were seen not long ago in the same file: most need not be emitted again. It forgets,
/// and reduce() passes over what it let through.
class RecentWords {
 public:
  bool seen(std::string_view word, std::uint32_t document) {
    if (word.size() > kept_bytes) return false;
    Word one{document, static_cast<std::uint32_t>(word.size()), {}};
    word.copy(one.bytes, kept_bytes);
    Word& slot = slots_[std::hash<std::string_view>()(word) % slot_count];
    if (std::memcmp(&slot, &one, sizeof one) == 0) return true;
    slot = one;
    return false;
  }

 private:
  struct Word {
    std::uint32_t document;
    std::uint32_t length;
    char bytes[kept_bytes];
  };
  std::vector<Word> slots_{slot_count};
};

class InvertedIndex : public aios::mapreduce::Words {
 public:
  using Json = aios::mapreduce::Json;

  void map(std::string_view word, auto& out) {
    const std::uint32_t document = out.document();
    if (recent_.seen(word, document)) return;
    char bytes[sizeof document];
    std::memcpy(bytes, &document, sizeof bytes);
    out.emit(word, std::string_view(bytes, sizeof bytes));
  }

  void reduce(std::string_view, aios::mapreduce::Values& values, auto& out) {
    line_.clear();
    std::uint32_t document = 0, previous = 0;
    while (const auto value = values.next()) {
      std::memcpy(&document, value->data(), sizeof document);
      if (!line_.empty() && document == previous) continue;
      previous = document;
      line_ += '\t';
      append_document(line_, out.document_name(document));
    }
    out.emit(std::string_view(line_).substr(1));
  }

 private:
  RecentWords recent_;
  std::string line_;
};

}  // namespace

AIOS_MAPREDUCE_JOB(InvertedIndex)
