// Looks for GPUs in a child process: a vendor's library may take long, hang or crash, and must not
// stay in the driver, which never touches a device itself.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/fd.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

class Probe {
 public:
  using Found = std::function<void(std::vector<DeviceInfo>, std::vector<std::string> notes)>;

  /// Starts the child, which looks for at most `limit_s` seconds. Before this process locks itself
  /// in and has threads. `found` is called once, from the loop.
  static Result<std::unique_ptr<Probe>> start(EventLoop& loop, unsigned limit_s, Found found);
  Probe(const Probe&) = delete;
  ~Probe();

 private:
  Probe(EventLoop& loop, Found found) : loop_(loop), found_(std::move(found)) {}
  void read();
  void finish();

  EventLoop& loop_;
  Found found_;
  Fd pipe_;
  std::string text_;
};

/// A device as a line of text, and back; nothing when it is none.
std::string to_line(const DeviceInfo& info);
std::optional<DeviceInfo> from_line(const std::string& line);

}  // namespace aios::gpu
