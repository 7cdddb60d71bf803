// Runs a task on any device and one on the first of a backend, again and again until its input
// ends, and prints how each ended: steady MODULE BACKEND
#include <aios/codelet.h>
#include <poll.h>
#include <unistd.h>

#include <aios/aios.hpp>
#include <algorithm>
#include <cstdio>
#include <optional>
#include <string_view>

namespace {

constexpr std::uint64_t timeout_ns = 60'000'000'000;
constexpr std::uint32_t numbers = 64;
constexpr int pause_ms = 20;

class Worker {
 public:
  Worker(const char* module, std::string_view backend)
      : tenant_(instance_.tenant(timeout_ns)),
        codelet_(tenant_.codelet(module, "collatz")),
        steps_(instance_.create_region(numbers * 4, "steps")),
        buffer_(tenant_.buffer(steps_, aios::Access::write)) {
    const auto devices = tenant_.devices();
    const auto found = std::ranges::find_if(
        devices, [&](const aios_device& d) { return std::string_view(d.backend) == backend; });
    if (found == devices.end()) throw aios::Error(AIOS_NOT_FOUND, "there is no such device");
    device_ = found->index;
  }

  /// What became of a task, and where it ran.
  void run(const char* what, std::optional<std::uint32_t> device) {
    try {
      aios::Task task(++tag_, codelet_);
      if (device) task.device(*device);
      const std::uint32_t arguments[] = {numbers, 1};
      task.arguments(arguments).buffer(buffer_, AIOS_MODE_WRITE);
      tenant_.submit(task);
      const auto done = tenant_.completions(timeout_ns);
      if (done.empty()) throw aios::Error(AIOS_TIMED_OUT, "the task takes too long");
      const std::string why = done[0].status == AIOS_OK ? "" : tenant_.failure(tag_);
      // The ninth of them: 9 takes 19 steps.
      const bool right = done[0].status != AIOS_OK || steps_.as<std::uint32_t>()[8] == 19;
      std::printf("%s %s %s\n", what,
                  right ? aios_code_name(static_cast<aios_code>(done[0].status)) : "wrong",
                  why.c_str());
    } catch (const aios::Error& error) {
      std::printf("%s %s %s\n", what, aios_code_name(error.code()), error.what());
    }
    std::fflush(stdout);
  }
  std::uint32_t device() const { return device_; }

 private:
  aios::Instance instance_;
  aios::Tenant tenant_;
  std::uint32_t codelet_;
  aios::Region steps_;
  std::uint32_t buffer_;
  std::uint32_t device_ = 0;
  std::uint64_t tag_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    Worker worker(argv[1], argv[2]);
    pollfd input{STDIN_FILENO, POLLIN, 0};
    while (::poll(&input, 1, pause_ms) == 0) {
      worker.run("any", std::nullopt);
      worker.run("pinned", worker.device());
    }
    return 0;
  } catch (const aios::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
