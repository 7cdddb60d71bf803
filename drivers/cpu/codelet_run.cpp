#include "drivers/cpu/codelet_run.hpp"

#include <cxxabi.h>

#include <algorithm>
#include <cstring>
#include <exception>

namespace aios::cpu {
namespace {

constexpr std::size_t message_bytes = 384;

/// Statuses by which the scheduler judges a context: no codelet may give itself one.
bool codelet_may_return(std::int32_t status) {
  switch (static_cast<Code>(status)) {
    case Code::timed_out:
    case Code::peer_closed:
    case Code::cancelled:
    case Code::crashed:
    case Code::protocol_error:
    case Code::too_late:
      return false;
    default:
      return status > 0 && is_code(static_cast<std::uint32_t>(status));
  }
}

}  // namespace

Result<std::shared_ptr<CodeletRun>> CodeletRun::create(const Codelet& codelet,
                                                       const proto::context::Run::Request& request,
                                                       const device::BufferTable& buffers,
                                                       std::uint32_t threads,
                                                       std::pmr::memory_resource& memory) {
  TRY(device::check_counts(request));
  auto run = std::allocate_shared<CodeletRun>(std::pmr::polymorphic_allocator<CodeletRun>(&memory),
                                              Private{});
  run->codelet_ = &codelet;
  run->block_count_ = TRY(device::count_blocks(request.grid));
  if (codelet.run_share != nullptr) run->block_count_ = std::min(run->block_count_, threads);
  std::copy_n(request.grid, 3, run->grid_.begin());
  for (std::uint32_t i = 0; i < request.buffer_count; ++i) {
    auto buffer = TRY(buffers.use(request.buffers[i].id));
    run->views_.push_back(TRY(buffer->view(request.buffers[i].mode)));
    run->in_use_.push_back(std::move(buffer));
  }
  run->argument_bytes_ = request.argument_bytes;
  std::copy_n(request.arguments, request.argument_bytes, run->arguments_.begin());
  return run;
}

Result<> CodeletRun::run_block(std::uint32_t index) {
  char message[message_bytes] = {};
  aios_task task{};
  const bool shared = codelet_->run_share != nullptr;
  if (shared) {
    task.share = index;
    task.shares = block_count_;
  } else {
    task.block[0] = index % grid_[0];
    task.block[1] = index / grid_[0] % grid_[1];
    task.block[2] = index / grid_[0] / grid_[1];
  }
  std::copy_n(grid_.begin(), 3, task.grid);
  task.buffer_count = static_cast<std::uint32_t>(views_.size());
  task.argument_bytes = argument_bytes_;
  task.buffers = views_.data();
  task.arguments = arguments_.data();
  task.result = result_.data();
  task.message = message;
  task.message_bytes = sizeof message;
  try {
    const std::int32_t status = (shared ? codelet_->run_share : codelet_->run)(&task);
    if (status == 0) [[likely]]
      return {};
    return describe_failure(status, std::string(message, strnlen(message, sizeof message)), task);
  } catch (const std::exception& escaped) {
    return error(Code::crashed, "uncaught exception in codelet " + codelet_->name + ": " +
                                    std::string(escaped.what()).substr(0, message_bytes));
  } catch (const abi::__forced_unwind&) {
    throw;  // the codelet ends its thread: the process ends, as for any abort
  } catch (...) {
    return error(Code::crashed, "uncaught exception in codelet " + codelet_->name +
                                    " of a type that is no std::exception");
  }
}

Result<> CodeletRun::describe_failure(std::int32_t status, const std::string& message,
                                      const aios_task& task) const {
  if (!codelet_may_return(status))
    return error(Code::invalid_argument, "codelet " + codelet_->name + " returned " +
                                             std::to_string(status) +
                                             ", which is no status for a codelet" +
                                             (message.empty() ? message : ": " + message));
  if (!message.empty()) return error(static_cast<Code>(status), message);
  const std::string place = task.shares != 0 ? "share " + std::to_string(task.share)
                                             : "block (" + std::to_string(task.block[0]) + ", " +
                                                   std::to_string(task.block[1]) + ", " +
                                                   std::to_string(task.block[2]) + ")";
  return error(static_cast<Code>(status),
               "codelet " + codelet_->name + " failed in " + place + " without saying why");
}

}  // namespace aios::cpu
