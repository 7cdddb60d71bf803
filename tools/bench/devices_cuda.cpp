#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <span>
#include <stdexcept>

#include "abi/runtime/time.hpp"
#include "drivers/gpu/cuda/cublas.hpp"
#include "drivers/gpu/cuda/cuda_devices.hpp"
#include "drivers/gpu/kernel_module.hpp"
#include "drivers/gpu/open_gpu.hpp"
#include "tools/bench/devices.hpp"
#include "tools/bench/need.hpp"

namespace aios::bench {

namespace {

using gpu::cuda::check;
using gpu::cuda::DevicePointer;

class Cuda final : public BareCuda {
 public:
  Cuda(const std::string& codelets, const std::string& uuid);
  Cuda(const Cuda&) = delete;
  ~Cuda() override;

  std::uint64_t launches_ns(std::size_t count, bool at_once) override;
  std::uint64_t copies_ns(std::uint64_t bytes) override;
  std::optional<std::uint64_t> product_ns(const Product& product, std::uint32_t n) override;
  std::string no_cublas() const override { return no_cublas_; }
  bool can_park() const override { return api_->can_checkpoint(); }
  Parked park_and_resume(int process) override;

 private:
  void load(const std::string& path);
  void wait() const { need(check(*api_, "wait", api_->stream_synchronize(stream_))); }
  DevicePointer allocate(std::uint64_t bytes);
  void free(DevicePointer memory) { (void)api_->memory_free(memory, stream_); }
  void reserve_host(std::uint64_t bytes);
  DevicePointer allocate_numbers(std::uint64_t bytes);

  std::unique_ptr<const gpu::cuda::DriverApi> api_;
  gpu::cuda::Stream stream_ = nullptr;
  gpu::cuda::Function add_ = nullptr;
  gpu::cuda::Event begin_ = nullptr;
  gpu::cuda::Event end_ = nullptr;
  DevicePointer one_block_ = 0;
  std::unique_ptr<gpu::cuda::Cublas> cublas_;
  std::string no_cublas_;
  std::vector<std::byte> host_;  ///< registered
};

constexpr std::uint64_t block_bytes = 1024;

Cuda::Cuda(const std::string& codelets, const std::string& uuid)
    : api_(std::move(need(gpu::load("cuda")).cuda)) {
  const auto found = need(gpu::cuda::find_device(*api_, uuid));
  gpu::cuda::Context context = nullptr;
  need(check(*api_, "open the GPU", api_->context_retain(&context, found.device)));
  need(check(*api_, "use the GPU", api_->context_set(context)));
  need(check(*api_, "make a stream",
             api_->stream_create(&stream_, gpu::cuda::stream_non_blocking, 0)));
  for (gpu::cuda::Event* event : {&begin_, &end_})
    need(check(*api_, "make an event", api_->event_create(event, 0)));
  load(codelets + "/vector.so");
  one_block_ = allocate(3 * block_bytes);
  // The real one knows nothing of the double of a driver.
  auto loaded = found.info.emulated && std::getenv(gpu::cuda::cublas_variable) == nullptr
                    ? error(aios::Code::not_found, "the device is emulated")
                    : gpu::cuda::Cublas::load(stream_);
  if (loaded)
    cublas_ = std::move(*loaded);
  else
    no_cublas_ = loaded.error().message();
}

Cuda::~Cuda() {
  (void)api_->stream_synchronize(stream_);
  if (!host_.empty()) (void)api_->host_unregister(host_.data());
}

void Cuda::load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string image(std::istreambuf_iterator<char>(file), {});
  const auto module = need(gpu::read_kernel_module(std::as_bytes(std::span(image))));
  gpu::cuda::Module loaded = nullptr;
  need(check(*api_, "load the module",
             api_->module_load(&loaded, module.ptx.c_str(), 0, nullptr, nullptr)));
  need(check(*api_, "find the kernel", api_->module_function(&add_, loaded, "vector_add")));
}

DevicePointer Cuda::allocate(std::uint64_t bytes) {
  DevicePointer memory = 0;
  need(check(*api_, "allocate memory of the GPU", api_->memory_allocate(&memory, bytes, stream_)));
  return memory;
}

std::uint64_t Cuda::launches_ns(std::size_t count, bool at_once) {
  std::uint32_t n = 256;
  std::array<DevicePointer, 3> places{one_block_, one_block_ + block_bytes,
                                      one_block_ + 2 * block_bytes};
  void* parameters[] = {&n, &places[0], &places[1], &places[2]};
  wait();
  const std::uint64_t begin = now_ns();
  for (std::size_t i = 0; i < count; ++i) {
    need(check(*api_, "launch",
               api_->launch(add_, 1, 1, 1, 256, 1, 1, 0, stream_, parameters, nullptr)));
    if (!at_once) wait();
  }
  wait();
  return now_ns() - begin;
}

void Cuda::reserve_host(std::uint64_t bytes) {
  if (host_.size() == bytes) return;
  if (!host_.empty()) (void)api_->host_unregister(host_.data());
  host_ = std::vector<std::byte>(bytes);
  need(check(*api_, "register memory",
             api_->host_register(host_.data(), bytes, gpu::cuda::host_register_portable)));
}

std::uint64_t Cuda::copies_ns(std::uint64_t bytes) {
  reserve_host(bytes);
  const DevicePointer memory = allocate(bytes);
  wait();
  const std::uint64_t begin = now_ns();
  for (int i = 0; i < 2; ++i)
    need(check(*api_, "copy to the GPU",
               api_->copy_to_device(memory, host_.data(), bytes, stream_)));
  need(check(*api_, "copy from the GPU", api_->copy_to_host(host_.data(), memory, bytes, stream_)));
  wait();
  const std::uint64_t took = now_ns() - begin;
  free(memory);
  return took;
}

gpu::GemmElement element_of(const Product& product) {
  switch (product.element) {
    case Product::Element::f16:
      return gpu::GemmElement::f16;
    case Product::Element::bf16:
      return gpu::GemmElement::bf16;
    case Product::Element::f32:
      break;
  }
  return gpu::GemmElement::f32;
}

/// Of the same numbers as those of the other ways: what a GPU draws, and so its clock, depends on
/// them.
DevicePointer Cuda::allocate_numbers(std::uint64_t bytes) {
  reserve_host(bytes);
  const std::span numbers(reinterpret_cast<float*>(host_.data()), bytes / sizeof(float));
  std::ranges::fill(numbers, first_number);
  const DevicePointer memory = allocate(bytes);
  need(check(*api_, "copy to the GPU", api_->copy_to_device(memory, host_.data(), bytes, stream_)));
  wait();
  return memory;
}

std::optional<std::uint64_t> Cuda::product_ns(const Product& product, std::uint32_t n) {
  if (cublas_ == nullptr) return std::nullopt;
  const std::uint64_t bytes = std::uint64_t{n} * n * product.bytes;
  const DevicePointer a = allocate_numbers(bytes), b = allocate_numbers(bytes),
                      c = allocate_numbers(bytes);
  const gpu::cuda::GemmCall call{element_of(product), n, n, n, 1, 0, a, b, c};
  const auto multiply = [&] {
    if (!cublas_->queue(call)) throw std::runtime_error("cuBLAS refuses a product");
  };
  multiply();
  wait();
  need(check(*api_, "mark the begin", api_->event_record(begin_, stream_)));
  multiply();
  need(check(*api_, "mark the end", api_->event_record(end_, stream_)));
  wait();
  float ms = 0;
  need(check(*api_, "time a product", api_->event_elapsed(&ms, begin_, end_)));
  for (const DevicePointer memory : {a, b, c}) free(memory);
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(static_cast<double>(ms) * 1e6));
}

