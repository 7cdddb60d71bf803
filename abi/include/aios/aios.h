/* libaios: the C interface of AIOS for applications.
 *
 * Beside this header: server.h (answering calls), storage.h (objects), tasks.h (work for the
 * devices), job.h (MapReduce), and aios.hpp, the same for C++20. codelet.h and mapreduce.hpp are
 * for modules.
 *
 * Conventions
 *   - Functions return an `aios_code`; AIOS_OK is 0. After any other, aios_last_error() gives this
 *     thread's explanation: what failed, where, and what to do. What a function gives through a
 *     pointer is then unchanged. INVALID_ARGUMENT (NULL where something is needed, a size or flag
 *     that makes no sense), NO_MEMORY and BAD_HANDLE (see Fork) can come from every function.
 *   - Objects are opaque and belong to the caller until the function named beside them frees them.
 *     Freeing NULL does nothing. Free calls before their service, and everything before its
 *     instance. Strings and structs that are passed in are copied before the function returns.
 *   - Names end with NUL. Times are nanoseconds. A timeout of AIOS_FOREVER never passes, 0 means
 *     "look only"; a wait ends at the latest when its timeout has passed, with AIOS_TIMED_OUT.
 *   - Structs that a later version may extend have `reserved` fields, which must be zero.
 *   - The library starts no thread, installs no signal handler, never writes to standard output or
 *     error, never ends its host, and every descriptor it opens is close-on-exec. A thread that has
 *     waited keeps two descriptors until it ends.
 *   - Threads: every function may be called from any thread at any time; only freeing an object
 *     must not happen while another thread uses it or waits for it. Threads that call over the same
 *     service at once all have their calls under way together. pthread_cancel ends a thread that
 *     is in a function of the library only after that has returned.
 *   - Kernel: an attachment asks the kernel one thing at a time, and waits for its answer whatever
 *     the timeout. It answers at once, but a region is filled, and frozen, first: a GiB takes a
 *     third of a second. Meanwhile other threads of the attachment wait that need the kernel, also
 *     in what "does not block": to connect, to accept, to grant, to map or close a region. Calls
 *     over an open connection do not need it. A program that cannot bear that makes its large
 *     regions first, or by an attachment of their own, with the services that they are granted to.
 *   - Signals: a wait goes on after a signal handler has run. To be woken by one, give aios_wait a
 *     signalfd, or a pipe that the handler writes to.
 *   - Fork: what was made before a fork belongs to the parent. In the child every function given
 *     such an object answers BAD_HANDLE, those that free do nothing, and the parent's connections
 *     are not touched. The child may attach for itself. Memory of regions stays shared with it. Do
 *     not fork (without exec) inside a callback.
 */
#ifndef AIOS_AIOS_H
#define AIOS_AIOS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOS_API __attribute__((visibility("default")))
/* Of this header; aios_version() is that of the library in use. */
#define AIOS_VERSION_MAJOR 0
#define AIOS_VERSION_MINOR 2
#define AIOS_FOREVER UINT64_MAX

typedef enum aios_code {
  AIOS_OK = 0,
  AIOS_INVALID_ARGUMENT = 1,
  AIOS_BAD_HANDLE = 2,
  AIOS_WRONG_TYPE = 3,
  AIOS_DENIED = 4,
  AIOS_NOT_FOUND = 5,
  AIOS_ALREADY_EXISTS = 6,
  AIOS_QUOTA = 7,
  AIOS_NO_MEMORY = 8,
  AIOS_NO_SPACE = 9,
  AIOS_BUSY = 10,
  AIOS_TIMED_OUT = 11,
  AIOS_PEER_CLOSED = 12, /* the server died during the call: nobody knows whether it was done */
  AIOS_SERVICE_DOWN = 13,
  AIOS_UNREACHABLE = 14, /* no AIOS instance answers */
  AIOS_NOT_SUPPORTED = 15,
  AIOS_TOO_LARGE = 16,
  AIOS_IO_ERROR = 17,
  AIOS_CORRUPT = 18,
  AIOS_CANCELLED = 19,
  AIOS_CRASHED = 20,
  AIOS_INDETERMINATE = 21,
  AIOS_SOURCE_CHANGED = 22,
  AIOS_PROTOCOL_ERROR = 23,
  AIOS_VERSION_MISMATCH = 24,
  AIOS_INTERNAL = 25,
  AIOS_TOO_LATE = 26 /* it would not be done by its deadline, and was not begun */
} aios_code;

