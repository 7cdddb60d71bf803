#include "drivers/cpu/elf_check.hpp"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

namespace aios::cpu {
namespace {

#if defined(__x86_64__)
constexpr std::uint16_t host_machine = EM_X86_64;
constexpr const char* host_machine_name = "x86-64";
constexpr std::string_view loader_name = "ld-linux-x86-64.so.2";
#elif defined(__aarch64__)
constexpr std::uint16_t host_machine = EM_AARCH64;
constexpr const char* host_machine_name = "aarch64";
constexpr std::string_view loader_name = "ld-linux-aarch64.so.1";
#else
#error "AIOS modules are known for x86-64 and aarch64 only"
#endif

constexpr std::array<std::string_view, 8> libraries = {
    "libc.so.6", "libm.so.6",       "libstdc++.so.6", "libgcc_s.so.1",
    loader_name, "libpthread.so.0", "libdl.so.2",     "librt.so.1"};

bool blas_allowed = false;

constexpr std::uint64_t page_bytes = 4096;
constexpr std::size_t max_program_headers = 64;
constexpr std::size_t max_dynamic_entries = 1024;
constexpr std::size_t max_library_name_bytes = 128;
/// Of address space, so that no sum of two addresses can overflow.
constexpr std::uint64_t max_address = 1ull << 40;

std::unexpected<Status> malformed(std::string_view what) {
  return error(Code::invalid_argument,
               "this is not a module that can be loaded: " + std::string(what));
}

/// Tags that make the loader look elsewhere or load more than DT_NEEDED says.
const char* refused_tag(std::int64_t tag) {
  switch (tag) {
    case DT_RPATH:
      return "RPATH";
    case DT_RUNPATH:
      return "RUNPATH";
    case DT_AUDIT:
      return "AUDIT";
    case DT_DEPAUDIT:
      return "DEPAUDIT";
    case DT_CONFIG:
      return "CONFIG";
    case static_cast<std::int64_t>(DT_FILTER):
      return "FILTER";
    case static_cast<std::int64_t>(DT_AUXILIARY):
      return "AUXILIARY";
    default:
      return nullptr;
  }
}

class Image {
 public:
  explicit Image(std::span<const std::byte> bytes) : bytes_(bytes) {}

  Result<> check() {
    TRY(read_header());
    TRY(read_segments());
    return check_dynamic();
  }

