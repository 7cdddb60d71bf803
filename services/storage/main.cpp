// aios-storage: keeps objects in STATE/storage.
#include <string_view>

#include "abi/runtime/log.hpp"
#include "abi/runtime/sandbox/server.hpp"
#include "abi/runtime/server_process.hpp"
#include "services/storage/storage_server.hpp"
#include "services/storage/thread_disk_io.hpp"
#include "services/storage/uring_disk_io.hpp"
#include "services/storage/worker_threads.hpp"

namespace {

using namespace aios;

/// `--backend threads|io_uring`, or empty: io_uring where the host has it.
Result<std::string_view> backend_option(int argc, char** argv) {
  std::string_view backend;
  for (int i = 1; i + 1 < argc; ++i)
    if (std::string_view(argv[i]) == "--backend") backend = argv[++i];
  if (!backend.empty() && backend != "threads" && backend != "io_uring")
    return error(Code::invalid_argument, "--backend is threads or io_uring");
  return backend;
}

/// The io_uring, since none can be made once the process has locked itself in; null to use threads,
/// which can be made only after that.
Result<std::unique_ptr<storage::DiskIo>> make_ring(storage::DataFile& file,
                                                   std::string_view backend) {
  if (backend == "threads") return nullptr;
  auto disk = storage::UringDiskIo::create(file);
  if (disk || backend == "io_uring") return disk;
  log_line("io_uring is not available here (" + disk.error().message() +
           "); using threads, which is slower");
  return nullptr;
}

Result<int> run(int argc, char** argv) {
  const std::string_view backend = TRY(backend_option(argc, argv));
  ServerProcess process = TRY(ServerProcess::start(argc, argv));
  const std::string folder = process.state + "/storage";
  storage::DataFile file = TRY(storage::DataFile::open(folder));
  auto disk = TRY(make_ring(file, backend));
  auto metadata = TRY(storage::Metadata::open(folder + "/meta.db", now_ns()));
  TRY(sandbox::lock_in(*process.kernel, process.require, folder));
  if (disk == nullptr) disk = TRY(storage::ThreadDiskIo::create(std::move(file)));
  auto background = TRY(storage::BackgroundThread::create());
  const int disk_fd = disk->poll_fd();
  const int background_fd = background->poll_fd();
  log_line("storage at " + folder + " with " + std::string(disk->backend()) + ": " +
           std::to_string(metadata->totals().objects) + " objects");
  auto store = TRY(
      storage::ObjectStore::create({std::move(disk), std::move(metadata), std::move(background)}));
  storage::StorageServer server(*process.kernel, *process.loop, std::move(store));
  server.guard_by(*TRY(process.in_flight()));
  TRY(server.listen(process.port, disk_fd, background_fd));
  const int code = process.run();
  return server.fatal() ? 1 : code;
}

}  // namespace

int main(int argc, char** argv) {
  return aios::server_main(argc, argv, run);
}
