/* Tasks: codelets that run on the instance's devices over buffers in shared memory.
 *
 * A tenant is the caller's job at the scheduler. Everything registered belongs to it, and its tasks
 * run in processes of the job's own: a codelet that crashes takes none of the caller with it. The
 * modules are written with codelet.h, and its AIOS_MODE_* say how a task uses a buffer.
 *
 * A tenant survives the scheduler, which is started again when it dies. What is registered is
 * registered again, under the same numbers, and unfinished tasks run again when they can: those
 * that are idempotent, unless a later one, which may have run, overwrites what they read (of B =
 * f(A) and A = g(B) the first; not where an unfinished task before it writes all of that with
 * WRITE, and so makes it anew). The others end as INDETERMINATE: they may have run, in part or
 * wholly. Those that depend on them end as CANCELLED. Every task ends once. Calls meanwhile wait,
 * each until its own timeout; a batch that was on its way counts as taken, and a task of it that
 * turns out to make no sense ends with that code. Programs have to do nothing for it but call, or
 * poll. When the scheduler is not back in 30 s, the tenant is given up: calls answer PEER_CLOSED
 * from then on; SERVICE_DOWN when it is in quarantine, NO_MEMORY when there was none to give the
 * scheduler its tasks again, or to take in what has finished. Open another tenant then, and
 * register again.
 *
 * Several threads may use one tenant at once. Conventions are those of aios.h. Errors of every call
 * with a timeout beside those named: TIMED_OUT (it may still be done), PEER_CLOSED, SERVICE_DOWN,
 * QUOTA.
 */
#ifndef AIOS_TASKS_H
#define AIOS_TASKS_H

#include <aios/aios.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aios_tenant aios_tenant;

#define AIOS_MAX_BATCH 1024
#define AIOS_MAX_TASK_BUFFERS 16
#define AIOS_MAX_TASK_DEPENDENCIES 12
#define AIOS_MAX_TASK_ARGUMENT_BYTES 64
#define AIOS_MAX_GANG 256

/* Opens one for the job that `instance` attached to. Errors: NOT_FOUND: the instance has no
 * scheduler. Free with aios_tenant_close: what is pending is cancelled, what runs ends unseen, and
 * everything registered is forgotten. */
AIOS_API aios_code aios_tenant_open(aios_instance* instance, uint64_t timeout_ns,
                                    aios_tenant** tenant);
AIOS_API void aios_tenant_close(aios_tenant* tenant);

/* What tasks run on. */
typedef struct aios_device {
  uint32_t index;    /* what a task names it by, plus 1 */
  uint32_t healthy;  /* 0: it is gone, or its driver is away */
  uint32_t emulated; /* 1: a double of a device, for tests */
  uint32_t threads;  /* tasks of one job that run at once */
  uint64_t memory_bytes;
  char kind[16];    /* "cpu", "gpu" or "xla" */
  char backend[16]; /* "cpu", "cuda", "opencl" or "pjrt" */
  char name[96];    /* as the machine names it */
  char uuid[64];    /* the same after every start */
} aios_device;

/* Device `index`. Errors: NOT_FOUND: there are not as many, or it is still being looked for. */
AIOS_API aios_code aios_tenant_device(aios_tenant* tenant, uint32_t index, uint64_t timeout_ns,
                                      aios_device* device);

/* The codelet `function` of a module, from its bytes or its file: one written with codelet.h for
 * the processor, or one that aios-kc has compiled for every device (kernel.h). Its tasks run on
 * what it has code for. The module is loaded when the first task needs it; one that cannot be
 * loaded fails that task with the reason. At most 256 a tenant. Errors: INVALID_ARGUMENT: empty or
 * over 64 MiB; of the file: NOT_FOUND, DENIED, IO_ERROR.
 */
AIOS_API aios_code aios_codelet_register(aios_tenant* tenant, const void* module, size_t bytes,
                                         const char* function, uint64_t timeout_ns,
                                         uint32_t* codelet);
AIOS_API aios_code aios_codelet_register_file(aios_tenant* tenant, const char* path,
                                              const char* function, uint64_t timeout_ns,
                                              uint32_t* codelet);

/* The codelet `cheaper` does what `codelet` does, with the same buffers and arguments, sooner and
 * not as well: the caller's word, such as for a preview, or a coarser model. Tasks of graphs with a
 * deadline that permit it run so when the graph would be too late otherwise. A codelet has one such
 * variant, the last that was named. Errors: INVALID_ARGUMENT: they are not two codelets of the
 * tenant, or `cheaper` does not run on every kind of device that `codelet` runs on. */
AIOS_API aios_code aios_codelet_set_cheaper(aios_tenant* tenant, uint32_t codelet, uint32_t cheaper,
                                            uint64_t timeout_ns);

