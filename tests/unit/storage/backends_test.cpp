// Both real backends on a real folder.
#include <doctest/doctest.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "services/storage/thread_disk_io.hpp"
#include "services/storage/uring_disk_io.hpp"
#include "tests/unit/storage/test_store.hpp"

using namespace aios;
using namespace aios::storage;
using namespace aios::storage::test;

namespace {

struct TempFolder {
  std::string path = "/tmp/aios-storage-test-XXXXXX";
  TempFolder() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~TempFolder() { std::filesystem::remove_all(path); }
};

std::unique_ptr<DiskIo> threads_on(const std::string& folder) {
  return *ThreadDiskIo::create(*DataFile::open(folder));
}

/// Null on a host that has no io_uring.
std::unique_ptr<DiskIo> uring_on(const std::string& folder) {
  DataFile file = *DataFile::open(folder);
  auto disk = UringDiskIo::create(file);
  if (disk) return *std::move(disk);
  CHECK(disk.error().code() == Code::not_supported);
  CHECK(file.fd.valid());
  MESSAGE("this host offers no io_uring: " << disk.error().message());
  return nullptr;
}

using MakeDisk = std::unique_ptr<DiskIo> (*)(const std::string& folder);

/// Waits on the descriptors that the server's loop would watch.
class RealStore {
 public:
  RealStore(const std::string& folder, std::unique_ptr<DiskIo> disk) {
    auto background = *BackgroundThread::create();
    fds_[0] = {disk->poll_fd(), POLLIN, 0};
    fds_[1] = {background->poll_fd(), POLLIN, 0};
    store_ = *ObjectStore::create(
        {std::move(disk), *Metadata::open(folder + "/meta.db", now_ns()), std::move(background)});
  }
  ObjectStore& operator*() { return *store_; }
  template <class T>
  Result<T> wait(const std::optional<Result<T>>& answer) {
    for (std::uint64_t time_ns = 1; !answer; time_ns += max_batch_wait_ns) {
      store_->advance({time_ns, time_ns});
      if (!answer && !store_->deadline_ns()) REQUIRE(poll(fds_, 2, 10'000) > 0);
    }
    return *answer;
  }

 private:
  pollfd fds_[2];
  std::unique_ptr<ObjectStore> store_;
};

void put_and_get_everything(const std::string& folder, std::unique_ptr<DiskIo> disk) {
  RealStore store(folder, std::move(disk));
  const Bytes bytes = pattern(40 * chunk_bytes + 77, 1);
  std::optional<Result<ObjectInfo>> put;
  (*store).put(1, {"u0", "object"}, bytes, nullptr, {1, 1},
               [&](Result<ObjectInfo> r) { put = std::move(r); });
  REQUIRE(store.wait(put));
  Bytes got(bytes.size());
  std::optional<Result<GetResult>> get;
  (*store).get(1, {"u0", "object"}, 0, 0, got, nullptr,
               [&](Result<GetResult> r) { get = std::move(r); });
  REQUIRE(store.wait(get));
  CHECK(got == bytes);
}

}  // namespace

TEST_CASE("Both backends store, return and recover an object of many chunks") {
  for (const MakeDisk make : {&threads_on, &uring_on}) {
    const TempFolder folder;
    std::unique_ptr<DiskIo> disk = make(folder.path);
    if (!disk) continue;
    CAPTURE(disk->backend());
    put_and_get_everything(folder.path, std::move(disk));
    RealStore again(folder.path, make(folder.path));
    std::optional<Result<ObjectInfo>> stat;
    (*again).stat({"u0", "object"}, [&](Result<ObjectInfo> r) { stat = std::move(r); });
    CHECK(again.wait(stat));
  }
}

TEST_CASE("Both backends report errors and short reads by their result") {
  for (const MakeDisk make : {&threads_on, &uring_on}) {
    const TempFolder folder;
    const std::unique_ptr<DiskIo> disk = make(folder.path);
    if (!disk) continue;
    CAPTURE(disk->backend());
    std::vector<std::int64_t> results;
    const auto run = [&] {
      const std::size_t expected = results.size() + 1;
      REQUIRE(disk->submit());
      pollfd ready{disk->poll_fd(), POLLIN, 0};
      while (results.size() < expected) {
        REQUIRE(poll(&ready, 1, 10'000) == 1);
        disk->poll();
      }
      return results.back();
    };
    const auto done = [&](std::int64_t result) { results.push_back(result); };
    Bytes bytes(block_bytes);
    disk->write(0, std::span(bytes).first(100), done);
    CHECK(run() == 100);
    disk->read(0, bytes, done);
    CHECK(run() == 100);
    disk->read(4096, bytes, done);
    CHECK(run() == 0);
    disk->flush(done);
    CHECK(run() == 0);
    disk->grow(0, block_bytes, done);
    CHECK(run() == 0);
    CHECK(std::filesystem::file_size(folder.path + "/data-0000") == block_bytes);
    disk->write(~0ull / 4 * 3, bytes, done);
    CHECK(run() < 0);
  }
}

TEST_CASE("The storage folder is made private and locked against a second server") {
  const TempFolder parent;
  const std::string folder = parent.path + "/storage";
  const auto first = DataFile::open(folder);
  REQUIRE(first);
  struct stat info {};
  REQUIRE(stat(folder.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
  const auto second = DataFile::open(folder);
  REQUIRE_FALSE(second);
  CHECK(second.error().code() == Code::busy);
}

TEST_CASE("A folder whose parent is missing returns not_found") {
  const auto file = DataFile::open("/nonexistent-parent/storage");
  REQUIRE_FALSE(file);
  CHECK(file.error().code() == Code::not_found);
}
