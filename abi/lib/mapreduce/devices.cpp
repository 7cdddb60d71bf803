#include "abi/lib/mapreduce/devices.hpp"

#include <algorithm>
#include <optional>

#include "abi/lib/module_file.hpp"
#include "abi/proto/scheduler.hpp"

namespace aios::mapreduce_client {

namespace {

namespace wire = proto::scheduler;

constexpr std::uint64_t call_ns = 10 * ns_per_s;
/// How long a wait may last before somebody is asked whether to go on.
constexpr std::uint64_t slice_ns = 100'000'000;

Deadline soon() {
  return Deadline::after(call_ns);
}

}  // namespace

/// Calls that are given up have their answers come later, or with the end of the link.
template <class T, class Start>
Result<DeviceTasks::Answers<T>> DeviceTasks::call_all(std::size_t count, Start&& start) {
  struct Pending {
    Answers<T> answers;
    std::size_t left;
  };
  const auto pending = std::make_shared<Pending>(Answers<T>(count), count);
  for (std::size_t i = 0; i < count; ++i)
    start(i, TaskCallback<T>([pending, i](Result<T> result) {
            pending->answers[i].emplace(std::move(result));
            --pending->left;
          }));
  Deadline ask_at = Deadline::after(slice_ns);
  while (pending->left != 0) {
    if (link_->client().work() || pending->left == 0) continue;
    link_->client().wait(ask_at);
    if (pending->left == 0 || !ask_at.passed()) continue;
    if (!keep_going_()) return error(Code::cancelled, "the job was cancelled");
    ask_at = Deadline::after(slice_ns);
  }
  for (const auto& answer : pending->answers)
    if (!*answer && answer->error().code() == Code::peer_closed)
      return error(Code::peer_closed, "the scheduler was restarted; run the job again");
  return std::move(pending->answers);
}

template <class T, class Start>
Result<T> DeviceTasks::call(Start&& start) {
  auto answers =
      TRY(call_all<T>(1, [&](std::size_t, TaskCallback<T> done) { start(std::move(done)); }));
  return *std::move(answers.front());
}

bool is_about_input(Code failure) {
  return failure == Code::invalid_argument || failure == Code::corrupt ||
         failure == Code::too_large || failure == Code::not_supported || failure == Code::crashed ||
         failure == Code::timed_out;
}

Result<std::unique_ptr<DeviceTasks>> DeviceTasks::open(Kernel& kernel, std::string label,
                                                       std::function<bool()> keep_going) {
  const Handle port = TRY(kernel.startup(wire::Protocol::name)).handle;
  std::unique_ptr<DeviceTasks> tasks(new DeviceTasks(std::move(label), std::move(keep_going)));
  tasks->link_ = std::make_unique<TaskLink>(kernel, nullptr, port);
  tasks->tenant_ = std::make_unique<TaskTenant>(*tasks->link_);
  TRY(tasks->call<void>(
      [&](auto done) { tasks->tenant_->open(kernel.job(), soon(), std::move(done)); }));
  return tasks;
}

Result<std::vector<std::uint32_t>> DeviceTasks::codelets(
    std::span<const std::byte> module, const std::vector<std::string>& functions) {
  const Region region = TRY(module_region(link_->kernel(), module));
  std::vector<std::uint32_t> numbers;
  for (const std::string& function : functions)
    numbers.push_back(TRY(call<std::uint32_t>([&](auto done) {
      tenant_->register_codelet(region.handle(), 0, module.size(), function,
                                label_.empty() ? function : label_ + "." + function,
                                backends_of(module), soon(), std::move(done),
                                module_hash_of(module));
    })));
  return numbers;
}

Result<void> DeviceTasks::set_cheaper(std::uint32_t codelet, std::uint32_t cheaper) {
  return call<void>(
      [&](auto done) { tenant_->set_cheaper(codelet, cheaper, soon(), std::move(done)); });
}

Result<std::vector<std::uint32_t>> DeviceTasks::memory(const Region& region,
                                                       const std::vector<Range>& ranges) {
  const auto answers = TRY(call_all<std::uint32_t>(ranges.size(), [&](std::size_t i, auto done) {
    tenant_->register_buffer(region.handle(), ranges[i].offset, ranges[i].length,
                             ranges[i].writable, soon(), std::move(done));
  }));
  std::vector<std::uint32_t> buffers;
  for (const auto& answer : answers) buffers.push_back(TRY(*answer));
  return buffers;
}

Result<std::uint32_t> DeviceTasks::files(Handle channel) {
  auto buffer = call<std::uint32_t>(
      [&](auto done) { tenant_->register_files(channel, soon(), std::move(done)); });
  link_->kernel().close(channel);
  return buffer;
}

Result<void> DeviceTasks::release(std::span<const std::uint32_t> buffers) {
  const auto answers = TRY(call_all<void>(buffers.size(), [&](std::size_t i, auto done) {
    tenant_->release_buffer(buffers[i], soon(), std::move(done));
  }));
  for (const auto& answer : answers) TRY(*answer);
  return {};
}

std::uint64_t DeviceTasks::add(Record task) {
  task.tag = ++last_tag_;
  added_.push_back(task);
  return task.tag;
}

Result<std::uint32_t> DeviceTasks::open_graph(std::uint64_t due_ns) {
  return call<std::uint32_t>(
      [&](auto done) { tenant_->open_graph(due_ns, soon(), std::move(done)); });
}

Result<TaskTenant::Admitted> DeviceTasks::admit(std::uint32_t graph) {
  return call<TaskTenant::Admitted>(
      [&](auto done) { tenant_->admit_graph(graph, false, soon(), std::move(done)); });
}

Result<void> DeviceTasks::submit(std::uint32_t graph) {
  const std::span<const Record> all(added_);
  for (std::size_t at = 0; at < all.size(); at += wire::max_batch) {
    const auto batch = all.subspan(at, std::min<std::size_t>(wire::max_batch, all.size() - at));
    TRY(call<void>(
        [&](auto done) { tenant_->submit(batch, soon(), std::move(done), false, graph); }));
    unfinished_ += batch.size();
  }
  added_.clear();
  return {};
}

Result<std::vector<DeviceTasks::Completion>> DeviceTasks::completions(std::uint32_t least) {
  auto some = TRY(call<std::vector<Completion>>(
      [&](auto done) { tenant_->completions(Deadline::never(), std::move(done), least); }));
  unfinished_ -= std::min<std::uint64_t>(unfinished_, some.size());
  for (const Completion& one : some) attempts_ += one.attempts;
  return some;
}

Result<void> DeviceTasks::finish_all() {
  std::optional<Status> first;
  while (unfinished_ != 0)
    for (const Completion& one : TRY(completions()))
      if (one.status != 0 && !first) first = failure(one);
  if (first) return std::unexpected(*first);
  return {};
}

Status DeviceTasks::failure(const Completion& failed) {
  const auto code = static_cast<Code>(failed.status);
  const auto text =
      call<std::string>([&](auto done) { tenant_->failure(failed.tag, soon(), std::move(done)); });
  return Status(code, text ? *text : "a task failed");
}

}  // namespace aios::mapreduce_client
