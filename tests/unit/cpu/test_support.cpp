#include "tests/unit/cpu/test_support.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

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

Fd make_memory(std::size_t size_bytes) {
  Fd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) == 0);
  REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  return fd;
}

}  // namespace aios::cpu::test
