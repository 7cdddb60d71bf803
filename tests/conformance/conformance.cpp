// The same cases on every device of an instance, through libaios, scheduler, driver and context:
// processors, OpenCL where a driver is installed (PoCL runs on the processor), and CUDA, by a
// double of its driver where there is no GPU. Prints a table of cases and devices, and what was
// skipped and why.
//
// usage: conformance
// AIOS_CONFORMANCE_BACKEND=opencl: on devices of that backend only.
// AIOS_CONFORMANCE_OPENCL_LIBRARY=FILE: through that loader of OpenCL drivers.
#include <aios/codelet.h>

#include <aios/aios.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <thread>

#include "tests/conformance/cases.hpp"
#include "tests/conformance/devices.hpp"

namespace {

using namespace aios;
using conformance::Case;
using conformance::Device;

constexpr const char* fault_module = CODELET_FOLDER "/faults.so";
constexpr std::uint64_t timeout_ns = 60'000'000'000;
constexpr std::uint64_t limit_ns = 500'000'000;

/// What one application has.
class Application {
 public:
  Application(const std::string& socket, const char* job)
      : instance_(options(socket, job)), tenant_(instance_.tenant(timeout_ns)) {}

  /// Empty when the case came out as it should, else how not.
  std::string run(const Case& c, const Device& device);
  /// The status of one task with one buffer of `bytes`, and what is said about it.
  std::pair<aios_code, std::string> run_alone(const std::string& module, const char* codelet,
                                              const Device& device, std::size_t bytes,
                                              std::uint64_t argument, std::uint64_t limit);
  /// Empty when tasks see each other's results and what the client writes in between.
  /// With `crash` the context is lost in between.
  std::string run_chain(const Device& device, bool crash);
  /// Several tasks at once, of which one faults: empty when that one failed and the rest did not.
  std::string run_beside_fault(const Case& c, const Device& device);
  /// Chains of tasks so brief that many go to the device at once: empty when each has computed what
  /// it should, and with `fault` when one that faults in their midst is the only one that does.
  std::string run_brief(const Device& device, bool fault);
  std::uint32_t codelet(const std::string& module, const std::string& name);
  /// What a task has left in the device's memory, and nowhere else, is found there by a task in the
  /// next context: empty when it is. `before_crash` is done in between.
  std::string find_after_crash(const Device& device, const std::function<void()>& before_crash);
  /// Adds 1 to each number of a buffer that it keeps for this device, and looks at all of them.
  std::string add_to_held(const Device& device);

 private:
  struct Held {
    Region ones;
    Region sums;
    std::uint32_t ones_id;
    std::uint32_t sums_id;
    float expected = 0;
  };

  static aios_attach_options options(const std::string& socket, const char* job) {
    aios_attach_options made{};
    made.socket_path = socket.c_str();
    made.job_name = job;
    return made;
  }
  aios_completion finish(Task& task);
  std::vector<aios_completion> collect(std::size_t count);

