#include "tests/protocol/storage/instance.hpp"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace aios::storage::test {

namespace pk = proto::kernel;
using aios::test::Program;

namespace {

std::string libexec() {
  const char* folder = std::getenv("AIOS_TEST_LIBEXEC");
  REQUIRE(folder != nullptr);
  return folder;
}

}  // namespace

Instance::Instance(const std::string& arguments) {
  const std::filesystem::path manifest = folder_.path() / "aios.toml";
  // Tests kill it far more often than a healthy system would bear.
  std::ofstream(manifest) << "[instance]\nrestart = { count = 100000 }\n"
                          << "[server.storage]\nbinary = \"aios-storage\"\npublish = true\n"
                          << "arguments = [" << arguments << "]\n";
  kernel_ = std::make_unique<Program>(std::vector<std::string>{
      libexec() + "/aios-kernel", "--state", folder_.path(), "--supervisor",
      libexec() + "/aios-supervisor", "--libexec", libexec(), "--manifest", manifest});
  REQUIRE_MESSAGE(kernel_->await_line("serving"), kernel_->output());
}

Instance::~Instance() {
  kernel_->signal(SIGTERM);
  CHECK_MESSAGE(kernel_->wait() == 0, kernel_->output());
}

std::unique_ptr<Kernel> Instance::attach() const {
  const Deadline deadline = Deadline::after(patience_ns);
  const std::string socket = folder_.path() / "aios.sock";
  // The port is published when the supervisor gets to it; each attachment sees it or not.
  for (;;) {
    auto kernel = Kernel::attach(socket);
    if (kernel && (*kernel)->startup("storage")) return *std::move(kernel);
    REQUIRE_FALSE(deadline.passed());
    ::usleep(1000);
  }
}

pid_t Instance::storage_pid(Kernel& kernel) const {
  const Handle root = kernel.startup("root").value().handle;
  for (std::uint64_t after = 0;;) {
    const auto next = kernel.call<pk::ProcessNext>({root, after});
    REQUIRE(next);
    after = next->reply.process_id;
    if (after == 0) return 0;
    if (next->reply.name.view() == "storage" && next->reply.exited == 0)
      return static_cast<pid_t>(next->reply.pid);
  }
}

std::string Instance::storage_log() const {
  std::ifstream file(folder_.path() / "logs" / "storage.log");
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Connection::Connection(const Instance& instance)
    : kernel_(instance.attach()), loop_(*EventLoop::create(kernel_.get())) {
  client_ = std::make_unique<Client>(*kernel_, loop_.get(), kernel_->startup("storage")->handle,
                                     wire::Protocol::version, "storage");
}

Result<std::uint32_t> Connection::attach(const Region& region, bool writable, std::uint32_t use) {
  std::optional<Result<wire::AttachRegion::Reply>> answer;
  client_->start_with_handles<wire::AttachRegion>(
      {0, writable ? 1u : 0u},
      {{region.handle(), ObjectType::region, use | rights::info, 0, false}},
      [](std::span<const Handle> numbers, wire::AttachRegion::Request& request) {
        request.region = numbers[0];
      },
      Deadline::after(patience_ns),
      [&](Result<wire::AttachRegion::Reply> reply) {
        answer = std::move(reply);
        end_turn();
      });
  while (!answer) turn();
  if (!*answer) return std::unexpected(answer->error());
  return (*answer)->region;
}

}  // namespace aios::storage::test
