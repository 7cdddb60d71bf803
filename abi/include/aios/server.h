/* Answering calls: a program of the user's that serves others of its own.
 *
 * A server lives under a label of the job that its program attached to, as kept regions do.
 * Programs that attach to the same job afterwards (without a job name that is every program of the
 * user) reach it with aios_connect(instance, label, version). One program of a job at a time serves
 * under a label. Programs of one job trust each other with what the job keeps: any of them may
 * forget a label, or keep a region under it, and so end its use for clients that attach later. A
 * server for others than that is one of the instance's, in its manifest.
 *
 * There is no thread and no callback: ask for the next request, answer it, ask again. aios_wait and
 * aios_arm wait for several things at once. Conventions are those of aios.h.
 */
#ifndef AIOS_SERVER_H
#define AIOS_SERVER_H

#include <aios/aios.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct aios_server aios_server;
typedef struct aios_request aios_request;

/* Serves under `label` (at most 31 bytes of letters, digits, '.', '_', '-'). A label that the job
 * keeps from a server whose program ended is taken over with its clients: they connect again within
 * their timeouts. Clients whose `protocol_version` is another get VERSION_MISMATCH. Errors:
 * ALREADY_EXISTS: a server of the instance has that name, or a kept region, or a program of the job
 * that still runs serves under it (also one of another label of 31 bytes that differs in the first
 * alone); QUOTA. Free with aios_server_close: it ends the clients' connections, and the label is
 * given up. A program that just ends leaves the label for its successor. */
AIOS_API aios_code aios_server_create(aios_instance* instance, const char* label,
                                      uint64_t protocol_version, aios_server** server);
AIOS_API void aios_server_close(aios_server* server);

/* The oldest request that was not taken yet; blocks until there is one. Opcode 0 of every protocol
 * is the null call, which is answered inside. At most 64 requests of one client are under way at
 * once, those included that it waits for no more; a client that does not read its replies is not
 * read from. Errors: TIMED_OUT; UNREACHABLE (the instance has ended). Free by answering:
 * aios_request_reply or aios_request_fail, in any order, at any later time, from any thread. */
AIOS_API aios_code aios_server_next(aios_server* server, uint64_t timeout_ns,
                                    aios_request** request);

AIOS_API uint16_t aios_request_opcode(const aios_request* request);
/* The request's bytes, a private copy of what the client sent: check their number, then what they
 * say. Valid until it is answered. */
AIOS_API const void* aios_request_data(const aios_request* request, size_t* bytes);

typedef struct aios_peer {
  uint64_t process_id; /* of AIOS, as `aiosctl ps` shows it; not a pid */
  uint64_t job_id;
  uint64_t protocol_version;
  uint64_t client; /* the connection: another number for each one that was made */
  uint32_t uid;
  uint32_t reserved;
} aios_peer;

/* Who asks, as the kernel knows it. */
AIOS_API aios_code aios_request_peer(const aios_request* request, aios_peer* peer);

/* Maps a region that the client granted (aios_grant) and that its request names by the number
 * `handle`. Errors: BAD_HANDLE: no such handle, or another process sent it, or it was received
 * before; WRONG_TYPE; DENIED: it was not granted with `access`; QUOTA (no descriptor is left) and
 * NO_MEMORY: it cannot be mapped; the grant is given up, and the client has to grant it anew. Free
 * with aios_region_close. */
AIOS_API aios_code aios_request_region(aios_request* request, uint64_t handle, uint32_t access,
                                       aios_region** region);
/* Gives the client a handle to a region; `handle` is its number there, to be named in the reply,
 * for aios_region_receive. Errors: DENIED; QUOTA: the client has no place left, see aios_grant;
 * PEER_CLOSED. */
AIOS_API aios_code aios_request_grant(aios_request* request, const aios_region* region,
                                      uint32_t access, uint64_t* handle);

/* Answers, and frees the request whatever it returns, except INVALID_ARGUMENT for NULL. Never
 * blocks; room was reserved. Errors: TOO_LARGE (more than AIOS_MAX_REPLY_BYTES: the client gets an
 * INTERNAL error), PEER_CLOSED (nobody waits for the answer any more). */
AIOS_API aios_code aios_request_reply(aios_request* request, const void* reply, size_t bytes);
/* The same with an error: any code but OK, and up to 432 bytes of explanation, which become the
 * client's aios_last_error(). */
AIOS_API aios_code aios_request_fail(aios_request* request, aios_code code, const char* text);

#ifdef __cplusplus
}
#endif
#endif