/* "0.2.0"; never fails. */
AIOS_API const char* aios_version(void);
/* "peer_closed"; "unknown" for what is no code. Never fails. */
AIOS_API const char* aios_code_name(aios_code code);
/* Explanation of this thread's last failed call; valid until its next one. */
AIOS_API const char* aios_last_error(void);

/* ---- the instance ------------------------------------------------------------------------- */

typedef struct aios_instance aios_instance;

/* Waits sleep at once instead of looking for an answer first: slower where cores are idle, and
 * nothing is burnt. By default a wait looks for as long as that has paid of late. */
enum { AIOS_ATTACH_NEVER_SPIN = 1 };

typedef struct aios_attach_options {
  const char* socket_path; /* NULL: $AIOS_SOCKET, this user's instance, or the system's */
  const char* job_name;    /* NULL: $AIOS_JOB, or the user's own job */
  uint64_t memory_bytes;   /* quota of a job made by this attach; 0: its parent's */
  uint64_t flags;          /* 0 or AIOS_ATTACH_NEVER_SPIN */
  uint64_t reserved[4];    /* zero */
} aios_attach_options;

/* Connects to a running instance and joins a job of it. `options` may be NULL. Blocks until the
 * kernel answers, which it does at once. Errors: UNREACHABLE, also when the kernel has not answered
 * within 5 s, as one that is stopped; DENIED (another user's instance), QUOTA, VERSION_MISMATCH.
 * Free with aios_detach, which closes everything this process holds by it. When the instance itself
 * ends, everything that needs it answers PEER_CLOSED or UNREACHABLE. */
AIOS_API aios_code aios_attach(const aios_attach_options* options, aios_instance** instance);
AIOS_API void aios_detach(aios_instance* instance);

/* ---- services and calls ------------------------------------------------------------------- */

typedef struct aios_service aios_service;
typedef struct aios_call aios_call;

/* A request or reply has at most so many bytes; more goes into a region. */
#define AIOS_MAX_REQUEST_BYTES 440
#define AIOS_MAX_REPLY_BYTES 432

/* A connection to the server that is published under `name`: one of the instance's, or a program of
 * the own job (server.h). It connects at its first call, and again after the server died. Errors:
 * NOT_FOUND; what was published after aios_attach is seen by attaching again. Free with
 * aios_service_close, which ends its unfinished calls with CANCELLED. */
AIOS_API aios_code aios_connect(aios_instance* instance, const char* name,
                                uint64_t protocol_version, aios_service** service);
AIOS_API void aios_service_close(aios_service* service);

/* Calls a method and blocks until it is answered. A server need not have more than 64 calls of a
 * connection under way, and takes the next when it has answered one: those that have timed out or
 * were freed count until then. Calls that wait long at the server, as for an event, have a service
 * of their own, beside that for the others. `request` and `reply` are structs that the protocol of
 * the service defines; `reply` must have the reply's exact size (INVALID_ARGUMENT if not). A call
 * of a server of AIOS that only reads is made again by itself when the server dies during it.
 * Errors: those of the method; PEER_CLOSED: the server died during the call; TIMED_OUT: it may
 * still be done; TOO_LARGE: more than AIOS_MAX_REQUEST_BYTES; SERVICE_DOWN; QUOTA: over 4,096 calls
 * wait. */
AIOS_API aios_code aios_call_method(aios_service* service, uint16_t opcode, const void* request,
                                    size_t request_bytes, void* reply, size_t reply_bytes,
                                    uint64_t timeout_ns);

/* The same in two steps. Does not block: a connection that is being made gets on whenever this
 * program waits for, or makes, any call of the service. aios_wait waits for the end, which comes
 * after `timeout_ns` at the latest; aios_call_result gives it, any number of times, without
 * blocking: BUSY before it is there, then as aios_call_method. A server may answer BUSY, too: who
 * looks again and again asks aios_call_is_done. Free with aios_call_free, which forgets an
 * unfinished call but does not undo it. */
AIOS_API aios_code aios_call_start(aios_service* service, uint16_t opcode, const void* request,
                                   size_t request_bytes, uint64_t timeout_ns, aios_call** call);
