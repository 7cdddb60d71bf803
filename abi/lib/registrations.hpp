// What a tenant has registered, kept so that it can be registered again when the scheduler died:
// the objects, and under which numbers the program and the scheduler of the moment know them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "abi/lib/task_ledger.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios {

/// A handle of this process, closed when nobody refers to it any more.
class KeptHandle {
 public:
  KeptHandle(Kernel& kernel, Handle handle) : kernel_(kernel), handle_(handle) {}
  KeptHandle(const KeptHandle&) = delete;
  ~KeptHandle() { kernel_.close(handle_); }
  Handle get() const { return handle_; }

 private:
  Kernel& kernel_;
  Handle handle_;
};

class Registrations {
 public:
  struct Codelet {
    std::shared_ptr<Region> module;
    std::uint64_t length;
    std::string function;
    std::uint32_t backends;
    std::uint64_t module_hash;
    std::uint32_t there;                        ///< its number at the scheduler
    std::optional<std::uint32_t> cheaper = {};  ///< that codelet, by the program's number
  };
  struct Buffer {
    std::shared_ptr<KeptHandle> object;
    std::uint64_t object_id;
    ObjectType type;  ///< region, or file: then without offset and length
    std::uint64_t offset;
    std::uint64_t length;
    bool writable;
    std::uint32_t there;
  };

  explicit Registrations(Kernel& kernel) : kernel_(kernel) {}
  Registrations(const Registrations&) = delete;

  /// A handle of our own of a region, since the program may close its; shared by its buffers.
  struct Kept {
    std::shared_ptr<KeptHandle> handle;
    std::uint64_t object_id;
  };
  Result<Kept> keep(Handle region, bool writable);

  /// The program's number for it: the scheduler's, where that is free.
  std::uint32_t add(Codelet codelet) { return place(codelets_, std::move(codelet)); }
  std::uint32_t add(Buffer buffer) { return place(buffers_, std::move(buffer)); }
  void remove_buffer(std::uint32_t buffer);
  /// The scheduler's number of the program's codelet. invalid_argument.
  Result<std::uint32_t> codelet_there(std::uint32_t codelet) const;
  /// Both are registered.
  void set_cheaper(std::uint32_t codelet, std::uint32_t cheaper) {
    codelets_[codelet]->cheaper = cheaper;
  }
  /// The program's number of its cheaper variant; its own where there is none.
  std::uint32_t cheaper_of(std::uint32_t codelet) const;
  /// The scheduler's number of the program's buffer. not_found.
  Result<std::uint32_t> buffer_there(std::uint32_t buffer) const;

  /// `call` may change `there`, also later: it stays where it is.
  void for_each_codelet(const std::function<void(Codelet&)>& call);
  void for_each_buffer(const std::function<void(Buffer&)>& call);

  /// Puts the scheduler's numbers in place of the program's. invalid_argument, as the scheduler
  /// would say it, naming the program's: one is not registered, or written though read-only.
  Result<void> translate(std::span<proto::scheduler::TaskRecord> records) const;
  /// Which buffers share bytes, as of now.
  TaskLedger::MemoryOf memory() const;

 private:
  template <class T>
  static std::uint32_t place(std::vector<std::unique_ptr<T>>& all, T one);
  Result<void> translate(proto::scheduler::TaskRecord& record) const;

  Kernel& kernel_;
  std::vector<std::unique_ptr<Codelet>> codelets_;  ///< by the program's number
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::map<std::pair<std::uint64_t, bool>, std::weak_ptr<KeptHandle>> kept_;  ///< by object, access
};

}  // namespace aios
