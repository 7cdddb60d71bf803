#include "abi/lib/module_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>

#include "abi/proto/device.hpp"
#include "abi/runtime/elf_sections.hpp"
#include "abi/runtime/fd.hpp"

namespace aios {

Result<std::vector<std::byte>> read_module_file(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return errno_error(path, errno);
  if (!S_ISREG(info.st_mode)) return error(Code::invalid_argument, path + ": is no module file");
  if (info.st_size == 0 ||
      static_cast<std::uint64_t>(info.st_size) > proto::context::max_module_bytes)
    return error(Code::invalid_argument, path + ": a module has between 1 byte and 64 MiB");
  std::vector<std::byte> bytes(static_cast<std::size_t>(info.st_size));
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n =
        ::pread(fd.get(), bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(path, errno);
    if (n == 0) return error(Code::source_changed, path + ": changed while it was read");
    got += static_cast<std::size_t>(n);
  }
  return bytes;
}

std::uint32_t backends_of(std::span<const std::byte> module) {
  std::uint32_t backends = proto::driver::backend::cpu;
  const auto sections = ElfSections::open(module);
  if (!sections) return backends;
  // A text that aios-kc left out is its zero byte alone.
  const auto has = [&](std::string_view name) {
    const auto text = sections->find(name);
    return text && text->size() > 1;
  };
  if (has(".aios.ptx")) backends |= proto::driver::backend::cuda;
  if (has(".aios.opencl")) backends |= proto::driver::backend::opencl;
  return backends;
}

std::uint64_t module_hash_of(std::span<const std::byte> module) {
  return std::max<std::uint64_t>(XXH3_64bits(module.data(), module.size()), 1);
}

}  // namespace aios
