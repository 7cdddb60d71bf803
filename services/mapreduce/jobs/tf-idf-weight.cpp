// tf-idf, last of three: "WORD\tFILE\tWEIGHT", words by their bytes and the files of a word in the
// order of the input. WEIGHT is COUNT / LENGTH * ln(files / files that have the word), with nine
// significant digits.
#include <aios/mapreduce.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <string>
#include <vector>

#include "services/mapreduce/jobs/document.hpp"

class Weight : public aios::mapreduce::Lines {
 public:
  void map(std::string_view line, auto& out) {
    const std::size_t word = line.find('\t') + 1, count = line.find('\t', word) + 1;
    if (word == 0 || count == 0) throw wrong();
    line_.assign(line.substr(0, word));
    line_ += line.substr(count);
    out.emit(line.substr(word, count - 1 - word), line_);
  }

  void reduce(std::string_view, aios::mapreduce::Values& values, auto& out) {
    uses_.clear();
    while (const auto value = values.next()) uses_.push_back(parse(*value));
    std::sort(uses_.begin(), uses_.end(),
              [](const Use& a, const Use& b) { return a.document < b.document; });
    const double rarity =
        std::log(static_cast<double>(out.documents()) / static_cast<double>(uses_.size()));
    for (const Use& use : uses_) {
      line_.clear();
      append_document(line_, out.document_name(static_cast<std::uint32_t>(use.document)));
      line_ += '\t';
      append_number(static_cast<double>(use.count) / static_cast<double>(use.length) * rarity);
      out.emit(line_);
    }
  }

 private:
  struct Use {
    std::uint64_t document, count, length;
  };

  static aios::mapreduce::Failure wrong() {
    return aios::mapreduce::Failure("this is no line of tf-idf-length");
  }

  /// "DOCUMENT\tCOUNT\tLENGTH"
  static Use parse(std::string_view text) {
    Use use{};
    const char *at = text.data(), *const end = at + text.size();
    for (std::uint64_t* into : {&use.document, &use.count, &use.length}) {
      const auto read = std::from_chars(at, end, *into);
      const bool last = into == &use.length;
      if (read.ec != std::errc() || (last ? read.ptr != end : read.ptr == end || *read.ptr != '\t'))
        throw wrong();
      at = last ? end : read.ptr + 1;
    }
    if (use.length == 0) throw wrong();
    return use;
  }

  void append_number(double value) {
    char text[32];
    const auto end =
        std::to_chars(text, text + sizeof text, value, std::chars_format::general, 9).ptr;
    line_.append(text, end);
  }

  std::vector<Use> uses_;
  std::string line_;
};
AIOS_MAPREDUCE_JOB(Weight)
