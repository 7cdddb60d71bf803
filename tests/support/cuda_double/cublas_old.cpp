// The double of cuBLAS as it was before version 11: without cublasSetWorkspace. Hands on to the one
// in CUDA_DOUBLE, which the process has loaded.
#include <dlfcn.h>

#include <cstdlib>

namespace {

template <class... Parameters>
int hand_on(const char* name, Parameters... parameters) {
  void* const library = ::dlopen(CUDA_DOUBLE, RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) std::abort();
  return reinterpret_cast<int (*)(Parameters...)>(::dlsym(library, name))(parameters...);
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int cublasCreate_v2(void** handle) {
  return hand_on("cublasCreate_v2", handle);
}

EXPORTED int cublasDestroy_v2(void* handle) {
  return hand_on("cublasDestroy_v2", handle);
}

EXPORTED int cublasSetStream_v2(void* handle, void* stream) {
  return hand_on("cublasSetStream_v2", handle, stream);
}

EXPORTED int cublasSetMathMode(void* handle, int mode) {
  return hand_on("cublasSetMathMode", handle, mode);
}

EXPORTED int cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k,
                          const void* alpha, const void* a, int a_type, int column_a, const void* b,
                          int b_type, int column_b, const void* beta, void* c, int c_type,
                          int column_c, int compute_type, int algorithm) {
  return hand_on("cublasGemmEx", handle, transpose_a, transpose_b, m, n, k, alpha, a, a_type,
                 column_a, b, b_type, column_b, beta, c, c_type, column_c, compute_type, algorithm);
}