/* Memory at (offset, length) of a region as a buffer. `access` says what tasks may do with it. The
 * region may be closed here and lives on until the buffer is released. Devices with a memory of
 * their own keep copies: what this program writes into a buffer while unfinished tasks use it, and
 * what tasks write through another buffer over the same bytes on another device, they need not see
 * before the buffer has been without tasks. Errors: DENIED: WRITE of a region that is read-only
 * here. */
AIOS_API aios_code aios_buffer_register(aios_tenant* tenant, const aios_region* region,
                                        uint64_t offset, uint64_t length, uint32_t access,
                                        uint64_t timeout_ns, uint32_t* buffer);

/* The bytes (offset, length) of a regular file that `fd` has open, read-only. */
typedef struct aios_file_range {
  int32_t fd;
  uint32_t reserved; /* 0 */
  uint64_t offset;
  uint64_t length;
} aios_file_range;

#define AIOS_MAX_FILE_RANGES 128

/* Parts of files as one buffer, which tasks only read: the codelet sees `files` instead of `data`
 * and reads them with pread, in place and without a copy in between (aios_file_piece in codelet.h).
 * The descriptors may be closed here. At most AIOS_MAX_FILE_RANGES. Errors: INVALID_ARGUMENT: not a
 * regular file, not opened O_RDONLY, or the range is not within it; QUOTA: the user lends too many
 * files at once (RLIMIT_NOFILE). */
AIOS_API aios_code aios_files_register(aios_tenant* tenant, const aios_file_range* ranges,
                                       size_t count, uint64_t timeout_ns, uint32_t* buffer);
/* Errors: BUSY: a task that is not finished names it. */
AIOS_API aios_code aios_buffer_release(aios_tenant* tenant, uint32_t buffer, uint64_t timeout_ns);

enum {
  AIOS_TASK_IDEMPOTENT = 1, /* may run again: after its process or the scheduler died, or on a GPU
                               after one before it failed, behind which it was on its way already;
                               if it ends as CANCELLED there, it may have written its buffers */
  AIOS_TASK_JOIN = 2,       /* nothing runs: done when those are on which it depends; no buffers */
  AIOS_TASK_MAY_BE_CHEAPER = 4, /* of a graph with a deadline: it may run in its codelet's cheaper
                                   variant where the graph is not accepted otherwise */
  AIOS_TASK_GANG = 8            /* it is of a gang: `gang` and `gang_size` say of which */
};

/* Fill it in by the functions below, or by hand; unused fields are zero. */
typedef struct aios_task_record {
  uint64_t tag; /* the caller's name for it, unique among those whose completions did not come */
  uint32_t codelet;
  uint32_t flags;
  int32_t priority; /* higher first; equal ones in order of submission */
  uint32_t buffer_count;
  uint32_t dependency_count;
  uint32_t argument_bytes;
  uint32_t grid[3];  /* blocks in each direction, each at least 1, their product at most 2^24 */
  uint32_t device;   /* 0: any; else 1 + its index in the list of devices */
  uint64_t limit_ns; /* run time, after which it is ended; 0: none */
  uint32_t buffers[AIOS_MAX_TASK_BUFFERS];           /* id | mode << 28 */
  uint32_t dependencies[AIOS_MAX_TASK_DEPENDENCIES]; /* low 32 bits of tags of earlier tasks */
  uint8_t arguments[AIOS_MAX_TASK_ARGUMENT_BYTES];
  uint64_t deadline_ns; /* when it should be done, by CLOCK_MONOTONIC; 0: no matter */
  uint32_t gang;        /* aios_task_set_gang; else 0 */
  uint32_t gang_size;
  uint64_t reserved_word;
} aios_task_record;

/* A task of one block, idempotent, without buffers; everything else is zero. */
AIOS_API aios_code aios_task_init(aios_task_record* task, uint64_t tag, uint32_t codelet);
/* `mode` is one of AIOS_MODE_READ (1), WRITE (2), READ_WRITE (3), SCRATCH (4), in graphs also REDUX
 * (5). Errors: QUOTA:
 * there are 16 already. */
AIOS_API aios_code aios_task_add_buffer(aios_task_record* task, uint32_t buffer, uint32_t mode);
/* It starts after the task `tag`, submitted before it, is done. Only the last 65,536 finished tasks
 * of a tenant are remembered, fewer where a user has more than four tenants: submitting one that
 * depends on an older one is INVALID_ARGUMENT, so leave out what is known to be done, as graphs do.
 * Errors: QUOTA: there are 12. */
