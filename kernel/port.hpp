// A port: where connections wait for a server. It lives as long as a handle, a kept label or a
// publication names it, so it outlives its server.
#pragma once

#include <deque>
#include <memory>

#include "kernel/object.hpp"

namespace aios::kernel {

class Link;

class Port final : public Object {
 public:
  static constexpr ObjectType object_type = ObjectType::port;
  static constexpr std::uint32_t handle_rights =
      rights::info | rights::duplicate | rights::send | rights::connect | rights::accept;

  Port(std::uint64_t id, const Name& name) : Object(object_type, id), name_(name) {}
  /// Closes what still waits.
  ~Port() override;

  /// A connection waits; raises `connect_pending`.
  void push(std::shared_ptr<Link> link);
  /// The oldest one, or null. It stays until `remove`.
  std::shared_ptr<Link> front() const { return waiting_.empty() ? nullptr : waiting_.front(); }
  void remove(const Link& link);
  std::uint64_t detail() const override { return waiting_.size(); }
  Name name() const override { return name_; }
  std::uint32_t standing_signals() const override {
    return waiting_.empty() ? 0 : signal::connect_pending;
  }

 private:
  Name name_;
  std::deque<std::shared_ptr<Link>> waiting_;
};

}  // namespace aios::kernel
