#include "abi/runtime/elf_sections.hpp"

#include <cstring>

namespace aios {

namespace {

template <class T>
std::optional<T> read(std::span<const std::byte> image, std::uint64_t offset) {
  if (sizeof(T) > image.size() || offset > image.size() - sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, image.data() + offset, sizeof value);
  return value;
}

}  // namespace

Result<ElfSections> ElfSections::open(std::span<const std::byte> image) {
  ElfSections sections(image);
  const auto header = read<Elf64_Ehdr>(image, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
      header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB)
    return error(Code::invalid_argument, "it is no 64-bit ELF file");
  sections.header_ = *header;
  if (header->e_shentsize != sizeof(Elf64_Shdr) || header->e_shoff > image.size())
    return error(Code::invalid_argument, "its table of sections is damaged or was stripped");
  const auto names = sections.section(header->e_shstrndx);
  const auto bytes = names ? sections.bytes_of(*names) : std::nullopt;
  if (!bytes) return error(Code::invalid_argument, "its sections have no names");
  sections.names_ = {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
  return sections;
}

std::optional<Elf64_Shdr> ElfSections::section(std::uint64_t index) const {
  // Both numbers are far below where their sum would wrap.
  return read<Elf64_Shdr>(image_, header_.e_shoff + index * sizeof(Elf64_Shdr));
}

std::optional<std::span<const std::byte>> ElfSections::bytes_of(const Elf64_Shdr& section) const {
  if (section.sh_type != SHT_PROGBITS && section.sh_type != SHT_STRTAB) return std::nullopt;
  if (section.sh_size > image_.size() || section.sh_offset > image_.size() - section.sh_size)
    return std::nullopt;
  return image_.subspan(section.sh_offset, section.sh_size);
}

std::optional<std::span<const std::byte>> ElfSections::find(std::string_view name) const {
  for (std::uint64_t i = 0; i < header_.e_shnum; ++i) {
    const auto found = section(i);
    if (!found || found->sh_name >= names_.size()) continue;
    const std::string_view rest = names_.substr(found->sh_name);
    if (rest.substr(0, rest.find('\0')) == name) return bytes_of(*found);
  }
  return std::nullopt;
}

}  // namespace aios
