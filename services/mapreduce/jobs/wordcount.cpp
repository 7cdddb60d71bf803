// wordcount: how often each word occurs.
#include <aios/mapreduce.hpp>
#include <aios/mapreduce/json.hpp>

struct WordCount : aios::mapreduce::Words {
  using Value = std::uint64_t;
  using Json = aios::mapreduce::Json;
  void map(std::string_view word, auto& out) { out.emit(word, 1); }
};
AIOS_MAPREDUCE_JOB(WordCount)
