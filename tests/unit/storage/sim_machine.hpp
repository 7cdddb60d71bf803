// A simulated machine: one disk under both seams of storage, its DiskIo and SQLite's VFS, that can
// fail any call, stop at any call, and lose power. What it does depends on its seed alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "services/storage/background.hpp"
#include "services/storage/disk_io.hpp"

namespace aios::storage::test {

/// Bytes as the running system sees them, and as a power loss would leave them.
struct SimFile {
  struct Write {
    std::size_t offset;
    std::vector<std::byte> bytes;
  };
  std::vector<std::byte> current;
  std::vector<std::byte> durable;
  std::vector<Write> unsynced;   // since the last sync; a truncation counts as synced at once
  std::size_t preallocated = 0;  // zeros up to here need no memory

  std::size_t size() const { return std::max(current.size(), preallocated); }

  void write(std::size_t offset, std::span<const std::byte> bytes);
  void resize(std::size_t size);
  void sync();
  /// The pages count as clean from now on, but never reached the disk.
  void sync_failed() { unsynced.clear(); }
};

class SimMachine {
 public:
  explicit SimMachine(std::uint64_t seed);
  ~SimMachine();
  SimMachine(const SimMachine&) = delete;

  std::unique_ptr<DiskIo> disk();
  std::unique_ptr<Background> background();
  /// The name under which SQLite finds this machine's files.
  const char* vfs() const { return vfs_name_.c_str(); }

  /// The call with this number (counted from `calls()` of now) fails with `error_number`.
  void fail_call(std::uint64_t number, int error_number);
  /// The next call of this kind (see `events`) fails.
  void fail_next(std::string event, int error_number);
  /// From this call on nothing has any effect: the process is dead, though it does not know.
  void stop_at_call(std::uint64_t number) { stop_at_ = calls_ + number; }
  bool stopped() const { return calls_ >= stop_at_; }
  std::uint64_t calls() const { return calls_; }

  /// A new process may begin: files are as the dead one left them.
  void restart();
  /// Of the writes that were not synced some are there, some not and some in part.
  void lose_power();

  SimFile& data_file() { return files_["data"]; }
  std::map<std::string, SimFile>& files() { return files_; }
  /// What the file system still has room for.
  std::uint64_t free_bytes = 1ull << 40;
  std::uint64_t total_bytes = 1ull << 40;
  /// What happened, in order: "write", "flush", "sync" (of metadata), "grow"; tests add to it.
  std::vector<std::string> events;

  /// 0 or a negative errno: the fate of the next call.
  int next_call(const char* event);
  std::uint64_t random(std::uint64_t below) { return random_() % below; }

 private:
  struct Vfs;
  std::mt19937_64 random_;
  std::string vfs_name_;
  std::unique_ptr<Vfs> vfs_;
  std::map<std::string, SimFile> files_;
  std::uint64_t calls_ = 0;
  std::uint64_t stop_at_ = ~0ull;
  std::optional<std::uint64_t> fail_at_;
  std::string fail_event_;
  int fail_with_ = 0;
};

}  // namespace aios::storage::test
