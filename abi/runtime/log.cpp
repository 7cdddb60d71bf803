#include "abi/runtime/log.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <mutex>

#include "abi/runtime/log_stamp.hpp"
#include "abi/runtime/time.hpp"

namespace aios {

namespace {

constexpr std::size_t most_waiting_bytes = 64u << 10;
constexpr std::chrono::milliseconds patience{10};
constexpr std::chrono::seconds patience_at_end{1};
constexpr std::size_t stack_bytes = 256u << 10;

/// How many lines this one stands for: itself, and those left out before it.
struct Line {
  std::string text;
  std::uint64_t stands_for;
};

bool write_out(const std::string& text) {
  ssize_t written;
  do {
    written = ::write(STDERR_FILENO, text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  return written == static_cast<ssize_t>(text.size());
}

/// The thread that writes, and what it has to. Never destroyed, for the thread does not end.
class Writer {
 public:
  /// How many lines the next one stands for beside itself.
  std::uint64_t take_lost() { return lost_.exchange(0); }
  void lose(const Line& line) { lost_ += line.stands_for; }

  void add(Line line) {
    std::unique_lock lock(mutex_);
    if (!started_ && !start()) {
      if (!write_out(line.text)) lose(line);
      return;
    }
    if (bytes_ + line.text.size() > most_waiting_bytes) return lose(line);
    bytes_ += line.text.size();
    waiting_.push_back(std::move(line));
    const std::uint64_t own = ++added_;
    work_.notify_one();
    // A reader of the log finds what was logged before the next thing happened; while nothing gets
    // on, nobody waits again for that.
    if (!late_) late_ = !progress_.wait_for(lock, patience, [&] { return done_ >= own; });
  }

  void flush() {
    std::unique_lock lock(mutex_);
    progress_.wait_for(lock, patience_at_end, [&] { return done_ == added_; });
  }

 private:
  /// Signals are those of the other threads.
  bool start() {
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, stack_bytes);
    ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    started_ = ::pthread_create(&thread, &attributes, &Writer::run, this) == 0;
    ::pthread_attr_destroy(&attributes);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return started_;
  }

  static void* run(void* self) {
    static_cast<Writer*>(self)->work();
    return nullptr;
  }

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      work_.wait(lock, [this] { return !waiting_.empty(); });
      const Line line = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      if (!write_out(line.text)) lose(line);
      lock.lock();
      bytes_ -= line.text.size();
      ++done_;
      if (waiting_.empty()) late_ = false;
      progress_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable work_, progress_;
  std::deque<Line> waiting_;
  std::size_t bytes_ = 0;  ///< of those, and of the one that is being written
  std::uint64_t added_ = 0;
  std::uint64_t done_ = 0;
  bool started_ = false;
  bool late_ = false;  ///< a line was not written in time, and others wait behind it
  std::atomic<std::uint64_t> lost_ = 0;
};

Writer& writer() {
  static Writer* const only = new Writer;
  return *only;
}

std::atomic<bool> silent = false;
std::atomic<bool> background = false;
std::mutex limit_mutex;
LogLimit limit;

std::uint64_t since_1970_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * ns_per_s + static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

bool LogLimit::allows(std::uint64_t now_ns) {
  const std::uint64_t earned = (now_ns - last_ns_) / (ns_per_s / lines_per_s);
  if (earned != 0) {
    left_ = std::min(burst, left_ + earned);
    last_ns_ = now_ns;
  }
  if (left_ == 0) {
    ++left_out_;
    return false;
  }
  --left_;
  return true;
}

void silence_log() {
  silent.store(true, std::memory_order_relaxed);
}

void log_in_background() {
  if (!background.exchange(true)) std::atexit([] { writer().flush(); });
}

void end_process(int code) {
  if (background.load(std::memory_order_relaxed)) writer().flush();
  ::_exit(code);
}

void log_line(std::string_view text) {
  if (silent.load(std::memory_order_relaxed)) return;
  const std::uint64_t now = now_ns();
  std::uint64_t left_out = 0;
  {
    const std::lock_guard lock(limit_mutex);
    if (!limit.allows(now)) return;
    left_out = limit.take_left_out() + writer().take_lost();
  }
  Line line{log_stamp(since_1970_ns(), now), left_out + 1};
  if (left_out != 0) line.text.append("(" + std::to_string(left_out) + " lines left out) ");
  line.text.append(text);
  line.text.push_back('\n');
  if (background.load(std::memory_order_relaxed))
    writer().add(std::move(line));
  else if (!write_out(line.text))
    writer().lose(line);
}

}  // namespace aios
