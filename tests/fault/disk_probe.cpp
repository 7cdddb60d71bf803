#include "tests/fault/disk_probe.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "abi/runtime/time.hpp"

namespace aios::fault {

namespace {
constexpr std::uint64_t pause_us = 50'000;
constexpr std::size_t block_bytes = 4096;
}  // namespace

Result<std::unique_ptr<DiskProbe>> DiskProbe::start(const std::string& folder,
                                                    Disturbances& disturbances) {
  const std::string path = folder + "/disk-probe";
  Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  // The block is there before the disk may be full.
  if (!file.valid() || ::posix_fallocate(file.get(), 0, block_bytes) != 0 ||
      ::fsync(file.get()) != 0)
    return errno_error("prepare " + path, errno);
  return std::unique_ptr<DiskProbe>(new DiskProbe(std::move(file), disturbances));
}

DiskProbe::DiskProbe(Fd file, Disturbances& disturbances)
    : file_(std::move(file)), disturbances_(disturbances), thread_([this] { run(); }) {}

DiskProbe::~DiskProbe() {
  stopping_ = true;
  thread_.join();
}

void DiskProbe::run() {
  std::array<char, block_bytes> block{};
  while (!stopping_) {
    ++block[0];
    const std::uint64_t begin = now_ns();
    {
      const std::lock_guard lock(mutex_);
      under_way_ns_ = begin;
    }
    {
      const Disturbance slow(disturbances_, parts({Part::storage, Part::mapreduce}), 0);
      if (::pwrite(file_.get(), block.data(), block.size(), 0) < 0) return;
      if (::fdatasync(file_.get()) != 0) return;
    }
    const std::uint64_t end = now_ns();
    longest_ns_ = std::max(longest_ns_.load(), end - begin);
    {
      const std::lock_guard lock(mutex_);
      under_way_ns_ = 0;
      if (end - begin >= slow_ns) slow_.push_back({begin, end});
    }
    ::usleep(pause_us);
  }
}

std::uint64_t DiskProbe::still_ns(std::uint64_t window_ns) const {
  const std::uint64_t now = now_ns();
  const std::uint64_t from = now - std::min(now, window_ns);
  const auto within = [&](const Flush& flush) {
    return flush.end_ns <= from ? 0 : flush.end_ns - std::max(flush.begin_ns, from);
  };
  const std::lock_guard lock(mutex_);
  std::uint64_t total = 0;
  for (const Flush& flush : slow_) total += within(flush);
  if (under_way_ns_ != 0 && now - under_way_ns_ >= slow_ns) total += within({under_way_ns_, now});
  return total;
}

}  // namespace aios::fault
