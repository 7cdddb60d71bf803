// The kinds of faults of the campaign: what each does, when it counts as activated, what is
// promised.
//
// A fault is *injected* when the campaign has done its part, and *activated* when it provably met
// work: the rule of each kind is the text beside it below, which `campaign --list` prints. Only
// activated faults count for a target.
//
// Promises
//   everything   nobody hangs, the kernel and all other servers live, no acknowledged change is
//   lost,
//                no answer is wrong, and every call that fails does so in time, with a status that
//                the fault explains
//   containment  the same for all servers but the one that is harmed: that one, whose code or
//                registers were changed, may answer its own clients anything
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace aios::fault {

enum class Kind : std::uint8_t {
  kill_storage,
  kill_scheduler,
  kill_cpu,
  kill_mapreduce,
  kill_echo,
  kill_supervisor,
  kill_context,
  abort_server,
  pause_server,
  pause_context,
  hang_server,
  corrupt_requests,
  corrupt_replies,
  corrupt_region,
  hostile_peer,
  mutate_code,
  mutate_registers,
  stall_flush,
  exhaust_descriptors,
  exhaust_memory,
  exhaust_region_quota,
  exhaust_handles,
  exhaust_links,
  exhaust_contexts,
  fill_disk,
  count
};
inline constexpr std::size_t kind_count = static_cast<std::size_t>(Kind::count);

struct KindInfo {
  std::string_view name;
  bool everything;       ///< the promise; false: containment
  std::uint32_t weight;  ///< how often it is picked, relative to the others
  std::string_view activated;
};

/// In the order of Kind.
inline constexpr std::array<KindInfo, kind_count> kinds = {{
    {"kill_storage", true, 90, "a call of the workload was under way before and after SIGKILL"},
    {"kill_scheduler", true, 60, "a call or task of the workload was under way, before and after"},
    {"kill_cpu", true, 60, "a task on its device was under way before and after SIGKILL"},
    {"kill_mapreduce", true, 50, "a job was under way before and after SIGKILL"},
    {"kill_echo", true, 60, "a call was under way before and after SIGKILL"},
    {"kill_supervisor", true, 4, "a call of the workload to it was under way before and after"},
    {"kill_context", true, 80, "tasks were submitted and not complete, before and after SIGKILL"},
    {"abort_server", true, 25, "as kill, with SIGABRT or SIGSEGV: its own doing, so that it waits"},
    {"pause_server", true, 60, "a call was under way while it was stopped, from begin to end"},
    {"pause_context", true, 40, "tasks were under way while it was stopped, from begin to end"},
    {"hang_server", true, 2,
     "a call was under way when it was stopped, and the supervisor ended it"},
    {"corrupt_requests", true, 90, "the server found the nonsense in the ring and ended the link"},
    {"corrupt_replies", true, 90, "the client found the nonsense in the ring and ended the link"},
    {"corrupt_region", true, 20, "bytes changed between the begin and the end of the put"},
    {"hostile_peer", true, 6, "tests/hostile: the other side consumed the action or reacted to it"},
    {"mutate_code", false, 260, "the changed instruction was executed: seen by single steps"},
    {"mutate_registers", false, 240,
     "the thread went on with it: an instruction or a fault is seen"},
    {"stall_flush", true, 25,
     "a call of the workload was under way when the held flush was let go"},
    {"exhaust_descriptors", true, 12, "a connection could not be made while the limit was reached"},
    {"exhaust_memory", true, 10, "the server refused a request or ended, for want of memory"},
    {"exhaust_region_quota", true, 15, "a region was refused with quota"},
    {"exhaust_handles", true, 8, "a handle was refused with quota"},
    {"exhaust_links", true, 8, "a connection was refused with quota"},
    {"exhaust_contexts", true, 1, "a context was refused with quota"},
    {"fill_disk", true, 8, "a put was refused with no_space"},
}};

constexpr const KindInfo& info_of(Kind kind) {
  return kinds[static_cast<std::size_t>(kind)];
}

}  // namespace aios::fault
