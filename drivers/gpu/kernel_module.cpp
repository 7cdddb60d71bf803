#include "drivers/gpu/kernel_module.hpp"

#include <algorithm>
#include <cstring>

#include "abi/include/aios/codelet.h"
#include "abi/runtime/elf_sections.hpp"

namespace aios::gpu {

namespace {

constexpr std::uint32_t max_block_threads = 1024;
constexpr std::uint32_t max_buffers = std::extent_v<decltype(aios_kernel_record::modes)>;
constexpr std::size_t max_text_bytes = 16u << 20;

std::unexpected<Status> malformed(const std::string& what) {
  return error(Code::invalid_argument, "this is no module for a GPU: " + what);
}

Result<KernelInfo> read_record(const aios_kernel_record& record) {
  KernelInfo info;
  info.name.assign(record.name, strnlen(record.name, sizeof record.name));
  if (info.name.empty() || info.name.size() == sizeof record.name)
    return malformed("a kernel's name has no end");
  std::uint64_t threads = 1;
  for (std::size_t i = 0; i < 3; ++i) {
    info.block[i] = record.block[i];
    threads *= std::min(record.block[i], max_block_threads + 1);
  }
  if (threads == 0 || threads > max_block_threads)
    return malformed(info.name + " has blocks of no or more than 1,024 threads");
  if (record.buffer_count > max_buffers) return malformed(info.name + " takes too many buffers");
  info.argument_bytes = record.argument_bytes;
  info.modes.assign(record.modes, record.modes + record.buffer_count);
  for (const std::uint32_t mode : info.modes)
    if (mode < AIOS_MODE_READ || mode > AIOS_MODE_READ_WRITE)
      return malformed(info.name + " uses a buffer in an unknown way");
  return info;
}

Result<void> read_gemms(const ElfSections& sections, KernelModule& module) {
  const auto records = sections.find(AIOS_GEMM_SECTION);
  if (!records) return {};
  if (records->size() % sizeof(aios_gemm_record) != 0)
    return malformed("its list of matrix products is damaged");
  for (std::size_t at = 0; at < records->size(); at += sizeof(aios_gemm_record)) {
    aios_gemm_record record;
    std::memcpy(&record, records->data() + at, sizeof record);
    const std::string name(record.name, strnlen(record.name, sizeof record.name));
    const auto kernel = std::ranges::find(module.kernels, name, &KernelInfo::name);
    const std::vector<std::uint32_t> modes{AIOS_MODE_READ, AIOS_MODE_READ, AIOS_MODE_READ_WRITE};
    if (kernel == module.kernels.end() || kernel->modes != modes ||
        kernel->argument_bytes != sizeof(GemmArguments) || record.tile == 0 ||
        record.element < AIOS_ELEMENT_f32 || record.element > AIOS_ELEMENT_bf16)
      return malformed(name + " is no product of matrices");
    kernel->gemm = static_cast<GemmElement>(record.element);
    kernel->gemm_tile = record.tile;
  }
  return {};
}

/// Up to the zero byte that aios-kc puts behind it.
Result<std::string> read_text(const ElfSections& sections, std::string_view name) {
  const auto bytes = sections.find(name);
  if (!bytes) return std::string();
  if (bytes->size() > max_text_bytes) return malformed("more than 16 MiB in " + std::string(name));
  const std::string_view text(reinterpret_cast<const char*>(bytes->data()), bytes->size());
  return std::string(text.substr(0, text.find('\0')));
}

}  // namespace

Result<const KernelInfo*> KernelModule::kernel(std::string_view name) const {
  const auto found = std::ranges::find(kernels, name, &KernelInfo::name);
  if (found != kernels.end()) return &*found;
  std::string known;
  for (const KernelInfo& kernel : kernels) known += (known.empty() ? "" : ", ") + kernel.name;
  return error(Code::not_found,
               "the module has no kernel '" + std::string(name) + "'; it has " + known);
}

Result<KernelModule> read_kernel_module(std::span<const std::byte> image) {
  const auto opened = ElfSections::open(image);
  if (!opened) return malformed(opened.error().message());
  const ElfSections& sections = *opened;
  const auto records = sections.find(AIOS_KERNEL_SECTION);
  if (!records) return malformed("it has no kernels; compile it with aios-kc");
  const std::size_t count = records->size() / sizeof(aios_kernel_record);
  if (count == 0 || count > max_kernels || records->size() % sizeof(aios_kernel_record) != 0)
    return malformed("its list of kernels is damaged");
  KernelModule module;
  for (std::size_t i = 0; i < count; ++i) {
    aios_kernel_record record;
    std::memcpy(&record, records->data() + i * sizeof record, sizeof record);
    module.kernels.push_back(TRY(read_record(record)));
  }
  TRY(read_gemms(sections, module));
  module.ptx = TRY(read_text(sections, ".aios.ptx"));
  module.opencl = TRY(read_text(sections, ".aios.opencl"));
  return module;
}

}  // namespace aios::gpu
