// Makes changes durable in batches: one flush of the data file, then one metadata transaction, then
// the answers.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <vector>

#include "services/storage/background.hpp"
#include "services/storage/disk_io.hpp"
#include "services/storage/metadata.hpp"
#include "services/storage/space.hpp"

namespace aios::storage {

inline constexpr std::size_t max_batch_changes = 64;
/// A change waits at most this long for others to share its flush.
inline constexpr std::uint64_t max_batch_wait_ns = 2'000'000;

class GroupCommit {
 public:
  /// `result` is ok when the change is durable; `change` then says what it found. Runs inside
  /// `advance`.
  using Done = std::function<void(Result<> result, Change& change)>;

  /// The references outlive it.
  GroupCommit(DiskIo& disk, Metadata& metadata, Background& background, Space& space)
      : disk_(disk), metadata_(metadata), background_(background), space_(space) {}

  /// `in_data_file`: the change names blocks whose writes have ended and must be flushed first.
  void add(Change change, bool in_data_file, std::uint64_t now_ns, Done done);

  /// Calls whatever waits for the metadata, ends a batch, or begins one: when it is full, its
  /// oldest change has waited long enough, or `more_to_come` is false. True when anything happened.
  bool advance(std::uint64_t now_ns, bool more_to_come);
  /// When `advance` should be called at the latest; none while there is nothing to wait for.
  std::optional<std::uint64_t> deadline_ns() const;

  /// Runs `use` now, or when the commit under way has ended: the metadata is the commit's
  /// meanwhile.
  void with_metadata(std::function<void()> use);

  /// Called when a flush fails, before the changes it concerns end with io_error: no write that was
  /// not flushed before may be trusted.
  void on_flush_failure(std::function<void()> notify) { flush_failed_ = std::move(notify); }

  /// Set once nobody knows what the metadata holds: the process must end, answering nothing more.
  const std::optional<Status>& fatal() const { return fatal_; }
  std::uint64_t batches() const { return batches_; }

 private:
  enum class State { idle, flushing, flushed, committing };
  struct Item {
    Change change;
    bool in_data_file;
    std::uint64_t since_ns;
    Done done;
  };
  bool is_due(std::uint64_t now_ns, bool more_to_come) const;
  void begin_batch();
  void flush_ended(std::int64_t result);
  void begin_commit();
  void end_commit();
  static bool is_put(const Item& item) { return std::holds_alternative<PutChange>(item.change); }
  void end_full_disk(std::vector<Item> batch);

  DiskIo& disk_;
  Metadata& metadata_;
  Background& background_;
  Space& space_;
  std::function<void()> flush_failed_;
  std::deque<Item> waiting_;
  std::vector<Item> batch_;
  State state_ = State::idle;
  std::vector<Change> committing_;  // the background's while it runs
  Result<std::vector<Displaced>> outcome_;
  std::deque<std::function<void()>> waiting_uses_;
  std::optional<Status> fatal_;
  std::uint64_t batches_ = 0;
};

}  // namespace aios::storage
