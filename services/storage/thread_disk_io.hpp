// DiskIo by pread and pwrite on a few threads, for hosts that refuse io_uring.
#pragma once

#include <memory>

#include "services/storage/data_file.hpp"
#include "services/storage/worker_threads.hpp"

namespace aios::storage {

class ThreadDiskIo : public DiskIo {
 public:
  static constexpr std::size_t thread_count = 4;

  /// io_error when the threads cannot be made.
  static Result<std::unique_ptr<DiskIo>> create(DataFile file);

  void write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) override;
  void read(std::uint64_t offset, std::span<std::byte> bytes, Done done) override;
  void flush(Done done) override;
  void grow(std::uint64_t old_size, std::uint64_t new_size, Done done) override;
  bool submit() override { return true; }  // each request starts at once
  std::size_t poll() override { return threads_->poll(); }
  int poll_fd() const override { return threads_->poll_fd(); }
  Result<Space> space() override { return file_.space(); }
  std::uint64_t size_bytes() const override { return file_.size_bytes; }
  std::string_view backend() const override { return "threads"; }

 private:
  ThreadDiskIo(DataFile file, std::unique_ptr<WorkerThreads> threads)
      : file_(std::move(file)), threads_(std::move(threads)) {}
  template <class Call>
  void run(Call call, Done done);

  DataFile file_;
  std::unique_ptr<WorkerThreads> threads_;  // destroyed, and so drained, before the file closes
};

}  // namespace aios::storage
