// What every device must compute: the standard codelets on inputs of several sizes, and what must
// come out, computed here in double precision from the codelet's definition.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace aios::conformance {

/// f16 and bf16 are IEEE half precision and bfloat16.
enum class Element { u8, u16, u32, f32, f16, bf16 };

struct CaseBuffer {
  std::vector<std::byte> bytes;  ///< at first
  std::uint32_t mode;            ///< AIOS_MODE_*
};

/// What a buffer must hold afterwards: |found - expected| <= absolute + relative * |expected|.
/// Whole numbers have no tolerance.
struct Expectation {
  std::size_t buffer;
  Element element;
  std::vector<double> values;
  double absolute = 0;
  double relative = 0;
};

struct Case {
  std::string name;     ///< "sgemm 65x70x33"
  std::string module;   ///< "matrix"
  std::string codelet;  ///< "sgemm"
  std::array<std::uint32_t, 3> grid{1, 1, 1};
  std::vector<std::byte> arguments;
  std::vector<CaseBuffer> buffers;
  std::vector<Expectation> expected;
};

/// All of them; the same ones each time.
std::vector<Case> standard_cases();

/// Nothing when `buffer`, as found, meets the expectation; else where it does not, and how.
std::string difference(const Expectation& expected, const std::vector<std::byte>& found);

}  // namespace aios::conformance
