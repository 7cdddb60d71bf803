// The sections of an ELF file in memory, by name. Nothing in it is executed, and its bytes may be
// anything: who asks gets bytes that lie within the file, or nothing.
#pragma once

#include <elf.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "abi/runtime/status.hpp"

namespace aios {

class ElfSections {
 public:
  /// `image` outlives it and does not change. invalid_argument: no 64-bit ELF file with a table of
  /// named sections.
  static Result<ElfSections> open(std::span<const std::byte> image);

  /// Nothing when there is none with contents.
  std::optional<std::span<const std::byte>> find(std::string_view name) const;

 private:
  explicit ElfSections(std::span<const std::byte> image) : image_(image) {}
  std::optional<Elf64_Shdr> section(std::uint64_t index) const;
  std::optional<std::span<const std::byte>> bytes_of(const Elf64_Shdr& section) const;

  std::span<const std::byte> image_;
  Elf64_Ehdr header_{};
  std::string_view names_;
};

}  // namespace aios
