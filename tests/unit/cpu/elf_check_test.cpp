#include "drivers/cpu/elf_check.hpp"

#include <doctest/doctest.h>
#include <elf.h>

#include <algorithm>
#include <cstring>

#include "tests/unit/cpu/test_support.hpp"

using namespace aios;
using namespace aios::cpu;

namespace {

using Bytes = std::vector<std::byte>;

template <class T>
T read(const Bytes& image, std::size_t offset) {
  T value;
  std::memcpy(&value, image.data() + offset, sizeof value);
  return value;
}

template <class T>
void write(Bytes& image, std::size_t offset, T value) {
  std::memcpy(image.data() + offset, &value, sizeof value);
}

template <class Match>
std::size_t find_segment(const Bytes& image, Match match) {
  const auto header = read<Elf64_Ehdr>(image, 0);
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    const std::size_t at = header.e_phoff + i * sizeof(Elf64_Phdr);
    if (match(read<Elf64_Phdr>(image, at))) return at;
  }
  FAIL("no such segment");
  return 0;
}

std::size_t find_type(const Bytes& image, std::uint32_t type) {
  return find_segment(image, [type](const Elf64_Phdr& s) { return s.p_type == type; });
}

std::size_t find_dynamic(const Bytes& image, std::int64_t tag) {
  const auto segment = read<Elf64_Phdr>(image, find_type(image, PT_DYNAMIC));
  for (std::size_t at = segment.p_offset; at < segment.p_offset + segment.p_filesz;
       at += sizeof(Elf64_Dyn))
    if (read<Elf64_Dyn>(image, at).d_tag == tag) return at;
  FAIL("no such dynamic entry");
  return 0;
}

