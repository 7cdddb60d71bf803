// What every kernel object has in common: a type, an id that is never used again, a count of the
// references that name it, and the handles its signals are raised on.
#pragma once

#include <memory>
#include <set>
#include <utility>

#include "abi/proto/kernel.hpp"

namespace aios::kernel {

using proto::kernel::Handle;
using proto::kernel::Name;
using proto::kernel::ObjectType;
using proto::kernel::RegionKind;
namespace rights = proto::kernel::rights;
namespace signal = proto::kernel::signal;

struct Slot;

class Object {
 public:
  Object(ObjectType type, std::uint64_t id, const Name& name = {})
      : type_(type), id_(id), name_(name) {}
  virtual ~Object() = default;
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  ObjectType type() const { return type_; }
  std::uint64_t id() const { return id_; }
  /// Handles in all tables, kept and published ones included.
  std::uint32_t reference_count() const { return references_; }
  const Name& name() const { return name_; }
  /// What handle_info calls `detail`.
  virtual std::uint64_t detail() const { return 0; }
  virtual RegionKind region_kind() const { return RegionKind::none; }
  /// Signals that a handle begins with, because what they tell has already happened.
  virtual std::uint32_t standing_signals() const { return 0; }
  /// Raises `signals` on every handle whose `use` allows to receive them, and wakes its process.
  void raise(std::uint32_t signals);

 protected:
  /// The last reference is gone. The object itself may live on.
  virtual void unreferenced() {}

 private:
  friend class Reference;
  friend class HandleTable;
  ObjectType type_;
  std::uint64_t id_;
  Name name_;
  std::uint32_t references_ = 0;
  std::set<Slot*> holders_;
};

/// A counted reference with its two masks: the content of a handle, of a kept label, of a published
/// port. Movable only; a copy is made with rights of its own.
class Reference {
 public:
  Reference() = default;
  Reference(std::shared_ptr<Object> object, std::uint32_t use, std::uint32_t grant)
      : use(use), grant(grant), object_(std::move(object)) {
    if (object_) ++object_->references_;
  }
  Reference(Reference&& other) noexcept = default;
  Reference& operator=(Reference other) noexcept {
    std::swap(use, other.use);
    std::swap(grant, other.grant);
    std::swap(object_, other.object_);
    return *this;
  }
  ~Reference() {
    if (object_ && --object_->references_ == 0) object_->unreferenced();
  }
  Reference copy() const { return {object_, use, grant}; }
  const std::shared_ptr<Object>& object() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

  std::uint32_t use = 0;
  std::uint32_t grant = 0;

 private:
  std::shared_ptr<Object> object_;
};

}  // namespace aios::kernel
