/* Objects in the storage of the instance: named, immutable, checksummed.
 *
 * Names look like paths: 1 to 199 bytes, components separated by single '/', none empty, "." or
 * "..", no control bytes; each user has a namespace of its own. A put replaces the object at one
 * moment, and when it is answered the object survives a crash of the machine. Every byte that a get
 * gives was verified.
 *
 * Every call blocks until it is answered, at most `timeout_ns`. Calls over one aios_storage from
 * several threads take turns, and their timeouts run meanwhile: open one for each thread to have
 * several under way. When storage dies during a call, the call is made again by itself, and what it
 * changes is changed once. Conventions are those of aios.h. Errors of every call beside those
 * named: TIMED_OUT (a put, remove or rename may still be done), INDETERMINATE (of those: storage
 * died during the call, and was not back in time to say whether it was done), SERVICE_DOWN,
 * PEER_CLOSED (the instance has ended), INVALID_ARGUMENT for a name, QUOTA.
 */
#ifndef AIOS_STORAGE_H
#define AIOS_STORAGE_H

#include <aios/aios.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aios_storage aios_storage;

#define AIOS_MAX_OBJECT_NAME_BYTES 199

typedef struct aios_object_info {
  uint64_t size_bytes;
  uint64_t version;    /* grows with every put of the store */
  uint64_t created_ns; /* CLOCK_REALTIME */
  uint64_t checksum;   /* XXH3-64 over the block checksums */
} aios_object_info;

typedef struct aios_object_entry {
  aios_object_info info;
  char name[AIOS_MAX_OBJECT_NAME_BYTES + 1];
} aios_object_entry;

/* Connects at its first call. Errors: NOT_FOUND: the instance has no storage. Free with
 * aios_storage_close. */
AIOS_API aios_code aios_storage_open(aios_instance* instance, aios_storage** storage);
AIOS_API void aios_storage_close(aios_storage* storage);

/* From and to the caller's memory; the bytes are copied once, through shared memory that is charged
 * to the job meanwhile. `info` may be NULL. Errors: NO_SPACE, TOO_LARGE, NO_MEMORY. */
AIOS_API aios_code aios_storage_put(aios_storage* storage, const char* name, const void* data,
                                    size_t bytes, uint64_t timeout_ns, aios_object_info* info);
/* Up to `room` bytes from byte `offset` of the object on; `bytes` says how many: fewer at its end,
 * 0 behind it. `version` 0 means the newest; otherwise SOURCE_CHANGED when the newest is another:
 * so one object is read in several pieces. Errors: NOT_FOUND; CORRUPT, naming the block;
 * SOURCE_CHANGED also when the object was replaced during the call. On an error `data` may have
 * been written to. */
AIOS_API aios_code aios_storage_get(aios_storage* storage, const char* name, uint64_t version,
                                    uint64_t offset, void* data, size_t room, uint64_t timeout_ns,
                                    size_t* bytes, aios_object_info* info);

/* The same straight between the disk and (region_offset, length) of a region, without a copy. The
 * region is lent to storage at its first use and taken back by the first call over `storage` after
 * aios_region_close. Errors as above; also INVALID_ARGUMENT: outside the region, or a get into one
 * that is read-only here; SOURCE_CHANGED: the region's bytes changed during the put. */
AIOS_API aios_code aios_storage_put_region(aios_storage* storage, const char* name,
                                           const aios_region* region, uint64_t region_offset,
                                           uint64_t length, uint64_t timeout_ns,
                                           aios_object_info* info);
AIOS_API aios_code aios_storage_get_region(aios_storage* storage, const char* name,
                                           uint64_t version, uint64_t offset,
                                           const aios_region* region, uint64_t region_offset,
                                           uint64_t length, uint64_t timeout_ns, uint64_t* bytes,
                                           aios_object_info* info);

/* Errors: NOT_FOUND. */
AIOS_API aios_code aios_storage_stat(aios_storage* storage, const char* name, uint64_t timeout_ns,
                                     aios_object_info* info);
/* Objects whose name begins with `prefix` and comes after `after` (both may be "" or NULL), in the
 * order of their names' bytes: at most `room` of them. `more` is 1 when there are others: ask again
 * after the last name. */
AIOS_API aios_code aios_storage_list(aios_storage* storage, const char* prefix, const char* after,
                                     aios_object_entry* entries, size_t room, uint64_t timeout_ns,
                                     size_t* count, int* more);
/* Errors: NOT_FOUND. */
AIOS_API aios_code aios_storage_remove(aios_storage* storage, const char* name,
                                       uint64_t timeout_ns);
/* Replaces `to` if it is there, at one moment. Errors: NOT_FOUND. */
AIOS_API aios_code aios_storage_rename(aios_storage* storage, const char* from, const char* to,
                                       uint64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
