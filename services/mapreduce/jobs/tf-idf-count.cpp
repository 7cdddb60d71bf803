// tf-idf, first of three: how often each word occurs in each file: "DOCUMENT\tWORD\tCOUNT".
// DOCUMENT is the file's number, with ten digits so that lines come in order of the input.
#include <aios/mapreduce.hpp>
#include <aios/mapreduce/json.hpp>
#include <cstdio>
#include <string>

class Count : public aios::mapreduce::Words {
 public:
  using Value = std::uint64_t;
  using Json = aios::mapreduce::Json;

  void map(std::string_view word, auto& out) {
    if (key_.empty() || document_ != out.document()) begin(out.document());
    key_.resize(prefix_bytes);
    key_ += word;
    out.emit(key_, 1);
  }

 private:
  static constexpr std::size_t prefix_bytes = 11;

  void begin(std::uint32_t document) {
    char text[prefix_bytes + 1];
    std::snprintf(text, sizeof text, "%010u\t", document);
    key_ = text;
    document_ = document;
  }

  std::uint32_t document_ = 0;
  std::string key_;
};
AIOS_MAPREDUCE_JOB(Count)