  Instance instance_;
  Tenant tenant_;
  std::map<std::string, std::uint32_t> codelets_;
  std::map<std::uint32_t, Held> held_;  ///< by device
  std::uint64_t last_tag_ = 0;
};

std::uint32_t Application::codelet(const std::string& module, const std::string& name) {
  const auto known = codelets_.find(module + name);
  if (known != codelets_.end()) return known->second;
  const std::uint32_t made = tenant_.codelet(module, name);
  codelets_[module + name] = made;
  return made;
}

aios_completion Application::finish(Task& task) {
  task.record().tag = ++last_tag_;
  tenant_.submit({&task, 1});
  const auto done = tenant_.completions(timeout_ns);
  if (done.size() != 1) throw Error(AIOS_TIMED_OUT, "the task does not end");
  return done.front();
}

std::vector<aios_completion> Application::collect(std::size_t count) {
  std::vector<aios_completion> all;
  while (all.size() < count) {
    const auto some = tenant_.completions(timeout_ns);
    if (some.empty()) throw Error(AIOS_TIMED_OUT, "the tasks do not end");
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::string Application::run(const Case& c, const Device& device) {
  Task task(1, codelet(CODELET_FOLDER "/" + c.module + ".so", c.codelet));
  task.device(device.index).grid(c.grid[0], c.grid[1], c.grid[2]);
  aios_task_set_arguments(&task.record(), c.arguments.data(), c.arguments.size());
  std::vector<Region> regions;
  std::vector<std::uint32_t> buffers;
  for (const auto& buffer : c.buffers) {
    regions.push_back(instance_.create_region(buffer.bytes.size(), "case"));
    std::memcpy(regions.back().as<std::byte>().data(), buffer.bytes.data(), buffer.bytes.size());
    buffers.push_back(tenant_.buffer(regions.back(), 0, buffer.bytes.size(), aios::Access::write));
    task.buffer(buffers.back(), buffer.mode);
  }
  const aios_completion done = finish(task);
  for (const std::uint32_t buffer : buffers) tenant_.release(buffer);
  if (done.status != AIOS_OK) return tenant_.failure(done.tag);
  if (done.end_ns < done.start_ns) return "it ended before it began";
  for (const auto& expected : c.expected) {
    const auto memory = regions[expected.buffer].as<std::byte>();
    const std::vector<std::byte> found(
        memory.begin(),
        memory.begin() + static_cast<std::ptrdiff_t>(c.buffers[expected.buffer].bytes.size()));
    if (std::string wrong = conformance::difference(expected, found); !wrong.empty()) return wrong;
  }
  return {};
}

std::pair<aios_code, std::string> Application::run_alone(const std::string& module,
                                                         const char* name, const Device& device,
                                                         std::size_t bytes, std::uint64_t argument,
                                                         std::uint64_t limit) {
  Task task(1, codelet(module, name));
  const Region region = instance_.create_region(bytes, "alone");
  const std::uint32_t buffer = tenant_.buffer(region, 0, bytes, aios::Access::write);
  task.device(device.index).grid(1).arguments(argument).buffer(buffer, AIOS_MODE_READ_WRITE);
  task.record().limit_ns = limit;
  const aios_completion done = finish(task);
  const std::string why = done.status == AIOS_OK ? "" : tenant_.failure(done.tag);
  tenant_.release(buffer);
  return {static_cast<aios_code>(done.status), why};
}

std::string Application::run_chain(const Device& device, bool crash) {
  struct {
    std::uint32_t n;
    float a;
  } const arguments{64, 2};
  Region regions[2] = {instance_.create_region(256, "x"), instance_.create_region(256, "y")};
  const auto x = regions[0].as<float>().first(arguments.n);
  const auto y = regions[1].as<float>().first(arguments.n);
  const std::uint32_t buffers[2] = {tenant_.buffer(regions[0], 0, 256, aios::Access::write),
                                    tenant_.buffer(regions[1], 0, 256, aios::Access::write)};
  const auto run = [&](std::size_t count) {
    std::vector<Task> tasks;
    for (std::size_t i = 0; i < count; ++i) {
      Task task(++last_tag_, codelet(CODELET_FOLDER "/vector.so", "axpy"));
      task.device(device.index).grid(1).arguments(arguments);
      task.buffer(buffers[0], AIOS_MODE_READ).buffer(buffers[1], AIOS_MODE_READ_WRITE);
      if (i > 0) task.after(last_tag_ - 1);
      tasks.push_back(task);
    }
    tenant_.submit(tasks);
    collect(count);
    return y.back();
  };
  std::ranges::fill(x, 1.0f);
  std::ranges::fill(y, 0.0f);
  const float chained = run(3);
  std::ranges::fill(x, 3.0f);
  const float with_other_x = run(1);
  if (crash && run_alone(fault_module, "beyond", device, 64, 1ull << 40, 0).first != AIOS_CRASHED)
    return "the faulty task did not crash";
  const float after_crash = run(1);
  std::ranges::fill(y, 10.0f);
  const float with_other_y = run(2);
  for (const std::uint32_t buffer : buffers) tenant_.release(buffer);
  if (chained != 6 || with_other_x != 12 || after_crash != 18 || with_other_y != 22)
    return std::to_string(chained) + ", " + std::to_string(with_other_x) + ", " +
           std::to_string(after_crash) + ", " + std::to_string(with_other_y) +
           " instead of 6, 12, 18, 22";
  return {};
}

/// A task that writes one number of a buffer brings all of it back from the device: the others are
/// what a context before it has left there. (Applications cannot rely on that: for them they are
/// undefined.)
std::string Application::find_after_crash(const Device& device,
                                          const std::function<void()>& before_crash) {
  constexpr std::uint32_t n = 1u << 19;
  constexpr std::uint64_t bytes = n * sizeof(float);
  const Region ones = instance_.create_region(bytes, "ones");
  const Region sums = instance_.create_region(bytes, "sums");
  std::ranges::fill(ones.as<float>(), 1.0f);
  const std::uint32_t ones_id = tenant_.buffer(ones, 0, bytes, aios::Access::write);
  const std::uint32_t sums_id = tenant_.buffer(sums, 0, bytes, aios::Access::write);
  const auto add = [&](std::uint32_t count) {
    Task task(1, codelet(CODELET_FOLDER "/vector.so", "vector_add"));
    task.device(device.index).grid((count + 255) / 256).arguments(count);
    task.buffer(ones_id, AIOS_MODE_READ).buffer(ones_id, AIOS_MODE_READ);
    task.buffer(sums_id, AIOS_MODE_WRITE);
    return static_cast<aios_code>(finish(task).status);
  };
  const aios_code before = add(n);
  std::ranges::fill(sums.as<float>(), 0.0f);
  before_crash();
  const aios_code crash = run_alone(fault_module, "beyond", device, 64, 1ull << 40, 0).first;
  const aios_code after = add(1);
  tenant_.release(ones_id);
  tenant_.release(sums_id);
  if (before != AIOS_OK || crash != AIOS_CRASHED || after != AIOS_OK)
    return std::string("tasks ended with ") + aios_code_name(before) + ", " +
           aios_code_name(crash) + ", " + aios_code_name(after);
  if (std::ranges::any_of(sums.as<float>().first(n), [](float sum) { return sum != 2.0f; }))
    return "what was on the device is not there any more";
  return {};
}

std::string Application::run_beside_fault(const Case& c, const Device& device) {
  constexpr std::size_t count = 5;
  constexpr std::size_t faulty = 2;
  std::vector<Region> regions;
  std::vector<std::uint32_t> buffers;
  std::vector<Task> tasks;
  const auto add_buffer = [&](Task& task, std::size_t bytes, std::uint32_t mode) {
    regions.push_back(instance_.create_region(bytes, "beside"));
    buffers.push_back(tenant_.buffer(regions.back(), 0, bytes, aios::Access::write));
    task.buffer(buffers.back(), mode);
  };
  for (std::size_t i = 0; i < count; ++i) {
    const bool bad = i == faulty;
    Task task(++last_tag_, bad ? codelet(fault_module, "beyond")
                               : codelet(CODELET_FOLDER "/" + c.module + ".so", c.codelet));
    task.device(device.index).grid(bad ? 1 : c.grid[0]);
    task.record().flags = AIOS_TASK_IDEMPOTENT;
    if (bad) {
      task.arguments(std::uint64_t{1} << 40);
      add_buffer(task, 64, AIOS_MODE_READ_WRITE);
    } else {
      aios_task_set_arguments(&task.record(), c.arguments.data(), c.arguments.size());
      for (const auto& buffer : c.buffers) add_buffer(task, buffer.bytes.size(), buffer.mode);
    }
    tasks.push_back(task);
  }
  tenant_.submit(tasks);
  std::string wrong;
  for (const aios_completion& completion : collect(count)) {
    const bool bad = completion.tag == tasks[faulty].record().tag;
    if (completion.status != (bad ? AIOS_CRASHED : AIOS_OK))
      wrong = (bad ? "the faulty one: " : "another: ") +
              std::string(aios_code_name(static_cast<aios_code>(completion.status)));
  }
  for (const std::uint32_t buffer : buffers) tenant_.release(buffer);
  return wrong;
}

std::string Application::run_brief(const Device& device, bool fault) {
  constexpr std::uint32_t n = 64;
  constexpr std::uint32_t bytes = n * sizeof(float);
  constexpr std::size_t chains = 16;
  constexpr std::size_t steps = 24;
  // Buffer 0 is of ones, then each chain has one for each of its steps.
  const Region memory = instance_.create_region((1 + chains * (steps + 1)) * bytes, "brief");
  std::ranges::fill(memory.as<float>(), 0.0f);
  std::ranges::fill(memory.as<float>().first(n), 1.0f);
  std::vector<std::uint32_t> buffers;
  for (std::size_t i = 0; i < 1 + chains * (steps + 1); ++i)
    buffers.push_back(tenant_.buffer(memory, i * bytes, bytes, aios::Access::write));
  const auto buffer_of = [](std::size_t chain, std::size_t step) {
    return 1 + chain * (steps + 1) + step;
  };
  const std::uint32_t add = codelet(CODELET_FOLDER "/vector.so", "vector_add");
  std::vector<Task> tasks;
  std::vector<std::uint64_t> last(chains);
  std::uint64_t bad_tag = 0;
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t chain = 0; chain < chains; ++chain) {
      Task task(++last_tag_, add);
      task.device(device.index).grid(1).arguments(n);
      task.record().flags = AIOS_TASK_IDEMPOTENT;
      task.buffer(buffers[buffer_of(chain, step)], AIOS_MODE_READ);
      task.buffer(buffers[0], AIOS_MODE_READ);
      task.buffer(buffers[buffer_of(chain, step + 1)], AIOS_MODE_WRITE);
      if (step > 0) task.after(last[chain]);
      last[chain] = last_tag_;
      tasks.push_back(task);
    }
    if (!fault || step != steps / 2) continue;
    Task task(bad_tag = ++last_tag_, codelet(fault_module, "beyond"));
    task.device(device.index).grid(1).arguments(std::uint64_t{1} << 40);
    task.record().flags = AIOS_TASK_IDEMPOTENT;
    task.buffer(buffers[buffer_of(0, 0)], AIOS_MODE_READ_WRITE);
    tasks.push_back(task);
  }
  tenant_.submit(tasks);
  std::string wrong;
  for (const aios_completion& completion : collect(tasks.size())) {
    if (completion.end_ns < completion.start_ns) wrong = "one ended before it began";
    if (completion.status != (completion.tag == bad_tag ? AIOS_CRASHED : AIOS_OK))
      wrong = "one ended with " +
              std::string(aios_code_name(static_cast<aios_code>(completion.status)));
  }
  for (const std::uint32_t buffer : buffers) tenant_.release(buffer);
  for (std::size_t chain = 0; chain < chains && wrong.empty(); ++chain) {
    const auto end = memory.as<float>().subspan(buffer_of(chain, steps) * n, n);
    if (std::ranges::any_of(end, [](float value) { return value != steps; }))
      wrong = "a chain of " + std::to_string(steps) + " steps ends with " + std::to_string(end[0]);
  }
  return wrong;
}

std::string Application::add_to_held(const Device& device) {
  constexpr std::uint32_t n = 1000;
  if (!held_.contains(device.index)) {
    Region ones = instance_.create_region(n * sizeof(float), "ones");
    Region sums = instance_.create_region(n * sizeof(float), "sums");
    std::ranges::fill(ones.as<float>(), 1.0f);
    const std::uint32_t ones_id = tenant_.buffer(ones, aios::Access::write);
    const std::uint32_t sums_id = tenant_.buffer(sums, aios::Access::write);
    held_.emplace(device.index, Held{std::move(ones), std::move(sums), ones_id, sums_id});
  }
  Held& held = held_.at(device.index);
  struct {
    std::uint32_t n = 1000;
    float a = 1;
  } arguments;
  Task task(1, codelet(CODELET_FOLDER "/vector.so", "axpy"));
  task.device(device.index).grid((n + 255) / 256).arguments(arguments);
  task.buffer(held.ones_id, AIOS_MODE_READ).buffer(held.sums_id, AIOS_MODE_READ_WRITE);
  const aios_completion done = finish(task);
  if (done.status != AIOS_OK) return tenant_.failure(done.tag);
  if (done.attempts != 1) return "it took " + std::to_string(done.attempts) + " attempts";
  held.expected += 1;
  const auto sums = held.sums.as<float>().first(n);
  if (std::ranges::any_of(sums, [&](float sum) { return sum != held.expected; }))
    return "its buffer has not kept what was in it";
  return {};
}

// ---- what is more than one codelet --------------------------------------------------------------

using Outcome = std::string;  ///< empty: as it should be; "-...": skipped, and why

const Case& sample() {
  static const Case made = conformance::standard_cases().front();
  return made;
}

/// An application that works on a device until this object ends, beside whatever else happens.
class AtWork {
 public:
  AtWork(Application& application, const Device& device)
      : thread_([this, &application, &device] {
          while (wrong_.empty() && (!ending_ || rounds_ < 2)) {
            wrong_ = application.run(sample(), device);
            ++rounds_;
          }
        }) {}
  ~AtWork() { finish(); }
  AtWork(const AtWork&) = delete;

