#include "services/storage/uring_disk_io.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <string>

namespace aios::storage {
namespace {

constexpr int data_file_index = 0;  // among the ring's fixed files
constexpr std::array needed_operations = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC,
                                          IORING_OP_FALLOCATE};

std::unexpected<Status> unavailable(const char* what, int negative_errno) {
  return error(Code::not_supported, std::string(what) + ": " + std::strerror(-negative_errno));
}

/// Older kernels refuse the newer flags; what they promise is speed only.
int init_ring(io_uring& ring) {
  io_uring_params params{};
  params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN;
  const int made = io_uring_queue_init_params(DiskIo::max_in_flight, &ring, &params);
  if (made != -EINVAL) return made;
  params = {};
  params.flags = IORING_SETUP_R_DISABLED;
  return io_uring_queue_init_params(DiskIo::max_in_flight, &ring, &params);
}

bool offers_what_is_needed(io_uring& ring) {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return false;
  bool all = true;
  for (const int operation : needed_operations)
    all = all && io_uring_opcode_supported(probe, operation) != 0;
  io_uring_free_probe(probe);
  return all;
}

/// The ring can do nothing but what this file asks for, and only on the data file.
int restrict_ring(io_uring& ring) {
  std::array<io_uring_restriction, needed_operations.size() + 1> rules{};
  for (std::size_t i = 0; i < needed_operations.size(); ++i) {
    rules[i].opcode = IORING_RESTRICTION_SQE_OP;
    rules[i].sqe_op = static_cast<std::uint8_t>(needed_operations[i]);
  }
  rules.back().opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
  rules.back().sqe_flags = IOSQE_FIXED_FILE;
  return io_uring_register_restrictions(&ring, rules.data(), rules.size());
}

}  // namespace

Result<std::unique_ptr<DiskIo>> UringDiskIo::create(DataFile& file) {
  std::unique_ptr<UringDiskIo> out(new UringDiskIo);
  TRY(out->set_up(file));
  out->file_ = std::move(file);
  for (std::size_t i = 0; i < max_in_flight; ++i) out->free_slots_[out->free_count_++] = i;
  return out;
}

Result<> UringDiskIo::set_up(const DataFile& file) {
  if (const int made = init_ring(ring_); made < 0) return unavailable("io_uring_setup", made);
  ring_made_ = true;
  if (!offers_what_is_needed(ring_))
    return error(Code::not_supported, "this kernel's io_uring lacks an operation");
  const int fd = file.fd.get();
  if (const int rc = io_uring_register_files(&ring_, &fd, 1); rc < 0)
    return unavailable("io_uring_register_files", rc);
  event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event_.valid()) return errno_error("eventfd for io_uring", errno);
  if (const int rc = io_uring_register_eventfd(&ring_, event_.get()); rc < 0)
    return unavailable("io_uring_register_eventfd", rc);
  if (const int rc = restrict_ring(ring_); rc < 0)
    return unavailable("io_uring_register_restrictions", rc);
  if (const int rc = io_uring_enable_rings(&ring_); rc < 0)
    return unavailable("io_uring_enable_rings", rc);
  return {};
}

UringDiskIo::~UringDiskIo() {
  if (!ring_made_) return;
  // The kernel may still write into buffers that end with us.
  while (free_count_ != 0 && free_count_ < max_in_flight) {
    io_uring_cqe* cqe = nullptr;
    if (const int rc = io_uring_submit_and_wait(&ring_, 1); rc < 0 && rc != -EINTR) break;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
      free_slots_[free_count_++] = cqe->user_data;
      io_uring_cqe_seen(&ring_, cqe);
    }
  }
  io_uring_queue_exit(&ring_);
}

template <class Prepare>
void UringDiskIo::enqueue(Done done, std::uint64_t grow_size, Prepare prepare) {
  assert(free_count_ != 0);
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  assert(sqe != nullptr);  // the queue is at least as long as max_in_flight
  const std::size_t slot = free_slots_[--free_count_];
  slots_[slot] = std::move(done);
  grow_sizes_[slot] = grow_size;
  prepare(sqe);
  io_uring_sqe_set_data64(sqe, slot);
  io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
}

void UringDiskIo::write(std::uint64_t offset, std::span<const std::byte> bytes, Done done) {
  enqueue(std::move(done), 0, [&](io_uring_sqe* sqe) {
    io_uring_prep_write(sqe, data_file_index, bytes.data(), static_cast<unsigned>(bytes.size()),
                        offset);
  });
}

void UringDiskIo::read(std::uint64_t offset, std::span<std::byte> bytes, Done done) {
  enqueue(std::move(done), 0, [&](io_uring_sqe* sqe) {
    io_uring_prep_read(sqe, data_file_index, bytes.data(), static_cast<unsigned>(bytes.size()),
                       offset);
  });
}

void UringDiskIo::flush(Done done) {
  enqueue(std::move(done), 0, [](io_uring_sqe* sqe) {
    io_uring_prep_fsync(sqe, data_file_index, IORING_FSYNC_DATASYNC);
  });
}

void UringDiskIo::grow(std::uint64_t old_size, std::uint64_t new_size, Done done) {
  enqueue(std::move(done), new_size, [&](io_uring_sqe* sqe) {
    io_uring_prep_fallocate(sqe, data_file_index, 0, static_cast<off_t>(old_size),
                            static_cast<off_t>(new_size - old_size));
  });
}

bool UringDiskIo::submit() {
  while (io_uring_sq_ready(&ring_) != 0) {
    const int taken = io_uring_submit(&ring_);
    if (taken < 0 && taken != -EINTR) return false;
  }
  return true;
}

void UringDiskIo::finish(std::size_t slot, std::int64_t result) {
  if (grow_sizes_[slot] != 0 && result == -EOPNOTSUPP)
    result = ftruncate(file_.fd.get(), static_cast<off_t>(grow_sizes_[slot])) == 0 ? 0 : -errno;
  const Done done = std::exchange(slots_[slot], nullptr);
  free_slots_[free_count_++] = slot;
  done(result);
}

std::size_t UringDiskIo::poll() {
  if (free_count_ == max_in_flight) return 0;
  std::uint64_t signals = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &signals, sizeof(signals));
  io_uring_get_events(&ring_);
  std::size_t count = 0;
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
    const auto slot = static_cast<std::size_t>(cqe->user_data);
    const std::int64_t result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    finish(slot, result);
    ++count;
  }
  return count;
}

}  // namespace aios::storage
