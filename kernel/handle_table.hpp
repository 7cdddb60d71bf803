// The handles of one process: slots with generations, and the queue of those with raised signals.
// Every slot counts in the process's job.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "abi/runtime/status.hpp"
#include "kernel/object.hpp"

namespace aios::kernel {

class HandleTable;
class Job;

struct Slot {
  Reference reference;
  HandleTable* table = nullptr;
  std::uint64_t sender = 0;  ///< id of the process that sent it, 0 for one of its own
  std::uint64_t tenant = 0;  ///< that process's top job
  std::uint64_t link = 0;    ///< over which it came, until it is first named
  std::uint32_t index = 0;
  std::uint32_t generation = 1;  ///< of the handle that lies here or will lie here next
  std::uint32_t signals = 0;
  bool queued = false;  ///< the index waits in the table's queue

  Handle handle() const { return static_cast<Handle>(generation) << 32 | index; }
};

class HandleTable {
 public:
  /// `on_raise` is called whenever a signal was raised on one of the handles.
  explicit HandleTable(std::function<void()> on_raise) : on_raise_(std::move(on_raise)) {}
  ~HandleTable() { clear(); }
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  /// The job to charge; set once, before the first handle.
  void set_job(std::shared_ptr<Job> job) { job_ = std::move(job); }
  /// quota when the table or the job is full; the reference is then dropped. Others: see Slot.
  Result<Handle> install(Reference reference, std::uint64_t tenant = 0, std::uint64_t sender = 0,
                         std::uint64_t link = 0);
  /// Whether `count` more handles from `tenant` would be installed. quota.
  Result<void> can_install(std::uint32_t count, std::uint64_t tenant = 0) const;
  /// bad_handle for 0, a stale or a foreign number.
  Result<Slot*> find(Handle handle);
  /// Also checks the type (wrong_type) and that `use` has all of `needed` (denied).
  Result<Slot*> find(Handle handle, ObjectType type, std::uint32_t needed);
  template <class T>
  Result<std::shared_ptr<T>> get(Handle handle, std::uint32_t needed) {
    Slot* slot = TRY(find(handle, T::object_type, needed));
    return std::static_pointer_cast<T>(slot->reference.object());
  }
  Result<void> close(Handle handle) {
    release(*TRY(find(handle)));
    return {};
  }
  /// Closes what came over `link` and was never named: nobody will, now that the link is gone.
  void close_unnamed(std::uint64_t link) {
    for (Slot& slot : slots_)
      if (slot.reference && slot.link == link) release(slot);
  }
  void clear() {
    for (Slot& slot : slots_)
      if (slot.reference) release(slot);
  }
  std::uint32_t size() const { return used_; }
  /// Takes the oldest raised signals; handle 0 when there are none.
  proto::kernel::SignalNext::Reply next_signal();
  bool has_signals() const { return !raised_.empty(); }

 private:
  friend class Object;
  /// Those of `signals` that the handle's rights allow to receive.
  void raise(Slot& slot, std::uint32_t signals);
  void release(Slot& slot);

  std::function<void()> on_raise_;
  std::shared_ptr<Job> job_;
  std::deque<Slot> slots_;  // never moves a slot
  std::vector<std::uint32_t> free_;
  std::deque<std::uint32_t> raised_;
  std::map<std::uint64_t, std::uint32_t> by_tenant_;
  std::uint32_t used_ = 0;
};

}  // namespace aios::kernel
