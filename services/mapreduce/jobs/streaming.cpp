// streaming: sorts the "key\tvalue" lines of Streaming mappers by key, those of a key in the order
// of the input, and keeps them as they are. A line without a tab is all key.
#include <aios/mapreduce.hpp>
#include <string>

struct Streaming : aios::mapreduce::Lines {
  void map(std::string_view line, auto& out) {
    const std::size_t tab = std::min(line.find('\t'), line.size());
    out.emit(line.substr(0, tab), line.substr(tab));
  }
  void each(std::string_view key, std::string_view rest, auto& out) {
    line_.assign(key);
    line_ += rest;
    out.line(line_);
  }
  std::string line_;
};
AIOS_MAPREDUCE_JOB(Streaming)
