// What several of this folder's tests need.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "drivers/cpu/module_table.hpp"

namespace aios::cpu::test {

/// The bytes of a module built in modules/, by its name without suffix.
std::vector<std::byte> module_image(const std::string& name);

/// One table for all tests, as a process has one.
ModuleTable& modules();

}  // namespace aios::cpu::test
