// What the standard codelets have in common where they divide their grid themselves (AIOS_SHARES):
// only for the processor.
#ifndef AIOS_CODELETS_CPU_SHARES_H
#define AIOS_CODELETS_CPU_SHARES_H

#include <aios/kernel.h>

#ifdef AIOS_TARGET_CPU

/// Elements, rows, columns: from `begin` to before `end`.
struct span_of {
  uint64_t begin;
  uint64_t end;
};

AIOS_DEVICE uint64_t least_of(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

/// Of the `count` elements of a grid in which only x counts, and of which each block does `each`,
/// those of this share. Grids that say more than x do each element several times: not here.
#define ELEMENTS(count, each)                                 \
  span_of {                                                   \
    least_of(count, AIOS_SHARE_BEGIN(AIOS_GRID_X) * (each)),  \
        least_of(count, AIOS_SHARE_END(AIOS_GRID_X) * (each)) \
  }
/// Where it is one, shares cut by ELEMENTS or blocks of x are cut as the blocks are: a share may
/// leave its own to them for reasons that others do not have, as lack of memory.
#define IS_A_ROW (AIOS_GRID_Y == 1 && AIOS_GRID_Z == 1)

extern "C" __attribute__((weak)) void cblas_sgemm(int order, int transpose_a, int transpose_b,
                                                  int m, int n, int k, float alpha, const float* a,
                                                  int row_a, const float* b, int row_b, float beta,
                                                  float* c, int row_c);

/// C = alpha A B + beta C by rows, on the calling thread; where OpenBLAS is (have_blas).
AIOS_DEVICE void multiply(uint64_t m, uint64_t n, uint64_t k, float alpha, const float* a,
                          uint64_t row_a, const float* b, uint64_t row_b, float beta, float* c,
                          uint64_t row_c) {
  constexpr int by_rows = 101;
  constexpr int as_it_is = 111;
  cblas_sgemm(by_rows, as_it_is, as_it_is, (int)m, (int)n, (int)k, alpha, a, (int)row_a, b,
              (int)row_b, beta, c, (int)row_c);
}

/// Whether there is one, and it can count as far.
AIOS_DEVICE bool have_blas(uint64_t most) {
  return cblas_sgemm != nullptr && most <= 0x7fffffffu;
}

/// `rows` x `columns` cut into shares that are about square: so each thread reads the least of what
/// is multiplied.
struct tile_of {
  span_of rows;
  span_of columns;
};
AIOS_DEVICE tile_of square_share(uint64_t rows, uint64_t columns, uint32_t share, uint32_t shares) {
  uint32_t across = 1;
  while (shares / across % 2 == 0 && rows / (shares / across) < columns / across / 2) across *= 2;
  const uint64_t down = shares / across;
  return {{rows * (share / across) / down, rows * (share / across + 1) / down},
          {columns * (share % across) / across, columns * (share % across + 1) / across}};
}

#endif
#endif
