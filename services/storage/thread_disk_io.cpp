#include "services/storage/thread_disk_io.hpp"

#include <unistd.h>

#include <cerrno>

namespace aios::storage {

Result<std::unique_ptr<DiskIo>> ThreadDiskIo::create(DataFile file) {
  auto threads = TRY(WorkerThreads::create(thread_count));
  return std::unique_ptr<DiskIo>(new ThreadDiskIo(std::move(file), std::move(threads)));
}

/// `call` returns what the system call does; it runs on a thread, `done` in `poll`.
template <class Call>
void ThreadDiskIo::run(Call call, Done done) {
  auto result = std::make_shared<std::int64_t>(0);
  threads_->submit(
      [call, result] {
        do {
          *result = call();
        } while (*result < 0 && errno == EINTR);
        if (*result < 0) *result = -errno;
      },
      [result, done = std::move(done)] { done(*result); });
}

void ThreadDiskIo::write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) {
  run([fd = file_.fd.get(), offset,
       bytes] { return pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); },
      std::move(done));
}

void ThreadDiskIo::read(std::uint64_t offset, std::span<std::byte> bytes, Done done) {
  run([fd = file_.fd.get(), offset,
       bytes] { return pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); },
      std::move(done));
}

void ThreadDiskIo::flush(Done done) {
  run([fd = file_.fd.get()] { return ssize_t{fdatasync(fd)}; }, std::move(done));
}

void ThreadDiskIo::grow(std::uint64_t old_size, std::uint64_t new_size, Done done) {
  run(
      [fd = file_.fd.get(), old_size, new_size]() -> ssize_t {
        const std::int64_t result = preallocate(fd, old_size, new_size);
        if (result < 0) errno = static_cast<int>(-result);
        return result < 0 ? -1 : 0;
      },
      std::move(done));
}

}  // namespace aios::storage
