/* Kernels that are written once and run on every device.
 *
 * A kernel file is in the common subset of C++, OpenCL C and CUDA's C++. It includes this header
 * and is compiled three times: for the processor, to PTX, and, as text, by an OpenCL driver.
 * aios-kc does all of it and puts the results into one module.
 *
 *   #include <aios/kernel.h>
 *
 *   AIOS_ARGUMENTS(axpy, { uint32_t n; float a; });
 *   AIOS_KERNEL(axpy, (256, 1, 1), (read, float, x), (read_write, float, y)) {
 *     AIOS_THREADS {
 *       const uint32_t i = AIOS_GLOBAL_X;
 *       if (i < arguments.n) y[i] += arguments.a * x[i];
 *     }
 *   }
 *   AIOS_MODULE(axpy)
 *
 * AIOS_KERNEL(name, (x, y, z), (mode, type, buffer)...): a task's grid counts blocks, and each
 * block has x*y*z threads, at most 1024. `mode` is read, write or read_write; a task brings as many
 * buffers, in this order, and the bytes of the argument structure, which the kernel sees as
 * `arguments`. The structure has members of 4 and 8 bytes, without holes. CUDA has no blocks with
 * over 64 threads along z, and no grids with over 65,535 blocks along y or z: what may be longer
 * belongs along x.
 *
 * The body is what a block does. AIOS_THREADS { } is done by each of its threads, and ends when all
 * have done it; it must not be left by return or break. What stands around such parts is the same
 * for all threads: it depends on the block and the arguments alone. There AIOS_SHARED declares
 * memory of the block, and AIOS_PRIVATE(type, name, threads) a variable of each thread's that
 * lives from one part to the next, read and written as AIOS_OWN(name).
 *
 * aios_abort() ends the task with CRASHED, and its context with it.
 *
 *   AIOS_GEMM(name, element, tile)
 *
 * after a kernel says that it computes C = alpha A B + beta C by rows, C being tile x tile in each
 * block, of elements f32, f16 or bf16, with single precision in between: its buffers are A (m x k),
 * B (k x n) and C (m x n), its arguments m, n, k, alpha and beta. A GPU that has a library of its
 * vendor's for that may use it instead.
 *
 * On the processor the threads of a block are a loop. Where another way is faster there, a file may
 * say it after the kernel, under `#ifdef AIOS_TARGET_CPU`:
 *
 *   AIOS_SHARES(axpy, (read, float, x), (read_write, float, y)) { ... return true; }
 *
 * is called once per thread and does share AIOS_SHARE of AIOS_SHARE_COUNT of what the grid's blocks
 * would do; AIOS_GRID_X and the others say how many they are. Of COUNT blocks, rows or whatever it
 * counts, its own begin at AIOS_SHARE_BEGIN(COUNT) and end before AIOS_SHARE_END(COUNT). If it
 * returns false, having written nothing, the share's blocks are done as the kernel says: from
 * AIOS_SHARE_BEGIN to AIOS_SHARE_END of all, with x counted first. Where that is not what the share
 * would have done itself, whether it returns false must depend on what all shares see alike, such
 * as arguments and grid: never on whether its own thread got memory, or else some blocks are done
 * by nobody and others twice.
 *
 * Loops over sums become vectors where `#pragma omp simd reduction(+ : sum)` allows it.
 */
#ifndef AIOS_KERNEL_H
#define AIOS_KERNEL_H

#if defined(__OPENCL_VERSION__) || defined(__OPENCL_C_VERSION__)
#define AIOS_TARGET_OPENCL 1
#elif defined(__CUDA__)
#define AIOS_TARGET_PTX 1
#else
#define AIOS_TARGET_CPU 1
#endif

/* Applies AIOS_EACH_<what> to each of up to 16 parameters. */
#define AIOS_CAT(a, b) AIOS_CAT_(a, b)
#define AIOS_CAT_(a, b) a##b
#define AIOS_COUNT(...) \
  AIOS_COUNT_(__VA_ARGS__, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define AIOS_COUNT_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, count, ...) count
