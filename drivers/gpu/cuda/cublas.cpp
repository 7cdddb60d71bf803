#include "drivers/gpu/cuda/cublas.hpp"

#include <dlfcn.h>

#include <climits>
#include <cstdlib>
#include <string>
#include <vector>

namespace aios::gpu::cuda {

namespace {

constexpr int success = 0;
constexpr int as_it_is = 0;
/// cublasComputeType_t: products and sums in single precision, of whatever is multiplied.
constexpr int in_single_precision = 68;
constexpr int library_decides = -1;
/// cublasMath_t: as it is by default, but halves are not summed in halves where a product is split.
constexpr int sums_in_compute_type = 16;

/// cudaDataType_t.
int type_of(GemmElement element) {
  switch (element) {
    case GemmElement::f16:
      return 2;
    case GemmElement::bf16:
      return 14;
    default:
      return 0;
  }
}

/// not_found, saying of each what is wrong: one that is there may lack a library of its own.
Result<void*> open_library() {
  std::vector<const char*> names{"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"};
  if (const char* const named = std::getenv(cublas_variable)) names = {named};
  std::string why;
  for (const char* const name : names) {
    if (void* const opened = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return opened;
    why += (why.empty() ? "" : "; ") + std::string(::dlerror());
  }
  return error(aios::Code::not_found, why);
}

}  // namespace

Result<std::unique_ptr<Cublas>> Cublas::load(Stream stream) {
  void* const library = TRY(open_library());
  std::unique_ptr<Cublas> made(new Cublas);
  TRY(made->start(library, stream));
  return made;
}

Result<void> Cublas::start(void* library, Stream stream) {
  const auto create = reinterpret_cast<Status (*)(Handle*)>(::dlsym(library, "cublasCreate_v2"));
  const auto set_stream =
      reinterpret_cast<Status (*)(Handle, Stream)>(::dlsym(library, "cublasSetStream_v2"));
  const auto set_math_mode =
      reinterpret_cast<Status (*)(Handle, int)>(::dlsym(library, "cublasSetMathMode"));
  destroy_ = reinterpret_cast<decltype(destroy_)>(::dlsym(library, "cublasDestroy_v2"));
  gemm_ = reinterpret_cast<decltype(gemm_)>(::dlsym(library, "cublasGemmEx"));
  // Since cuBLAS 11.
  set_workspace_ =
      reinterpret_cast<decltype(set_workspace_)>(::dlsym(library, "cublasSetWorkspace_v2"));
  if (create == nullptr || destroy_ == nullptr || set_stream == nullptr ||
      set_math_mode == nullptr || gemm_ == nullptr)
    return error(
        aios::Code::not_found,
        "cuBLAS lacks cublasCreate, cublasDestroy, cublasSetStream, cublasSetMathMode or GemmEx");
  Status status = create(&handle_);
  if (status == success) status = set_math_mode(handle_, sums_in_compute_type);
  if (status == success) status = set_stream(handle_, stream);
  if (status == success) return {};
  return error(aios::Code::io_error, "cuBLAS does not start (" + std::to_string(status) + ")");
}

Cublas::~Cublas() {
  if (handle_ != nullptr) (void)destroy_(handle_);
}

/// After the stream was set, with which it forgets what it was given before.
Result<void> Cublas::use_workspace(DevicePointer memory, std::uint64_t bytes) {
  const Status status = set_workspace_(handle_, reinterpret_cast<void*>(memory), bytes);
  if (status != success)
    return error(aios::Code::io_error,
                 "cuBLAS does not take its memory (" + std::to_string(status) + ")");
  workspace_ = memory;
  return {};
}

/// By a product of what lies in that memory: whatever it is, nobody looks at the result.
void Cublas::warm_up(GemmElement element) {
  constexpr std::uint32_t size = 256;
  constexpr std::uint64_t bytes = std::uint64_t{size} * size * sizeof(float);
  if (workspace_ == 0 || !warm_.insert(element).second) return;
  (void)queue(
      {element, size, size, size, 1, 0, workspace_, workspace_ + bytes, workspace_ + 2 * bytes});
}

/// It takes matrices by columns: what is by rows is to it transposed, and the transpose of A B is
/// that of B times that of A.
bool Cublas::queue(const GemmCall& call) const {
  if (call.m == 0 || call.n == 0 || call.k == 0 || call.m > INT_MAX || call.n > INT_MAX ||
      call.k > INT_MAX)
    return false;
  const int m = static_cast<int>(call.m);
  const int n = static_cast<int>(call.n);
  const int k = static_cast<int>(call.k);
  const int type = type_of(call.element);
  const auto at = [](DevicePointer address) { return reinterpret_cast<void*>(address); };
  return gemm_(handle_, as_it_is, as_it_is, n, m, k, &call.alpha, at(call.b), type, n, at(call.a),
               type, k, &call.beta, at(call.c), type, n, in_single_precision,
               library_decides) == success;
}

}  // namespace aios::gpu::cuda
