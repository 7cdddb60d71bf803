/* What a module for AIOS's CPU device looks like.
 *
 * A module is a shared object that exports `aios_module`: a table of codelets, each a plain
 * function called once per block of a task's grid. It runs in a context: a process of its job's
 * own, in an empty root without files, network or other processes. It may need only libc, libm,
 * libstdc++, libgcc_s and the loader; any other dependency is refused by name. Blocks of one task,
 * and several tasks, run on several threads at once. Where the machine has OpenBLAS its functions
 * are there, too: declare those you use as weak, and find them null elsewhere. Each works on the
 * thread that calls it.
 *
 * A codelet returns 0, or one of aios.h's codes after writing why into `message`. If it crashes or
 * exceeds its task's time limit its context dies, with nothing else.
 */
#ifndef AIOS_CODELET_H
#define AIOS_CODELET_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOS_CODELET_ABI 1u
#define AIOS_EXPORT __attribute__((visibility("default")))

/* How a task uses a buffer. What one leaves unwritten in a buffer that it uses with WRITE alone, or
 * with SCRATCH, is undefined afterwards. */
enum { AIOS_MODE_READ = 1, AIOS_MODE_WRITE = 2, AIOS_MODE_READ_WRITE = 3, AIOS_MODE_SCRATCH = 4 };

/* A part of a lent file: read it with pread, also past `length` to end a record, never past
 * `file_size`. A file that ends sooner has shrunk: return 22 (source_changed). */
typedef struct aios_file_piece {
  int32_t fd;
  uint32_t index; /* position in the split, for messages */
  uint64_t offset;
  uint64_t length;
  uint64_t file_size; /* when it was opened */
} aios_file_piece;

/* One argument buffer: memory (`data`, `size`), or lent files (`files`, `file_count`). A buffer of
 * mode READ is mapped read-only: writing to it is a crash. */
typedef struct aios_buffer {
  void* data;
  uint64_t size;
  uint32_t mode;
  uint32_t file_count;
  const aios_file_piece* files;
} aios_buffer;

#define AIOS_RESULT_WORDS 4

typedef struct aios_task {
  uint32_t block[3]; /* which block of the grid this call computes; zero in a call for a share */
  uint32_t grid[3];
  uint32_t buffer_count;
  uint32_t argument_bytes;
  const aios_buffer* buffers;
  const void* arguments;
  uint64_t* result;       /* AIOS_RESULT_WORDS words, zero at first, returned with the completion;
                             blocks that share a word must write it atomically */
  char* message;          /* for the block's failure, NUL-terminated */
  uint32_t message_bytes; /* room in `message` */
  uint32_t share;         /* in a call for a share: which one, */
  uint32_t shares;        /* of how many; else 0 */
  uint32_t reserved;
} aios_task;

typedef int32_t (*aios_codelet_function)(const aios_task* task);

typedef struct aios_codelet {
  const char* name;
  aios_codelet_function run;
} aios_codelet;

typedef struct aios_module_table {
  uint32_t abi;   /* AIOS_CODELET_ABI */
  uint32_t count; /* of `codelets`, at most 64 */
  const aios_codelet* codelets;
} aios_module_table;

/* The entry point every module defines. */
AIOS_EXPORT extern const aios_module_table aios_module;

/* Optional: codelets that divide their grid themselves, which pays where the work of many blocks
 * has something in common. A function listed here is called instead of the one that aios_module
 * lists under the same name: once for each of `shares` shares, which together do what all blocks
 * would have done. There are as many shares as threads, or as blocks if these are fewer; a thread
 * may do several. An entry without a function means nothing. */
AIOS_EXPORT extern const aios_module_table aios_module_shares;

/* What a GPU's driver has to know of a kernel (kernel.h). A module has one for each, one after the
 * other, in the section AIOS_KERNEL_SECTION of its file; its PTX and its OpenCL C, each ended by a
 * zero byte, are in .aios.ptx and .aios.opencl. */
#define AIOS_KERNEL_SECTION ".aios.kernels"
typedef struct aios_kernel_record {
  char name[64];
  uint32_t block[3]; /* threads */
  uint32_t argument_bytes;
  uint32_t buffer_count;
  uint32_t modes[16];
  uint32_t reserved[3];
} __attribute__((aligned(32))) aios_kernel_record;

/* Kernels that compute C = alpha A B + beta C (kernel.h's AIOS_GEMM), each of which a device with a
 * library for that may do by it. One for each, in the section AIOS_GEMM_SECTION. */
#define AIOS_GEMM_SECTION ".aios.gemms"
enum { AIOS_ELEMENT_f32 = 1, AIOS_ELEMENT_f16 = 2, AIOS_ELEMENT_bf16 = 3 };
typedef struct aios_gemm_record {
  char name[64];
  uint32_t element; /* AIOS_ELEMENT_* */
  uint32_t tile;    /* rows and columns of C that a block computes */
  uint32_t reserved[6];
} __attribute__((aligned(32))) aios_gemm_record;

#ifdef __cplusplus
}
#endif
#endif