/// The text of the refusal, which must be for malformed bytes.
std::string refusal(const Bytes& image) {
  const auto result = check_module_image(image);
  REQUIRE(!result);
  CHECK(result.error().code() == Code::invalid_argument);
  return result.error().message();
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("Modules that need only the allowed libraries pass") {
  CHECK(check_module_image(test::module_image("good")));
  CHECK(check_module_image(test::module_image("throws")));
}

TEST_CASE("A foreign library is denied by its name") {
  const auto result = check_module_image(test::module_image("needs_library"));
  REQUIRE(!result);
  CHECK(result.error().code() == Code::denied);
  CHECK(contains(result.error().message(), "libnuma.so.1"));
}

TEST_CASE("A library search path is denied by its name") {
  const auto result = check_module_image(test::module_image("runpath"));
  REQUIRE(!result);
  CHECK(result.error().code() == Code::denied);
  CHECK(contains(result.error().message(), "RUNPATH"));
}

TEST_CASE("Every entry that makes the loader look elsewhere is denied by its name") {
  const Bytes good = test::module_image("good");
  const std::size_t at = find_dynamic(good, DT_STRSZ);
  for (const auto& [tag, name] : {std::pair<std::int64_t, const char*>(DT_RPATH, "RPATH"),
                                  {DT_AUDIT, "AUDIT"},
                                  {DT_DEPAUDIT, "DEPAUDIT"},
                                  {DT_CONFIG, "CONFIG"},
                                  {DT_FILTER, "FILTER"},
                                  {DT_AUXILIARY, "AUXILIARY"}}) {
    Bytes image = good;
    write<std::int64_t>(image, at, tag);
    const auto result = check_module_image(image);
    REQUIRE(!result);
    CHECK(result.error().code() == Code::denied);
    CHECK(contains(result.error().message(), name));
  }
}

TEST_CASE("A file that is no shared object for this machine says so") {
  const Bytes good = test::module_image("good");
  CHECK(contains(refusal({}), "no ELF file"));
  CHECK(contains(refusal(Bytes(100, std::byte{'x'})), "no ELF file"));
  Bytes image = good;
  write<Elf64_Half>(image, offsetof(Elf64_Ehdr, e_machine), EM_RISCV);
  CHECK(contains(refusal(image), "not built for this machine"));
  image = good;
  image[EI_CLASS] = std::byte{ELFCLASS32};
  CHECK(contains(refusal(image), "not built for this machine"));
  image = good;
  write<Elf64_Half>(image, offsetof(Elf64_Ehdr, e_type), ET_EXEC);
  CHECK(contains(refusal(image), "-shared"));
  image = good;
  image[EI_OSABI] = std::byte{ELFOSABI_FREEBSD};
  CHECK(contains(refusal(image), "Linux"));
}

TEST_CASE("A program is refused although it is position-independent") {
  Bytes image = test::module_image("good");
  const std::size_t at = find_dynamic(image, DT_SYMENT);
  write<Elf64_Dyn>(image, at, {.d_tag = DT_FLAGS_1, .d_un = {.d_val = DF_1_PIE}});
  CHECK(contains(refusal(image), "it is a program"));
}

TEST_CASE("Segments must lie in the file, apart from one another and aligned") {
  const Bytes good = test::module_image("good");
  const std::size_t at = find_segment(good, [](const Elf64_Phdr& segment) {
    return segment.p_type == PT_LOAD && segment.p_vaddr != 0;
  });
  const auto change = [&](auto edit) {
    Bytes image = good;
    auto segment = read<Elf64_Phdr>(image, at);
    edit(segment);
    write(image, at, segment);
    return refusal(image);
  };
  CHECK(contains(change([](auto& s) { s.p_offset = UINT64_MAX - 4095 + s.p_vaddr % 4096; }),
                 "outside the file"));
  CHECK(contains(change([](auto& s) { s.p_filesz = s.p_memsz = UINT64_MAX; }), "outside"));
  CHECK(contains(change([](auto& s) { s.p_memsz = s.p_filesz - 1; }), "outside"));
  CHECK(contains(change([](auto& s) { s.p_memsz = UINT64_MAX; }), "too large"));
  CHECK(contains(change([](auto& s) { s.p_vaddr += 1ull << 50; }), "too large"));
  CHECK(contains(change([](auto& s) { s.p_vaddr += 1; }), "misaligned"));
  CHECK(contains(change([](auto& s) { s.p_vaddr %= 4096; }), "overlap"));
}

TEST_CASE("A damaged dynamic section is refused") {
  const Bytes good = test::module_image("good");
  const std::size_t segment = find_type(good, PT_DYNAMIC);
  Bytes image = good;
  write<Elf64_Addr>(image, segment + offsetof(Elf64_Phdr, p_vaddr), UINT64_MAX - 8);
  CHECK(contains(refusal(image), "dynamic section"));
  image = good;
  write<Elf64_Word>(image, segment, PT_NOTE);
  CHECK(contains(refusal(image), "nothing to load"));
  image = good;
  write<Elf64_Xword>(image, find_dynamic(good, DT_STRSZ) + 8, UINT64_MAX);
  CHECK(contains(refusal(image), "string table"));
  image = good;
  write<Elf64_Xword>(image, find_dynamic(good, DT_NEEDED) + 8, UINT64_MAX);
  CHECK(contains(refusal(image), "name of a library"));
}

TEST_CASE("A module cut short anywhere within its segments is refused") {
  const Bytes good = test::module_image("good");
  std::size_t needed = 0;
  const auto header = read<Elf64_Ehdr>(good, 0);
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    const auto segment = read<Elf64_Phdr>(good, header.e_phoff + i * sizeof(Elf64_Phdr));
    if (segment.p_type == PT_LOAD)
      needed = std::max<std::size_t>(needed, segment.p_offset + segment.p_filesz);
  }
  REQUIRE(needed < good.size());
  // Each in memory of its own, so that a sanitizer sees a read beyond the end.
  for (std::size_t size = 0; size < needed; ++size) {
    const Bytes cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    if (check_module_image(cut)) FAIL("accepted when cut to " << size);
  }
  CHECK(check_module_image(std::span(good).first(needed)));
}

TEST_CASE("Any damaged byte is survived") {
  Bytes image = test::module_image("good");
  std::size_t refused = 0;
  for (std::size_t at = 0; at < image.size(); ++at) {
    const std::byte original = image[at];
    for (const std::byte flip : {std::byte{0xff}, std::byte{0x01}, std::byte{0x80}}) {
      image[at] = original ^ flip;
      if (!check_module_image(image)) ++refused;
    }
    image[at] = original;
  }
  CHECK(refused > 0);
  CHECK(check_module_image(image));
}