AIOS_API aios_code aios_task_add_dependency(aios_task_record* task, uint64_t tag);
/* Errors: TOO_LARGE: over 64 bytes. */
AIOS_API aios_code aios_task_set_arguments(aios_task_record* task, const void* bytes, size_t count);
/* It is of the gang that the caller calls `gang`, which has `size` members, 2 to AIOS_MAX_GANG.
 * They start together, each with a thread of a device for itself, once all have been submitted and
 * none waits for other tasks any more; until enough threads are free these are kept for them. When
 * one ends without success those that do not run end as CANCELLED. When a process that runs some of
 * them dies they start together again, if they may, without those that have ended. Members that
 * wait for one another in their code have one block each, since the blocks of a task are done by
 * as many threads as there are free. The number is free again when all have ended; graphs use those
 * from 2^31 on. Submitting answers NOT_SUPPORTED when the devices that they may run on have fewer
 * threads in all, ALREADY_EXISTS when as many have come, and QUOTA over 1,024 gangs. A gang of
 * which one depends on another can never start, and ends with INVALID_ARGUMENT. */
AIOS_API aios_code aios_task_set_gang(aios_task_record* task, uint32_t gang, uint32_t size);

/* Submits 1 to AIOS_MAX_BATCH tasks, all or none. Errors: INVALID_ARGUMENT, naming the record;
 * ALREADY_EXISTS: a tag is in use; QUOTA: over 65,536 tasks are pending or their completions not
 * fetched. */
AIOS_API aios_code aios_tasks_submit(aios_tenant* tenant, const aios_task_record* tasks,
                                     size_t count, uint64_t timeout_ns);

/* Submits any number, in batches of AIOS_MAX_BATCH, several of them on their way at once, and waits
 * while too many are pending; completions that arrive meanwhile are kept. *taken is how many were
 * accepted: the first ones, up to a batch that was refused or not taken in time. */
AIOS_API aios_code aios_tasks_submit_many(aios_tenant* tenant, const aios_task_record* tasks,
                                          size_t count, uint64_t timeout_ns, size_t* taken);

typedef struct aios_completion {
  uint64_t tag;
  uint32_t status; /* an aios_code; CRASHED: it took its process with it; INDETERMINATE: it may have
                      run, and nobody can know */
  uint32_t attempts; /* since the scheduler last died */
  uint64_t start_ns; /* CLOCK_MONOTONIC, on the device */
  uint64_t end_ns;
  uint64_t peak_memory_bytes;
  uint64_t result[4]; /* what the codelet wrote to its task's `result` */
} aios_completion;

/* Finished tasks, each once: blocks until there is at least one, then gives up to `room` of those
 * at hand. AIOS_WAIT_TENANT waits for the same. */
AIOS_API aios_code aios_tenant_completions(aios_tenant* tenant, aios_completion* completions,
                                           size_t room, uint64_t timeout_ns, size_t* count);
/* The same, but blocks until there are at least `least`, or all that there will be: for who wants
 * to be woken seldom. */
AIOS_API aios_code aios_tenant_completions_of(aios_tenant* tenant, aios_completion* completions,
                                              size_t room, size_t least, uint64_t timeout_ns,
                                              size_t* count);
/* Why a finished task failed, as text that ends with NUL, cut to `room` bytes. The last 256
 * failures are remembered, but not over the scheduler's death. Errors: NOT_FOUND. */
AIOS_API aios_code aios_task_failure(aios_tenant* tenant, uint64_t tag, char* text, size_t room,
                                     uint64_t timeout_ns);
/* Cancels every pending task whose tag is from `first` to `last`. What runs is not touched;
 * *running (may be NULL) is how many those are. */
AIOS_API aios_code aios_tasks_cancel(aios_tenant* tenant, uint64_t first, uint64_t last,
                                     uint64_t timeout_ns, size_t* cancelled, size_t* running);
/* Cancels a pending task; its completion says CANCELLED. Errors: BUSY: it runs; NOT_FOUND. */
AIOS_API aios_code aios_task_cancel(aios_tenant* tenant, uint64_t tag, uint64_t timeout_ns);

/* ---- graphs ------------------------------------------------------------------------------------
 * Tasks whose dependencies follow from what they do to buffers: they end as if they had run one
 * after the other in the order in which they were added. Readers of a buffer may run at the same
 * time. Calls of one graph are made by one thread at a time.
 *
 * A tenant with graphs leaves them the tags and the numbers of gangs from 2^31 on. A graph's
 * completions are told by aios_graph_completion, not by aios_tenant_completions.
 */
typedef struct aios_graph aios_graph;

/* A further mode, for graphs: adds to the buffer, in any order with the other such tasks around it.
 * Needs aios_graph_set_reduction. */
enum { AIOS_MODE_REDUX = 5 };

AIOS_API aios_code aios_graph_create(aios_tenant* tenant, aios_graph** graph);
/* What was submitted goes on unseen. Before the tenant is closed. */
AIOS_API void aios_graph_free(aios_graph* graph);

