#include "abi/runtime/sandbox/rules.hpp"

#include <unistd.h>

#include <string>

namespace aios::sandbox {

namespace {

constexpr std::uint64_t log_and_module_bytes = 256u << 20;

/// What compilers and interpreters need of the host.
std::vector<Folder> system_folders() {
  std::vector<Folder> folders;
  for (const char* path : {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"})
    folders.push_back({path, Access::execute});
  for (const char* path : {"/etc/ld.so.cache", "/etc/alternatives"})
    folders.push_back({path, Access::read});
  for (const char* path : {"/dev/null", "/dev/zero", "/dev/urandom"})
    folders.push_back({path, Access::write});
  return folders;
}

std::vector<std::string> device_files() {
  constexpr int most_devices = 16;
  constexpr int first_render_node = 128;
  std::vector<std::string> files{"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools",
                                 "/dev/nvidia-caps", "/dev/kfd"};
  for (int i = 0; i < most_devices; ++i) {
    files.push_back("/dev/nvidia" + std::to_string(i));
    files.push_back("/dev/dri/renderD" + std::to_string(first_render_node + i));
  }
  return files;
}

/// What the libraries of GPUs read of the machine before they use a device.
constexpr const char* read_for_devices[] = {
    "/proc/cpuinfo",
    "/proc/devices",
    "/proc/driver/nvidia",
    "/proc/driver/nvidia-caps",
    "/proc/driver/nvidia-uvm",
    "/proc/filesystems",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/sys/vm/mmap_min_addr",
    "/proc/sys/vm/overcommit_memory",
    "/proc/version",
    "/sys/devices/system/memory",
    "/sys/module/nvidia",
    "/sys/module/nvidia_drm",
    "/sys/module/nvidia_modeset",
    "/sys/module/nvidia_uvm",
};

/// What the libraries of GPUs need besides: which drivers there are, what the processors are like,
/// and the devices themselves. Those that a host does not have are left out.
void add_device_needs(const Plan& plan, Rules& rules) {
  for (const char* path : {"/etc/OpenCL", "/sys/devices/system/cpu", "/sys/devices/system/node"})
    rules.folders.push_back({path, Access::read});
  rules.folders.insert(rules.folders.end(), plan.folders.begin(), plan.folders.end());
  rules.devices = plan.gpu;
  for (const std::string& path : device_files()) {
    rules.folders.push_back({path, Access::device});
    rules.devices = rules.devices || ::access(path.c_str(), F_OK) == 0;
  }
  if (!rules.devices) return;
  for (const char* path : read_for_devices) rules.folders.push_back({path, Access::read});
}

/// A user's program is shown what he shows it, and writes what it is to write. One that AIOS gives
/// its data has nobody to call; any other calls AIOS itself.
void add_user_needs(const Plan& plan, Rules& rules) {
  rules.folders.insert(rules.folders.end(), plan.folders.begin(), plan.folders.end());
  rules.sockets = plan.profile == Profile::tool;
  rules.file_bytes = 0;
}

}  // namespace

Rules rules_of(const Plan& plan) {
  // Servers go before the kernel of AIOS when memory runs out, contexts before servers.
  Rules rules{.file_bytes = log_and_module_bytes, .threads = 64, .oom_score = "200"};
  if (!plan.folder.empty())
    rules.folders.push_back(
        {plan.folder, plan.profile == Profile::storage ? Access::write : Access::read});
  switch (plan.profile) {
    case Profile::open:
    case Profile::server:
    case Profile::driver:
      break;
    case Profile::supervisor:
      rules.files = true;
      break;
    case Profile::storage:
      rules.files = rules.ring = true;
      rules.file_bytes = 0;
      break;
    case Profile::jit:
    case Profile::tool:
    case Profile::streaming:
      rules.programs = true;
      rules.folders = system_folders();
      if (plan.profile == Profile::jit)
        add_device_needs(plan, rules);
      else
        add_user_needs(plan, rules);
      [[fallthrough]];
    case Profile::context:
      rules.private_folder = rules.programs ? "/tmp" : "/modules";
      rules.files = rules.code = true;
      rules.descriptors = 1024;
      rules.threads = 4096;
      rules.oom_score = "500";
      break;
  }
  return rules;
}

}  // namespace aios::sandbox
