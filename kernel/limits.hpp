// Every limit of the kernel in one place. Exceeding one is a typed error, mostly `quota`.
#pragma once

#include "abi/proto/link.hpp"

namespace aios::kernel::limits {
// Of one process.
inline constexpr std::uint32_t handles_per_process = 4096;
/// Of those, how many may have been sent by processes below one child of the root job: so that one
/// tenant cannot fill a server's table.
inline constexpr std::uint32_t handles_from_one_tenant = 2048;
inline constexpr std::uint32_t links_per_process = proto::max_links_per_process;
// Of one job.
inline constexpr std::uint32_t job_depth = 16;
inline constexpr std::size_t kept_per_job = 96;
/// Names whose epochs a job remembers one by one.
inline constexpr std::size_t epoch_names = 256;
// Of the root job, and so of the instance. Memory is `memory_percent` of the machine's.
inline constexpr std::uint32_t processes = 512;
inline constexpr std::uint32_t handles = 65536;
inline constexpr std::uint32_t links = 4096;
inline constexpr std::uint64_t memory_percent = 75;
/// Of a job user:UID: below links_per_process, so that no user takes all links of a server.
inline constexpr std::uint32_t links_per_user = 512;
// Of the instance.
inline constexpr std::size_t published_ports = 64;
/// Connections that have not said hello; one more drops the oldest.
inline constexpr std::size_t unnamed_connections = 64;
inline constexpr std::size_t spawn_arguments = 16;
inline constexpr std::uint64_t log_bytes = 1u << 20;
// Of the event loop.
inline constexpr std::uint64_t slice_bytes = 16u << 20;
inline constexpr int events_per_turn = 64;
/// How often a process is looked at that sent a call without having read its last reply.
inline constexpr int unread_reply_recheck_ms = 10;
inline constexpr std::uint64_t shutdown_timeout_ns = 10'000'000'000;
inline constexpr std::uint64_t reap_timeout_ns = 5'000'000'000;
inline constexpr std::uint64_t restart_window_ns = 60'000'000'000;
inline constexpr std::size_t restarts_in_window = 10;

}  // namespace aios::kernel::limits
