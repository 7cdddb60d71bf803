// Tasks with known results. Batches of two codelets: `count` gives back the size of its grid and
// the sum of its positions, `increment` adds one to every byte of a buffer. Each tag comes back
// once, with the right result, or with a status that a fault on its way explains. The tenant
// survives the scheduler: whatever is done to that, no call may say that the tenant is lost, and no
// idempotent task may end as indeterminate.
#include <aios/codelet.h>
#include <aios/tasks.h>

#include <array>
#include <cstring>
#include <utility>

#include "tests/fault/worker.hpp"

namespace aios::fault {

namespace {

constexpr std::size_t max_batch = 24;
constexpr std::size_t buffer_bytes = 4096;
constexpr std::uint64_t task_limit_ns = 2 * ns_per_s;
constexpr Parts to_open = parts({Part::scheduler});
constexpr Parts to_run = parts({Part::scheduler, Part::cpu, Part::contexts});

class TaskWorker final : public Worker {
 public:
  TaskWorker(Ground& ground, unsigned number)
      : Worker(ground, "tasks-" + std::to_string(number), to_run, 500 * ns_per_ms),
        job_("work-" + std::to_string(number)),
        never_spin_(number % 2 == 0) {}

 protected:
  void open() override {
    aios_attach_options options{};
    options.socket_path = ground_.socket.c_str();
    options.job_name = job_.c_str();
    options.flags = never_spin_ ? AIOS_ATTACH_NEVER_SPIN : 0;
    if (aios_attach(&options, &instance_) != AIOS_OK ||
        aios_region_create(instance_, 2 * buffer_bytes, "buffers", 0, &region_) != AIOS_OK)
      breach(std::string("cannot begin: ") + aios_last_error());
  }

  void close() override {
    aios_tenant_close(std::exchange(tenant_, nullptr));
    aios_region_close(std::exchange(region_, nullptr));
    aios_detach(std::exchange(instance_, nullptr));
  }

  void round() override {
    if (tenant_ == nullptr && !open_tenant()) return;
    const std::size_t count = 1 + random_() % max_batch;
    make_batch(count);
    begin_work(to_run);
    const std::uint64_t begin = now_ns();
    const aios_code code = tenant_call("submit", to_run, [&](std::uint64_t timeout) {
      return aios_tasks_submit(tenant_, tasks_.data(), count, timeout);
    });
    if (code == AIOS_OK)
      collect(count, begin);
    else
      lose();
    end_work();
  }

 private:
  /// As `call`, of a tenant: one that is lost did not survive.
  aios_code tenant_call(const char* what, Parts which,
                        const std::function<aios_code(std::uint64_t)>& body) {
    const aios_code code = call(what, which, call_timeout_ns, body);
    if (code == AIOS_PEER_CLOSED) breach(std::string(what) + ": the tenant was lost");
    return code;
  }

  bool open_tenant() {
    const aios_code opened = tenant_call("open tenant", to_open, [&](std::uint64_t t) {
      return aios_tenant_open(instance_, t, &tenant_);
    });
    if (opened != AIOS_OK) return false;
    const auto registered = [&](const char* function, std::uint32_t& codelet) {
      return tenant_call("register codelet", to_open, [&](std::uint64_t t) {
               return aios_codelet_register_file(tenant_, ground_.task_module.c_str(), function, t,
                                                 &codelet);
             }) == AIOS_OK;
    };
    const auto buffer = [&](std::uint64_t offset, std::uint32_t access, std::uint32_t& id) {
      return tenant_call("register buffer", to_open, [&](std::uint64_t t) {
               return aios_buffer_register(tenant_, region_, offset, buffer_bytes, access, t, &id);
             }) == AIOS_OK;
    };
    if (registered("count", count_) && registered("increment", increment_) &&
        buffer(0, AIOS_GRANT_READ, source_) && buffer(buffer_bytes, AIOS_GRANT_WRITE, target_))
      return true;
    lose();
    return false;
  }

  void lose() { aios_tenant_close(std::exchange(tenant_, nullptr)); }

