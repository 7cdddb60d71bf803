#include "tests/unit/storage/sim_machine.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <functional>
#include <utility>

namespace aios::storage::test {
namespace {

constexpr std::size_t sector_bytes = 512;

void put_at(std::vector<std::byte>& file, std::size_t offset, std::span<const std::byte> bytes) {
  if (file.size() < offset + bytes.size()) file.resize(offset + bytes.size());
  std::copy(bytes.begin(), bytes.end(), file.begin() + static_cast<std::ptrdiff_t>(offset));
}

class SimDisk : public DiskIo {
 public:
  explicit SimDisk(SimMachine& machine) : machine_(machine) {}

  void write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) override {
    add(
        [this, offset, bytes]() -> std::int64_t {
          if (const int failed = machine_.next_call("write"); failed != 0) return failed;
          const std::size_t length = some_of(bytes.size());
          machine_.data_file().write(offset, bytes.first(length));
          return static_cast<std::int64_t>(length);
        },
        std::move(done));
  }
  void read(std::uint64_t offset, std::span<std::byte> bytes, Done done) override {
    add(
        [this, offset, bytes]() -> std::int64_t {
          if (const int failed = machine_.next_call("read"); failed != 0) return failed;
          const SimFile& file = machine_.data_file();
          if (offset >= file.size()) return 0;
          const std::size_t length =
              some_of(std::min<std::size_t>(bytes.size(), file.size() - offset));
          const std::size_t there = std::min(
              length, file.current.size() - std::min<std::size_t>(offset, file.current.size()));
          std::memset(bytes.data(), 0, length);
          if (there != 0) std::memcpy(bytes.data(), file.current.data() + offset, there);
          return static_cast<std::int64_t>(length);
        },
        std::move(done));
  }
  void flush(Done done) override {
    add(
        [this]() -> std::int64_t {
          const int failed = machine_.next_call("flush");
          if (failed != 0)
            machine_.data_file().sync_failed();
          else
            machine_.data_file().sync();
          return failed;
        },
        std::move(done));
  }
  void grow(std::uint64_t old_size, std::uint64_t new_size, Done done) override {
    add(
        [this, old_size, new_size]() -> std::int64_t {
          if (const int failed = machine_.next_call("grow"); failed != 0) return failed;
          if (new_size - old_size > machine_.free_bytes) return -ENOSPC;
          machine_.free_bytes -= new_size - old_size;
          machine_.data_file().preallocated = new_size;
          return 0;
        },
        std::move(done));
  }
  bool submit() override { return true; }

  std::size_t poll() override {
    if (pending_.empty()) return 0;
    const std::size_t count = 1 + machine_.random(pending_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t pick = machine_.random(pending_.size());
      const Request request = std::move(pending_[pick]);
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(pick));
      request.done(request.run());
    }
    return count;
  }
  int poll_fd() const override { return -1; }
  Result<Space> space() override { return Space{machine_.free_bytes, machine_.total_bytes}; }
  std::uint64_t size_bytes() const override { return machine_.data_file().size(); }
  std::string_view backend() const override { return "simulated"; }

 private:
  struct Request {
    std::function<std::int64_t()> run;
    Done done;
  };
  void add(std::function<std::int64_t()> run, Done done) {
    assert(pending_.size() < max_in_flight);
    pending_.push_back({std::move(run), std::move(done)});
  }
  /// Now and then a request is only done in part.
  std::size_t some_of(std::size_t length) {
    return length > 1 && machine_.random(8) == 0 ? 1 + machine_.random(length - 1) : length;
  }
  SimMachine& machine_;
  std::vector<Request> pending_;
};

class SimBackground : public Background {
 public:
  explicit SimBackground(SimMachine& machine) : machine_(machine) {}
  void start(std::function<void()> work) override { work_ = std::move(work); }
  bool finished() override {
    if (!work_ || machine_.random(3) == 0) return false;
    std::exchange(work_, nullptr)();
    return true;
  }
  int poll_fd() const override { return -1; }

