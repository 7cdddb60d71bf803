// What the contexts of one kind of device do differently: how code is loaded, and how a task runs.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "abi/include/aios/codelet.h"
#include "abi/proto/device.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/device/buffer_table.hpp"

namespace aios::device {

/// When a task ran on the device itself, CLOCK_MONOTONIC.
struct DeviceTimes {
  std::uint64_t start_ns;
  std::uint64_t end_ns;
};

/// One task on its way through the executor.
class Work {
 public:
  virtual ~Work() = default;
  virtual std::uint32_t block_count() const = 0;
  /// For a device with a queue of its own: hands the work to it; run_block then waits for its end.
  /// On any worker, in the order of submission.
  virtual Result<> begin() { return {}; }
  /// There, whether has_ended can tell.
  virtual bool tells_end() const { return false; }
  /// Once it has begun: whether run_block would return at once, with what came of it. On any
  /// worker; takes a microsecond or so.
  virtual bool has_ended() const { return false; }
  /// On any worker, at the same time as other blocks; throws nothing.
  virtual Result<> run_block(std::uint32_t index) = 0;
  /// Valid once every block is done, as is what follows.
  virtual const std::array<std::uint64_t, AIOS_RESULT_WORDS>& result() const = 0;
  /// Nothing: what the workers measured counts.
  virtual std::optional<DeviceTimes> times() const { return std::nullopt; }
  /// What copying its buffers to the device's own memory and back took.
  virtual std::uint64_t transfer_ns() const { return 0; }
  /// Of it, what the device did beside the work that was handed to it before.
  virtual std::uint64_t ahead_ns() const { return 0; }
};

enum class Loss { none, fault, gone };

class Backend {
 public:
  virtual ~Backend() = default;
  /// The number by which Run names `codelet` of the module `image`. On a worker, at the same time
  /// as works: it may run code of the module. Statuses as proto::context::Load.
  virtual Result<std::uint32_t> load(std::span<const std::byte> image,
                                     std::string_view codelet) = 0;
  /// Checks everything that `request` says. Statuses as proto::context::Run.
  virtual Result<std::shared_ptr<Work>> prepare(const proto::context::Run::Request& request,
                                                const BufferTable& buffers) = 0;
  /// Of the context since it started.
  virtual std::uint64_t peak_memory_bytes() const = 0;
  /// What copying to the device and back has taken, as far as tasks have ended. Any thread.
  virtual proto::context::Copies::Reply copies() const { return {}; }
  /// Whether it holds something for buffers that tasks have used, until release_unbound.
  virtual bool keeps_buffers() const { return false; }
  /// Lets go, on a worker, at the same time as works, of what it holds for buffers that are no
  /// longer bound.
  virtual void release_unbound() {}
  /// Whether the device is of no more use to this process, which then ends: after a fault when the
  /// tasks at fault are answered; when the device is gone, for which no task is to blame, as soon
  /// as those that ended well are. Set before what failed with it has ended.
  virtual Loss loss() const { return Loss::none; }
};

inline constexpr std::uint32_t max_grid_blocks = 1u << 24;

/// Number of blocks of a grid. invalid_argument: a side is zero, or there are too many blocks.
Result<std::uint32_t> count_blocks(const std::uint32_t (&grid)[3]);

/// invalid_argument: more buffers or bytes of arguments than a task has.
Result<void> check_counts(const proto::context::Run::Request& request);

}  // namespace aios::device
