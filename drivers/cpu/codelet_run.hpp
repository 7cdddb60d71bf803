// One task on its way through the executor: what its codelet sees, and what came of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <string>
#include <vector>

#include "abi/include/aios/codelet.h"
#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/device/backend.hpp"

namespace aios::cpu {

/// A function of a loaded module. Modules stay loaded, so it is valid as long as the process.
struct Codelet {
  std::string name;
  aios_codelet_function run = nullptr;
  aios_codelet_function run_share = nullptr;  ///< of one that divides its grid itself
};

class CodeletRun final : public device::Work {
  struct Private {};

 public:
  /// For `create` alone.
  explicit CodeletRun(Private) {}
  /// Checks everything that `request` says, and takes its own memory from `memory`, to which it
  /// gives it back wherever it ends. invalid_argument: grid, counts or argument bytes out of
  /// range, or a buffer that is not bound; denied: a buffer may not be used in its mode.
  static Result<std::shared_ptr<CodeletRun>> create(const Codelet& codelet,
                                                    const proto::context::Run::Request& request,
                                                    const device::BufferTable& buffers,
                                                    std::uint32_t threads,
                                                    std::pmr::memory_resource& memory);

  /// Of one that divides its grid itself: the shares, of which there are `threads` at most.
  std::uint32_t block_count() const override { return block_count_; }

  /// Runs block `index` (x first) or share `index`, on any thread. The codelet's own status and
  /// message when it is not 0; `crashed` when an exception escaped it; `invalid_argument` when it
  /// returned a number that is no status, or one that only AIOS itself may give.
  Result<> run_block(std::uint32_t index) override;

  /// Valid once every block is done.
  const std::array<std::uint64_t, AIOS_RESULT_WORDS>& result() const override { return result_; }

 private:
  Result<> describe_failure(std::int32_t status, const std::string& message,
                            const aios_task& task) const;

  const Codelet* codelet_ = nullptr;
  std::array<std::uint32_t, 3> grid_{};
  std::uint32_t block_count_ = 0;
  std::vector<std::shared_ptr<const device::Buffer>> in_use_;
  std::vector<aios_buffer> views_;
  std::uint32_t argument_bytes_ = 0;
  alignas(16) std::array<std::uint8_t, proto::context::max_argument_bytes> arguments_{};
  /// Blocks may write the result while others read what is before it: another cache line, without
  /// an alignment that would make each run costlier to allocate.
  std::array<std::byte, 64> apart_;
  std::array<std::uint64_t, AIOS_RESULT_WORDS> result_{};
};

}  // namespace aios::cpu
