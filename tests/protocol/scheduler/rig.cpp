#include "tests/protocol/scheduler/rig.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace aios::scheduler::test {
namespace wire = proto::kernel;

namespace {

std::string from_environment(const char* variable) {
  const char* value = std::getenv(variable);
  REQUIRE_MESSAGE(value != nullptr, variable << " is not set; run this through meson test");
  return value;
}

wire::SpawnHandle port_handle(const char* label, Handle port, std::uint32_t use) {
  return {wire::Label::from(label), port, use | rights::info, 0};
}

}  // namespace

Rig::Rig(With with) {
  auto kernel = Kernel::attach(machine_.socket_path());
  REQUIRE(kernel);
  kernel_ = *std::move(kernel);
  root_ = kernel_->startup("root")->handle;
  const auto spawner = kernel_->call<wire::SpawnerCreate>(
      {.job = root_,
       .profile = static_cast<std::uint32_t>(wire::Profile::context),
       .reserved = 0,
       .name = wire::Name::from("context"),
       .image = proto::Text<512>::from(from_environment("AIOS_TEST_CPU_CONTEXT"))});
  REQUIRE(spawner);
  spawner_ = spawner->reply.spawner;
  driver_port_ = kernel_->call<wire::PortCreate>({wire::Name::from("cpu")})->reply.port;
  scheduler_port_ = kernel_->call<wire::PortCreate>({wire::Name::from("scheduler")})->reply.port;
  driver_job_ = make_job("cpu");
  scheduler_job_ = make_job("scheduler");
  if (with == With::driver) start_driver();
  start_scheduler();
  link_ = std::make_unique<TaskLink>(*kernel_, nullptr, scheduler_port_);
}

Handle Rig::make_job(const std::string& name) {
  const auto job = kernel_->call<wire::JobCreate>(
      {.parent = root_, .name = wire::Name::from(name), .quota = {}});
  REQUIRE(job);
  return job->reply.job;
}

std::uint64_t Rig::spawn(const std::string& name, const char* binary,
                         std::vector<wire::SpawnHandle> handles) {
  wire::ProcessSpawn::Request request{};
  request.job = name == "cpu" ? driver_job_ : scheduler_job_;
  request.name = wire::Name::from(name);
  request.image = decltype(request.image)::from(from_environment(binary));
  request.handle_count = static_cast<std::uint32_t>(handles.size());
  std::copy(handles.begin(), handles.end(), request.handles);
  const auto spawned = kernel_->call<wire::ProcessSpawn>(request);
  REQUIRE(spawned);
  return spawned->reply.process_id;
}

void Rig::start_driver() {
  driver_ =
      spawn("cpu", "AIOS_TEST_CPU",
            {port_handle("port", driver_port_, rights::accept),
             {wire::Label::from("spawner:context"), spawner_, rights::spawn | rights::info, 0}});
}

void Rig::give_driver_up(bool down) {
  REQUIRE(kernel_->call<wire::PortSetDown>({driver_port_, down ? 1u : 0u}));
}

void Rig::start_scheduler() {
  scheduler_ = spawn("scheduler", "AIOS_TEST_SCHEDULER",
                     {port_handle("port", scheduler_port_, rights::accept),
                      port_handle("cpu", driver_port_, rights::connect)});
}

void Rig::restart_scheduler() {
  kill(scheduler_);
  start_scheduler();
}

void Rig::kill(std::uint64_t process_id) {
  const auto process = kernel_->call<wire::ProcessOpen>({.job = root_, .process_id = process_id});
  REQUIRE(process);
  const Handle handle = process->reply.process;
  REQUIRE(kernel_->call<wire::ProcessSignal>({handle, SIGKILL, 0}));
  const Deadline deadline = soon();
  while (kernel_->call<wire::ProcessInfo>({handle})->reply.exited == 0) {
    REQUIRE(!deadline.passed());
    pollfd bell{kernel_->bell_fd(), POLLIN, 0};
    ::poll(&bell, 1, 10);  // the signal may have been taken by a client's wait
  }
  kernel_->close(handle);
}

