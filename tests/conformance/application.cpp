#include "tests/conformance/application.hpp"

#include <aios/codelet.h>

#include <algorithm>
#include <cstring>

namespace aios::conformance {

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
  std::pair<aios_code, std::string> ended;
  try {
    const aios_completion done = finish(task);
    ended = {static_cast<aios_code>(done.status),
             done.status == AIOS_OK ? "" : tenant_.failure(done.tag)};
  } catch (const aios::Error& refused) {
    ended = {refused.code(), refused.what()};
  }
  tenant_.release(buffer);
  return ended;
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
std::string Application::find_after_crash(const Device& device, std::uint32_t n,
                                          const std::function<void()>& before_crash) {
  const std::uint64_t bytes = n * sizeof(float);
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
              std::string(aios_code_name(static_cast<aios_code>(completion.status))) +
              (completion.status == AIOS_OK ? "" : ": " + tenant_.failure(completion.tag));
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

std::string Application::run_over_same_bytes(const Device& device) {
  constexpr std::uint32_t n = 64;
  constexpr std::uint32_t bytes = n * sizeof(float);
  constexpr std::uint64_t large = 512u << 10;  // what some devices fetch ahead of kernels
  constexpr std::size_t steps = 40;
  const Region shared = instance_.create_region(2 * large, "same bytes");
  const Region small = instance_.create_region(2 * bytes, "other bytes");
  std::ranges::fill(shared.as<float>(), 0.0f);
  std::ranges::fill(small.as<float>(), 0.0f);
  std::ranges::fill(small.as<float>().first(n), 1.0f);
  const std::uint32_t ones = tenant_.buffer(small, 0, bytes, aios::Access::write);
  const std::uint32_t between = tenant_.buffer(small, bytes, bytes, aios::Access::write);
  const std::uint32_t part = tenant_.buffer(shared, 0, large, aios::Access::write);
  const std::uint32_t whole = tenant_.buffer(shared, 0, 2 * large, aios::Access::write);
  const std::uint32_t add = codelet(CODELET_FOLDER "/vector.so", "vector_add");
  std::vector<Task> tasks;
  for (std::size_t step = 0; step < steps; ++step) {
    for (const auto& [from, to] : {std::pair{between, part}, std::pair{whole, between}}) {
      Task task(++last_tag_, add);
      task.device(device.index).grid(1).arguments(n);
      task.buffer(from, AIOS_MODE_READ).buffer(ones, AIOS_MODE_READ).buffer(to, AIOS_MODE_WRITE);
      if (!tasks.empty()) task.after(last_tag_ - 1);
      tasks.push_back(task);
    }
  }
  tenant_.submit(tasks);
  std::string wrong;
  for (const aios_completion& completion : collect(tasks.size()))
    if (completion.status != AIOS_OK)
      wrong = "one ended with " +
              std::string(aios_code_name(static_cast<aios_code>(completion.status)));
  for (const std::uint32_t buffer : {ones, between, part, whole}) tenant_.release(buffer);
  const float end = small.as<float>()[n];
  if (wrong.empty() && end != 2 * steps)
    wrong = std::to_string(2 * steps) + " steps end with " + std::to_string(end);
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

}  // namespace aios::conformance
