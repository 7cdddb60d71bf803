#include "tests/unit/cpu/starved/starved.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace aios::test {

thread_local bool starved = false;
thread_local std::size_t most_taken = 0;

}  // namespace aios::test

namespace {
/// Before what a codelet gets: how much it is. As large as what malloc aligns to.
struct alignas(std::max_align_t) Head {
  std::size_t bytes;
};
thread_local std::size_t taken = 0;
}  // namespace

extern "C" void* starved_malloc(std::size_t bytes) {
  if (aios::test::starved) return nullptr;
  auto* const head = static_cast<Head*>(std::malloc(sizeof(Head) + bytes));
  if (head == nullptr) return nullptr;
  head->bytes = bytes;
  taken += bytes;
  aios::test::most_taken = std::max(aios::test::most_taken, taken);
  return head + 1;
}

extern "C" void starved_free(void* memory) {
  if (memory == nullptr) return;
  Head* const head = static_cast<Head*>(memory) - 1;
  taken -= head->bytes;
  std::free(head);
}

/// In place of OpenBLAS's, which a test program does not have: by rows, nothing transposed.
extern "C" void cblas_sgemm(int, int, int, int m, int n, int k, float alpha, const float* a,
                            int row_a, const float* b, int row_b, float beta, float* c, int row_c) {
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      float sum = 0;
      for (int l = 0; l < k; ++l)
        sum += a[std::int64_t{i} * row_a + l] * b[std::int64_t{l} * row_b + j];
      float& to = c[std::int64_t{i} * row_c + j];
      to = alpha * sum + (beta == 0 ? 0 : beta * to);
    }
}