/// A process that cannot be parked is left as it was found, as far as the driver does so.
Cuda::Parked Cuda::park_and_resume(int process) {
  constexpr unsigned lock_limit_ms = 10'000;
  const auto free_bytes = [&] {
    std::size_t free = 0, total = 0;
    need(check(*api_, "ask for free memory", api_->memory_info(&free, &total)));
    return free;
  };
  const std::size_t before = free_bytes();
  const std::uint64_t begin = now_ns();
  gpu::cuda::CheckpointLock lock{.timeout_ms = lock_limit_ms, .reserved = 0, .reserved_too = {}};
  need(check(*api_, "lock the process", api_->checkpoint_lock(process, &lock)));
  if (const auto code = api_->checkpoint_save(process, nullptr); code != gpu::cuda::Code::success) {
    (void)api_->checkpoint_unlock(process, nullptr);
    need(check(*api_, "save the process's memory", code));
  }
  const std::uint64_t parked = now_ns();
  const std::size_t meanwhile = free_bytes();
  const std::uint64_t resumes = now_ns();
  need(check(*api_, "restore the process's memory", api_->checkpoint_restore(process, nullptr)));
  need(check(*api_, "unlock the process", api_->checkpoint_unlock(process, nullptr)));
  return {parked - begin, now_ns() - resumes, meanwhile > before ? meanwhile - before : 0};
}

}  // namespace

std::unique_ptr<BareCuda> bare_cuda(const std::string& codelets, const BenchDevice& device) {
  return std::make_unique<Cuda>(codelets, device.uuid);
}

}  // namespace aios::bench
