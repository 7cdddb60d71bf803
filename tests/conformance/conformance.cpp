// The same cases on every device of an instance, through libaios, scheduler, driver and context:
// processors, OpenCL where a driver is installed (PoCL runs on the processor), and CUDA, by a
// double of its driver where there is no GPU. Prints a table of cases and devices, and what was
// skipped and why.
//
// usage: conformance
// AIOS_CONFORMANCE_BACKEND=opencl: on devices of that backend only.
// AIOS_CONFORMANCE_OPENCL_LIBRARY=FILE: through that loader of OpenCL drivers.
#include <aios/aios.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "tests/conformance/application.hpp"
#include "tests/conformance/cases.hpp"
#include "tests/conformance/devices.hpp"

namespace {

using namespace aios;
using conformance::Application;
using conformance::Case;
using conformance::Device;
using conformance::fault_module;
using conformance::timeout_ns;

constexpr std::uint64_t limit_ns = 500'000'000;

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

/// The words for a fault, of OpenCL on GPUs those of NVIDIA's.
struct Words {
  const char *cuda, *opencl_gpu, *opencl_cpu, *cpu;
  const char* of(const Device& device) const {
    if (device.backend == "cuda") return cuda;
    if (device.backend != "opencl") return cpu;
    return device.name.starts_with("gpu") ? opencl_gpu : opencl_cpu;
  }
};

Outcome illegal_address(Pair& pair, const Device& device) {
  constexpr Words words{"ILLEGAL_ADDRESS", "illegal read or write", "segmentation fault",
                        "segmentation fault"};
  return contained(pair, device, "beyond", AIOS_CRASHED, words.of(device));
}

/// A trap, on what is not the processor's own device; OpenCL on the processor raises SIGILL for it.
Outcome abort(Pair& pair, const Device& device) {
  constexpr Words words{"LAUNCH_FAILED", "CL_OUT_OF_RESOURCES", "illegal instruction", "aborted"};
  return contained(pair, device, "giving_up", AIOS_CRASHED, words.of(device));
}

Outcome endless(Pair& pair, const Device& device) {
  return contained(pair, device, "forever", AIOS_TIMED_OUT, "time limit");
}

Outcome out_of_memory(Pair& pair, const Device& device) {
  if (!device.own_memory)
    return "-memory of " + device.name + " is the host's: regions are used in place";
  if (device.backend != "cuda")
    return "-memory of " + device.name + " is as large as the host's: no region is larger";
  if (device.memory_bytes > conformance::most_memory_bytes)
    return "it may use " + std::to_string(device.memory_bytes) + " bytes, which a region may not";
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

/// Two buffers that the owner of memory has whole.
constexpr std::uint32_t large_count = 1u << 19;
constexpr std::uint32_t small_count = 1000;

/// Memory of the device itself, that is: no bytes are copied there again.
Outcome memory_survives_crash(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  return pair.a.find_after_crash(device, large_count);
}

/// Below the granularity of such memory: inputs that come with their launch, and those that
/// come ahead of it.
Outcome small_memory_survives_crash(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  for (const std::uint32_t count : {small_count, 100 * small_count, large_count - 1})
    if (Outcome wrong = pair.a.find_after_crash(device, count); !wrong.empty())
      return std::to_string(count) + " numbers: " + wrong;
  return {};
}

/// Each has an owner of its memory.
Outcome memory_of_many_survives(Pair& pair, const Device& device) {
  constexpr int tenants = 12;
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  std::vector<std::unique_ptr<Application>> all;
  for (int i = 0; i < tenants; ++i) {
    const std::string job = "tenant" + std::to_string(i);
    all.push_back(std::make_unique<Application>(pair.system.socket_path(), job.c_str()));
    if (Outcome wrong = all.back()->run(sample(), device); !wrong.empty())
      return job + ": " + wrong;
  }
  return all.back()->find_after_crash(device, small_count);
}

/// The next driver knows which process owns whose memory.
Outcome memory_survives_driver(Pair& pair, const Device& device) {
  if (Outcome skipped = keeps_no_memory(device); !skipped.empty()) return skipped;
  return pair.a.find_after_crash(device, large_count, [&] { pair.system.restart_gpu_driver(); });
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
  Outcome wrong = a.find_after_crash(device, large_count);
  while (!wrong.empty() && std::chrono::steady_clock::now() < until)
    wrong = a.find_after_crash(device, large_count);
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

/// Twice, for until it was seen how brief they are they go one by one.
Outcome same_bytes(Pair& pair, const Device& device) {
  if (Outcome wrong = pair.a.run_over_same_bytes(device); !wrong.empty()) return wrong;
  return pair.a.run_over_same_bytes(device);
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
    {"context crash with small memory surviving", small_memory_survives_crash},
    {"context crash with memory surviving, of the last of many tenants", memory_of_many_survives},
    {"memory survives the driver, and then a crash of its context", memory_survives_driver},
    {"the owner of device memory dies and comes back", owner_of_memory_ends},
    {"a fault among several at once is one's alone", fault_among_others},
    {"brief tasks, many at once", brief_tasks},
    {"a fault among many brief ones is one's alone", fault_among_brief},
    {"brief tasks that read through a buffer what was written through another", same_bytes},
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
  // What is known when it is ended from outside shall be in the file that it is written to.
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    return run();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 1;
  }
}
