#include <aios/codelet.h>

#include <aios/aios.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <numeric>

#include "tools/bench/devices.hpp"

namespace aios::bench {

namespace {

constexpr std::uint64_t timeout_ns = 60'000'000'000;

std::uint64_t now() {
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

class Through final : public Way {
 public:
  /// `job`: a name, or null for the user's own.
  Through(const std::string& socket, std::string codelets, std::uint32_t device,
          const char* job = nullptr)
      : instance(options(socket, job)),
        tenant(instance.tenant(timeout_ns)),
        codelets_(std::move(codelets)),
        device_(device) {}
  std::unique_ptr<Prepared> prepare(const Workload& workload) override;

  Instance instance;
  Tenant tenant;

 private:
  static aios_attach_options options(const std::string& socket, const char* job) {
    aios_attach_options made{};
    made.socket_path = socket.c_str();
    made.job_name = job;
    return made;
  }
  std::string codelets_;
  std::uint32_t device_;
};

class ThroughPrepared final : public Prepared {
 public:
  ThroughPrepared(Tenant& tenant, const Task& task) : tenant_(tenant), task_(task) {}
  ThroughPrepared(const ThroughPrepared&) = delete;
  ~ThroughPrepared() override {
    for (const std::uint32_t buffer : buffers)
      (void)aios_buffer_release(tenant_.get(), buffer, timeout_ns);
  }
  std::uint64_t run(std::size_t count, bool at_once) override;
  std::uint64_t device_ns() const override { return device_ns_; }

  std::vector<Region> regions;
  std::vector<std::uint32_t> buffers;

 private:
  void collect(std::size_t count);

  Tenant& tenant_;
  Task task_;
  std::uint64_t next_tag_ = 1;
  std::uint64_t device_ns_ = 0;
};

std::unique_ptr<Prepared> Through::prepare(const Workload& workload) {
  Task task(1, tenant.codelet(codelets_ + "/" + workload.module + ".so", workload.codelet));
  task.device(device_).grid(workload.grid[0], workload.grid[1], workload.grid[2]);
  check(aios_task_set_arguments(&task.record(), workload.arguments.data(),
                                workload.arguments.size()));
  std::vector<Region> regions;
  std::vector<std::uint32_t> buffers;
  for (const auto& buffer : workload.buffers) {
    regions.push_back(instance.create_region(buffer.bytes, "bench"));
    std::ranges::fill(regions.back().as<float>(), first_number);
    buffers.push_back(tenant.buffer(regions.back(), 0, buffer.bytes, Access::write));
    task.buffer(buffers.back(), buffer.mode);
  }
  auto prepared = std::make_unique<ThroughPrepared>(tenant, task);
  prepared->regions = std::move(regions);
  prepared->buffers = std::move(buffers);
  return prepared;
}

void ThroughPrepared::collect(std::size_t count) {
  for (std::size_t done = 0; done < count;) {
    const auto some = tenant_.completions(timeout_ns);
    if (some.empty()) throw Error(AIOS_TIMED_OUT, "the tasks do not end");
    for (const aios_completion& completion : some) {
      if (completion.status != AIOS_OK)
        throw Error(static_cast<aios_code>(completion.status), tenant_.failure(completion.tag));
      device_ns_ += completion.end_ns - completion.start_ns;
    }
    done += some.size();
  }
}

std::uint64_t ThroughPrepared::run(std::size_t count, bool at_once) {
  std::vector<Task> tasks(count, task_);
  for (Task& task : tasks) task.record().tag = next_tag_++;
  device_ns_ = 0;
  const std::uint64_t begin = now();
  if (at_once) {
    tenant_.submit(tasks);
    collect(count);
  } else {
    for (const Task& task : tasks) {
      tenant_.submit(task);
      collect(1);
    }
  }
  return now() - begin;
}

class ThroughCrasher final : public Crasher {
 public:
  ThroughCrasher(const std::string& socket, const std::string& codelets, std::uint32_t device)
      : way_(socket, codelets, device, "bench-crashes"),
        good_(way_.prepare(one_block())),
        region_(way_.instance.create_region(64, "bench")),
        faulty_(1, way_.tenant.codelet(codelets + "/faults.so", "beyond")) {
    constexpr std::uint64_t far = 1ull << 40;
    faulty_.device(device).grid(1).arguments(far);
    faulty_.buffer(way_.tenant.buffer(region_, Access::write), AIOS_MODE_READ_WRITE);
  }
  std::uint64_t ready_again_ns() override {
    (void)good_->run(1, false);
    way_.tenant.submit(faulty_);
    const auto ended = way_.tenant.completions(timeout_ns);
    if (ended.size() != 1 || ended.front().status != AIOS_CRASHED)
      throw Error(AIOS_INTERNAL, "the faulty task did not crash its context");
    return good_->run(1, false);
  }

 private:
  Through way_;
  std::unique_ptr<Prepared> good_;
  Region region_;
  Task faulty_;
};

/// Two buffers; what is in the device's copy of the second one shows when a task writes one number
/// of it: all of it comes back.
class ContextHolder final : public Holder {
 public:
  ContextHolder(const std::string& socket, const std::string& codelets, const BenchDevice& device)
      : before_(list_contexts(socket)),
        way_(socket, codelets, device.index, "bench-parks"),
        add_(1, way_.tenant.codelet(codelets + "/vector.so", "vector_add")),
        ones_(way_.instance.create_region(bytes, "ones")),
        sums_(way_.instance.create_region(bytes, "sums")) {
    std::ranges::fill(ones_.as<float>(), 1.0f);
    const std::uint32_t ones = way_.tenant.buffer(ones_, Access::write);
    add_.device(device.index);
    add_.buffer(ones, AIOS_MODE_READ).buffer(ones, AIOS_MODE_READ);
    add_.buffer(way_.tenant.buffer(sums_, Access::write), AIOS_MODE_WRITE);
    add(count);
    for (const auto& [process, pid] : list_contexts(socket))
      if (!before_.contains(process)) pid_ = pid;
    if (pid_ == 0) throw Error(AIOS_NOT_FOUND, "the context that was started is not to be seen");
  }
  int pid() const override { return pid_; }
  bool is_intact() override {
    std::ranges::fill(sums_.as<float>(), 0.0f);
    add(1);
    return std::ranges::all_of(sums_.as<float>(), [](float sum) { return sum == 2.0f; });
  }

 private:
  static constexpr std::uint32_t count = 1u << 20;
  static constexpr std::uint64_t bytes = count * sizeof(float);
  void add(std::uint32_t numbers) {
    Task task = add_;
    task.grid((numbers + 255) / 256).arguments(numbers);
    way_.tenant.submit(task);
    const auto done = way_.tenant.completions(timeout_ns);
    if (done.size() != 1) throw Error(AIOS_TIMED_OUT, "a task of the parked context does not end");
    if (done.front().status != AIOS_OK)
      throw Error(static_cast<aios_code>(done.front().status), way_.tenant.failure(1));
  }

  const std::map<std::uint64_t, int> before_;
  Through way_;
  Task add_;
  Region ones_, sums_;
  int pid_ = 0;
};

}  // namespace

std::unique_ptr<Holder> holder_in_context(const std::string& socket, const std::string& codelets,
                                          const BenchDevice& device) {
  return std::make_unique<ContextHolder>(socket, codelets, device);
}

std::unique_ptr<Crasher> crasher(const std::string& socket, const std::string& codelets,
                                 const BenchDevice& device) {
  return std::make_unique<ThroughCrasher>(socket, codelets, device.index);
}

std::unique_ptr<Way> through(const std::string& socket, const std::string& codelets,
                             const BenchDevice& device) {
  return std::make_unique<Through>(socket, codelets, device.index);
}

}  // namespace aios::bench