#define AIOS_FOR(what, ...) AIOS_CAT(AIOS_FOR_, AIOS_COUNT(__VA_ARGS__))(what, __VA_ARGS__)
#define AIOS_FOR_1(what, p) what(p)
#define AIOS_FOR_2(what, p, ...) what(p) AIOS_FOR_1(what, __VA_ARGS__)
#define AIOS_FOR_3(what, p, ...) what(p) AIOS_FOR_2(what, __VA_ARGS__)
#define AIOS_FOR_4(what, p, ...) what(p) AIOS_FOR_3(what, __VA_ARGS__)
#define AIOS_FOR_5(what, p, ...) what(p) AIOS_FOR_4(what, __VA_ARGS__)
#define AIOS_FOR_6(what, p, ...) what(p) AIOS_FOR_5(what, __VA_ARGS__)
#define AIOS_FOR_7(what, p, ...) what(p) AIOS_FOR_6(what, __VA_ARGS__)
#define AIOS_FOR_8(what, p, ...) what(p) AIOS_FOR_7(what, __VA_ARGS__)
#define AIOS_FOR_9(what, p, ...) what(p) AIOS_FOR_8(what, __VA_ARGS__)
#define AIOS_FOR_10(what, p, ...) what(p) AIOS_FOR_9(what, __VA_ARGS__)
#define AIOS_FOR_11(what, p, ...) what(p) AIOS_FOR_10(what, __VA_ARGS__)
#define AIOS_FOR_12(what, p, ...) what(p) AIOS_FOR_11(what, __VA_ARGS__)
#define AIOS_FOR_13(what, p, ...) what(p) AIOS_FOR_12(what, __VA_ARGS__)
#define AIOS_FOR_14(what, p, ...) what(p) AIOS_FOR_13(what, __VA_ARGS__)
#define AIOS_FOR_15(what, p, ...) what(p) AIOS_FOR_14(what, __VA_ARGS__)
#define AIOS_FOR_16(what, p, ...) what(p) AIOS_FOR_15(what, __VA_ARGS__)

#define AIOS_CONST_read const
#define AIOS_CONST_write
#define AIOS_CONST_read_write

#define AIOS_ARGUMENTS(name, ...) typedef struct __VA_ARGS__ name##_arguments

#if defined(AIOS_TARGET_OPENCL)

typedef int int32_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef ushort uint16_t;
typedef uchar uint8_t;