/* `done` is 1 when the call has ended, however it did. Does not block. */
AIOS_API aios_code aios_call_is_done(aios_call* call, int* done);
AIOS_API aios_code aios_call_result(aios_call* call, void* reply, size_t reply_bytes);
/* Length of the reply that aios_call_result would give; BUSY or the call's error before that. */
AIOS_API aios_code aios_call_reply_bytes(aios_call* call, size_t* reply_bytes);
AIOS_API void aios_call_free(aios_call* call);

/* ---- memory ------------------------------------------------------------------------------- */

typedef struct aios_region aios_region;

enum { AIOS_GRANT_READ = 1, AIOS_GRANT_WRITE = 2 }; /* WRITE includes READ */

/* HUGE_PAGES: in pages of 2 MiB as far as the host has such, for work that jumps about in much
 * memory; the size is rounded up to whole ones. HUGE_PAGES_ONLY: or not at all. SPREAD: page by
 * page over all NUMA nodes of the machine, for memory that all its processors use alike. `aiosctl
 * doctor` says what a host gives. */
enum {
  AIOS_REGION_FREEZABLE = 1,
  AIOS_REGION_HUGE_PAGES = 2,
  AIOS_REGION_HUGE_PAGES_ONLY = 4,
  AIOS_REGION_SPREAD = 16
};
/* Of the NUMA node 0 to 63, as long as that has memory left. Neither this nor SPREAD: of the node
 * whose processor the calling thread is on. Without effect where the host does not let AIOS choose,
 * as in many containers. */
#define AIOS_REGION_ON_NODE(node) (((uint32_t)(node) + 1u) << 8)

/* Shared memory of at least `size_bytes`, zero, mapped read-write, every page there already;
 * charged to the job. Blocks while the kernel fills it. `name` is for listings, NULL: none. `flags`
 * are 0 or any of the above, but SPREAD or one node. Errors: QUOTA, NO_MEMORY; INVALID_ARGUMENT:
 * flags that make no sense, or the machine has no such node; with HUGE_PAGES_ONLY also
 * NOT_SUPPORTED, where the host gives shared memory no huge pages, and NO_MEMORY, where too few are
 * left. Free with aios_region_close, which unmaps it; peers that were granted it keep theirs. */
AIOS_API aios_code aios_region_create(aios_instance* instance, uint64_t size_bytes,
                                      const char* name, uint32_t flags, aios_region** region);
AIOS_API void aios_region_close(aios_region* region);
/* Where it is mapped, until aios_region_close; NULL and 0 for NULL. Other processes may change the
 * bytes at any moment unless it is frozen: copy what is to be checked, then check the copy. */
AIOS_API void* aios_region_data(const aios_region* region);
AIOS_API uint64_t aios_region_size(const aios_region* region);
/* 1: this program may write through aios_region_data; 0: writing faults. */
AIOS_API int aios_region_is_writable(const aios_region* region);

/* Makes a region that was created FREEZABLE immutable, for everybody and for ever. It is mapped
 * anew, read-only, at the same address, and must not be used by other threads meanwhile. Needs a
 * region that this program may write. Freezing a frozen one is OK. Errors: BUSY: somebody has it
 * mapped for writing, or its pages are on their way elsewhere in Linux; it is then as before,
 * unless aios_region_is_writable says that it is read-only now: somebody else was freezing it, too.
 * NOT_SUPPORTED: it was not created FREEZABLE. DENIED: it is read-only here, or a peer with WRITE
 * made it unfreezable: freeze before you grant that. */
AIOS_API aios_code aios_region_freeze(aios_region* region);
/* `frozen` is 1 when nobody can change the region any more, whoever froze it. */
AIOS_API aios_code aios_region_is_frozen(const aios_region* region, int* frozen);

/* Gives the service a handle to the region, with which it may map it and pass it on. `handle` is
 * its number there, to be named in any number of requests over the present connection; it is void
 * when that ends. A region is granted once, since every grant takes one of 2,048 places that
 * programs of a user have at a server, until the server closes it or, where that never received
 * it, the connection ends. Blocks only while it connects. Errors: DENIED: WRITE of a region that is
 * read-only here; QUOTA: no place is free; PEER_CLOSED, SERVICE_DOWN, TIMED_OUT. */
AIOS_API aios_code aios_grant(aios_service* service, const aios_region* region, uint32_t access,
                              uint64_t timeout_ns, uint64_t* handle);