/* Adds a copy of `task`, whose tag and dependencies are not used; *number, from 0, names it here.
 * Errors: INVALID_ARGUMENT: it uses a buffer in two ways that contradict each other, or the graph
 * was submitted. */
AIOS_API aios_code aios_graph_add(aios_graph* graph, const aios_task_record* task,
                                  uint32_t* number);
/* The task `after` starts when `before` is done, whatever their buffers. */
AIOS_API aios_code aios_graph_add_edge(aios_graph* graph, uint32_t before, uint32_t after);
/* These tasks, by their numbers, start together: aios_task_set_gang says how. Errors:
 * INVALID_ARGUMENT: they are not 2 to AIOS_MAX_GANG different ones, or one is of a gang. */
AIOS_API aios_code aios_graph_gang(aios_graph* graph, const uint32_t* tasks, size_t count);
/* From now on tasks that use `buffer` with REDUX are given one of `partials` (buffers of the same
 * size) with READ_WRITE instead, so that as many of them run at the same time. `initialise` is a
 * codelet that writes the zero of the reduction to its buffer; `combine` adds its second buffer to
 * its first. They run where they are needed, as tasks of the graph. */
AIOS_API aios_code aios_graph_set_reduction(aios_graph* graph, uint32_t buffer,
                                            const uint32_t* partials, size_t count,
                                            uint32_t initialise, uint32_t combine);

/* All of it is to be done by `deadline_ns` of CLOCK_MONOTONIC; 0: no matter. Its tasks then go
 * before those without a deadline, of the same priority and user. At most 32,768 tasks. */
AIOS_API aios_code aios_graph_set_deadline(aios_graph* graph, uint64_t deadline_ns);

/* Submits it, once, however large, waiting while too many tasks are pending. With a deadline none
 * of its tasks starts before the scheduler has accepted the graph, which it does when it will be
 * done in time at least 19 times in 20, by what it has learned of its codelets and by the work that
 * is before it. Otherwise it is refused at once. Errors: those of aios_tasks_submit_many;
 * INVALID_ARGUMENT: tasks wait for one another in a circle, which the text names, or the deadline
 * has passed; TOO_LATE: it is refused, and the text says when it would be done: nothing of it was
 * begun, and it may be submitted again, with another deadline. After other errors what was taken
 * already is cancelled. */
AIOS_API aios_code aios_graph_submit(aios_graph* graph, uint64_t timeout_ns);
/* What the scheduler predicted when the graph was last submitted, accepted or not. */
typedef struct aios_prediction {
  uint64_t finish_ns;     /* by CLOCK_MONOTONIC; 0: its policy predicts nothing */
  uint64_t finish_p95_ns; /* later only once in 20 */
  uint32_t tasks;
  uint32_t unknown;  /* of them never one has run, or their like: they are not in the prediction */
  uint32_t promised; /* 0: tasks are unknown, or the policy does not heed deadlines: it was accepted
                        without a promise */
  uint32_t cheaper_tasks; /* accepted: of them run in a cheaper variant, all that permit it */
} aios_prediction;
/* Errors: NOT_FOUND: it has no deadline, or was not submitted. */
AIOS_API aios_code aios_graph_predicted(const aios_graph* graph, aios_prediction* prediction);

/* All its tasks may run in the cheaper variants of their codelets, as if each had
 * AIOS_TASK_MAY_BE_CHEAPER; 0: only those that have. They do when the graph would be too late
 * otherwise. */
AIOS_API aios_code aios_graph_permit_cheaper(aios_graph* graph, int permitted);
/* What would have made a graph that was refused be in time, as far as all is known of it. */
typedef struct aios_offer {
  uint64_t cheaper_p95_ns;  /* when it would be done at least 19 times in 20, if all its tasks might
                               run in cheaper variants; 0: too late, or that is so already */
  uint64_t anywhere_p95_ns; /* the same, if none named a device */
  uint32_t cheaper_tasks;   /* that have such a variant */
  uint32_t reserved;
} aios_offer;
/* Errors: NOT_FOUND: it was not refused, or neither would do. */
AIOS_API aios_code aios_graph_offered(const aios_graph* graph, aios_offer* offer);

/* Until all its tasks have ended. *failed (may be NULL) is how many did so without success. */
AIOS_API aios_code aios_graph_wait(aios_graph* graph, uint64_t timeout_ns, size_t* failed);
/* How the task `number` ended. Its tag is the one that aios_task_failure knows. Errors: BUSY: it
 * has not. */
AIOS_API aios_code aios_graph_completion(const aios_graph* graph, uint32_t number,
                                         aios_completion* completion);
/* Cancels what is pending of it; what runs ends by itself. */
AIOS_API aios_code aios_graph_cancel(aios_graph* graph, uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
