// The kernel objects behind a server: its job, its port, its spawner and its process. They are kept
// in the supervisor's job, so that the next supervisor finds them and the server never notices.
//
// Kept labels: `system` (the job of all servers), `job:NAME`, `port:NAME`, `spawner:NAME`. A
// process is not kept: it is found again by its name in its job, so that one which was spawned just
// before a supervisor died is not missed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "abi/runtime/kernel.hpp"
#include "services/supervisor/plan.hpp"
#include "services/supervisor/server_machine.hpp"

namespace aios::supervisor {

struct ServerObjects {
  Handle job = 0;
  /// Without accept in its `use` mask, so that no connection wakes the supervisor.
  Handle port = 0;
  Handle spawner = 0;
};

struct ServerProcessRef {
  Handle process = 0;
  std::uint64_t process_id = 0;
  std::uint64_t pid = 0;
  std::uint64_t epoch = 0;
  std::uint64_t started_ns = 0;
};

struct Folders {
  std::string state;
  std::string libexec;
};

class ObjectStore {
 public:
  /// Finds or makes the job `system`. `root` is the root job with all rights.
  static Result<ObjectStore> create(Kernel& kernel, Handle root, Folders folders);

  /// Finds or makes the supervisor's own port, where it accepts.
  Result<Handle> own_port();
  /// Finds or makes what the server needs before it can be spawned.
  Result<ServerObjects> objects_of(const ServerSpec& spec);
  /// Programs from outside find `port` under `name`.
  Result<void> publish(const std::string& name, Handle port);

  /// The living process of a server, if there is one.
  Result<std::optional<ServerProcessRef>> find_process(const ServerSpec& spec,
                                                       const ServerObjects& objects);
  /// `ports` names the port of each routed server. `crashed`: its last life ended by its own doing,
  /// which it is told by the option `--crashed`.
  Result<ServerProcessRef> spawn(const ServerSpec& spec, const ServerObjects& objects,
                                 const std::map<std::string, Handle>& ports, bool crashed);
  /// Whether clients are told that the server behind the port will not come.
  Result<void> set_down(Handle port, bool down);
  Result<bool> is_down(Handle port);
  Result<void> signal(Handle process, int signal_number);
  /// How a process ended. busy while it has not.
  Result<Exit> exit_of(Handle process);

  /// The text that an earlier supervisor of this instance read its manifest from.
  Result<std::optional<std::string>> kept_manifest();
  Result<void> keep_manifest(const std::string& text);

  Kernel& kernel() const { return *kernel_; }
  Handle root() const { return root_; }
  const Folders& folders() const { return folders_; }

 private:
  ObjectStore(Kernel& kernel, Handle root, Folders folders)
      : kernel_(&kernel), root_(root), folders_(std::move(folders)) {}
  Result<void> keep(Handle handle, const std::string& label);
  Result<Handle> port(const std::string& name, std::uint32_t use);
  Result<Handle> job(Handle parent, const std::string& label, const std::string& name,
                     const proto::kernel::Quota& quota);
  Result<Handle> spawner(const std::string& server, const SpawnerSpec& spec);
  Result<std::string> image(const std::string& binary) const;

  Kernel* kernel_;
  Handle root_;
  Handle system_ = 0;
  Folders folders_;
};

}  // namespace aios::supervisor
