/* MapReduce jobs run by a program: a module (mapreduce.hpp) over input files, into an output
 * folder.
 *
 * Conventions are those of aios.h.
 */
#ifndef AIOS_JOB_H
#define AIOS_JOB_H

#include <aios/aios.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A job of a chain: it reads the lines that the one before it wrote, and knows the input files of
 * the first by their names alone. */
typedef struct aios_mapreduce_stage {
  const char* label; /* in listings, the manifest and messages; NULL: "job" */
  const char* module_path;
  const char* const* arguments; /* for the module */
  size_t argument_count;
  const struct aios_mapreduce_stage* then; /* the job after it; NULL: it is the last */
} aios_mapreduce_stage;

#define AIOS_MAX_STAGES 32

typedef struct aios_mapreduce_options {
  const char* label;            /* in listings and in the manifest; NULL: "job" */
  const char* module_path;      /* of the module, an ELF file */
  const char* const* arguments; /* for the module */
  size_t argument_count;
  const char* const* inputs; /* files, folders (what ends in .gz or .zst is unpacked), and objects
                                of storage: "aios:NAME", or "aios:PREFIX/" for all below */
  size_t input_count;
  const char* output;     /* a folder that is not there yet, or is empty */
  uint32_t reducers;      /* how many parts the output has; 0: 1 */
  uint32_t threads;       /* tasks that run at once; 0: as many as the devices can */
  uint64_t memory_bytes;  /* for tables, runs and merging; 0: a quarter of the machine's, at most
                             1 GiB */
  uint64_t task_limit_ns; /* run time of one task; 0: none */
  /* What records are: NULL or "text": words or lines, as the module wants; "csv", or "csv:D" with
   * another delimiter than a comma ("tab" is one); "jsonl": JSON Lines; "fixed:N": N bytes each. */
  const char* input_format;
  /* The part of a record that the module sees; NULL: all of it. csv: its number, from 1, or its
   * name in the header that every file then begins with ("=NAME" where the name is a number).
   * jsonl: the name of a member, or a JSON pointer, which begins with '/'. fixed: "OFFSET:BYTES".
   */
  const char* field;
  /* Makes it a chain: the job that reads what this one writes, at most AIOS_MAX_STAGES in all. What
   * lies between two jobs is removed; `output` appears when the last is done. NULL: none. */
  const aios_mapreduce_stage* then;
  uint64_t max_bad_records; /* that the job crashes, fails or exceeds its limit on: so many are
                               skipped, and listed in manifest.json; one more fails the job */
} aios_mapreduce_options;

typedef enum aios_mapreduce_phase {
  AIOS_PHASE_MAP = 0,
  AIOS_PHASE_REDUCE = 1,
  AIOS_PHASE_DONE = 2,
  AIOS_PHASE_FAILED = 3,
  AIOS_PHASE_FETCHING = 4, /* before it maps: objects are copied from storage */
  AIOS_PHASE_UNPACKING = 5 /* before it maps: of the input, what is compressed */
} aios_mapreduce_phase;

typedef struct aios_mapreduce_progress {
  uint64_t input_bytes;  /* fetching and unpacking: of what is copied or unpacked */
  uint64_t mapped_bytes; /* of the input; fetching and unpacking: of that */
  uint64_t merge_bytes;  /* of sorted runs, known when the reduce phase begins */
  uint64_t merged_bytes;
  uint64_t records;       /* read by map */
  uint64_t distinct_keys; /* written */
  uint64_t tasks;
  uint64_t attempts; /* of those tasks */
  uint64_t spilled_bytes;
  uint32_t phase;           /* aios_mapreduce_phase */
  uint32_t skipped_records; /* not among the records */
} aios_mapreduce_progress;

/* Sees the progress at every event, several times a second. Not 0 cancels the job. It is called on
 * the thread that called aios_mapreduce_run, and must not throw. */
typedef int (*aios_mapreduce_callback)(void* context, const aios_mapreduce_progress* progress);

#define AIOS_MAX_COUNTERS 16

typedef struct aios_mapreduce_counter {
  char name[32];
  uint64_t value;
} aios_mapreduce_counter;

typedef struct aios_mapreduce_result {
  aios_mapreduce_progress progress; /* at the end */
  uint64_t input_files;
  uint64_t output_bytes;
  uint64_t elapsed_ns; /* from the call to the committed output */
  uint32_t counter_count;
  uint32_t reserved;
  aios_mapreduce_counter counters[AIOS_MAX_COUNTERS]; /* those that the module declares */
} aios_mapreduce_result;

/* Jobs that compute on devices, k-means and image-histogram of libexec/aios/modules, are run like
 * all others; they write two parts of their own making (leave `reducers` 0), and what `arguments`
 * are and parts hold is in services/mapreduce/jobs/README.md.
 */

/* Runs a job and blocks until its output is there, complete and on disk, or until it failed and the
 * output folder is as it was. In a program that attached to a job (job_name, or `aiosctl run`) it
 * runs in that job, within its quota and in its contexts; otherwise it gets a job of its own at the
 * kernel and shares its processes with nothing else. Input files are opened with the caller's
 * rights. `callback` and `result` may be NULL. Any number of jobs may be run at once, from several
 * threads. It opens up to a quarter of the descriptors that this process may have (RLIMIT_NOFILE):
 * with many small files more is faster.
 *
 * Errors: NOT_FOUND, DENIED: of the module, an input, or the services; INVALID_ARGUMENT: naming
 * what, also what the module says of its arguments; ALREADY_EXISTS: the output folder is not empty;
 * CANCELLED: by the callback or an operator; SOURCE_CHANGED: an input file changed meanwhile;
 * CRASHED, and any code the module returns: the message names the input file and the place in it,
 * and in a chain the stage; TIMED_OUT: a task exceeded its limit; NO_SPACE, IO_ERROR: of the
 * output; PEER_CLOSED: a service died meanwhile, three times (until then the
 * job is done anew); UNREACHABLE, QUOTA. */
AIOS_API aios_code aios_mapreduce_run(aios_instance* instance,
                                      const aios_mapreduce_options* options,
                                      aios_mapreduce_callback callback, void* context,
                                      aios_mapreduce_result* result);

/* For engines beyond one machine, which cut inputs into splits and carry jobs to hosts themselves:
 * `input_format` and `field` of the options as modules read them (struct InputFormat of
 * mapreduce/format.hpp), and how many bytes that is. INVALID_ARGUMENT: naming what is wrong of
 * them; TOO_LARGE: the field's name, or what is packed for `capacity`. */
AIOS_API aios_code aios_mapreduce_pack_format(const char* input_format, const char* field,
                                              void* packed, size_t capacity, size_t* size);

/* And where a split may begin: each of `offsets` into the regular file that `fd` has open is moved
 * to where the first record at it, or behind it, begins; at the end of the file there is none. What
 * tasks find by themselves, lines, stays where it is. CSV is read for that, as far as the last
 * offset: once, if they ascend. IO_ERROR; SOURCE_CHANGED: the file became shorter. */
AIOS_API aios_code aios_mapreduce_align(const char* input_format, int fd, uint64_t* offsets,
                                        size_t count);

#ifdef __cplusplus
}
#endif
#endif
