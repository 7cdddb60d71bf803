#include "drivers/cpu/topology.hpp"

#include <hwloc.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <type_traits>

namespace aios::cpu {
namespace {

struct Destroy {
  void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
};
using TopologyPtr = std::unique_ptr<std::remove_pointer_t<hwloc_topology_t>, Destroy>;

std::uint32_t count_of(hwloc_topology_t topology, hwloc_obj_type_t type) {
  const int count = hwloc_get_nbobjs_by_type(topology, type);
  return static_cast<std::uint32_t>(std::max(count, 1));
}

std::string model_of(hwloc_topology_t topology) {
  for (const hwloc_obj_t object :
       {hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0), hwloc_get_root_obj(topology)}) {
    const char* model =
        object == nullptr ? nullptr : hwloc_obj_get_info_by_name(object, "CPUModel");
    if (model != nullptr && *model != '\0') return model;
  }
  return "unknown processor";
}

std::uint64_t last_level_cache(hwloc_topology_t topology) {
  for (const hwloc_obj_type_t type :
       {HWLOC_OBJ_L5CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE})
    if (const hwloc_obj_t cache = hwloc_get_obj_by_type(topology, type, 0))
      return cache->attr->cache.size;
  return 0;
}

/// Processors that this process may not use are no part of the device. A topology that was told in
/// place of the machine's is left as it is.
void leave_out_unusable(hwloc_topology_t topology) {
  if (hwloc_topology_is_thissystem(topology) == 0) return;
  const hwloc_bitmap_t usable = hwloc_bitmap_alloc();
  if (usable != nullptr && hwloc_get_cpubind(topology, usable, HWLOC_CPUBIND_THREAD) == 0)
    (void)hwloc_topology_restrict(topology, usable, 0);
  hwloc_bitmap_free(usable);
}

std::string format_uuid(const std::string& identity) {
  const XXH128_hash_t hash = XXH3_128bits(identity.data(), identity.size());
  char text[40];
  std::snprintf(text, sizeof text, "%08lx-%04lx-%04lx-%04lx-%012lx", hash.high64 >> 32,
                hash.high64 >> 16 & 0xffff, hash.high64 & 0xffff, hash.low64 >> 48,
                hash.low64 & 0xffffffffffff);
  return text;
}

}  // namespace

Result<Topology> discover_topology(const std::string& machine_id) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return errno_error("hwloc cannot start", errno);
  const TopologyPtr topology(raw);
  if (hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE) != 0 ||
      hwloc_topology_load(raw) != 0)
    return errno_error("hwloc cannot read the machine's topology", errno);
  leave_out_unusable(raw);
  Topology result{.model = model_of(raw),
                  .uuid = {},
                  .cores = count_of(raw, HWLOC_OBJ_CORE),
                  .threads = count_of(raw, HWLOC_OBJ_PU),
                  .numa_nodes = count_of(raw, HWLOC_OBJ_NUMANODE),
                  .memory_bytes = hwloc_get_root_obj(raw)->total_memory,
                  .cache_bytes = last_level_cache(raw)};
  result.uuid = format_uuid("cpu|" + machine_id + '|' + result.model + '|' +
                            std::to_string(result.cores) + '|' + std::to_string(result.threads));
  return result;
}

std::string read_machine_id() {
  std::ifstream file("/etc/machine-id");
  std::string id;
  std::getline(file, id);
  return id;
}

}  // namespace aios::cpu
