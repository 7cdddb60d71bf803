// How contexts on processors load modules and run tasks: functions of ELF modules, block by block.
#pragma once

#include <memory_resource>
#include <string>

#include "drivers/cpu/module_table.hpp"
#include "drivers/device/backend.hpp"

namespace aios::cpu {

class CpuBackend final : public device::Backend {
 public:
  /// `module_folder` as for ModuleTable; `threads` work on the tasks.
  CpuBackend(const std::string& module_folder, std::uint32_t threads)
      : modules_(module_folder), threads_(threads) {}

  Result<std::uint32_t> load(std::span<const std::byte> image, std::string_view codelet) override {
    return modules_.load(image, codelet);
  }
  Result<std::shared_ptr<device::Work>> prepare(const proto::context::Run::Request& request,
                                                const device::BufferTable& buffers) override;
  /// Of the whole process.
  std::uint64_t peak_memory_bytes() const override;

 private:
  ModuleTable modules_;
  const std::uint32_t threads_;
  /// Of works: thousands come and go a second, all made and released by the thread that prepares.
  std::pmr::unsynchronized_pool_resource work_memory_;
};

}  // namespace aios::cpu