 private:
  SimMachine& machine_;
  std::function<void()> work_;
};

}  // namespace

void SimFile::write(std::size_t offset, std::span<const std::byte> bytes) {
  put_at(current, offset, bytes);
  unsynced.push_back({offset, {bytes.begin(), bytes.end()}});
}

void SimFile::resize(std::size_t size) {
  current.resize(size);
  durable.resize(size);
  std::erase_if(unsynced, [size](const Write& w) { return w.offset + w.bytes.size() > size; });
}

void SimFile::sync() {
  for (const Write& one : unsynced) put_at(durable, one.offset, one.bytes);
  unsynced.clear();
}

// ---- SQLite's side ----------------------------------------------------------------------------

struct SimMachine::Vfs {
  struct Handle {
    sqlite3_file base;
    SimMachine* machine;
    std::string* name;
  };
  sqlite3_vfs vfs{};

  static SimMachine& machine_of(sqlite3_vfs* vfs) {
    return *static_cast<SimMachine*>(vfs->pAppData);
  }
  static Handle& handle_of(sqlite3_file* file) { return *reinterpret_cast<Handle*>(file); }
  static SimFile& file_of(sqlite3_file* file) {
    Handle& handle = handle_of(file);
    return handle.machine->files_[*handle.name];
  }
  static int outcome(int failed, int otherwise) {
    if (failed == 0) return SQLITE_OK;
    return failed == -ENOSPC ? SQLITE_FULL : otherwise;
  }

  static int close(sqlite3_file* file) {
    delete handle_of(file).name;
    return SQLITE_OK;
  }
  static int read(sqlite3_file* file, void* to, int length, sqlite3_int64 offset) {
    const std::vector<std::byte>& bytes = file_of(file).current;
    const auto at = static_cast<std::size_t>(offset);
    const std::size_t there =
        at < bytes.size()
            ? std::min<std::size_t>(static_cast<std::size_t>(length), bytes.size() - at)
            : 0;
    std::memset(to, 0, static_cast<std::size_t>(length));
    if (there != 0) std::memcpy(to, bytes.data() + at, there);
    return there == static_cast<std::size_t>(length) ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
  }
  static int write(sqlite3_file* file, const void* from, int length, sqlite3_int64 offset) {
    const int failed = handle_of(file).machine->next_call("metadata");
    if (failed == 0)
      file_of(file).write(static_cast<std::size_t>(offset),
                          {static_cast<const std::byte*>(from), static_cast<std::size_t>(length)});
    return outcome(failed, SQLITE_IOERR_WRITE);
  }
  static int truncate(sqlite3_file* file, sqlite3_int64 size) {
    const int failed = handle_of(file).machine->next_call("metadata");
    if (failed == 0) file_of(file).resize(static_cast<std::size_t>(size));
    return outcome(failed, SQLITE_IOERR_TRUNCATE);
  }
  static int sync(sqlite3_file* file, int) {
    const int failed = handle_of(file).machine->next_call("sync");
    if (failed == 0)
      file_of(file).sync();
    else
      file_of(file).sync_failed();
    return outcome(failed, SQLITE_IOERR_FSYNC);
  }
  static int size(sqlite3_file* file, sqlite3_int64* bytes) {
    *bytes = static_cast<sqlite3_int64>(file_of(file).current.size());
    return SQLITE_OK;
  }
  static int lock(sqlite3_file*, int) { return SQLITE_OK; }
  static int check_lock(sqlite3_file*, int* locked) { return *locked = 0, SQLITE_OK; }
  static int control(sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; }
  static int sector(sqlite3_file*) { return sector_bytes; }
  static int traits(sqlite3_file*) { return 0; }

