#include "tests/unit/cpu/test_support.hpp"

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

namespace aios::cpu::test {

std::vector<std::byte> module_image(const std::string& name) {
  std::ifstream file(std::string(MODULE_FOLDER) + "/" + name + ".so", std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  REQUIRE(!bytes.empty());
  const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
  return {begin, begin + bytes.size()};
}

ModuleTable& modules() {
  static ModuleTable table("");
  return table;
}

}  // namespace aios::cpu::test
