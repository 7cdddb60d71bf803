// A double of cuBLAS, in the library of the double of the CUDA driver, whose streams it uses: the
// products of matrices that AIOS asks for, and no others. Not a GPU's, and slow.
#include <cstring>
#include <utility>
#include <vector>

#include "tests/support/cuda_double/device.hpp"
#include "tests/support/cuda_double/half.hpp"
#include "tests/support/cuda_double/stream.hpp"

namespace cu = aios::gpu::cuda;
using namespace aios::cuda_double;

namespace {

enum Status : int {
  success = 0,
  not_initialised = 1,
  allocation_failed = 3,
  invalid_value = 7,
  not_supported = 15
};
enum Type : int { f32 = 0, f16 = 2, bf16 = 14 };
constexpr int single_precision = 68;
constexpr int default_math = 0;
constexpr int no_reduced_sums = 16;

std::atomic<std::uint64_t> calls = 0;
std::atomic<std::uint64_t> warm_ups = 0;

std::size_t bytes_of(int type) {
  return type == f32 ? 4 : 2;
}

float load(const std::byte* at, int type) {
  if (type == f32) {
    float value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == f16 ? from_half(bits) : from_bfloat(bits);
}

void store(std::byte* at, int type, float value) {
  if (type == f32) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const std::uint16_t bits = type == f16 ? to_half(value) : to_bfloat(value);
  std::memcpy(at, &bits, sizeof bits);
}

/// By columns, as the library has them.
struct Product {
  int m, n, k;
  float alpha, beta;
  const std::byte* a;
  const std::byte* b;
  std::byte* c;
  int type, column_a, column_b, column_c;
  bool reduces_in_type;  ///< as the real one does where it is not told otherwise

  float in_type(float value) const {
    std::byte place[sizeof value];
    store(place, type, value);
    return load(place, type);
  }
  GpuCode compute() const {
    const std::size_t bytes = bytes_of(type);
    const auto last = [bytes](int columns, int column, int rows) {
      return (static_cast<std::size_t>(columns - 1) * static_cast<std::size_t>(column) +
              static_cast<std::size_t>(rows)) *
             bytes;
    };
    const auto within = [](const std::byte* at, std::size_t count) {
      return PretendedGpu::instance().memory.contains(reinterpret_cast<std::uint64_t>(at), count);
    };
    if (!within(a, last(k, column_a, m)) || !within(b, last(n, column_b, k)) ||
        !within(c, last(n, column_c, m)))
      return GpuCode::illegal_address;
    for (int column = 0; column < n; ++column)
      for (int row = 0; row < m; ++row) {
        float sum = 0;
        for (int i = 0; i < k; ++i) {
          sum += load(a + static_cast<std::size_t>(i * column_a + row) * bytes, type) *
                 load(b + static_cast<std::size_t>(column * column_b + i) * bytes, type);
          if (reduces_in_type) sum = in_type(sum);
        }
        std::byte* const to = c + static_cast<std::size_t>(column * column_c + row) * bytes;
        store(to, type, alpha * sum + (beta == 0 ? 0 : beta * load(to, type)));
      }
    return GpuCode::success;
  }
};

}  // namespace

struct cublasContext {
  cu::Stream stream = nullptr;
  std::uint64_t workspace = 0;  ///< 0: as the real one, memory that the library takes by itself
  std::size_t workspace_bytes = 0;
  int math_mode = default_math;
};

namespace {

/// What a handle takes by itself with its first product, if nobody has given it any.
constexpr std::size_t own_workspace_bytes = 4u << 20;
constexpr std::uint64_t workspace_alignment = 256;

std::atomic<std::uint64_t> handles = 0;
std::atomic<std::uint64_t> last_workspace_bytes = 0;

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int cublasCreate_v2(cublasContext** handle) {
  if (!PretendedGpu::instance().initialized) return not_initialised;
  *handle = new cublasContext;
  ++handles;
  return success;
}

EXPORTED int cublasDestroy_v2(cublasContext* handle) {
  delete handle;
  --handles;
  return success;
}

/// With another stream a handle forgets the workspace that it was given, as the real one does.
EXPORTED int cublasSetStream_v2(cublasContext* handle, cu::Stream stream) {
  *handle = {stream, 0, 0, handle->math_mode};
  return success;
}

EXPORTED int cublasSetMathMode(cublasContext* handle, int mode) {
  if (mode != default_math && mode != no_reduced_sums) return not_supported;
  handle->math_mode = mode;
  return success;
}

EXPORTED int cublasSetWorkspace_v2(cublasContext* handle, void* workspace, std::size_t bytes) {
  const auto at = reinterpret_cast<std::uint64_t>(workspace);
  if (at % workspace_alignment != 0 || !PretendedGpu::instance().memory.contains(at, bytes))
    return invalid_value;
  handle->workspace = at;
  handle->workspace_bytes = bytes;
  return success;
}

EXPORTED int cublasGemmEx(cublasContext* handle, int transpose_a, int transpose_b, int m, int n,
                          int k, const void* alpha, const void* a, int a_type, int column_a,
                          const void* b, int b_type, int column_b, const void* beta, void* c,
                          int c_type, int column_c, int compute_type, int) {
  if (transpose_a != 0 || transpose_b != 0 || a_type != b_type || a_type != c_type ||
      (a_type != f32 && a_type != f16 && a_type != bf16) || compute_type != single_precision)
    return not_supported;
  if (m <= 0 || n <= 0 || k <= 0 || column_a < m || column_b < k || column_c < m)
    return invalid_value;
  Product product{m,
                  n,
                  k,
                  0,
                  0,
                  static_cast<const std::byte*>(a),
                  static_cast<const std::byte*>(b),
                  static_cast<std::byte*>(c),
                  a_type,
                  column_a,
                  column_b,
                  column_c,
                  handle->math_mode != no_reduced_sums};
  std::memcpy(&product.alpha, alpha, sizeof product.alpha);
  std::memcpy(&product.beta, beta, sizeof product.beta);
  PretendedGpu& gpu = PretendedGpu::instance();
  if (handle->workspace == 0 && std::exchange(handle->workspace_bytes, own_workspace_bytes) == 0 &&
      !gpu.take(own_workspace_bytes))
    return allocation_failed;
  // Of what lies there nobody wants the product: only what it makes the library load.
  const auto at = reinterpret_cast<std::uint64_t>(a);
  if (at >= handle->workspace && at - handle->workspace < handle->workspace_bytes) {
    ++warm_ups;
    return success;
  }
  ++calls;
  last_workspace_bytes = handle->workspace != 0 ? handle->workspace_bytes : 0;
  handle->stream->work.add([product, at = handle->workspace, bytes = handle->workspace_bytes] {
    if (at != 0 && !PretendedGpu::instance().memory.contains(at, bytes))
      return GpuCode::illegal_address;
    return product.compute();
  });
  return success;
}

/// For tests: how many products were asked for in this process.
EXPORTED std::uint64_t aios_cublas_double_calls() {
  return calls;
}

/// How many besides, of what lies in the workspace.
EXPORTED std::uint64_t aios_cublas_double_warm_ups() {
  return warm_ups;
}

/// How many handles there are.
EXPORTED std::uint64_t aios_cublas_double_handles() {
  return handles;
}

/// What the last product had of the workspace that AIOS gave; 0: the library took one by itself.
EXPORTED std::uint64_t aios_cublas_double_workspace() {
  return last_workspace_bytes;
}