  /// What went wrong.
  Outcome finish() {
    ending_ = true;
    if (thread_.joinable()) thread_.join();
    return wrong_;
  }

 private:
  std::atomic<bool> ending_ = false;
  std::uint64_t rounds_ = 0;
  Outcome wrong_;
  std::thread thread_;
};

struct Pair {
  Application a;
  Application b;
  const conformance::System& system;
};

/// `a` goes wrong; `b` works meanwhile, and has its context, its results and its buffer afterwards.
Outcome contained(Pair& pair, const Device& device, const char* kernel, aios_code expected,
                  const std::string& words) {
  auto& [a, b, system] = pair;
  if (Outcome wrong = a.run(sample(), device); !wrong.empty()) return "before: " + wrong;
  if (Outcome wrong = b.add_to_held(device); !wrong.empty()) return "the other's before: " + wrong;
  const std::set<std::uint64_t> before = system.contexts();
  AtWork others(b, device);
  constexpr std::uint64_t far = 1ull << 40;
  const auto [code, why] =
      a.run_alone(fault_module, kernel, device, 64, far, expected == AIOS_TIMED_OUT ? limit_ns : 0);
  if (Outcome wrong = others.finish(); !wrong.empty()) return "the other's meanwhile: " + wrong;
  if (code != expected) return std::string("ended with ") + aios_code_name(code) + ": " + why;
  if (why.find(words) == std::string::npos) return "said only: " + why;
  if (Outcome wrong = b.add_to_held(device); !wrong.empty()) return "the other's: " + wrong;
  if (Outcome wrong = a.run(sample(), device); !wrong.empty()) return "its next: " + wrong;
  // Looked at last: a context answers before it ends.
  const std::set<std::uint64_t> after = system.contexts();
  const auto ended = std::ranges::count_if(before, [&](auto one) { return !after.contains(one); });
  if (ended != 1) return std::to_string(ended) + " contexts ended, not one";
  return {};
}

Outcome illegal_address(Pair& pair, const Device& device) {
  return contained(pair, device, "beyond", AIOS_CRASHED,
                   device.backend == "cuda" ? "ILLEGAL_ADDRESS" : "segmentation fault");
}

/// A trap, on what is not the processor's own device; OpenCL on the processor raises SIGILL for it.
Outcome abort(Pair& pair, const Device& device) {
  return contained(pair, device, "giving_up", AIOS_CRASHED,
                   device.backend == "cuda"     ? "LAUNCH_FAILED"
                   : device.backend == "opencl" ? "illegal instruction"
                                                : "aborted");
}

Outcome endless(Pair& pair, const Device& device) {
  return contained(pair, device, "forever", AIOS_TIMED_OUT, "time limit");
}

Outcome out_of_memory(Pair& pair, const Device& device) {
  if (!device.own_memory)
    return "-memory of " + device.name + " is the host's: regions are used in place";
  if (device.backend != "cuda")
    return "-memory of " + device.name + " is as large as the host's: no region is larger";
  const auto [code, why] =
      pair.a.run_alone(fault_module, "beyond", device, device.memory_bytes + (1u << 20), 0, 0);
  if (code != AIOS_NO_MEMORY) return std::string("ended with ") + aios_code_name(code);
  return pair.a.run(sample(), device);
}

/// Two tasks in a chain, then one more after the client has changed what they read and wrote.
Outcome changes_between_tasks(Pair& pair, const Device& device) {
  return pair.a.run_chain(device, false);
}

/// The same, with the context lost in the middle: its copies are gone, the buffers are not.
Outcome survives_crash(Pair& pair, const Device& device) {
  return pair.a.run_chain(device, true);
}

Outcome keeps_no_memory(const Device& device) {
  if (device.backend == "cuda") return {};
  return "-memory of " + device.name +
         " is the host's, or its context's: no device memory outlives it";
}

/// Memory of the device itself, that is: no bytes are copied there again.
Outcome memory_survives_crash(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  return pair.a.find_after_crash(device, [] {});
}

/// The next driver knows which process owns whose memory.
Outcome memory_survives_driver(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  return pair.a.find_after_crash(device, [&] { pair.system.restart_gpu_driver(); });
}

/// Who owns the memory dies: contexts go on with what they have, and when it is back memory
/// outlives them again.
Outcome owner_of_memory_ends(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  auto& [a, b, system] = pair;
  if (Outcome wrong = b.add_to_held(device); !wrong.empty()) return "before: " + wrong;
  const std::set<std::uint64_t> before = system.contexts();
  if (system.kill_memory_owners() == 0) return "nobody owned memory";
  if (Outcome wrong = a.run(sample(), device); !wrong.empty()) return "meanwhile: " + wrong;
  if (Outcome wrong = b.add_to_held(device); !wrong.empty()) return "the other's: " + wrong;
  if (system.contexts() != before) return "contexts have ended with it";
  const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(timeout_ns);
  Outcome wrong = a.find_after_crash(device, [] {});
  while (!wrong.empty() && std::chrono::steady_clock::now() < until)
    wrong = a.find_after_crash(device, [] {});
  return wrong;
}

/// One of several that were given to the device together: the others, which may run again, have
/// their results; the one has its fault.
Outcome fault_among_others(Pair& pair, const Device& device) {
  return pair.a.run_beside_fault(sample(), device);
}

/// Twice, for until it was seen how brief they are they go one by one.
Outcome brief_tasks(Pair& pair, const Device& device) {
  if (Outcome wrong = pair.a.run_brief(device, false); !wrong.empty()) return wrong;
  return pair.a.run_brief(device, false);
}

Outcome fault_among_brief(Pair& pair, const Device& device) {
  return pair.a.run_brief(device, true);
}

/// All tasks before have moved their data.
Outcome copies_are_known(Pair& pair, const Device& device) {
  const std::uint64_t tasks = pair.system.tasks_with_copies(device);
  if (!device.own_memory)
    return (tasks > 0 ? "data was moved: " : "-") + device.name + " works in the host's memory";
  if (pair.system.learned_copies(device) == 0) return "nobody knows what copies take";
  return tasks > 0 ? "" : "no task says what its copies took";
}

struct Scenario {
  const char* name;
  Outcome (*run)(Pair& pair, const Device& device);
};
constexpr Scenario scenarios[] = {
    {"an illegal address ends its own context only, while another application works",
     illegal_address},
    {"an abort ends its own context only, while another application works", abort},
    {"what the client changes, the next task sees", changes_between_tasks},
    {"buffers survive the crash of their context", survives_crash},
    {"context crash with memory surviving", memory_survives_crash},
    {"memory survives the driver, and then a crash of its context", memory_survives_driver},
    {"the owner of device memory dies and comes back", owner_of_memory_ends},
    {"a fault among several at once is one's alone", fault_among_others},
    {"brief tasks, many at once", brief_tasks},
    {"a fault among many brief ones is one's alone", fault_among_brief},
    {"what copies to the device and back take is known", copies_are_known},
    {"an endless loop is ended at its limit, while another application works", endless},
    {"memory beyond the device's is refused", out_of_memory}};

class Table {
 public:
  explicit Table(const std::vector<Device>& devices) {
    for (const Device& device : devices) std::printf("%-24s", device.name.c_str());
    std::printf("\n");
  }
  void add(const Outcome& outcome) {
    const bool skipped = outcome.starts_with("-");
    std::printf("%-24s", outcome.empty() ? "ok" : skipped ? "skipped" : "FAILED");
    if (skipped) skipped_.insert(outcome.substr(1));
    if (!outcome.empty() && !skipped) failures_.push_back(outcome);
  }
  void end_row(const std::string& name) {
    std::printf("%s\n", name.c_str());
    for (const std::string& failure : std::exchange(failures_, {})) {
      std::printf("    %s\n", failure.c_str());
      ++failed_;
    }
  }
  int finish() const {
    for (const std::string& why : skipped_) std::printf("skipped: %s\n", why.c_str());
    std::printf("%d failed\n", failed_);
    return failed_ == 0 ? 0 : 1;
  }

 private:
  std::set<std::string> skipped_;
  std::vector<std::string> failures_;
  int failed_ = 0;
};

constexpr int exit_skipped = 77;

int run() {
  const conformance::System system;
  const std::vector<Device>& devices = system.devices();
  if (devices.empty()) {
    const bool has_driver = conformance::has_opencl_driver();
    std::printf("%s: there is no device to test\n", has_driver ? "failed" : "skipped");
    return has_driver ? 1 : exit_skipped;
  }
  Pair pair{{system.socket_path(), "a"}, {system.socket_path(), "b"}, system};
  Table table(devices);
  for (const Case& c : conformance::standard_cases()) {
    for (const Device& device : devices) table.add(pair.a.run(c, device));
    table.end_row(c.name);
  }
  for (const Scenario& scenario : scenarios) {
    for (const Device& device : devices) table.add(scenario.run(pair, device));
    table.end_row(scenario.name);
  }
  for (const char* backend : {"cpu", "opencl", "cuda"})
    if (std::ranges::none_of(devices, [&](const Device& d) { return d.backend == backend; }))
      std::printf("skipped: no %s device here\n", backend);
  return table.finish();
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
