#include "services/supervisor/last_words.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "abi/runtime/log_stamp.hpp"
#include "abi/runtime/time.hpp"

using namespace aios;
using namespace aios::supervisor;

namespace {

struct Log {
  std::string path =
      std::filesystem::temp_directory_path() / ("aios-last-words-" + std::to_string(::getpid()));
  ~Log() { std::filesystem::remove(path); }
  void write(const std::string& text) { std::ofstream(path, std::ios::app) << text; }
};

}  // namespace

TEST_CASE("The last words are the last line, without its time") {
  Log log;
  log.write(log_stamp(0, 1) + "first\n" + log_stamp(ns_per_s, 12) + "cannot run: no port\n");
  CHECK(last_words(log.path, 0, 100) == "cannot run: no port");
  log.write("terminate called without an active exception");
  CHECK(last_words(log.path, 0, 100) == "terminate called without an active exception");
  CHECK(last_words(log.path, 0, 9) == "terminate");
}

TEST_CASE("Lines of an earlier life are nobody's last words") {
  Log log;
  log.write(log_stamp(0, 1) + "an earlier life\n");
  const std::uint64_t from = log_size(log.path);
  CHECK(last_words(log.path, from, 100).empty());
  log.write(log_stamp(0, 2) + "this one\n\n");
  CHECK(last_words(log.path, from, 100) == "this one");
  // The log was begun anew meanwhile.
  CHECK(last_words(log.path, 1'000'000, 100) == "this one");
}

TEST_CASE("Last words are printable, and come of a huge log as well") {
  Log log;
  log.write(std::string(100'000, 'x') + "\n");
  CHECK(last_words(log.path, 0, 10) == "xxxxxxxxxx");
  log.write("a\033[31m\001b\n");
  CHECK(last_words(log.path, 0, 100) == "a?[31m?b");
}

TEST_CASE("Without a log there are no last words") {
  CHECK(log_size("/nonexistent/log") == 0);
  CHECK(last_words("/nonexistent/log", 0, 10).empty());
}
