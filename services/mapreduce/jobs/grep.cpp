// grep PATTERN: the lines that match an extended regular expression, and how often each occurs.
#include <regex.h>

#include <aios/mapreduce.hpp>
#include <aios/mapreduce/json.hpp>
#include <memory>
#include <string>

namespace {

class Grep : public aios::mapreduce::Lines {
 public:
  using Value = std::uint64_t;
  using Json = aios::mapreduce::Json;

  explicit Grep(const aios::mapreduce::Arguments& arguments) {
    if (arguments.size() != 1) throw aios::mapreduce::Failure("usage: grep … -- PATTERN");
    const std::string pattern(arguments[0]);
    plain_ = pattern.find_first_of("\\^$.[]|()*+?{}") == pattern.npos;
    text_ = pattern;
    if (!plain_) compile(pattern);
  }

  void map(std::string_view line, auto& out) {
    if (matches(line)) out.emit(line, 1);
  }

 private:
  struct Free {
    void operator()(regex_t* regex) const {
      regfree(regex);
      delete regex;
    }
  };

  void compile(const std::string& pattern) {
    auto regex = std::make_unique<regex_t>();
    const int problem = regcomp(regex.get(), pattern.c_str(), REG_EXTENDED);
    if (problem != 0) {
      char text[128];
      regerror(problem, regex.get(), text, sizeof text);
      throw aios::mapreduce::Failure("pattern " + pattern + ": " + text);
    }
    regex_.reset(regex.release());
  }

  bool matches(std::string_view line) const {
    if (plain_) return memmem(line.data(), line.size(), text_.data(), text_.size()) != nullptr;
    regmatch_t range{0, static_cast<regoff_t>(line.size())};
    return regexec(regex_.get(), line.data(), 1, &range, REG_STARTEND) == 0;
  }

  bool plain_;
  std::string text_;
  std::unique_ptr<regex_t, Free> regex_;
};

}  // namespace

AIOS_MAPREDUCE_JOB(Grep)
