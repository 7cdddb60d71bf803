// tf-idf, second of three: adds to every line of the first how many words its file has:
// "DOCUMENT\tWORD\tCOUNT\tLENGTH".
#include <aios/mapreduce.hpp>
#include <charconv>
#include <string>
#include <vector>

class Length : public aios::mapreduce::Lines {
 public:
  void map(std::string_view line, auto& out) {
    const std::size_t tab = std::min(line.find('\t'), line.size());
    out.emit(line.substr(0, tab), line.substr(std::min(tab + 1, line.size())));
  }

  void reduce(std::string_view, aios::mapreduce::Values& values, auto& out) {
    words_.clear();
    ends_.clear();
    std::uint64_t length = 0;
    while (const auto value = values.next()) {
      length += count_in(*value);
      words_ += *value;
      ends_.push_back(words_.size());
    }
    const std::string total = "\t" + std::to_string(length);
    std::size_t begin = 0;
    for (const std::size_t end : ends_) {
      line_.assign(words_, begin, end - begin);
      out.emit(line_ += total);
      begin = end;
    }
  }

 private:
  static std::uint64_t count_in(std::string_view word_and_count) {
    const std::string_view text = word_and_count.substr(word_and_count.find('\t') + 1);
    std::uint64_t count = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), count).ptr !=
            text.data() + text.size() ||
        text.empty())
      throw aios::mapreduce::Failure("this is no line of tf-idf-count");
    return count;
  }

  std::string words_;
  std::vector<std::size_t> ends_;
  std::string line_;
};
AIOS_MAPREDUCE_JOB(Length)
