#include <doctest/doctest.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "tools/aiosctl/program_signals.hpp"

using namespace aios::ctl;

TEST_CASE("A process' parent is read past whatever the process calls itself") {
  CHECK(parent_in("812 (sh) S 57 812 57 0 -1") == 57);
  CHECK(parent_in("812 (a) R 1 (b)) T 58 812") == 58);
  for (const char* broken : {"", "812", "812 (sh)", "812 (sh) S", "812 (sh) S ", "812 (sh) S x"})
    CHECK(parent_in(broken) == 0);
  std::ifstream file("/proc/self/stat");
  CHECK(parent_in({std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()}) ==
        ::getppid());
}

TEST_CASE("The tree of a program is what it started, and what that started") {
  const std::multimap<pid_t, pid_t> children = {{1, 2}, {1, 9}, {2, 3}, {2, 4}, {4, 5}, {9, 7}};
  CHECK(tree_below(2, children) == std::vector<pid_t>{2, 3, 4, 5});
  CHECK(tree_below(7, children) == std::vector<pid_t>{7});
  // Numbers that were used again while they were looked at.
  CHECK(tree_below(2, {{2, 3}, {3, 2}}) == std::vector<pid_t>{2, 3});
}
