// What AIOS uses of cuBLAS, products of matrices, declared from its documented binary interface. It
// is looked up in the library where the machine has it: neither building nor running needs it.
#pragma once

#include <memory>
#include <set>

#include "abi/runtime/status.hpp"
#include "drivers/gpu/cuda/driver_api.hpp"
#include "drivers/gpu/kernel_module.hpp"

namespace aios::gpu::cuda {

/// Names another file than the installed library.
inline constexpr const char* cublas_variable = "AIOS_CUBLAS_LIBRARY";

/// C = alpha A B + beta C by rows: A is m x k, B k x n, C m x n.
struct GemmCall {
  GemmElement element;
  std::uint32_t m, n, k;
  float alpha, beta;
  DevicePointer a, b, c;
};

class Cublas {
 public:
  /// The file that cublas_variable names, else the newest of those that it can be. Loads what may
  /// be hundreds of megabytes, and makes a handle in the context of the calling thread, for
  /// work in `stream`. not_found: it is not installed, or lacks a function; io_error.
  static Result<std::unique_ptr<Cublas>> load(Stream stream);
  Cublas(const Cublas&) = delete;
  ~Cublas();

  /// Whether it can be given memory to work in; old versions cannot, and take it by themselves.
  bool takes_workspace() const { return set_workspace_ != nullptr; }
  /// Memory of the device that outlives it, aligned as any allocation there is. io_error
  Result<void> use_workspace(DevicePointer memory, std::uint64_t bytes);
  /// Has it load, once, what multiplies such elements, which takes a hundred milliseconds: that is
  /// not to be what the first task seems to take. Without memory to work in nothing happens.
  void warm_up(GemmElement element);

  /// Queues it in the stream. False: it did not, and the kernel has to do it.
  bool queue(const GemmCall& call) const;

 private:
  using Status = int;
  using Handle = struct cublasContext*;

  Cublas() = default;
  Result<void> start(void* library, Stream stream);

  Handle handle_ = nullptr;
  DevicePointer workspace_ = 0;
  std::set<GemmElement> warm_;
  Status (*destroy_)(Handle handle) = nullptr;
  Status (*set_workspace_)(Handle handle, void* memory, std::size_t bytes) = nullptr;
  Status (*gemm_)(Handle handle, int transpose_a, int transpose_b, int m, int n, int k,
                  const void* alpha, const void* a, int a_type, int row_a, const void* b,
                  int b_type, int row_b, const void* beta, void* c, int c_type, int row_c,
                  int compute_type, int algorithm) = nullptr;
};

}  // namespace aios::gpu::cuda
