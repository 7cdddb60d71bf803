// Honest clients, one of each server, each on a thread and a connection of its own, that call all
// along through the ordinary runtime and check every answer. And the prey: an honest client of the
// hostile server, which must get an end of every call, in time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "abi/runtime/status.hpp"
#include "tests/support/test_instance.hpp"

namespace aios::hostile {

/// One thread that repeats something. The first failure ends it and is kept.
class Victim {
 public:
  /// `body` gets the number of the round and makes at least one call in it.
  using Body = std::function<Result<void>(std::uint64_t round)>;

  Victim(std::string name, Body body);
  ~Victim() { stop(); }
  void stop();
  /// Returns when no call of it is under way; what it holds, it keeps.
  void pause();
  void resume();

  const std::string& name() const { return name_; }
  std::uint64_t rounds() const { return rounds_.load(); }
  /// Empty while all is well.
  std::string failure() const { return failed_.load() ? failure_ : std::string(); }

 private:
  void run(const Body& body);
  bool go_on();

  std::string name_;
  std::atomic<std::uint64_t> rounds_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool paused_ = false;
  bool resting_ = false;
  std::atomic<bool> failed_{false};
  std::string failure_;
  std::thread thread_;
};

/// Victims of echo, storage, scheduler, mapreduce, supervisor and of the hostile server. `folder`
/// is for their files; the modules are wordcount.so and the
/// tests' good.so.
struct VictimSetup {
  test::TestInstance& instance;
  std::string folder;
  std::string wordcount_module;
  std::string task_module;
};
Result<std::vector<std::unique_ptr<Victim>>> start_victims(const VictimSetup& setup);

}  // namespace aios::hostile
