// Attaching, and what a job keeps under labels.
#include <cstdlib>

#include "abi/lib/failure.hpp"
#include "abi/lib/objects.hpp"

namespace aios::lib {

namespace pk = proto::kernel;

Result<void> check_label(const Core& core, const char* label) {
  const std::string_view text(label);
  if (!pk::Label::fits(text) || text.empty() ||
      text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                             "0123456789._-") != std::string_view::npos ||
      text.find_first_not_of('.') == std::string_view::npos)
    return error(Code::invalid_argument,
                 "a label has 1 to 31 letters, digits, '.', '_' and '-', and not only dots");
  for (const StartupHandle& handle : core.kernel().startup())
    if (!handle.kept && handle.label == text)
      return error(Code::already_exists,
                   "the instance itself has a '" + std::string(text) + "'; choose another label");
  return {};
}

Result<void> keep(Core& core, Handle handle, std::uint32_t use, std::uint32_t grant,
                  const char* label) {
  const Handle copy = TRY(core.kernel().duplicate(handle, use, grant));
  const auto kept = core.kernel().call<pk::HandleKeep>({copy, pk::Label::from(label)});
  core.kernel().close(copy);
  if (!kept) return std::unexpected(kept.error());
  return {};
}

Result<void> forget(Core& core, const char* label) {
  TRY(core.kernel().call<pk::HandleKeep>({0, pk::Label::from(label)}));
  return {};
}

}  // namespace aios::lib

using namespace aios;
using namespace aios::lib;

aios_code aios_attach(const aios_attach_options* options, aios_instance** instance) {
  if (instance == nullptr) return null_argument("aios_attach");
  return guarded([&]() -> Result<void> {
    AttachOptions attach;
    std::string socket = default_socket_path(default_state_folder());
    const char* job = nullptr;
    bool may_spin = true;
    if (options != nullptr) {
      for (const std::uint64_t reserved : options->reserved)
        if (reserved != 0)
          return error(Code::invalid_argument, "aios_attach: a reserved field is not zero");
      if ((options->flags & ~std::uint64_t{AIOS_ATTACH_NEVER_SPIN}) != 0)
        return error(Code::invalid_argument, "aios_attach: an unknown flag is set");
      may_spin = options->flags == 0;
      if (options->socket_path != nullptr) socket = options->socket_path;
      job = options->job_name;
      attach.quota.memory_bytes = options->memory_bytes;
    }
    if (job == nullptr) job = std::getenv("AIOS_JOB");
    if (job != nullptr) attach.job_name = job;
    // Not within the `new`: an error would leave that behind.
    std::shared_ptr<Core> core = TRY(Core::attach(socket, attach, may_spin));
    *instance = new aios_instance{std::move(core)};
    return {};
  });
}

void aios_detach(aios_instance* instance) {
  const Uncancelled until_end;
  if (instance != nullptr && !instance->core->foreign()) delete instance;
}

aios_code aios_forget(aios_instance* instance, const char* label) {
  if (instance == nullptr || label == nullptr) return null_argument("aios_forget");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    TRY(check_label(*instance->core, label));
    return forget(*instance->core, label);
  });
}

aios_code aios_poll_fd(aios_instance* instance, int* fd) {
  if (instance == nullptr || fd == nullptr) return null_argument("aios_poll_fd");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    *fd = TRY(instance->core->poll_fd());
    return {};
  });
}

aios_code aios_arm(aios_instance* instance, int* ready) {
  if (instance == nullptr || ready == nullptr) return null_argument("aios_arm");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    *ready = TRY(instance->core->arm()) ? 1 : 0;
    return {};
  });
}

aios_code aios_disarm(aios_instance* instance) {
  if (instance == nullptr) return null_argument("aios_disarm");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    return instance->core->disarm();
  });
}

aios_code aios_dispatch(aios_instance* instance) {
  if (instance == nullptr) return null_argument("aios_dispatch");
  return guarded([&]() -> Result<void> {
    TRY(instance->core->check_process());
    return instance->core->dispatch();
  });
}
