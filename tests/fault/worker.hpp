// The checked workload: threads that call the instance through libaios as any program would, and
// check every answer. What each checks is written in storage_work, task_work and other_work.
//
// A worker never forgives: an answer that is wrong, one that comes after its deadline, a call that
// does not end, and an error that no fault explains are breaches.
#pragma once

#include <aios/aios.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "abi/runtime/time.hpp"
#include "tests/fault/disturbances.hpp"

namespace aios::fault {

/// Of every call of the workload but whole jobs.
inline constexpr std::uint64_t call_timeout_ns = 5 * ns_per_s;
inline constexpr std::uint64_t job_timeout_ns = 30 * ns_per_s;
/// How late an answer may be seen: threads of a busy machine wait for their turn.
inline constexpr std::uint64_t slack_ns = 3 * ns_per_s;

/// Where everybody reports what must not be. Keeps the first few.
class Breaches {
 public:
  void add(const std::string& what);
  bool any() const { return any_.load(); }
  std::vector<std::string> all() const;

 private:
  mutable std::mutex mutex_;
  std::atomic<bool> any_{false};
  std::vector<std::string> list_;
};

/// What all workers share.
struct Ground {
  std::string socket;
  std::string folder;  ///< for files of theirs
  std::string task_module;
  std::string job_module;
  std::uint64_t seed;
  Disturbances& disturbances;
  Breaches& breaches;
  bool tell_failures;  ///< every failed call, on standard error
};

class Worker {
 public:
  /// `needs`: parts whose faults may explain what its calls answer.
  Worker(Ground& ground, std::string name, Parts needs, std::uint64_t aftermath_ns);
  virtual ~Worker() = default;
  Worker(const Worker&) = delete;

  void start();
  /// Lets the round that is under way end.
  void stop();

  const std::string& name() const { return name_; }
  std::uint64_t calls() const { return calls_.load(); }
  std::uint64_t right() const { return right_.load(); }
  /// Failed calls by status; to be called when stopped.
  const std::map<std::string, std::uint64_t>& failures() const { return failures_; }

  /// The number of the call that is under way and needs one of `which`; 0: there is none.
  std::uint64_t pending(Parts which) const;
  /// A call that should long have ended, described; empty when there is none.
  std::string overdue() const;
  /// Changes that were acknowledged of late: when they were asked for and when answered.
  struct Acknowledged {
    std::uint64_t begin_ns;
    std::uint64_t end_ns;
    std::uint64_t size_bytes;
  };
  std::vector<Acknowledged> acknowledged_since(std::uint64_t begin_ns) const;
  /// While it is stopped: attaches anew and checks everything that it ever stored.
  void verify();

 protected:
  /// One piece of work, with at least one call.
  virtual void round() = 0;
  /// The connections to the instance are made by the thread itself, and ended by it.
  virtual void open() = 0;
  virtual void close() = 0;
  virtual void check_all() {}

  /// Runs one call of libaios that needs `which`. Its status, judged: what may not be is reported.
  /// `expected` are statuses that are right answers, as not_found of what is not there.
  aios_code call(const char* what, Parts which, std::uint64_t timeout_ns,
                 const std::function<aios_code(std::uint64_t)>& body, Codes expected = 0);
  /// Notes work that is under way between calls.
  void begin_work(Parts which);
  void end_work() { work_.store(0); }
  void acknowledged(std::uint64_t begin_ns, std::uint64_t size_bytes);
  void breach(const std::string& what);
  bool excused(Parts which, Code code, std::uint64_t begin_ns) const;
  bool stopping() const { return stopping_.load(); }
  std::uint64_t began_ns() const { return began_ns_; }

  Ground& ground_;
  std::mt19937_64 random_;
  aios_instance* instance_ = nullptr;

 private:
  void run();

  std::string name_;
  Parts needs_;
  std::uint64_t aftermath_ns_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> calls_{0};
  std::atomic<std::uint64_t> right_{0};
  std::atomic<std::uint64_t> call_{0};  ///< number << 8 | parts; 0: none is under way
  std::atomic<std::uint64_t> work_{0};  ///< the same for work between calls
  std::atomic<std::uint64_t> due_ns_{0};
  std::atomic<const char*> what_{""};
  std::uint64_t began_ns_ = 0;
  std::uint64_t number_ = 0;
  std::map<std::string, std::uint64_t> failures_;
  mutable std::mutex acknowledged_mutex_;
  std::vector<Acknowledged> acknowledged_;
};

std::unique_ptr<Worker> make_storage_worker(Ground& ground, unsigned number);
std::unique_ptr<Worker> make_task_worker(Ground& ground, unsigned number);
std::unique_ptr<Worker> make_job_worker(Ground& ground);
std::unique_ptr<Worker> make_echo_worker(Ground& ground);
std::unique_ptr<Worker> make_listing_worker(Ground& ground, std::uint32_t servers);

}  // namespace aios::fault
