#include "drivers/gpu/kernel_module.hpp"

#include <doctest/doctest.h>
#include <elf.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "abi/include/aios/codelet.h"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::gpu;
using namespace aios::gpu::test;

namespace {

/// Where in the file the record of vector_add lies.
std::size_t record_of_vector_add(const std::vector<std::byte>& image) {
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, image.data() + header.e_shoff + i * sizeof section, sizeof section);
    if (section.sh_type != SHT_PROGBITS || section.sh_size % sizeof(aios_kernel_record) != 0)
      continue;
    for (std::size_t at = 0; at < section.sh_size; at += sizeof(aios_kernel_record))
      if (std::memcmp(image.data() + section.sh_offset + at, "vector_add", 11) == 0)
        return section.sh_offset + at;
  }
  FAIL("no record of vector_add");
  return 0;
}

std::string refusal(const std::vector<std::byte>& image) {
  const auto module = read_kernel_module(image);
  return module ? "" : module.error().message();
}

}  // namespace

TEST_CASE("A module says what its kernels take") {
  const auto module = read_kernel_module(module_image("matrix"));
  REQUIRE(module);
  const auto kernel = module->kernel("sgemm");
  REQUIRE(kernel);
  CHECK((*kernel)->block == std::array<std::uint32_t, 3>{16, 16, 1});
  CHECK((*kernel)->argument_bytes == 20);
  CHECK((*kernel)->modes ==
        std::vector<std::uint32_t>{AIOS_MODE_READ, AIOS_MODE_READ, AIOS_MODE_READ_WRITE});
  CHECK((*kernel)->gemm == GemmElement::f32);
  CHECK((*kernel)->gemm_tile == 64);
  CHECK((*module->kernel("softmax"))->gemm == GemmElement::none);
  CHECK(module->ptx.find(".entry sgemm") != std::string::npos);
  CHECK(module->opencl.find("__kernel") != std::string::npos);
}

TEST_CASE("A kernel that is not there is not_found and those that are get listed") {
  const auto module = read_kernel_module(module_image("matrix"));
  REQUIRE(module);
  const auto none = module->kernel("dgemm");
  REQUIRE(!none);
  CHECK(none.error().code() == Code::not_found);
  CHECK(none.error().message().starts_with("the module has no kernel 'dgemm'; it has "));
  for (const char* name : {"sgemm", "softmax", "layer_norm", "conv2d"})
    CHECK(none.error().message().find(name) != std::string::npos);
}

TEST_CASE("What is said to be a product of matrices and cannot be is refused") {
  const auto image = module_image("matrix");
  const aios_gemm_record said{"sgemm", AIOS_ELEMENT_f32, 64, {}};
  const auto raw = std::as_bytes(std::span(&said, 1));
  const auto at = std::ranges::search(image, raw).begin() - image.begin();
  REQUIRE(static_cast<std::size_t>(at) < image.size());
  const auto refused = [&](const aios_gemm_record& record) {
    auto damaged = image;
    std::memcpy(damaged.data() + at, &record, sizeof record);
    return refusal(damaged).find("is no product of matrices") != std::string::npos;
  };
  CHECK(!refused(said));
  CHECK(refused({"sgemm", AIOS_ELEMENT_bf16 + 1, 64, {}}));
  CHECK(refused({"sgemm", 0, 64, {}}));
  CHECK(refused({"sgemm", AIOS_ELEMENT_f32, 0, {}}));
  CHECK(refused({"softmax", AIOS_ELEMENT_f32, 64, {}}));
  CHECK(refused({"dgemm", AIOS_ELEMENT_f32, 64, {}}));
}

TEST_CASE("What is no module is refused") {
  CHECK(refusal({}).find("no 64-bit ELF file") != std::string::npos);
  CHECK(refusal(std::vector<std::byte>(4096)).find("no 64-bit ELF file") != std::string::npos);
  auto cut = module_image("vector");
  cut.resize(cut.size() / 2);
  CHECK(refusal(cut) != "");
}

TEST_CASE("A damaged list of kernels is refused") {
  const auto image = module_image("vector");
  const std::size_t at = record_of_vector_add(image);
  const auto with = [&](std::size_t offset, std::uint32_t value) {
    auto changed = image;
    std::memcpy(changed.data() + at + offset, &value, sizeof value);
    return refusal(changed);
  };
  CHECK(with(offsetof(aios_kernel_record, block), 0).find("no or more than") != std::string::npos);
  CHECK(with(offsetof(aios_kernel_record, block), 0xffffffff).find("no or more than") !=
        std::string::npos);
  CHECK(with(offsetof(aios_kernel_record, buffer_count), 17).find("too many buffers") !=
        std::string::npos);
  CHECK(with(offsetof(aios_kernel_record, modes), 9).find("unknown way") != std::string::npos);
  auto endless = image;
  std::fill_n(endless.begin() + static_cast<std::ptrdiff_t>(at), 64, std::byte{'a'});
  CHECK(refusal(endless).find("has no end") != std::string::npos);
}

TEST_CASE("No changed byte of a module makes reading it fault") {
  const auto image = module_image("kmeans");
  std::mt19937 random(1);
  // Headers and tables of sections, where the offsets are.
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  for (int i = 0; i < 20000; ++i) {
    auto changed = image;
    const bool in_header = i % 4 == 0;
    const std::size_t from = in_header ? 0 : header.e_shoff;
    const std::size_t range = in_header ? sizeof header : changed.size() - header.e_shoff;
    for (int n = 0; n < 3; ++n) changed[from + random() % range] = static_cast<std::byte>(random());
    (void)read_kernel_module(changed);
  }
}