 private:
  template <class T>
  std::optional<T> read(std::uint64_t offset) const {
    if (sizeof(T) > bytes_.size() || offset > bytes_.size() - sizeof(T)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  Result<> read_header();
  Result<> read_segments();
  Result<> add_segment(const Elf64_Phdr& segment);
  Result<> check_dynamic() const;
  Result<> check_needed(const std::vector<std::uint64_t>& names, std::uint64_t table,
                        std::uint64_t table_bytes) const;
  /// Where in the file the `size` bytes lie that will be mapped at `address`.
  std::optional<std::uint64_t> file_offset(std::uint64_t address, std::uint64_t size) const;

  std::span<const std::byte> bytes_;
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> loads_;
  std::optional<Elf64_Phdr> dynamic_;
};

Result<> Image::read_header() {
  const auto header = read<Elf64_Ehdr>(0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
    return malformed("it is no ELF file");
  header_ = *header;
  if (header_.e_ident[EI_CLASS] != ELFCLASS64 || header_.e_ident[EI_DATA] != ELFDATA2LSB ||
      header_.e_machine != host_machine)
    return malformed(std::string("it was not built for this machine (") + host_machine_name + ")");
  if (header_.e_ident[EI_VERSION] != EV_CURRENT || header_.e_version != EV_CURRENT)
    return malformed("unknown ELF version");
  if (header_.e_ident[EI_OSABI] != ELFOSABI_SYSV && header_.e_ident[EI_OSABI] != ELFOSABI_GNU)
    return malformed("it was not built for Linux");
  if (header_.e_type != ET_DYN) return malformed("it is no shared object (build it with -shared)");
  if (header_.e_ehsize != sizeof(Elf64_Ehdr) || header_.e_phentsize != sizeof(Elf64_Phdr) ||
      header_.e_phnum == 0 || header_.e_phnum > max_program_headers)
    return malformed("its ELF header is damaged");
  return {};
}

Result<> Image::add_segment(const Elf64_Phdr& segment) {
  if (segment.p_filesz > segment.p_memsz || segment.p_filesz > bytes_.size() ||
      segment.p_offset > bytes_.size() - segment.p_filesz)
    return malformed("a segment lies outside the file (is it cut short?)");
  if (segment.p_vaddr > max_address || segment.p_memsz > max_address)
    return malformed("a segment is too large");
  if (segment.p_vaddr % page_bytes != segment.p_offset % page_bytes)
    return malformed("a segment is misaligned");
  // The loader maps whole pages, later segments over earlier ones: only when no page is shared are
  // the bytes checked here the bytes it will read.
  if (!loads_.empty()) {
    const std::uint64_t end = loads_.back().p_vaddr + loads_.back().p_memsz;
    if (segment.p_vaddr < end || segment.p_vaddr / page_bytes < (end + page_bytes - 1) / page_bytes)
      return malformed("its segments overlap");
  }
  loads_.push_back(segment);
  return {};
}

Result<> Image::read_segments() {
  for (std::uint64_t i = 0; i < header_.e_phnum; ++i) {
    if (header_.e_phoff > bytes_.size()) return malformed("its program headers are missing");
    const auto segment = read<Elf64_Phdr>(header_.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) return malformed("its program headers are missing");
    if (segment->p_type == PT_LOAD) TRY(add_segment(*segment));
    if (segment->p_type != PT_DYNAMIC) continue;
    if (dynamic_) return malformed("it has two dynamic sections");
    dynamic_ = *segment;
  }
  if (loads_.empty() || !dynamic_) return malformed("it has nothing to load");
  return {};
}

std::optional<std::uint64_t> Image::file_offset(std::uint64_t address, std::uint64_t size) const {
  for (const Elf64_Phdr& load : loads_) {
    if (address < load.p_vaddr) continue;
    const std::uint64_t into = address - load.p_vaddr;
    if (size <= load.p_filesz && into <= load.p_filesz - size) return load.p_offset + into;
  }
  return std::nullopt;
}

Result<> Image::check_dynamic() const {
  std::vector<std::uint64_t> needed;
  std::optional<std::uint64_t> strings;
  std::uint64_t strings_bytes = 0;
  bool ended = false;
  for (std::uint64_t i = 0; i < max_dynamic_entries && !ended; ++i) {
    const auto at = file_offset(dynamic_->p_vaddr + i * sizeof(Elf64_Dyn), sizeof(Elf64_Dyn));
    const auto entry = at ? read<Elf64_Dyn>(*at) : std::nullopt;
    if (!entry) return malformed("its dynamic section is damaged");
    if (const char* name = refused_tag(entry->d_tag))
      return error(Code::denied, std::string("the module has a ") + name +
                                     " entry; link it without library search paths or filters");
    switch (entry->d_tag) {
      case DT_NULL:
        ended = true;
        break;
      case DT_NEEDED:
        needed.push_back(entry->d_un.d_val);
        break;
      case DT_STRTAB:
        strings = entry->d_un.d_ptr;
        break;
      case DT_STRSZ:
        strings_bytes = entry->d_un.d_val;
        break;
      case DT_FLAGS_1:
        if ((entry->d_un.d_val & DF_1_PIE) != 0)
          return malformed("it is a program (build it with -shared)");
        break;
      default:
        break;
    }
  }
  if (!ended || !strings) return malformed("its dynamic section is damaged");
  return check_needed(needed, *strings, strings_bytes);
}

Result<> Image::check_needed(const std::vector<std::uint64_t>& names, std::uint64_t table,
                             std::uint64_t table_bytes) const {
  const auto begin = file_offset(table, table_bytes);
  if (!begin) return malformed("its string table is damaged");
  for (const std::uint64_t name : names) {
    if (name >= table_bytes) return malformed("the name of a library it needs is damaged");
    const char* text = reinterpret_cast<const char*>(bytes_.data() + *begin + name);
    const std::size_t room = std::min<std::uint64_t>(table_bytes - name, max_library_name_bytes);
    const std::string_view library(text, strnlen(text, room));
    const bool printable =
        std::all_of(library.begin(), library.end(), [](char c) { return c > ' ' && c < '\x7f'; });
    if (library.size() == room || library.empty() || !printable)
      return malformed("the name of a library it needs is damaged");
    const bool allowed = std::find(libraries.begin(), libraries.end(), library) != libraries.end();
    if (!allowed && !(blas_allowed && library == blas_library))
      return error(Code::denied, "the module needs " + std::string(library) +
                                     ", which contexts do not have; link it statically or do "
                                     "without (allowed: libc, libm, libstdc++, libgcc_s)");
  }
  return {};
}

}  // namespace

std::span<const std::string_view> allowed_libraries() {
  return libraries;
}

void allow_blas() {
  blas_allowed = true;
}

Result<> check_module_image(std::span<const std::byte> image) {
  return Image(image).check();
}

}  // namespace aios::cpu
