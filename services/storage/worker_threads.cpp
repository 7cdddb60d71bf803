#include "services/storage/worker_threads.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace aios::storage {

Result<std::unique_ptr<WorkerThreads>> WorkerThreads::create(std::size_t thread_count) {
  std::unique_ptr<WorkerThreads> out(new WorkerThreads);
  out->event_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!out->event_.valid()) return errno_error("eventfd for disk threads", errno);
  try {
    for (std::size_t i = 0; i < thread_count; ++i)
      out->threads_.emplace_back([pool = out.get()] { pool->run(); });
  } catch (const std::system_error& failure) {
    return error(Code::io_error, std::string("cannot start a disk thread: ") + failure.what());
  }
  return out;
}

WorkerThreads::~WorkerThreads() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerThreads::submit(std::function<void()> work, std::function<void()> then) {
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({std::move(work), std::move(then)});
  }
  changed_.notify_one();
}

void WorkerThreads::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Item item = std::move(waiting_.front());
    waiting_.pop_front();
    lock.unlock();
    item.work();
    item.work = nullptr;  // what it captured ends before its owner hears of it
    lock.lock();
    ended_.push_back(std::move(item.then));
    const std::uint64_t one = 1;
    // The counter cannot overflow: it is reset by every poll.
    [[maybe_unused]] const ssize_t written = write(event_.get(), &one, sizeof(one));
  }
}

std::size_t WorkerThreads::poll() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(event_.get(), &count, sizeof(count));
  std::vector<std::function<void()>> ended;
  {
    const std::lock_guard lock(mutex_);
    ended.swap(ended_);
  }
  for (const std::function<void()>& then : ended) then();
  return ended.size();
}

Result<std::unique_ptr<BackgroundThread>> BackgroundThread::create() {
  std::unique_ptr<WorkerThreads> threads = TRY(WorkerThreads::create(1));
  return std::unique_ptr<BackgroundThread>(new BackgroundThread(std::move(threads)));
}

void BackgroundThread::start(std::function<void()> work) {
  threads_->submit(std::move(work), [this] { ended_ = true; });
}

bool BackgroundThread::finished() {
  threads_->poll();
  return std::exchange(ended_, false);
}

}  // namespace aios::storage
