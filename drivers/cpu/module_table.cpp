#include "drivers/cpu/module_table.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "drivers/cpu/elf_check.hpp"

namespace aios::cpu {
namespace {

constexpr std::uint32_t max_codelets = 64;  // of one module
constexpr std::size_t max_codelet_name_bytes = 64;

Result<> write_all(const Fd& file, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno_error("cannot store the module for loading", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

Result<std::vector<Codelet>> read_table(const aios_module_table& table) {
  if (table.abi != AIOS_CODELET_ABI)
    return error(Code::invalid_argument, "the module was built for codelet ABI " +
                                             std::to_string(table.abi) + ", this AIOS has " +
                                             std::to_string(AIOS_CODELET_ABI) + "; build it again");
  if (table.count == 0 || table.count > max_codelets || table.codelets == nullptr)
    return error(Code::invalid_argument, "aios_module must list 1 to 64 codelets");
  std::vector<Codelet> codelets;
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const aios_codelet& entry = table.codelets[i];
    const std::size_t length =
        entry.name == nullptr ? 0 : strnlen(entry.name, max_codelet_name_bytes);
    if (length == 0 || length == max_codelet_name_bytes || entry.run == nullptr)
      return error(Code::invalid_argument, "codelet " + std::to_string(i) +
                                               " of aios_module lacks a function or a name of 1 "
                                               "to 63 bytes");
    codelets.push_back({.name = {entry.name, length}, .run = entry.run});
  }
  return codelets;
}

/// The functions that aios_module_shares lists beside those of `codelets`.
Result<void> read_shares(const aios_module_table& table, std::vector<Codelet>& codelets) {
  if (table.abi != AIOS_CODELET_ABI || table.count > max_codelets || table.codelets == nullptr)
    return error(Code::invalid_argument, "aios_module_shares is malformed");
  for (std::uint32_t i = 0; i < table.count; ++i) {
    const aios_codelet& entry = table.codelets[i];
    if (entry.run == nullptr) continue;
    const auto codelet = std::ranges::find_if(codelets, [&](const Codelet& known) {
      return entry.name != nullptr &&
             std::string_view(entry.name, strnlen(entry.name, max_codelet_name_bytes)) ==
                 known.name;
    });
    if (codelet == codelets.end())
      return error(Code::invalid_argument, "entry " + std::to_string(i) +
                                               " of aios_module_shares names no codelet of "
                                               "aios_module");
    codelet->run_share = entry.run;
  }
  return {};
}

std::string loader_message() {
  const char* text = ::dlerror();
  return text == nullptr ? "unknown reason" : text;
}

/// What stays of a module that is refused here may still be loaded: it is never called.
Result<std::vector<Codelet>> open_module(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return error(Code::invalid_argument, "the module cannot be loaded: " + loader_message());
  const void* entry = ::dlsym(handle, "aios_module");
  if (entry == nullptr)
    return error(Code::invalid_argument,
                 "the module has no entry point: it must export `aios_module` (see "
                 "aios/codelet.h)");
  auto codelets = TRY(read_table(*static_cast<const aios_module_table*>(entry)));
  if (const void* shares = ::dlsym(handle, "aios_module_shares"))
    TRY(read_shares(*static_cast<const aios_module_table*>(shares), codelets));
  return codelets;
}

/// With the tasks' threads there are enough: each call works on the one that makes it. Builds
/// without threads are left alone, since theirs need not be safe to call from several.
void preload_blas() {
  ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
  ::setenv("OMP_NUM_THREADS", "1", 1);
  const std::string name(blas_library);
  void* const library = ::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  const auto parallel = reinterpret_cast<int (*)()>(::dlsym(library, "openblas_get_parallel"));
  if (parallel == nullptr || parallel() == 0) return;
  if (::dlopen(name.c_str(), RTLD_NOW | RTLD_GLOBAL) != nullptr) allow_blas();
}

}  // namespace

Result<> preload_libraries() {
  for (const std::string_view name : allowed_libraries())
    if (::dlopen(std::string(name).c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
      return error(Code::not_found,
                   "cannot load a library that modules may need: " + loader_message());
  preload_blas();
  return {};
}

Result<Fd> ModuleTable::store(std::span<const std::byte> image, std::string& path) const {
  const bool in_folder = !folder_.empty();
  path = folder_ + "/module-" + std::to_string(modules_.size()) + ".so";
  Fd file(in_folder ? ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700)
                    : ::memfd_create("aios-module", MFD_CLOEXEC));
  if (!file.valid()) return errno_error("cannot store the module for loading", errno);
  if (!in_folder) path = "/proc/self/fd/" + std::to_string(file.get());
  if (Result<> written = write_all(file, image); !written) {
    if (in_folder) ::unlink(path.c_str());
    return std::unexpected(written.error());
  }
  return file;
}

Result<const ModuleTable::Module*> ModuleTable::find_or_load(std::span<const std::byte> image,
                                                             std::uint32_t& index) {
  const XXH128_hash_t hash = XXH3_128bits(image.data(), image.size());
  const Digest digest{hash.low64, hash.high64, image.size()};
  for (index = 0; index < modules_.size(); ++index)
    if (modules_[index].digest == digest) return &modules_[index];
  if (modules_.size() >= proto::context::max_modules)
    return error(Code::quota, "a context loads at most 64 modules");
  TRY(check_module_image(image));
  std::string path;
  Fd file = TRY(store(image, path));
  Result<std::vector<Codelet>> codelets = open_module(path);
  if (!folder_.empty()) {
    ::unlink(path.c_str());
    file.reset();
  }
  const std::lock_guard lock(mutex_);
  return &modules_.emplace_back(Module{digest, std::move(file), std::move(codelets)});
}

Result<std::uint32_t> ModuleTable::load(std::span<const std::byte> image,
                                        std::string_view codelet) {
  const std::lock_guard lock(load_mutex_);
  std::uint32_t index = 0;
  const Result<std::vector<Codelet>>& codelets = TRY(find_or_load(image, index))->codelets;
  if (!codelets) return std::unexpected(codelets.error());
  std::string names;
  for (std::uint32_t i = 0; i < codelets->size(); ++i) {
    if ((*codelets)[i].name == codelet) return index * max_codelets + i;
    names += (i == 0 ? "" : ", ") + (*codelets)[i].name;
  }
  return error(Code::not_found,
               "the module has no codelet " + std::string(codelet) + "; it has " + names);
}

Result<const Codelet*> ModuleTable::codelet(std::uint32_t number) const {
  const std::lock_guard lock(mutex_);
  const std::uint32_t index = number / max_codelets;
  if (index < modules_.size() && modules_[index].codelets &&
      number % max_codelets < modules_[index].codelets->size())
    return &(*modules_[index].codelets)[number % max_codelets];
  return error(Code::invalid_argument, "no codelet " + std::to_string(number) + " is loaded");
}

}  // namespace aios::cpu
