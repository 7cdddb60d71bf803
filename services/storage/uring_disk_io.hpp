// DiskIo by io_uring.
#pragma once

#include <liburing.h>

#include <array>
#include <memory>

#include "services/storage/data_file.hpp"

namespace aios::storage {

/// The thread that creates it must be the one that uses it.
class UringDiskIo : public DiskIo {
 public:
  /// not_supported, with the reason, when this host has no io_uring that offers what is needed;
  /// `file` is untouched then.
  static Result<std::unique_ptr<DiskIo>> create(DataFile& file);
  ~UringDiskIo() override;

  void write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) override;
  void read(std::uint64_t offset, std::span<std::byte> bytes, Done done) override;
  void flush(Done done) override;
  void grow(std::uint64_t old_size, std::uint64_t new_size, Done done) override;
  bool submit() override;
  std::size_t poll() override;
  int poll_fd() const override { return event_.get(); }
  Result<Space> space() override { return file_.space(); }
  std::uint64_t size_bytes() const override { return file_.size_bytes; }
  std::string_view backend() const override { return "io_uring"; }

 private:
  UringDiskIo() = default;
  Result<> set_up(const DataFile& file);
  template <class Prepare>
  void enqueue(Done done, std::uint64_t grow_size, Prepare prepare);
  void finish(std::size_t slot, std::int64_t result);

  io_uring ring_{};
  bool ring_made_ = false;
  /// The ring's own descriptor does not wake a poller when completions are deferred to its owner.
  Fd event_;
  DataFile file_;
  std::array<Done, max_in_flight> slots_;                  // by user_data
  std::array<std::uint64_t, max_in_flight> grow_sizes_{};  // new size where the slot is a grow
  std::array<std::size_t, max_in_flight> free_slots_{};
  std::size_t free_count_ = 0;
};

}  // namespace aios::storage