  static int open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
    static constexpr sqlite3_io_methods methods = {1,       close,  read,  write, truncate,
                                                   sync,    size,   lock,  lock,  check_lock,
                                                   control, sector, traits};
    SimMachine& machine = machine_of(vfs);
    const std::string path = name != nullptr ? name : "temporary";
    machine.files_.try_emplace(path);
    Handle& handle = handle_of(file);
    handle.base.pMethods = &methods;
    handle.machine = &machine;
    handle.name = new std::string(path);
    if (out != nullptr) *out = flags;
    return SQLITE_OK;
  }
  static int remove(sqlite3_vfs* vfs, const char* name, int) {
    SimMachine& machine = machine_of(vfs);
    const int failed = machine.next_call("metadata");
    if (failed == 0) machine.files_.erase(name);
    return outcome(failed, SQLITE_IOERR_DELETE);
  }
  static int access(sqlite3_vfs* vfs, const char* name, int, int* found) {
    *found = machine_of(vfs).files_.contains(name) ? 1 : 0;
    return SQLITE_OK;
  }
  static int full_path(sqlite3_vfs*, const char* name, int length, char* out) {
    sqlite3_snprintf(length, out, "%s", name);
    return SQLITE_OK;
  }
  static int randomness(sqlite3_vfs* vfs, int length, char* out) {
    for (int i = 0; i < length; ++i) out[i] = static_cast<char>(machine_of(vfs).random(256));
    return length;
  }
  static int sleep(sqlite3_vfs*, int microseconds) { return microseconds; }
  static int current_time(sqlite3_vfs*, double* days) { return *days = 2460000.5, SQLITE_OK; }
  static int last_error(sqlite3_vfs*, int, char*) { return 0; }
};

SimMachine::SimMachine(std::uint64_t seed) : random_(seed), vfs_(std::make_unique<Vfs>()) {
  static int number = 0;
  vfs_name_ = "simulated-" + std::to_string(++number);
  sqlite3_vfs& vfs = vfs_->vfs;
  vfs.iVersion = 1;
  vfs.szOsFile = sizeof(Vfs::Handle);
  vfs.mxPathname = 64;
  vfs.zName = vfs_name_.c_str();
  vfs.pAppData = this;
  vfs.xOpen = Vfs::open;
  vfs.xDelete = Vfs::remove;
  vfs.xAccess = Vfs::access;
  vfs.xFullPathname = Vfs::full_path;
  vfs.xRandomness = Vfs::randomness;
  vfs.xSleep = Vfs::sleep;
  vfs.xCurrentTime = Vfs::current_time;
  vfs.xGetLastError = Vfs::last_error;
  sqlite3_vfs_register(&vfs, 0);
}

SimMachine::~SimMachine() {
  sqlite3_vfs_unregister(&vfs_->vfs);
}

std::unique_ptr<DiskIo> SimMachine::disk() {
  return std::make_unique<SimDisk>(*this);
}
std::unique_ptr<Background> SimMachine::background() {
  return std::make_unique<SimBackground>(*this);
}

void SimMachine::fail_call(std::uint64_t number, int error_number) {
  fail_at_ = calls_ + number;
  fail_with_ = -error_number;
}

void SimMachine::fail_next(std::string event, int error_number) {
  fail_event_ = std::move(event);
  fail_with_ = -error_number;
}

int SimMachine::next_call(const char* event) {
  const std::uint64_t number = calls_++;
  if (number >= stop_at_) return -EIO;
  events.emplace_back(event);
  const bool fails = number == fail_at_ || fail_event_ == event;
  if (fails) fail_event_.clear();
  return fails ? fail_with_ : 0;
}

void SimMachine::restart() {
  stop_at_ = ~0ull;
  fail_at_.reset();
  fail_event_.clear();
}

void SimMachine::lose_power() {
  for (auto& [name, file] : files_) {
    for (const SimFile::Write& write : file.unsynced) {
      std::size_t length = write.bytes.size();
      const std::uint64_t fate = random(3);
      if (fate == 0) continue;
      if (fate == 1) length = std::min(length, sector_bytes * random(length / sector_bytes + 1));
      put_at(file.durable, write.offset, std::span(write.bytes).first(length));
    }
    file.unsynced.clear();
    file.current = file.durable;
  }
}

}  // namespace aios::storage::test
