#include "drivers/gpu/cuda/cuda_devices.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>

namespace aios::gpu::cuda {

Result<int> attribute(const DriverApi& api, Device device, Attribute which) {
  int value = 0;
  TRY(check(api, "ask a GPU's attribute", api.device_attribute(&value, which, device)));
  return value;
}

namespace {

constexpr const char* emulator_word = "emulator";
/// In the name of a part of a GPU (a MIG instance), which has a uuid of its own.
constexpr const char* part_word = " MIG ";

std::string text_of(const Uuid& uuid, bool part) {
  std::string text = part ? "MIG-" : "GPU-";
  for (int i = 0; i < 16; ++i) {
    char two[3];
    std::snprintf(two, sizeof two, "%02x", uuid.bytes[i]);
    text += two;
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

/// As Linux knows it; -1: it does not say.
std::int32_t numa_node_of(const std::string& pci_address) {
  std::ifstream file("/sys/bus/pci/devices/" + pci_address + "/numa_node");
  std::int32_t node = -1;
  file >> node;
  return file ? node : -1;
}

/// Where it is in the machine; what the driver does not say stays unknown.
void add_topology(const DriverApi& api, Device device, int count, DeviceInfo& info) {
  char address[32] = {};
  if (api.device_bus(address, sizeof address, device) == Code::success) {
    info.pci_address = address;
    // Linux writes it in small letters.
    std::ranges::transform(info.pci_address, info.pci_address.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    info.numa_node = numa_node_of(info.pci_address);
  }
  for (Device peer = 0; peer < std::min(count, 32); ++peer) {
    int can = 0;
    if (peer != device && api.device_peer(&can, device, peer) == Code::success && can != 0)
      info.peers |= 1u << peer;
  }
}

Result<DeviceInfo> describe(const DriverApi& api, Device device) {
  char name[128] = {};
  Uuid uuid{};
  std::size_t bytes = 0;
  TRY(check(api, "ask a GPU's name", api.device_name(name, sizeof name, device)));
  TRY(check(api, "ask a GPU's uuid", api.device_uuid(&uuid, device)));
  TRY(check(api, "ask a GPU's memory", api.device_memory(&bytes, device)));
  DeviceInfo info;
  info.backend = "cuda";
  info.model = name;
  info.uuid = text_of(uuid, info.model.find(part_word) != std::string::npos);
  info.multiprocessors =
      static_cast<std::uint32_t>(TRY(attribute(api, device, Attribute::multiprocessors)));
  info.memory_bytes = bytes;
  info.shares_memory = TRY(attribute(api, device, Attribute::integrated)) != 0;
  info.exports_memory = TRY(attribute(api, device, Attribute::virtual_memory)) != 0 &&
                        TRY(attribute(api, device, Attribute::posix_handles)) != 0;
  info.emulated = info.model.find(emulator_word) != std::string::npos;
  return info;
}

Result<int> count_devices(const DriverApi& api) {
  const Code code = api.init(0);
  if (code == Code::no_device || code == Code::stub_library)
    return error(aios::Code::not_found, "no NVIDIA GPU: " + api.describe(code));
  TRY(check(api, "initialise the NVIDIA driver", code));
  int count = 0;
  TRY(check(api, "count GPUs", api.device_count(&count)));
  return count;
}

}  // namespace

Result<std::vector<DeviceInfo>> discover(const DriverApi& api) {
  const int count = TRY(count_devices(api));
  std::vector<DeviceInfo> found;
  for (Device device = 0; device < count; ++device) {
    found.push_back(TRY(describe(api, device)));
    add_topology(api, device, count, found.back());
  }
  return found;
}

Result<Found> find_device(const DriverApi& api, const std::string& uuid) {
  const int count = TRY(count_devices(api));
  for (Device device = 0; device < count; ++device)
    if (DeviceInfo info = TRY(describe(api, device)); info.uuid == uuid)
      return Found{device, std::move(info)};
  return error(aios::Code::not_found, "the GPU " + uuid + " is gone");
}

namespace {

/// Of every GPU; along x both are larger than what AIOS lets a task have.
constexpr std::uint32_t most_blocks_y_z = 65535;
constexpr std::uint32_t most_threads_z = 64;

}  // namespace

Result<void> check_shape(const KernelInfo& kernel, const std::array<std::uint32_t, 3>& grid) {
  if (kernel.block[2] > most_threads_z)
    return error(aios::Code::invalid_argument,
                 "blocks of " + kernel.name + " are " + std::to_string(kernel.block[2]) +
                     " threads deep; CUDA has at most " + std::to_string(most_threads_z));
  if (grid[1] > most_blocks_y_z || grid[2] > most_blocks_y_z)
    return error(aios::Code::invalid_argument,
                 "the grid of " + kernel.name + " has " + std::to_string(grid[0]) + " x " +
                     std::to_string(grid[1]) + " x " + std::to_string(grid[2]) +
                     " blocks; CUDA has at most " + std::to_string(most_blocks_y_z) +
                     " along y and along z");
  return {};
}

}  // namespace aios::gpu::cuda
