// Every limit of the scheduler in one place. Exceeding one is a `quota` error with a text.
#pragma once

#include <cstddef>
#include <cstdint>

#include "abi/proto/scheduler.hpp"

namespace aios::scheduler {

/// Predictions end there: far above every time that makes sense, and far from overflow.
inline constexpr double far_ns = 4e18;

inline constexpr std::uint32_t max_devices = 64;
/// Tasks at once on one device; their calls must fit the queue of one link's client.
inline constexpr std::uint32_t max_slots_per_device = 192;
/// Brief tasks that are in a device's contexts at once, and for how long they may keep one of its
/// slots busy: long enough to outlast a round trip, short enough to change plans.
inline constexpr std::uint32_t max_ahead = 1024;
inline constexpr std::uint64_t max_ahead_ns_per_slot = 1'000'000;
/// What of it travels together, for one thread of the context to run: others could have shared it.
inline constexpr std::uint64_t max_batch_ns = 50'000;
/// What the briefest is reckoned with: the cost of handing it over.
inline constexpr std::uint32_t least_charge_ns = 200;
/// Of a brief task with so many samples only one in so many completions is learned from: it would
/// cost as much as deciding about it.
inline constexpr std::uint32_t brief_samples_to_know = 64;
inline constexpr std::uint32_t known_brief_teaches_one_in = 8;
inline constexpr std::uint32_t max_users = 64;
inline constexpr std::uint32_t max_tenants_per_link = 64;
inline constexpr std::uint32_t max_tenants_per_user = 256;

/// Unfinished tasks and completions not yet fetched.
inline constexpr std::uint32_t max_pending_per_tenant = proto::scheduler::max_pending_per_tenant;
inline constexpr std::uint32_t max_pending_per_user = 2 * max_pending_per_tenant;
/// Over all users: what the task table may grow to (640 bytes each; its address space is taken at
/// once).
inline constexpr std::uint32_t max_tasks = 4 * max_pending_per_tenant;

/// Finished tags a tenant's later tasks may still depend on; at a submit the oldest are forgotten.
inline constexpr std::uint32_t max_finished_tags_per_tenant = max_pending_per_tenant;
inline constexpr std::uint32_t max_finished_tags_per_user = 4 * max_pending_per_tenant;

inline constexpr std::uint32_t max_codelets_per_tenant = 256;
/// Each is a handle in the scheduler's table, of which the kernel lets one user fill 2,048.
inline constexpr std::uint32_t max_buffers_per_user = 1536;
static_assert(max_buffers_per_user <= proto::context::max_bound_buffers);

/// Of which the models are kept, over all users; those that are open are kept in any case.
inline constexpr std::uint32_t max_learned_codelets = 4096;
/// Of one codelet; beyond that sizes that are about equal are one.
inline constexpr std::uint32_t max_learned_sizes = 256;

inline constexpr std::uint32_t max_gangs = 1024;  ///< per tenant, of which some have not ended
/// How long a gang for which slots are kept waits for other users' tasks, beyond the moment when
/// they were to be free. Then it starts beside them.
inline constexpr std::uint64_t gang_patience_ns = 1'000'000'000;
/// How many tasks one submit may look at to see whether gangs wait for themselves.
inline constexpr std::uint32_t max_gang_steps = 16384;

inline constexpr std::uint32_t max_held_graphs = 64;     ///< per tenant, before they are accepted
inline constexpr std::uint32_t max_logged_graphs = 256;  ///< over all tenants

inline constexpr std::uint32_t max_remembered_failures = 256;  ///< per tenant
inline constexpr std::uint32_t max_finished_listed = 1024;     ///< over all tenants
inline constexpr std::uint32_t max_failure_bytes = 399;        ///< of the reason of one of these

/// How often a task's context may end under it before it is given up, whatever the reason.
inline constexpr std::uint32_t max_context_ends_per_task = 8;
/// How often its context may fault while it runs alone there.
inline constexpr std::uint32_t max_lone_faults = 2;

/// How often a context may say that it did not begin it.
inline constexpr std::uint32_t max_unbegun = 64;

inline constexpr std::uint64_t max_grid_blocks = 1ull << 24;
inline constexpr std::uint64_t max_arena_bytes = 64ull << 20;

}  // namespace aios::scheduler
