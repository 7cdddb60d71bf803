// What the scheduler has learned, as an object in storage: fetched once, then stored now and then
// while it changes, and at the end. Nothing ever fails for want of it: what goes wrong is logged,
// and the scheduler goes on with what it knows. Until it is known whether there is one nothing is
// stored, lest a storage that is away for a moment cost what was learned.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "abi/runtime/client.hpp"
#include "abi/runtime/event_loop.hpp"
#include "abi/runtime/kernel.hpp"

namespace aios::scheduler {

class HistoryStore {
 public:
  /// The client is of storage; it connects at its first call. `name` is the object's, and what it
  /// is called in the log.
  HistoryStore(Kernel& kernel, EventLoop& loop, std::unique_ptr<Client> client, std::string name,
               std::size_t most_bytes);
  HistoryStore(const HistoryStore&) = delete;
  ~HistoryStore();

  using Bytes = std::vector<std::byte>;
  /// `fetched` is called at most once, with the bytes as they were stored. `contents` says what is
  /// to be stored, whenever that is due.
  void start(std::function<void(const Bytes&)> fetched, std::function<Bytes()> contents);
  /// There is something new: stored within seconds.
  void changed();
  /// Stores at once what is not stored yet; `done` follows, in a second or two at the latest.
  void flush(std::function<void()> done);

 private:
  void fetch();
  void fetch_again(const Status& why);
  void get(std::uint64_t bytes);
  void put(std::uint64_t within_ns);
  void ended();
  /// Gives the region to storage and calls back with its number there.
  void attach(const Region& region, bool writable, Deadline deadline,
              std::function<void(const Result<std::uint32_t>&)> then);

  Kernel& kernel_;
  EventLoop& loop_;
  const std::string name_;
  const std::size_t most_bytes_;
  std::function<void(const Bytes&)> fetched_;
  std::function<Bytes()> contents_;
  std::function<void()> flushed_;
  Region region_;          ///< of what is under way
  bool is_known_ = false;  ///< whether there was one
  bool is_dirty_ = false;
  bool is_busy_ = false;
  std::uint64_t pause_ns_;  ///< between two stores
  TimerId timer_ = 0;
  std::unique_ptr<Client> client_;  // last: its end calls back into the above
};

}  // namespace aios::scheduler