  /// All but the first are `count`: two that write the same buffer wait for one another.
  void make_batch(std::size_t count) {
    auto* source = static_cast<unsigned char*>(aios_region_data(region_));
    const auto salt = static_cast<unsigned char>(random_());
    for (std::size_t i = 0; i < buffer_bytes; ++i)
      source[i] = static_cast<unsigned char>(salt + i * 7);
    std::memset(source + buffer_bytes, 0, buffer_bytes);
    for (std::size_t i = 0; i < count; ++i) {
      aios_task_record& task = tasks_[i];
      aios_task_init(&task, ++last_tag_, i == 0 ? increment_ : count_);
      task.limit_ns = task_limit_ns;
      done_[i] = false;
      if (i == 0) {
        aios_task_add_buffer(&task, source_, AIOS_MODE_READ);
        aios_task_add_buffer(&task, target_, AIOS_MODE_WRITE);
        continue;
      }
      task.grid[0] = 1 + static_cast<std::uint32_t>(random_() % 64);
      task.grid[1] = 1 + static_cast<std::uint32_t>(random_() % 4);
      if (random_() % 4 == 0) task.flags = 0;
      if (random_() % 3 == 0) aios_task_add_dependency(&task, last_tag_ - 1);
    }
    first_tag_ = last_tag_ - count + 1;
  }

  void collect(std::size_t count, std::uint64_t begin_ns) {
    std::array<aios_completion, max_batch> completions;
    std::size_t left = count;
    while (left != 0 && !ground_.breaches.any()) {
      std::size_t got = 0;
      const aios_code code = tenant_call("completions", to_run, [&](std::uint64_t timeout) {
        return aios_tenant_completions(tenant_, completions.data(), completions.size(), timeout,
                                       &got);
      });
      if (code != AIOS_OK) return lose();
      for (std::size_t i = 0; i < got; ++i) check(completions[i], count, begin_ns);
      left -= std::min(left, got);
    }
  }

  void check(const aios_completion& done, std::size_t count, std::uint64_t begin_ns) {
    const std::uint64_t index = done.tag - first_tag_;
    if (done.tag < first_tag_ || index >= count) return breach("a completion of no task of ours");
    if (std::exchange(done_[index], true)) return breach("a second completion of one task");
    const aios_task_record& task = tasks_[index];
    if (done.status == AIOS_OK) return check_result(done, task, index);
    const auto code = static_cast<Code>(done.status);
    const bool only_once = code == Code::indeterminate && (task.flags & AIOS_TASK_IDEMPOTENT) != 0;
    // What depends on a task that failed is cancelled.
    const Code cause = code == Code::cancelled ? Code::indeterminate : code;
    if (only_once || !excused(to_run, cause, begin_ns)) {
      char why[256] = "";
      aios_task_failure(tenant_, done.tag, why, sizeof why, call_timeout_ns);
      breach("task ended " + std::string(aios_code_name(static_cast<aios_code>(done.status))) +
             " after " + std::to_string((now_ns() - begin_ns) / ns_per_us) + " us and " +
             std::to_string(done.attempts) + " attempts, which no fault explains: " + why);
    }
  }

  void check_result(const aios_completion& done, const aios_task_record& task,
                    std::uint64_t index) {
    if (index == 0) {
      const auto* source = static_cast<const unsigned char*>(aios_region_data(region_));
      for (std::size_t i = 0; i < buffer_bytes; ++i)
        if (source[buffer_bytes + i] != static_cast<unsigned char>(source[i] + 1))
          return breach("increment: a wrong byte at " + std::to_string(i));
      return;
    }
    const std::uint64_t blocks = std::uint64_t{task.grid[0]} * task.grid[1];
    if (done.result[0] != blocks || done.result[1] != blocks * (blocks - 1) / 2)
      breach("count: " + std::to_string(done.result[0]) + " blocks instead of " +
             std::to_string(blocks));
  }

  std::string job_;
  bool never_spin_;
  aios_region* region_ = nullptr;
  aios_tenant* tenant_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t increment_ = 0;
  std::uint32_t source_ = 0;
  std::uint32_t target_ = 0;
  std::uint64_t first_tag_ = 0;
  std::uint64_t last_tag_ = 0;
  std::array<aios_task_record, max_batch> tasks_;
  std::array<bool, max_batch> done_{};
};

}  // namespace

std::unique_ptr<Worker> make_task_worker(Ground& ground, unsigned number) {
  return std::make_unique<TaskWorker>(ground, number);
}

}  // namespace aios::fault
