#include <array>
#include <fstream>
#include <iterator>
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
  std::optional<std::uint64_t> sgemm_ns(std::uint32_t n) override;

 private:
  void load(const std::string& path);
  void wait() const { need(check(*api_, "wait", api_->stream_synchronize(stream_))); }
  DevicePointer allocate(std::uint64_t bytes);
  void free(DevicePointer memory) { (void)api_->memory_free(memory, stream_); }
  void reserve_host(std::uint64_t bytes);

  std::unique_ptr<const gpu::cuda::DriverApi> api_;
  gpu::cuda::Stream stream_ = nullptr;
  gpu::cuda::Function add_ = nullptr;
  DevicePointer one_block_ = 0;
  std::unique_ptr<gpu::cuda::Cublas> cublas_;
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
  load(codelets + "/vector.so");
  one_block_ = allocate(3 * block_bytes);
  // The real one knows nothing of the double of a driver.
  if (found.info.emulated && std::getenv(gpu::cuda::cublas_variable) == nullptr) return;
  if (auto loaded = gpu::cuda::Cublas::load(stream_)) cublas_ = std::move(*loaded);
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

std::optional<std::uint64_t> Cuda::sgemm_ns(std::uint32_t n) {
  if (cublas_ == nullptr) return std::nullopt;
  const std::uint64_t bytes = std::uint64_t{n} * n * sizeof(float);
  const DevicePointer a = allocate(bytes), b = allocate(bytes), c = allocate(bytes);
  for (const DevicePointer memory : {a, b, c})
    need(check(*api_, "fill memory", api_->fill(memory, 0, bytes, stream_)));
  const gpu::cuda::GemmCall call{gpu::GemmElement::f32, n, n, n, 1, 0, a, b, c};
  if (!cublas_->queue(call)) throw std::runtime_error("cuBLAS refuses a product");
  wait();
  const std::uint64_t begin = now_ns();
  if (!cublas_->queue(call)) throw std::runtime_error("cuBLAS refuses a product");
  wait();
  const std::uint64_t took = now_ns() - begin;
  for (const DevicePointer memory : {a, b, c}) free(memory);
  return took;
}

}  // namespace

std::unique_ptr<BareCuda> bare_cuda(const std::string& codelets, const BenchDevice& device) {
  return std::make_unique<Cuda>(codelets, device.uuid);
}

}  // namespace aios::bench