/* Maps a region that the server of `service` granted and named in a reply, by the number `handle`.
 * Errors: BAD_HANDLE: no such handle, or another sent it, or it was received before; WRONG_TYPE;
 * DENIED: it was not granted with `access`. QUOTA (no descriptor is left) and NO_MEMORY: it cannot
 * be mapped; the grant is given up, and the server has to grant it anew. Free as one that was
 * created. */
AIOS_API aios_code aios_region_receive(aios_service* service, uint64_t handle, uint32_t access,
                                       aios_region** region);

/* Leaves the region in the job under `label`, at most 31 bytes of letters, digits, '.', '_', '-':
 * programs that attach to the same job afterwards find it by aios_region_open, with at most
 * `access`, also when this program has ended. It replaces what had the label and stays, charged,
 * until aios_forget or until no program is left in the job. Errors: QUOTA (96 labels a job);
 * ALREADY_EXISTS: a server of the instance has that name; DENIED. */
AIOS_API aios_code aios_region_keep(const aios_region* region, const char* label, uint32_t access);
/* Maps a region that was kept when the instance was attached. Errors: NOT_FOUND, WRONG_TYPE (a
 * server has that label), DENIED. Free as one that was created. */
AIOS_API aios_code aios_region_open(aios_instance* instance, const char* label, uint32_t access,
                                    aios_region** region);
/* Takes a label away; those who have opened what it named keep it. Errors: NOT_FOUND. */
AIOS_API aios_code aios_forget(aios_instance* instance, const char* label);

/* ---- waiting ------------------------------------------------------------------------------ */

typedef enum aios_wait_kind {
  AIOS_WAIT_CALL = 1,    /* `call` is finished */
  AIOS_WAIT_SERVICE = 2, /* the connection that `service` had is gone, and there is no new one */
  AIOS_WAIT_FD = 3,      /* poll(2) events on `fd` */
  AIOS_WAIT_TIMER = 4,   /* CLOCK_MONOTONIC has reached `at_ns` */
  AIOS_WAIT_SERVER = 5,  /* aios_server_next would give a request */
  AIOS_WAIT_TENANT = 6   /* aios_tenant_completions would give something, or an error */
} aios_wait_kind;

typedef struct aios_wait_item {
  aios_wait_kind kind;
  int32_t ready; /* out: 1 when it happened; for FD the returned events */
  union {
    aios_call* call;
    aios_service* service;
    struct aios_server* server;
    struct aios_tenant* tenant;
    struct {
      int32_t fd;
      int32_t events;
    } fd;
    uint64_t at_ns;
  } what;
} aios_wait_item;

#define AIOS_MAX_WAIT_ITEMS 256

/* Blocks until at least one item is ready, or the timeout passed (TIMED_OUT). Errors:
 * INVALID_ARGUMENT (no item, too many, an unknown kind), UNREACHABLE (the instance has ended). */
AIOS_API aios_code aios_wait(aios_wait_item* items, size_t count, uint64_t timeout_ns);

/* For a foreign event loop (epoll, libuv, asyncio): instead of aios_wait,
 *
 *     watch aios_poll_fd() for reading, level-triggered
 *     forever:
 *       aios_dispatch(instance);        then look at one's calls, servers and tenants
 *       aios_arm(instance, &ready);     if ready: dispatch again
 *       block in the loop; when the descriptor is readable, or anything else happened, begin again
 *
 * aios_poll_fd gives a descriptor that belongs to the instance: never read or close it. Between
 * aios_arm and the next aios_dispatch or aios_disarm it is readable as soon as any service, server
 * or tenant of the instance has something to do, also when a call's timeout passes; at other times
 * it need not be. None of them blocks; two threads must not arm the same instance. */
AIOS_API aios_code aios_poll_fd(aios_instance* instance, int* fd);
/* `ready` is 1 when there is something to dispatch already; then it is not armed. Errors:
 * UNREACHABLE (the instance has ended). */
AIOS_API aios_code aios_arm(aios_instance* instance, int* ready);
/* Undoes aios_arm without doing anything. Does nothing when it is not armed. */
AIOS_API aios_code aios_disarm(aios_instance* instance);
/* Disarms and does what there is to do: replies are taken, requests received, deadlines kept.
 * Errors: UNREACHABLE (the instance has ended; unfinished calls have ended, too). */
AIOS_API aios_code aios_dispatch(aios_instance* instance);

#ifdef __cplusplus
}
#endif
#endif
