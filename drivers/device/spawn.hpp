// How a driver starts the processes that serve a tenant on its devices.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "abi/runtime/kernel.hpp"

namespace aios::device {

struct Spawned {
  Handle process;
  std::uint64_t process_id;
};

/// In the tenant's job, by `spawner`, which says what is run. too_large: the arguments are too
/// long; others as proto::kernel::SpawnerSpawn.
Result<Spawned> spawn(Kernel& kernel, Handle spawner, Handle tenant, const std::string& name,
                      const std::vector<std::string>& arguments,
                      std::span<const proto::kernel::SpawnHandle> handles);

/// A port where such a process will accept.
Result<Handle> make_port(Kernel& kernel, const std::string& name);

/// Keeps the handle in the driver's job under this label; 0 forgets the one that is there.
Result<void> keep(Kernel& kernel, const std::string& label, Handle handle);

}  // namespace aios::device
