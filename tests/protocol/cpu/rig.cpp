#include "tests/protocol/cpu/rig.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "tests/unit/cpu/test_support.hpp"

namespace aios::cpu::test {
namespace wire = proto::kernel;

namespace {

std::string binary(const char* variable) {
  const char* path = std::getenv(variable);
  REQUIRE_MESSAGE(path != nullptr, variable << " must name a binary; run this through meson test");
  return path;
}

}  // namespace

Rig::Rig() {
  auto kernel = Kernel::attach(machine_.socket_path());
  REQUIRE(kernel);
  kernel_ = *std::move(kernel);
  root_ = kernel_->startup("root")->handle;
  const auto context_image = binary("AIOS_TEST_CPU_CONTEXT");
  const auto spawner = kernel_->call<wire::SpawnerCreate>(
      {.job = root_,
       .profile = static_cast<std::uint32_t>(wire::Profile::context),
       .reserved = 0,
       .name = wire::Name::from("context"),
       .image = proto::Text<512>::from(context_image)});
  REQUIRE(spawner);
  spawner_ = spawner->reply.spawner;
  port_ = kernel_->call<wire::PortCreate>({wire::Name::from("cpu")})->reply.port;
  driver_job_ = make_tenant("cpu");
  start_driver();
}

void Rig::start_driver() {
  wire::ProcessSpawn::Request request{};
  request.job = driver_job_;
  request.name = wire::Name::from("cpu");
  request.image = decltype(request.image)::from(binary("AIOS_TEST_CPU"));
  request.handle_count = 2;
  request.handles[0] = {wire::Label::from("port"), port_, rights::accept | rights::info, 0};
  request.handles[1] = {wire::Label::from("spawner:context"), spawner_,
                        rights::spawn | rights::info, 0};
  const auto spawned = kernel_->call<wire::ProcessSpawn>(request);
  REQUIRE(spawned);
  driver_process_ = spawned->reply.process_id;
  driver_ =
      std::make_unique<Client>(*kernel_, nullptr, port_, proto::driver::Protocol::version, "cpu");
}

void Rig::restart_driver() {
  kill_process(driver_process_);
  await_exit(driver_process_);
  start_driver();
}

Handle Rig::make_tenant(const std::string& name) {
  const auto job = kernel_->call<wire::JobCreate>(
      {.parent = root_, .name = wire::Name::from(name), .quota = {}});
  REQUIRE(job);
  return job->reply.job;
}

Result<proto::driver::OpenContext::Reply> Rig::open_context(Handle tenant) {
  return driver_->call_with_handles<proto::driver::OpenContext>(
      {.tenant = 0, .device = 0},
      {{.handle = tenant,
        .type = ObjectType::job,
        .use = rights::act | rights::info,
        .grant = 0,
        .move = false}},
      [](std::span<const Handle> numbers, auto& request) { request.tenant = numbers[0]; }, soon());
}

std::unique_ptr<Client> Rig::connect(Handle context_port) {
  return std::make_unique<Client>(*kernel_, nullptr, context_port,
                                  proto::context::Protocol::version, "context");
}

std::uint64_t Rig::job_id(Handle job) {
  return kernel_->call<wire::JobInfo>({.job = job})->reply.job_id;
}

void Rig::kill_process(std::uint64_t process_id) {
  const auto process = kernel_->call<wire::ProcessOpen>({.job = root_, .process_id = process_id});
  REQUIRE(process);
  REQUIRE(kernel_->call<wire::ProcessSignal>(
      {.process = process->reply.process, .signal_number = SIGKILL, .reserved = 0}));
}

std::uint64_t Rig::spawn_unknown_context(const std::vector<std::string>& arguments, Handle& port) {
  port = kernel_->call<wire::PortCreate>({wire::Name::from("cpu-context")})->reply.port;
  wire::ProcessSpawn::Request request{};
  request.job = make_tenant("unknown");
  request.profile = static_cast<std::uint32_t>(wire::Profile::context);
  request.name = wire::Name::from("cpu-context");
  request.image = decltype(request.image)::from(binary("AIOS_TEST_CPU_CONTEXT"));
  std::size_t at = 0;
  for (const std::string& argument : arguments) {
    std::memcpy(request.arguments + at, argument.c_str(), argument.size() + 1);
    at += argument.size() + 1;
  }
  request.handle_count = 1;
  request.handles[0] = {wire::Label::from("port"), port, rights::accept | rights::info, 0};
  const auto spawned = kernel_->call<wire::ProcessSpawn>(request);
  REQUIRE(spawned);
  return spawned->reply.process_id;
}

bool Rig::has_ended(std::uint64_t process_id) {
  const auto process = kernel_->call<wire::ProcessOpen>({.job = root_, .process_id = process_id});
  if (!process) return true;
  const bool ended = kernel_->call<wire::ProcessInfo>({process->reply.process})->reply.exited != 0;
  kernel_->close(process->reply.process);
  return ended;
}

void Rig::await_exit(std::uint64_t process_id) {
  const Deadline deadline = soon();
  while (!has_ended(process_id)) {
    REQUIRE(!deadline.passed());
    pollfd bell{kernel_->bell_fd(), POLLIN, 0};
    ::poll(&bell, 1, 10);  // the signal may have been taken by a client's wait
  }
}

ContextLink::ContextLink(Rig& rig, Handle tenant) : rig_(rig) {
  const auto opened = rig.open_context(tenant);
  REQUIRE_MESSAGE(opened, opened.error().to_string());
  opened_ = *opened;
  client_ = rig.connect(opened_.port);
}

Result<std::uint32_t> ContextLink::load(const std::string& module, const std::string& codelet,
                                        Deadline deadline) {
  const auto image = module_image(module);
  Region region = TRY(Region::create(rig_.kernel(), image.size() + 100, "module"));
  std::memcpy(region.data() + 100, image.data(), image.size());
  const auto loaded = TRY(client_->call_with_handles<proto::context::Load>(
      {.region = 0,
       .offset = 100,
       .length = image.size(),
       .codelet = proto::Text<64>::from(codelet)},
      {{.handle = region.handle(),
        .type = ObjectType::region,
        .use = rights::map_read | rights::info,
        .grant = 0,
        .move = false}},
      [](std::span<const Handle> numbers, auto& request) { request.region = numbers[0]; },
      deadline));
  return loaded.codelet;
}

Result<proto::Empty> ContextLink::bind(const proto::context::Bind::Request& request,
                                       HandleToSend object) {
  return client_->call_with_handles<proto::context::Bind>(
      request, {object},
      [](std::span<const Handle> numbers, auto& filled) { filled.object = numbers[0]; }, soon());
}

Result<proto::Empty> ContextLink::bind_text(std::uint32_t id, const std::string& text) {
  Region region = TRY(Region::create(rig_.kernel(), text.size(), "text"));
  std::memcpy(region.data(), text.data(), text.size());
  return bind({.object = 0, .offset = 0, .length = text.size(), .id = id, .writable = 0},
              {.handle = region.handle(),
               .type = ObjectType::region,
               .use = rights::map_read | rights::info,
               .grant = 0,
               .move = false});
}

Result<proto::Empty> ContextLink::unbind(std::uint64_t id) {
  return client_->call<proto::context::Unbind>({.id = id}, soon());
}

Result<proto::context::Run::Reply> ContextLink::run(
    std::uint32_t codelet, std::uint64_t limit_ns, std::vector<proto::context::BufferUse> buffers) {
  proto::context::Run::Request request{};
  request.codelet = codelet;
  request.grid[0] = 6;
  request.grid[1] = request.grid[2] = 1;
  request.limit_ns = limit_ns;
  request.buffer_count = static_cast<std::uint32_t>(buffers.size());
  std::copy(buffers.begin(), buffers.end(), request.buffers);
  return client_->call<proto::context::Run>(request, soon());
}

}  // namespace aios::cpu::test
