#include "tests/support/cuda_double/device.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <span>
#include <sstream>
#include <string_view>

#include "abi/runtime/time.hpp"

namespace aios::cuda_double {

Orders Orders::from_environment() {
  Orders orders;
  const char* const text = std::getenv("AIOS_CUDA_DOUBLE");
  std::istringstream words(text != nullptr ? text : "");
  for (std::string word; std::getline(words, word, ',');) {
    const auto equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    const std::uint64_t number = std::strtoull(value.c_str(), nullptr, 10);
    if (name == "devices") {
      orders.devices = static_cast<int>(number);
    } else if (word == "mig=yes") {
      orders.parts = true;
    } else if (name == "memory") {
      orders.memory_bytes = number << 20;
    } else if (word == "init=hang") {
      orders.hang_at_init = true;
    } else if (name == "init" && number > 0) {
      orders.init_s = static_cast<unsigned>(number);
    } else if (word == "owner=hang") {
      orders.owner_hangs = true;
    } else if (word == "owner=fail") {
      orders.owner_fails = true;
    } else if (name == "alloc") {
      orders.failing_allocation = number;
    } else if (name == "event") {
      orders.failing_event = number;
    } else if (name == "copy") {
      orders.failing_copy = number;
    } else if (name == "hang") {
      orders.hanging_launch = number;
    } else if (word == "checkpoint=no") {
      orders.no_checkpoints = true;
    } else if (name == "gone") {
      orders.gone_fd = ::open(value.c_str(), O_RDONLY | O_CLOEXEC);
    } else if (name == "launch" && value.find(':') != std::string::npos) {
      orders.failing_launch = number;
      orders.failing_launch_code = std::atoi(value.c_str() + value.find(':') + 1);
    } else {
      // A test that orders what is unknown would otherwise pass for the wrong reason.
      std::fprintf(stderr, "AIOS_CUDA_DOUBLE: unknown word '%s'\n", word.c_str());
      std::abort();
    }
  }
  return orders;
}

void HappeningState::pend() {
  const std::lock_guard lock(mutex_);
  ++recorded_;
}

void HappeningState::happen() {
  const std::lock_guard lock(mutex_);
  ++happened_;
  time_ms_ = static_cast<double>(now_ns()) / 1e6;
  changed_.notify_all();
}

std::optional<double> HappeningState::time_ms() const {
  const std::lock_guard lock(mutex_);
  if (recorded_ == 0 || happened_ != recorded_) return std::nullopt;
  return time_ms_;
}

bool HappeningState::pending() const {
  const std::lock_guard lock(mutex_);
  return happened_ != recorded_;
}

std::uint64_t HappeningState::recorded() const {
  const std::lock_guard lock(mutex_);
  return recorded_;
}

void HappeningState::wait(std::uint64_t awaited) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return happened_ >= awaited; });
}

WorkStream::WorkStream() : thread_([this] { serve(); }) {}

WorkStream::~WorkStream() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void WorkStream::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    if (const GpuCode code = work(); gpu::cuda::is_fatal(code)) PretendedGpu::instance().lose(code);
    lock.lock();
    busy_ = false;
    changed_.notify_all();
  }
}

void WorkStream::add(Work work) {
  const std::lock_guard lock(mutex_);
  queue_.push_back(std::move(work));
  changed_.notify_all();
}

bool WorkStream::idle() const {
  const std::lock_guard lock(mutex_);
  return queue_.empty() && !busy_;
}

void WorkStream::wait_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return queue_.empty() && !busy_; });
}

PretendedGpu& PretendedGpu::instance() {
  // Never destroyed: threads of streams may outlive main.
  static PretendedGpu& gpu = *new PretendedGpu;
  return gpu;
}

/// Of the process.
static std::span<char* const> arguments;

/// Before its process locks itself in, where FILE cannot be opened any more.
[[gnu::constructor]] static void take_orders(int count, char** values) {
  arguments = {values, static_cast<std::size_t>(count)};
  (void)PretendedGpu::instance();
}

static std::string_view argument(std::string_view name) {
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i)
    if (arguments[i] == name) return arguments[i + 1];
  return {};
}

GpuCode PretendedGpu::begin() const {
  const bool is_owner = argument("--role") == "memory";
  if (orders.hang_at_init || (is_owner && orders.owner_hangs)) never_.wait(false);
  if (is_owner && orders.owner_fails) return GpuCode::not_supported;
  std::this_thread::sleep_for(std::chrono::seconds(orders.init_s));
  const std::string_view own = argument("--uuid");
  const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
  if (!own.empty() && (visible == nullptr || own != visible)) return GpuCode::invalid_device;
  return GpuCode::success;
}

bool PretendedGpu::gone() const {
  struct stat file {};
  return orders.gone_fd >= 0 && ::fstat(orders.gone_fd, &file) == 0 && file.st_size > 0;
}

void PretendedGpu::lose(GpuCode code) {
  GpuCode none = GpuCode::success;
  sticky_.compare_exchange_strong(none, code);
}

bool PretendedGpu::take(std::size_t bytes) {
  if (++allocations_ == orders.failing_allocation) return false;
  if (used_.fetch_add(bytes) + bytes <= orders.memory_bytes) return true;
  used_ -= bytes;
  return false;
}

void PretendedGpu::give_back(std::size_t bytes) {
  used_ -= bytes;
}

GpuCode PretendedGpu::execute(const Launch& launch) {
  // What comes after the fault of another launch is not carried out.
  if (sticky() != GpuCode::success) return sticky();
  if (gone()) return GpuCode::unknown;
  const std::uint64_t number = ++launches_;
  if (number == orders.failing_launch) return static_cast<GpuCode>(orders.failing_launch_code);
  if (number == orders.hanging_launch) never_.wait(false);
  switch (run(launch, memory, never_)) {
    case Outcome::done:
    case Outcome::stopped:
      return GpuCode::success;
    case Outcome::illegal_address:
      return GpuCode::illegal_address;
    case Outcome::trapped:
      return GpuCode::launch_failed;
  }
  return GpuCode::unknown;
}

}  // namespace aios::cuda_double

// For tests.
#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED std::uint64_t aios_cuda_double_events() {
  return aios::cuda_double::PretendedGpu::instance().live_events;
}

EXPORTED std::uint64_t aios_cuda_double_modules() {
  return aios::cuda_double::PretendedGpu::instance().live_modules;
}

/// Of device memory, in use.
EXPORTED std::uint64_t aios_cuda_double_bytes() {
  return aios::cuda_double::PretendedGpu::instance().used_bytes();
}
