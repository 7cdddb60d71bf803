#include <aios/codelet.h>

#include <cmath>
#include <stdexcept>

namespace {

std::int32_t throw_error(const aios_task*) {
  throw std::runtime_error("out of patience");
}
std::int32_t throw_number(const aios_task*) {
  throw 7;
}

/// Needs libm, libstdc++ and libgcc_s after the process has shut itself off.
std::int32_t use_libraries(const aios_task* task) {
  try {
    throw std::runtime_error("caught inside");
  } catch (const std::exception&) {
    task->result[0] = static_cast<std::uint64_t>(std::lround(std::pow(2.0, task->grid[0])));
  }
  return 0;
}

const aios_codelet codelets[] = {
    {"throw_error", throw_error}, {"throw_number", throw_number}, {"use_libraries", use_libraries}};

}  // namespace

const aios_module_table aios_module = {AIOS_CODELET_ABI, 3, codelets};
