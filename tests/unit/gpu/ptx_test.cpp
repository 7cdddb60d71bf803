// The emulator itself: what it refuses, and arithmetic that the standard codelets do not exercise.
#include "tests/support/cuda_double/ptx.hpp"

#include <doctest/doctest.h>

#include <cstring>

#include "tests/support/cuda_double/machine.hpp"
#include "tests/unit/gpu/test_support.hpp"

using namespace aios;
using namespace aios::cuda_double;

namespace {

std::string kernel(const std::string& body) {
  return ".version 6.3\n.target sm_70\n.address_size 64\n.visible .entry k(\n\t.param .u64 "
         "out\n)\n{\n\tld.param.u64 \t%rd1, [out];\n" +
         body + "\tret;\n}\n";
}

std::string refusal(const std::string& text) {
  const auto parsed = parse_ptx(text);
  return parsed ? "" : parsed.error().message();
}

/// What `body` stores at [%rd1], 8 bytes.
std::uint64_t result_of(const std::string& body) {
  const auto module = parse_ptx(kernel(body));
  REQUIRE_MESSAGE(module, module.error().message());
  std::uint64_t out = 0;
  const auto address = reinterpret_cast<std::uint64_t>(&out);
  DeviceMemory memory;
  memory.add(address, sizeof out);
  Launch launch{&(*module)->kernels.begin()->second, {1, 1, 1}, {1, 1, 1}, {}};
  launch.parameters.resize(8);
  std::memcpy(launch.parameters.data(), &address, 8);
  const std::atomic<bool> never = false;
  REQUIRE(run(launch, memory, never) == Outcome::done);
  return out;
}

}  // namespace

TEST_CASE("What is no PTX is refused") {
  CHECK(refusal("").find("no .version") != std::string::npos);
  CHECK(refusal("hello").find("unknown directive") != std::string::npos);
  CHECK(refusal(".version 6.3\n.visible .entry k(\n)\n{\n").find("ends within k") !=
        std::string::npos);
}

TEST_CASE("An unknown instruction is refused by its name and line") {
  CHECK(refusal(kernel("\tshfl.sync.up.b32 \t%r1, %r2, 1, 0, -1;\n")) ==
        "line 9: unknown instruction shfl");
  CHECK(refusal(kernel("\tadd.sat.s32 \t%r1, %r2, %r3;\n")) == "line 9: unknown part .sat of add");
  CHECK(refusal(kernel("\tdiv.approx.f32 \t%f1, %f2, %f3;\n")) ==
        "line 9: unknown part .approx of div");
  CHECK(refusal(kernel("\tcvt.rz.f32.s32 \t%f1, %r3;\n")) ==
        "line 9: unknown rounding .rz of a conversion");
  CHECK(refusal(kernel("\tadd.s32 \t%r1, %r2;\n")).find("wrong number of operands") !=
        std::string::npos);
  CHECK(refusal(kernel("\tbra \t$nowhere;\n")).find("no label $nowhere") != std::string::npos);
  CHECK(refusal(kernel("\tmov.u32 \t%r1, elsewhere;\n")).find("unknown operand") !=
        std::string::npos);
}

TEST_CASE("Signed and unsigned numbers are kept apart") {
  CHECK(result_of(
            "\tmov.u32 \t%r1, -8;\n\tshr.s32 \t%r2, %r1, 1;\n\tst.global.u32 \t[%rd1], %r2;\n") ==
        0xfffffffcu);
  CHECK(result_of(
            "\tmov.u32 \t%r1, -8;\n\tshr.u32 \t%r2, %r1, 1;\n\tst.global.u32 \t[%rd1], %r2;\n") ==
        0x7ffffffcu);
  CHECK(
      result_of(
          "\tmov.u32 \t%r1, -8;\n\tcvt.s64.s32 \t%rd2, %r1;\n\tst.global.u64 \t[%rd1], %rd2;\n") ==
      ~std::uint64_t{7});
  CHECK(result_of("\tmov.u32 \t%r1, -1;\n\tmul.wide.u32 \t%rd2, %r1, 2;\n\tst.global.u64 \t[%rd1], "
                  "%rd2;\n") == 0x1fffffffeu);
  CHECK(result_of("\tmov.u32 \t%r1, 7;\n\tmov.u32 \t%r2, 0;\n\tdiv.u32 \t%r3, %r1, %r2;\n"
                  "\tst.global.u32 \t[%rd1], %r3;\n") == 0xffffffffu);
  CHECK(result_of(
            "\tmov.u32 \t%r1, 1;\n\tshl.b32 \t%r2, %r1, 40;\n\tst.global.u32 \t[%rd1], %r2;\n") ==
        0);
}

TEST_CASE("A float that does not fit an integer becomes the nearest one that does") {
  CHECK(result_of("\tmov.f32 \t%f1, 0fBF800000;\n\tcvt.rzi.u32.f32 \t%r1, %f1;\n"
                  "\tst.global.u32 \t[%rd1], %r1;\n") == 0);
  CHECK(result_of("\tmov.f32 \t%f1, 0f7F800000;\n\tcvt.rzi.s32.f32 \t%r1, %f1;\n"
                  "\tst.global.u32 \t[%rd1], %r1;\n") == 0x7fffffffu);
}

TEST_CASE("A guarded instruction is skipped when its predicate says so") {
  const std::string body =
      "\tmov.u32 \t%r1, 5;\n\tsetp.gt.u32 \t%p1, %r1, 4;\n\tmov.u32 \t%r2, 1;\n"
      "\t@!%p1 bra \t$other;\n\tmov.u32 \t%r2, 2;\n$other:\n\tst.global.u32 \t[%rd1], %r2;\n";
  CHECK(result_of(body) == 2);
}
