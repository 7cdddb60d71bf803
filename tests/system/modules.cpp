// Modules that go wrong, each in its own way: compiled with -DJOB=Aborts and so on.
#include <cstdlib>
#include <stdexcept>

#include <aios/mapreduce.hpp>

struct Aborts : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view, auto&) { std::abort(); }
};

struct Crashes : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view line, auto& out) {
    out.emit(line, *reinterpret_cast<const volatile unsigned char*>(line.size()));
  }
};

struct Exits : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view, auto&) { std::exit(0); }
};

struct Loops : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view, auto&) {
    const volatile bool forever = true;
    while (forever) {
    }
  }
};

struct Throws : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view, auto&) { throw std::runtime_error("this line is not to my taste"); }
};

struct BadKeys : aios::mapreduce::Lines {
  using Value = std::uint64_t;
  void map(std::string_view, auto& out) { out.emit("two\nlines", 1); }
};

AIOS_MAPREDUCE_JOB(JOB)
