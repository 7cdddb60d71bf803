#include "drivers/device/spawn.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace aios::device {

namespace kernel_calls = proto::kernel;

Result<Spawned> spawn(Kernel& kernel, Handle spawner, Handle tenant, const std::string& name,
                      const std::vector<std::string>& arguments,
                      std::span<const kernel_calls::SpawnHandle> handles) {
  assert(handles.size() <= kernel_calls::max_spawn_handles);
  kernel_calls::SpawnerSpawn::Request request{};
  request.spawner = spawner;
  request.tenant = tenant;
  request.name = kernel_calls::Name::from(name);
  std::string text;
  for (const std::string& argument : arguments) text += argument + '\0';
  if (text.size() > sizeof request.arguments)
    return error(Code::too_large, "its arguments are too long");
  std::memcpy(request.arguments, text.data(), text.size());
  request.handle_count = handles.size();
  std::ranges::copy(handles, request.handles);
  const auto made = TRY(kernel.call<kernel_calls::SpawnerSpawn>(request));
  return Spawned{made.reply.process, made.reply.process_id};
}

Result<Handle> make_port(Kernel& kernel, const std::string& name) {
  return TRY(kernel.call<kernel_calls::PortCreate>({.name = kernel_calls::Name::from(name)}))
      .reply.port;
}

Result<void> keep(Kernel& kernel, const std::string& label, Handle handle) {
  TRY(kernel.call<kernel_calls::HandleKeep>(
      {.handle = handle, .label = kernel_calls::Label::from(label)}));
  return {};
}

}  // namespace aios::device
