#include "services/storage/storage_server.hpp"
#include "services/storage/thread_disk_io.hpp"
#include "services/storage/worker_threads.hpp"
#include "tests/fuzz/target.hpp"

namespace {

using namespace aios;

/// An empty store for each run.
struct StorageHost : fuzz::Host {
  explicit StorageHost(fuzz::Place place) {
    const std::filesystem::path folder = place.folder / "storage";
    std::filesystem::remove_all(folder);
    auto disk =
        storage::ThreadDiskIo::create(storage::DataFile::open(folder.string()).value()).value();
    auto metadata = storage::Metadata::open(folder / "meta.db", now_ns()).value();
    auto background = storage::BackgroundThread::create().value();
    const int disk_fd = disk->poll_fd();
    const int background_fd = background->poll_fd();
    auto store =
        storage::ObjectStore::create({std::move(disk), std::move(metadata), std::move(background)})
            .value();
    server = std::make_unique<storage::StorageServer>(place.kernel, place.loop, std::move(store));
    (void)server->listen(place.port, disk_fd, background_fd);
  }
  void turn() override {
    if (server->fatal()) fuzz::finding("the store ends: " + server->fatal()->to_string());
  }
  std::uint64_t wait_ns() const override { return 2 * ns_per_ms; }
  std::unique_ptr<storage::StorageServer> server;
};

}  // namespace

AIOS_FUZZ_SERVER(proto::storage::Protocol, StorageHost)
