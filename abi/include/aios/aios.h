/* libaios: the C interface of AIOS for applications.
 *
 * Conventions
 *   - Functions return an `aios_code`; AIOS_OK is 0. After any other, aios_last_error() gives this
 *     thread's explanation: what failed, where, and what to do.
 *   - Objects are opaque and belong to the caller until the function named beside them frees them.
 *     Freeing NULL does nothing. Free calls before their service, services and regions before their
 *     instance.
 *   - Times are nanoseconds. A timeout of AIOS_FOREVER never passes; every other wait ends at the
 *     latest when its timeout has passed, with AIOS_TIMED_OUT.
 *   - The library starts no thread, installs no signal handler, never writes to standard output or
 *     error, and never ends its host.
 *   - Thread safety: different objects may be used from different threads at once. Calls on one
 *     service are serialised: connect twice to have two under way from two threads.
 */
#ifndef AIOS_AIOS_H
#define AIOS_AIOS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AIOS_API __attribute__((visibility("default")))
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
  AIOS_INTERNAL = 25
} aios_code;

/* "peer_closed"; never NULL. */
AIOS_API const char* aios_code_name(aios_code code);
/* Explanation of this thread's last failed call; valid until its next one. */
AIOS_API const char* aios_last_error(void);

/* ---- the instance ------------------------------------------------------------------------- */

typedef struct aios_instance aios_instance;

typedef struct aios_attach_options {
  const char* socket_path; /* NULL: $AIOS_SOCKET, or the default instance of this user */
  const char* job_name;    /* NULL: $AIOS_JOB, or the user's own job */
  uint64_t memory_bytes;   /* quota of a job made by this attach; 0: its parent's */
  uint64_t reserved[5];    /* zero */
} aios_attach_options;

/* Connects to a running instance and joins a job of it. `options` may be NULL. Blocks until the
 * kernel answers, which it does at once. Errors: UNREACHABLE, DENIED (another user's instance),
 * QUOTA, VERSION_MISMATCH. Free with aios_detach, which closes everything this process holds. */
AIOS_API aios_code aios_attach(const aios_attach_options* options, aios_instance** instance);
AIOS_API void aios_detach(aios_instance* instance);

/* ---- services and calls ------------------------------------------------------------------- */

typedef struct aios_service aios_service;
typedef struct aios_call aios_call;

/* A connection to the server published under `name`, speaking `protocol_version` of its protocol.
 * It connects at its first call, and again after the server died. Errors: NOT_FOUND. Free with
 * aios_service_close, which ends its unfinished calls with CANCELLED. */
AIOS_API aios_code aios_connect(aios_instance* instance, const char* name,
                                uint64_t protocol_version, aios_service** service);
AIOS_API void aios_service_close(aios_service* service);

/* Calls a method and blocks until it is answered. `request` and `reply` are the method's structs of
 * abi/proto; `reply` must have the reply's exact size. Errors: those of the method, PEER_CLOSED,
 * TIMED_OUT. */
AIOS_API aios_code aios_call_method(aios_service* service, uint16_t opcode, const void* request,
                                    size_t request_bytes, void* reply, size_t reply_bytes,
                                    uint64_t timeout_ns);

/* The same in two steps. `request` is copied. Blocks only while it connects. aios_wait waits for
 * the end; aios_call_result gives it (BUSY before it is there). Free with aios_call_free, which
 * forgets an unfinished call but does not undo it. */
AIOS_API aios_code aios_call_start(aios_service* service, uint16_t opcode, const void* request,
                                   size_t request_bytes, uint64_t timeout_ns, aios_call** call);
AIOS_API aios_code aios_call_result(aios_call* call, void* reply, size_t reply_bytes);
AIOS_API void aios_call_free(aios_call* call);

/* ---- memory ------------------------------------------------------------------------------- */

typedef struct aios_region aios_region;

/* Shared memory of at least `size_bytes`, zero, mapped read-write, every page there already;
 * charged to the job. Blocks while the kernel fills it. Errors: QUOTA, NO_MEMORY. Free with
 * aios_region_close; peers that were granted it keep theirs. */
AIOS_API aios_code aios_region_create(aios_instance* instance, uint64_t size_bytes,
                                      const char* name, aios_region** region);
AIOS_API void aios_region_close(aios_region* region);
AIOS_API void* aios_region_data(const aios_region* region);
AIOS_API uint64_t aios_region_size(const aios_region* region);

enum { AIOS_GRANT_READ = 1, AIOS_GRANT_WRITE = 2 };

/* Gives the service a handle to the region, with which it may map it and pass it on. `handle` is
 * its number there, to be named in a request over the present connection; it is void when that
 * ends. Blocks only while it connects. Errors: QUOTA, PEER_CLOSED, TIMED_OUT. */
AIOS_API aios_code aios_grant(aios_service* service, const aios_region* region, uint32_t access,
                              uint64_t timeout_ns, uint64_t* handle);

/* ---- waiting ------------------------------------------------------------------------------ */

typedef enum aios_wait_kind {
  AIOS_WAIT_CALL = 1,    /* `call` is finished */
  AIOS_WAIT_SERVICE = 2, /* the connection of `service` is gone */
  AIOS_WAIT_FD = 3,      /* poll(2) events on `fd` */
  AIOS_WAIT_TIMER = 4    /* CLOCK_MONOTONIC has reached `at_ns` */
} aios_wait_kind;

typedef struct aios_wait_item {
  aios_wait_kind kind;
  int32_t ready; /* out: 1 when it happened; for FD the returned events */
  union {
    aios_call* call;
    aios_service* service;
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

#ifdef __cplusplus
}
#endif
#endif
