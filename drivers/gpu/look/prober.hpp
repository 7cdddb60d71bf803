// Looks for GPUs, again and again, from outside of the driver: a vendor's library may take long,
// hang or crash, and must not stay in the driver, which never touches a device itself.
//
// A child of the driver's, which loads nothing, starts a grandchild for each driver that may be
// there, waits for them, and ends those that are too late: one that is broken hides none of the
// others. The child is started before the driver locks itself in, and sees the host's files.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/fd.hpp"
#include "drivers/gpu/look/findings.hpp"

namespace aios::gpu {

class Prober {
 public:
  using Found = std::function<void(std::optional<Findings>)>;

  /// Starts the child. Before this process locks itself in and has threads. `found` is called from
  /// the loop, once for each look(), with nothing when the child has ended.
  static Result<std::unique_ptr<Prober>> start(EventLoop& loop, unsigned limit_s, Found found);
  Prober(const Prober&) = delete;
  ~Prober();

  /// Looks, for at most `limit_s` seconds. While it looks already, does nothing.
  void look();
  bool looking() const { return looking_; }

 private:
  Prober(EventLoop& loop, Found found) : loop_(loop), found_(std::move(found)) {}
  void read();
  void give_up();

  EventLoop& loop_;
  Found found_;
  Fd socket_;
  std::string text_;
  bool looking_ = false;
};

}  // namespace aios::gpu
