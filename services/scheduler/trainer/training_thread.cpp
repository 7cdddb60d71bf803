#include "services/scheduler/trainer/training_thread.hpp"

#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <system_error>
#include <utility>

#include "abi/runtime/log.hpp"
#include "services/scheduler/trainer/training.hpp"

namespace aios::scheduler::trainer {
namespace {

void run_when_idle() {
  sched_param none{};
  if (::sched_setscheduler(0, SCHED_IDLE, &none) != 0)
    log_line("training is not of the idle class: " +
             errno_error("sched_setscheduler", errno).error().to_string());
}

std::uint64_t thread_cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * ns_per_s + static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

Result<std::unique_ptr<TrainingThread>> TrainingThread::create(EventLoop& loop,
                                                               std::function<void(Outcome)> ended) {
  std::unique_ptr<TrainingThread> out(new TrainingThread(loop, std::move(ended)));
  out->event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!out->event_.valid()) return errno_error("eventfd for training", errno);
  TRY(loop.watch(out->event_.get(), EPOLLIN,
                 [thread = out.get()](std::uint32_t) { thread->finish(); }));
  return out;
}

TrainingThread::~TrainingThread() {
  stop();
  if (thread_.joinable()) thread_.join();
  if (event_.valid()) loop_.unwatch(event_.get());
}

Result<void> TrainingThread::begin(std::vector<KeyRuns> keys, Booster& booster, Deadline until) {
  stop_ = false;
  try {
    thread_ = std::thread([this, keys = std::move(keys), &booster, until] {
      run_when_idle();
      run(keys, booster, until);
    });
  } catch (const std::system_error& failure) {
    return error(Code::no_memory, std::string("no thread to train: ") + failure.what());
  }
  return {};
}

void TrainingThread::run(const std::vector<KeyRuns>& keys, Booster& booster, Deadline until) {
  const auto stop = [&] { return stop_.load() || until.passed(); };
  for (const KeyRuns& key : keys) outcome_.keys.push_back(train(key, booster, stop));
  outcome_.cpu_ns = thread_cpu_ns();
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof one);
}

void TrainingThread::finish() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof count);
  thread_.join();
  ended_(std::exchange(outcome_, {}));
}

}  // namespace aios::scheduler::trainer
