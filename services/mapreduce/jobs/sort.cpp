// sort: all lines in the order of their bytes; the parts after one another are what
// `LC_ALL=C sort` writes.
#include <aios/mapreduce.hpp>
#include <aios/mapreduce/json.hpp>

struct Sort : aios::mapreduce::Lines {
  using Json = aios::mapreduce::Json;
  static constexpr bool total_order = true;
  void map(std::string_view line, auto& out) { out.emit(line, std::string_view()); }
  void each(std::string_view line, std::string_view, auto& out) { out.line(line); }
};
AIOS_MAPREDUCE_JOB(Sort)