void Rig::signal(std::uint64_t process_id, int signal_number) {
  const auto process = kernel_->call<wire::ProcessOpen>({.job = root_, .process_id = process_id});
  REQUIRE(process);
  const auto number = static_cast<std::uint32_t>(signal_number);
  REQUIRE(kernel_->call<wire::ProcessSignal>({process->reply.process, number, 0}));
  kernel_->close(process->reply.process);
}

std::vector<std::uint64_t> Rig::contexts() {
  std::vector<std::uint64_t> found;
  for (std::uint64_t after = 0;;) {
    const auto next = kernel_->call<wire::ProcessNext>({root_, after});
    REQUIRE(next);
    const auto& record = next->reply;
    if (record.process_id == 0) return found;
    if (record.name.view() == "cpu-context" && record.exited == 0)
      found.push_back(record.process_id);
    after = record.process_id;
  }
}

void Rig::await_contexts(std::size_t count) {
  const Deadline deadline = soon();
  while (contexts().size() != count) {
    REQUIRE(!deadline.passed());
    ::poll(nullptr, 0, 5);  // nobody tells an outsider when a process has gone
  }
}

Tenant::Tenant(Rig& rig, const std::string& job_name)
    : rig_(rig), job_(rig.make_job(job_name)), tenant_(rig.link()) {
  const Result<void> opened = reopen();
  REQUIRE_MESSAGE(opened, opened.error().to_string());
}

Result<void> Tenant::reopen() {
  return wait_for<void>(rig_.link(),
                        [&](auto done) { tenant_.open(job_, soon(), std::move(done)); });
}

Result<void> Tenant::close() {
  return wait_for<void>(rig_.link(), [&](auto done) { tenant_.close(soon(), std::move(done)); });
}

std::uint32_t Tenant::codelet(const std::string& module, const std::string& function) {
  const Region region = load_module(rig_, module);
  const auto id = wait_for<std::uint32_t>(rig_.link(), [&](auto done) {
    tenant_.register_codelet(region.handle(), 0, region.size(), function, module + ":" + function,
                             proto::driver::backend::cpu, soon(), std::move(done));
  });
  REQUIRE_MESSAGE(id, id.error().to_string());
  return *id;
}

std::uint32_t Tenant::buffer(const Region& region, bool writable) {
  const auto id = wait_for<std::uint32_t>(rig_.link(), [&](auto done) {
    tenant_.register_buffer(region.handle(), 0, region.size(), writable, soon(), std::move(done));
  });
  REQUIRE_MESSAGE(id, id.error().to_string());
  return *id;
}

Result<void> Tenant::submit(const std::vector<proto::scheduler::TaskRecord>& records) {
  return wait_for<void>(rig_.link(),
                        [&](auto done) { tenant_.submit(records, soon(), std::move(done)); });
}

std::vector<proto::scheduler::Completion> Tenant::complete(std::size_t count) {
  std::vector<proto::scheduler::Completion> all;
  while (all.size() < count) {
    const auto some = wait_for<TaskTenant::Completions>(
        rig_.link(), [&](auto done) { tenant_.completions(soon(), std::move(done)); });
    REQUIRE_MESSAGE(some, some.error().to_string());
    all.insert(all.end(), some->begin(), some->end());
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.tag < b.tag; });
  return all;
}

proto::scheduler::Completion Tenant::run(const proto::scheduler::TaskRecord& record) {
  const Result<void> submitted = submit({record});
  REQUIRE_MESSAGE(submitted, submitted.error().to_string());
  return complete(1).front();
}

std::string Tenant::failure(std::uint64_t tag) {
  const auto text = wait_for<std::string>(
      rig_.link(), [&](auto done) { tenant_.failure(tag, soon(), std::move(done)); });
  return text ? *text : text.error().to_string();
}

Region load_module(Rig& rig, const std::string& name) {
  std::ifstream file(std::string(MODULE_FOLDER) + "/" + name + ".so", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  auto region = module_region(rig.kernel(), std::as_bytes(std::span(bytes)));
  REQUIRE(region);
  return *std::move(region);
}

Code code(const proto::scheduler::Completion& completion) {
  return static_cast<Code>(completion.status);
}

}  // namespace aios::scheduler::test
