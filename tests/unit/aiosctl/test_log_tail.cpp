#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tools/aiosctl/common/log_tail.hpp"

using namespace aios::ctl;

namespace {

/// A log with the given text, gone at the end of the test.
class TemporaryLog {
 public:
  explicit TemporaryLog(const std::string& text) {
    char name[] = "/tmp/aios-log-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    folder_ = name;
    std::ofstream(path()) << text;
  }
  ~TemporaryLog() { std::filesystem::remove_all(folder_); }
  std::string path() const { return folder_ + "/some.log"; }

 private:
  std::string folder_;
};

}  // namespace

TEST_CASE("The tail of a log is its last lines") {
  const TemporaryLog log("one\ntwo\nthree\n");
  CHECK(*log_tail(log.path(), 2) == "two\nthree\n");
  CHECK(*log_tail(log.path(), 3) == "one\ntwo\nthree\n");
  CHECK(*log_tail(log.path(), 99) == "one\ntwo\nthree\n");
  CHECK(*log_tail(log.path(), 0) == "");
}

TEST_CASE("A last line without a newline counts as a line") {
  const TemporaryLog log("one\ntwo\nthr");
  CHECK(*log_tail(log.path(), 1) == "thr");
  CHECK(*log_tail(log.path(), 2) == "two\nthr");
}

TEST_CASE("What lies before the given place is left out") {
  const TemporaryLog log("one\ntwo\n");
  CHECK(*log_tail(log.path(), 5, 4) == "two\n");
  CHECK(*log_tail(log.path(), 5, 8) == "");
  CHECK(*log_tail(log.path(), 5, 999) == "");
}

TEST_CASE("An empty log has an empty tail") {
  const TemporaryLog log("");
  CHECK(*log_tail(log.path(), 5) == "");
  CHECK(log_size(log.path()) == 0);
}

TEST_CASE("A log that is not there is not_found") {
  CHECK(log_tail("/nonexistent/x.log", 5).error().code() == aios::Code::not_found);
  CHECK(log_size("/nonexistent/x.log") == 0);
}
