// Processes that have memory of a CUDA device while they are parked: one that does nothing else.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/open_gpu.hpp"
#include "tools/bench/devices.hpp"
#include "tools/bench/need.hpp"

namespace aios::bench {

namespace {

using gpu::cuda::check;

constexpr std::size_t held_bytes = 64u << 20;
constexpr int answer_limit_ms = 30'000;
constexpr char intact_answer = 'i';
constexpr char changed_answer = 'c';

/// Its standard input and output are this process's.
class Alone final : public Holder {
 public:
  explicit Alone(const std::string& uuid) {
    std::array<int, 2> in{}, out{};
    if (::pipe2(in.data(), O_CLOEXEC) != 0 || ::pipe2(out.data(), O_CLOEXEC) != 0)
      throw std::runtime_error("there are no pipes");
    to_ = Fd(in[1]);
    from_ = Fd(out[0]);
    const Fd its_in(in[0]), its_out(out[1]);
    posix_spawn_file_actions_t streams;
    ::posix_spawn_file_actions_init(&streams);
    ::posix_spawn_file_actions_adddup2(&streams, its_in.get(), STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&streams, its_out.get(), STDOUT_FILENO);
    std::string words[] = {"aios-bench", "hold-cuda-memory", "--uuid", uuid};
    char* const arguments[] = {words[0].data(), words[1].data(), words[2].data(), words[3].data(),
                               nullptr};
    const int failed =
        ::posix_spawn(&pid_, "/proc/self/exe", &streams, nullptr, arguments, ::environ);
    ::posix_spawn_file_actions_destroy(&streams);
    if (failed != 0) throw std::runtime_error("cannot start a process that holds memory");
  }
  Alone(const Alone&) = delete;
  ~Alone() override {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  int pid() const override { return pid_; }
  bool is_intact() override {
    constexpr char question = '\n';
    char answer = 0;
    pollfd answers{from_.get(), POLLIN, 0};
    if (::write(to_.get(), &question, 1) != 1)
      throw std::runtime_error("the process that holds memory has ended");
    if (::poll(&answers, 1, answer_limit_ms) != 1)
      throw std::runtime_error("the process that holds memory does not answer any more");
    if (::read(from_.get(), &answer, 1) != 1)
      throw std::runtime_error("the process that holds memory has ended");
    return answer == intact_answer;
  }

 private:
  Fd to_, from_;
  pid_t pid_ = 0;
};

}  // namespace

std::unique_ptr<Holder> holder_alone(const BenchDevice& device) {
  return std::make_unique<Alone>(device.uuid);
}

int hold_cuda_memory(const std::string& uuid) {
  // As a context, it sees its own device alone.
  need(::setenv("CUDA_VISIBLE_DEVICES", uuid.c_str(), 1) == 0
           ? Result<void>()
           : errno_error("set CUDA_VISIBLE_DEVICES", errno));
  const auto api = std::move(need(gpu::load("cuda")).cuda);
  const auto found = need(gpu::cuda::find_device(*api, uuid));
  gpu::cuda::Context context = nullptr;
  gpu::cuda::Stream stream = nullptr;
  gpu::cuda::DevicePointer memory = 0;
  need(check(*api, "open the GPU", api->context_retain(&context, found.device)));
  need(check(*api, "use the GPU", api->context_set(context)));
  need(
      check(*api, "make a stream", api->stream_create(&stream, gpu::cuda::stream_non_blocking, 0)));
  need(check(*api, "allocate memory", api->memory_allocate(&memory, held_bytes, stream)));
  std::vector<std::uint32_t> numbers(held_bytes / sizeof(std::uint32_t));
  std::uint32_t next = 1;
  for (std::uint32_t& number : numbers) number = next = next * 1664525 + 1013904223;
  need(check(*api, "copy", api->copy_to_device(memory, numbers.data(), held_bytes, stream)));
  std::vector<std::uint32_t> read(numbers.size());
  while (std::cin.get() != std::char_traits<char>::eof()) {
    std::ranges::fill(read, 0u);
    need(check(*api, "copy back", api->copy_to_host(read.data(), memory, held_bytes, stream)));
    need(check(*api, "wait", api->stream_synchronize(stream)));
    std::cout << (read == numbers ? intact_answer : changed_answer) << std::flush;
  }
  return 0;
}

}  // namespace aios::bench