#define AIOS_PARAMETER(tuple) AIOS_PARAMETER_ tuple
#define AIOS_PARAMETER_(mode, type, name) , __global AIOS_CONST_##mode type* restrict name
#define AIOS_SIZE(x, y, z) x, y, z
#define AIOS_KERNEL(name, shape, ...)                             \
  __kernel __attribute__((reqd_work_group_size shape)) void name( \
      const name##_arguments arguments AIOS_FOR(AIOS_PARAMETER, __VA_ARGS__))
#define AIOS_MODULE(...)
#define AIOS_GEMM(name, element, tile)
#define AIOS_DEVICE static
#define AIOS_GLOBAL __global

#define AIOS_BARRIER() barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE)
#define AIOS_SHARED __local
#define AIOS_THREAD_X ((uint)get_local_id(0))
#define AIOS_THREAD_Y ((uint)get_local_id(1))
#define AIOS_THREAD_Z ((uint)get_local_id(2))
#define AIOS_BLOCK_X ((uint)get_group_id(0))
#define AIOS_BLOCK_Y ((uint)get_group_id(1))
#define AIOS_BLOCK_Z ((uint)get_group_id(2))
#define AIOS_GRID_X ((uint)get_num_groups(0))
#define AIOS_GRID_Y ((uint)get_num_groups(1))
#define AIOS_GRID_Z ((uint)get_num_groups(2))
#define AIOS_SIZE_X ((uint)get_local_size(0))
#define AIOS_SIZE_Y ((uint)get_local_size(1))
#define AIOS_SIZE_Z ((uint)get_local_size(2))

#define aios_exp(x) exp(x)
#define aios_sqrt(x) sqrt(x)
#define aios_fma(a, b, c) fma((float)(a), (float)(b), (float)(c))
#define aios_max(a, b) fmax((float)(a), (float)(b))
#define aios_min(a, b) fmin((float)(a), (float)(b))
/* What compilers of OpenCL C that are made of Clang know. */
#define aios_abort() __builtin_trap()
#define aios_add_shared(place, value) ((void)atomic_add((volatile __local uint*)(place), (value)))
#define aios_add_global(place, value) ((void)atomic_add((volatile __global uint*)(place), (value)))

#elif defined(AIOS_TARGET_PTX)

typedef int int32_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef unsigned short uint16_t;
typedef unsigned char uint8_t;

#define AIOS_PARAMETER(tuple) AIOS_PARAMETER_ tuple
#define AIOS_PARAMETER_(mode, type, name) , AIOS_CONST_##mode type* __restrict__ name
#define AIOS_THREAD_COUNT(x, y, z) ((x) * (y) * (z))
#define AIOS_KERNEL(name, shape, ...)                                                   \
  extern "C" __attribute__((global, launch_bounds(AIOS_THREAD_COUNT shape))) void name( \
      const name##_arguments arguments AIOS_FOR(AIOS_PARAMETER, __VA_ARGS__))
#define AIOS_MODULE(...)
#define AIOS_GEMM(name, element, tile)
#define AIOS_DEVICE static __attribute__((device, always_inline))
#define AIOS_GLOBAL

#define AIOS_BARRIER() __syncthreads()
#define AIOS_SHARED static __attribute__((shared))
#define AIOS_THREAD_X ((uint32_t)__nvvm_read_ptx_sreg_tid_x())
#define AIOS_THREAD_Y ((uint32_t)__nvvm_read_ptx_sreg_tid_y())
#define AIOS_THREAD_Z ((uint32_t)__nvvm_read_ptx_sreg_tid_z())
#define AIOS_BLOCK_X ((uint32_t)__nvvm_read_ptx_sreg_ctaid_x())
#define AIOS_BLOCK_Y ((uint32_t)__nvvm_read_ptx_sreg_ctaid_y())
#define AIOS_BLOCK_Z ((uint32_t)__nvvm_read_ptx_sreg_ctaid_z())
#define AIOS_GRID_X ((uint32_t)__nvvm_read_ptx_sreg_nctaid_x())
#define AIOS_GRID_Y ((uint32_t)__nvvm_read_ptx_sreg_nctaid_y())
#define AIOS_GRID_Z ((uint32_t)__nvvm_read_ptx_sreg_nctaid_z())
#define AIOS_SIZE_X ((uint32_t)__nvvm_read_ptx_sreg_ntid_x())
#define AIOS_SIZE_Y ((uint32_t)__nvvm_read_ptx_sreg_ntid_y())
#define AIOS_SIZE_Z ((uint32_t)__nvvm_read_ptx_sreg_ntid_z())

#define __syncthreads() __nvvm_bar_sync(0)

/* e^x as 2^k * e^r with |r| <= ln(2)/2: the hardware's ex2 loses the low bits of a large x/ln(2).
 */
static __attribute__((device, always_inline)) inline float aios_exp(float x) {
  float k;
  __asm__("cvt.rni.f32.f32 %0, %1;" : "=f"(k) : "f"(x * 1.44269504f));
  float r = __builtin_fmaf(k, -0.693145752f, x);
  r = __builtin_fmaf(k, -1.42860677e-6f, r);
  float power;
  __asm__("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(r * 1.44269504f));
  float scale;
  __asm__("ex2.approx.ftz.f32 %0, %1;" : "=f"(scale) : "f"(k));
  return power * scale;
}
static __attribute__((device, always_inline)) inline float aios_sqrt(float x) {
  float root;
  __asm__("sqrt.rn.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}
#define aios_fma(a, b, c) __builtin_fmaf((a), (b), (c))
#define aios_max(a, b) __builtin_fmaxf((a), (b))
#define aios_min(a, b) __builtin_fminf((a), (b))
#define aios_abort() __asm__ volatile("trap;")
#define aios_add_shared(place, value) \
  ((void)__atomic_fetch_add((uint32_t*)(place), (value), __ATOMIC_RELAXED))
#define aios_add_global(place, value) \
  ((void)__atomic_fetch_add((uint32_t*)(place), (value), __ATOMIC_RELAXED))

#endif

#if !defined(AIOS_TARGET_CPU)

#define AIOS_THREADS for (int aios_once = 1; aios_once; AIOS_BARRIER(), aios_once = 0)
#define AIOS_PRIVATE(type, name, threads) type name
#define AIOS_OWN(name) name

#else

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <aios/codelet.h>

#define AIOS_MODE_read AIOS_MODE_READ
#define AIOS_MODE_write AIOS_MODE_WRITE
#define AIOS_MODE_read_write AIOS_MODE_READ_WRITE

typedef struct aios_block {
  uint32_t index[3];
  uint32_t grid[3];
  uint32_t size[3];
} aios_block;

#define AIOS_PARAMETER(tuple) AIOS_PARAMETER_ tuple
#define AIOS_PARAMETER_(mode, type, name) , AIOS_CONST_##mode type* __restrict__ name
#define AIOS_LISTED_MODE(tuple) AIOS_LISTED_MODE_ tuple
#define AIOS_LISTED_MODE_(mode, type, name) AIOS_MODE_##mode,
#define AIOS_UNPACK(tuple) AIOS_UNPACK_ tuple
#define AIOS_UNPACK_(mode, type, name) \
  AIOS_CONST_##mode type* const name = (AIOS_CONST_##mode type*)(aios_buffers++)->data;
#define AIOS_NAME(tuple) AIOS_NAME_ tuple
#define AIOS_NAME_(mode, type, name) , name
#define AIOS_SIZE(x, y, z) \
  { x, y, z }

#define AIOS_BODY(name, ...)                                      \
  static inline __attribute__((always_inline)) void name##_block( \
      const aios_block aios_here,                                 \
      const name##_arguments arguments AIOS_FOR(AIOS_PARAMETER, __VA_ARGS__))
#define AIOS_KERNEL(name, shape, ...)                                                        \
  AIOS_BODY(name, __VA_ARGS__);                                                              \
  __attribute__((section(AIOS_KERNEL_SECTION),                                               \
                 used)) static const aios_kernel_record name##_record = {                    \
      #name,                                                                                 \
      AIOS_SIZE shape,                                                                       \
      sizeof(name##_arguments),                                                              \
      AIOS_COUNT(__VA_ARGS__),                                                               \
      {AIOS_FOR(AIOS_LISTED_MODE, __VA_ARGS__)},                                             \
      {0}};                                                                                  \
  AIOS_CLONES static int32_t name##_run(const aios_task* aios_of) {                          \
    const int32_t aios_wrong = aios_check_task(aios_of, &name##_record);                     \
    if (aios_wrong != 0) return aios_wrong;                                                  \
    name##_arguments arguments;                                                              \
    memcpy(&arguments, aios_of->arguments, sizeof arguments);                                \
    const aios_buffer* aios_buffers = aios_of->buffers;                                      \
    AIOS_FOR(AIOS_UNPACK, __VA_ARGS__)                                                       \
    const aios_block aios_here = {{aios_of->block[0], aios_of->block[1], aios_of->block[2]}, \
                                  {aios_of->grid[0], aios_of->grid[1], aios_of->grid[2]},    \
                                  AIOS_SIZE shape};                                          \
    name##_block(aios_here, arguments AIOS_FOR(AIOS_NAME, __VA_ARGS__));                     \
    return 0;                                                                                \
  }                                                                                          \
  AIOS_BODY(name, __VA_ARGS__)

#define AIOS_GEMM(name, element, tile)                                                            \
  __attribute__((section(AIOS_GEMM_SECTION), used)) static const aios_gemm_record name##_gemm = { \
      #name, AIOS_ELEMENT_##element, tile, {0}};

/* Also compiled for processors with AVX2 and FMA, and with AVX-512; which form runs is found when
 * it is loaded. */
#if defined(__x86_64__)
#define AIOS_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define AIOS_CLONES
#endif

#define AIOS_SHARES(name, ...)                                                                  \
  AIOS_DEVICE bool name##_whole(                                                                \
      const aios_block aios_here, const uint32_t aios_share, const uint32_t aios_shares,        \
      const name##_arguments arguments AIOS_FOR(AIOS_PARAMETER, __VA_ARGS__));                  \
  AIOS_CLONES static int32_t name##_share(const aios_task* aios_of) {                           \
    const int32_t aios_wrong = aios_check_task(aios_of, &name##_record);                        \
    if (aios_wrong != 0) return aios_wrong;                                                     \
    name##_arguments arguments;                                                                 \
    memcpy(&arguments, aios_of->arguments, sizeof arguments);                                   \
    const aios_buffer* aios_buffers = aios_of->buffers;                                         \
    AIOS_FOR(AIOS_UNPACK, __VA_ARGS__)                                                          \
    aios_block aios_here = {                                                                    \
        {0, 0, 0},                                                                              \
        {aios_of->grid[0], aios_of->grid[1], aios_of->grid[2]},                                 \
        {name##_record.block[0], name##_record.block[1], name##_record.block[2]}};              \
    if (name##_whole(aios_here, aios_of->share, aios_of->shares,                                \
                     arguments AIOS_FOR(AIOS_NAME, __VA_ARGS__)))                               \
      return 0;                                                                                 \
    const uint64_t aios_all = (uint64_t)aios_of->grid[0] * aios_of->grid[1] * aios_of->grid[2]; \
    const uint64_t aios_end = aios_all * (aios_of->share + 1) / aios_of->shares;                \
    for (uint64_t i = aios_all * aios_of->share / aios_of->shares; i < aios_end; ++i) {         \
      aios_here.index[0] = (uint32_t)(i % aios_of->grid[0]);                                    \
      aios_here.index[1] = (uint32_t)(i / aios_of->grid[0] % aios_of->grid[1]);                 \
      aios_here.index[2] = (uint32_t)(i / aios_of->grid[0] / aios_of->grid[1]);                 \
      name##_block(aios_here, arguments AIOS_FOR(AIOS_NAME, __VA_ARGS__));                      \
    }                                                                                           \
    return 0;                                                                                   \
  }                                                                                             \
  static constexpr aios_codelet_function aios_shares_of(const name##_arguments*) {              \
    return name##_share;                                                                        \
  }                                                                                             \
  AIOS_DEVICE bool name##_whole(                                                                \
      const aios_block aios_here, const uint32_t aios_share, const uint32_t aios_shares,        \
      const name##_arguments arguments AIOS_FOR(AIOS_PARAMETER, __VA_ARGS__))
static constexpr aios_codelet_function aios_shares_of(const void*) {
  return nullptr;
}
#define AIOS_SHARE aios_share
#define AIOS_SHARE_COUNT aios_shares
#define AIOS_SHARE_BEGIN(count) ((uint64_t)(count)*AIOS_SHARE / AIOS_SHARE_COUNT)
#define AIOS_SHARE_END(count) ((uint64_t)(count) * (AIOS_SHARE + 1u) / AIOS_SHARE_COUNT)

#define AIOS_ENTRY(name) {#name, name##_run},
#define AIOS_SHARES_ENTRY(name) {#name, aios_shares_of((const name##_arguments*)0)},
#define AIOS_MODULE(...)                                                                       \
  static const aios_codelet aios_kernels[] = {AIOS_FOR(AIOS_ENTRY, __VA_ARGS__)};              \
  static const aios_codelet aios_whole_kernels[] = {AIOS_FOR(AIOS_SHARES_ENTRY, __VA_ARGS__)}; \
  AIOS_ENTRY_POINT const aios_module_table aios_module = {                                     \
      AIOS_CODELET_ABI, sizeof aios_kernels / sizeof aios_kernels[0], aios_kernels};           \
  AIOS_ENTRY_POINT const aios_module_table aios_module_shares = {                              \
      AIOS_CODELET_ABI, sizeof aios_kernels / sizeof aios_kernels[0], aios_whole_kernels};
#ifdef __cplusplus
#define AIOS_ENTRY_POINT extern "C" AIOS_EXPORT
#else
#define AIOS_ENTRY_POINT AIOS_EXPORT
#endif

/* invalid_argument (aios.h) when the task does not bring what the kernel takes. */
static inline int32_t aios_check_task(const aios_task* task, const aios_kernel_record* kernel) {
  if (task->buffer_count != kernel->buffer_count) {
    snprintf(task->message, task->message_bytes, "%s takes %u buffers, not %u", kernel->name,
             kernel->buffer_count, task->buffer_count);
    return 1;
  }
  if (task->argument_bytes != kernel->argument_bytes) {
    snprintf(task->message, task->message_bytes, "%s takes %u bytes of arguments, not %u",
             kernel->name, kernel->argument_bytes, task->argument_bytes);
    return 1;
  }
  for (uint32_t i = 0; i < kernel->buffer_count; ++i) {
    if ((task->buffers[i].mode & kernel->modes[i]) == kernel->modes[i]) continue;
    snprintf(task->message, task->message_bytes, "buffer %u of %s has the wrong mode", i,
             kernel->name);
    return 1;
  }
  return 0;
}

/* Into every form of what calls it (AIOS_CLONES). */
#define AIOS_DEVICE static inline __attribute__((always_inline))
#define AIOS_GLOBAL
#define AIOS_SHARED
#define AIOS_THREADS                                                \
  for (uint32_t aios_z = 0; aios_z < aios_here.size[2]; ++aios_z)   \
    for (uint32_t aios_y = 0; aios_y < aios_here.size[1]; ++aios_y) \
      for (uint32_t aios_x = 0; aios_x < aios_here.size[0]; ++aios_x)
#define AIOS_PRIVATE(type, name, threads) type name[threads]
#define AIOS_OWN(name) name[(aios_z * aios_here.size[1] + aios_y) * aios_here.size[0] + aios_x]
#define AIOS_THREAD_X aios_x
#define AIOS_THREAD_Y aios_y
#define AIOS_THREAD_Z aios_z
#define AIOS_BLOCK_X aios_here.index[0]
#define AIOS_BLOCK_Y aios_here.index[1]
#define AIOS_BLOCK_Z aios_here.index[2]
#define AIOS_GRID_X aios_here.grid[0]
#define AIOS_GRID_Y aios_here.grid[1]
#define AIOS_GRID_Z aios_here.grid[2]
#define AIOS_SIZE_X aios_here.size[0]
#define AIOS_SIZE_Y aios_here.size[1]
#define AIOS_SIZE_Z aios_here.size[2]

/* e^x as 2^k * e^r with |r| <= ln(2)/2, without a call or a branch, so that loops over it become
 * vectors. Within two units in the last place; the polynomial is that of Cephes' expf. */
AIOS_DEVICE float aios_exp(float x) {
  const float at_most = x > 89.0f ? 89.0f : x;                 /* infinite */
  const float bounded = at_most < -104.0f ? -104.0f : at_most; /* zero */
  const float nearest = 12582912.0f; /* 1.5 * 2^23: what is added to it is rounded */
  const float shifted = bounded * 1.44269504f + nearest;
  const float k = shifted - nearest;
  const float r = bounded - k * 0.693359375f - k * -2.12194440e-4f;
  float power = 1.9875691500e-4f;
  power = power * r + 1.3981999507e-3f;
  power = power * r + 8.3334519073e-3f;
  power = power * r + 4.1665795894e-2f;
  power = power * r + 1.6666665459e-1f;
  power = power * r + 5.0000001201e-1f;
  power = power * (r * r) + r + 1.0f;
  /* In two steps: 2^k alone may be beyond what a float holds. */
  const int32_t whole = (int32_t)(__builtin_bit_cast(uint32_t, shifted) - 0x4b400000u);
  const int32_t half = whole >> 1;
  const float first = __builtin_bit_cast(float, (uint32_t)(half + 127) << 23);
  const float second = __builtin_bit_cast(float, (uint32_t)(whole - half + 127) << 23);
  return power * first * second;
}
#define aios_sqrt(x) sqrtf(x)
#define aios_fma(a, b, c) fmaf((a), (b), (c))
#define aios_max(a, b) ((a) > (b) ? (a) : (b))
#define aios_min(a, b) ((a) < (b) ? (a) : (b))
#define aios_abort() abort()
/* The threads of a block take turns here; other blocks do not. */
#define aios_add_shared(place, value) ((void)(*(place) += (value)))
#define aios_add_global(place, value) ((void)__atomic_fetch_add((place), (value), __ATOMIC_RELAXED))

#endif

#define AIOS_GLOBAL_X (AIOS_BLOCK_X * AIOS_SIZE_X + AIOS_THREAD_X)
#define AIOS_GLOBAL_Y (AIOS_BLOCK_Y * AIOS_SIZE_Y + AIOS_THREAD_Y)
#define AIOS_GLOBAL_Z (AIOS_BLOCK_Z * AIOS_SIZE_Z + AIOS_THREAD_Z)

/* Half precision: uint16_t in memory, float in computations; the same bits on every device. To
 * nearest, ties to even; what is too large becomes infinite. */
#if defined(AIOS_TARGET_OPENCL)
#define AIOS_FLOAT_BITS(x) as_uint(x)
#define AIOS_BITS_FLOAT(x) as_float(x)
#else
#define AIOS_FLOAT_BITS(x) __builtin_bit_cast(uint32_t, (float)(x))
#define AIOS_BITS_FLOAT(x) __builtin_bit_cast(float, (uint32_t)(x))
#endif

AIOS_DEVICE float aios_from_half(uint16_t stored) {
  const uint32_t sign = (uint32_t)(stored & 0x8000u) << 16;
  const uint32_t rest = stored & 0x7fffu;
  const uint32_t wide = rest << 13;
  /* Below 2^-14 it counts steps of 2^-24. */
  const uint32_t bits = rest >= 0x7c00u  ? wide | 0x7f800000u
                        : rest >= 0x400u ? wide + (112u << 23)
                                         : AIOS_FLOAT_BITS((float)rest * 5.9604644775390625e-8f);
  return AIOS_BITS_FLOAT(bits | sign);
}

AIOS_DEVICE uint16_t aios_to_half(float x) {
  const uint32_t bits = AIOS_FLOAT_BITS(x);
  const uint32_t size = bits & 0x7fffffffu;
  /* The last place of 0.5 + size is one of those steps, to which the addition rounds. */
  const uint32_t small = AIOS_FLOAT_BITS(AIOS_BITS_FLOAT(size) + 0.5f) - 0x3f000000u;
  const uint32_t normal = (size - (112u << 23) + 0xfffu + ((size >> 13) & 1u)) >> 13;
  const uint32_t rounded = size > 0x7f800000u    ? 0x7e00u
                           : size >= 0x477ff000u ? 0x7c00u
                           : size >= 0x38800000u ? normal
                                                 : small;
  return (uint16_t)(rounded | ((bits >> 16) & 0x8000u));
}

AIOS_DEVICE float aios_from_bfloat(uint16_t stored) {
  return AIOS_BITS_FLOAT((uint32_t)stored << 16);
}

AIOS_DEVICE uint16_t aios_to_bfloat(float x) {
  const uint32_t bits = AIOS_FLOAT_BITS(x);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

#endif
