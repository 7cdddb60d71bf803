// Half precision: the formats as the standards define them, without the codelets' tricks.
#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/conformance/case_parts.hpp"

namespace aios::conformance {

double decode(const Format& format, std::uint16_t bits) {
  const int stored = format.precision - 1;
  const int exponent = (bits & 0x7fff) >> stored;
  const int significand = bits & ((1 << stored) - 1);
  const double size =
      exponent == 0 ? std::ldexp(significand, format.least - stored)
                    : std::ldexp(significand + (1 << stored), exponent - 1 + format.least - stored);
  return (bits & 0x8000) != 0 ? -size : size;
}

namespace {

/// The nearest, of two as near the even one. What is beyond the largest has no place here.
std::uint16_t encode(const Format& format, double value) {
  const int stored = format.precision - 1;
  const double size = std::fabs(value);
  int exponent = 0;
  (void)std::frexp(size, &exponent);
  exponent = size == 0 ? format.least : std::max(exponent - 1, format.least);
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(size, stored - exponent)));
  // Steps beyond the significand carry into the exponent, as they should.
  const int bits = ((exponent - format.least) << stored) + steps;
  return static_cast<std::uint16_t>(bits | (std::signbit(value) ? 0x8000 : 0));
}

using Halves = std::vector<std::uint16_t>;

Halves encode(const Format& format, const Floats& values) {
  Halves made(values.size());
  std::ranges::transform(values, made.begin(), [&](float v) { return encode(format, v); });
  return made;
}

/// Half a step of the format.
double rounding_of(const Format& format) {
  return std::ldexp(1.0, -format.precision);
}

Case gemm(const Format& format, std::size_t m, std::size_t n, std::size_t k, float alpha,
          float beta) {
  Inputs in(17);
  const Halves a = encode(format, in.floats(m * k));
  const Halves b = encode(format, in.floats(k * n));
  const Halves c = encode(format, in.floats(m * n));
  std::vector<double> out(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < k; ++l)
        sum += decode(format, a[i * k + l]) * decode(format, b[l * n + j]);
      out[i * n + j] = alpha * sum + beta * decode(format, c[i * n + j]);
    }
  const std::string name = std::string(format.name) + "_gemm";
  return {name + " " + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
          "half",
          name,
          {parts(n, 64), parts(m, 64), 1},
          pack({u32(m), u32(n), u32(k), std::bit_cast<std::uint32_t>(alpha),
                std::bit_cast<std::uint32_t>(beta)}),
          {reads(a), reads(b), changes(c)},
          // As sgemm, and then rounded once: also numbers below the smallest normal one.
          {{2, format.element, out, double(k + 4) * 2 * rounding + 3e-8, rounding_of(format)}}};
}

Case softmax(const Format& format, std::size_t rows, std::size_t columns, float spread) {
  Inputs in(8);
  const Halves x = encode(format, in.floats(rows * columns, -spread, spread));
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::size_t i = row * columns; i < (row + 1) * columns; ++i)
      sum += std::exp(decode(format, x[i]));
    for (std::size_t i = row * columns; i < (row + 1) * columns; ++i)
      y[i] = std::exp(decode(format, x[i])) / sum;
  }
  const std::string name = std::string(format.name) + "_softmax";
  return {name + " " + std::to_string(rows) + "x" + std::to_string(columns),
          "half",
          name,
          {u32(rows), 1, 1},
          pack({u32(columns)}),
          {reads(x), writes(x.size() * 2)},
          {{1, format.element, y, 3e-8, rounding_of(format) + 64 * rounding}}};
}

/// Numbers of every size the format has, and such as lie between two of its own.
Case to_format(const Format& format, std::size_t n) {
  Inputs in(18);
  Floats x = in.floats(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double size = std::ldexp(1.0, static_cast<int>(i % 34) - 25);
    const double own = decode(format, encode(format, double(x[i]) * size));
    const double next = decode(format, static_cast<std::uint16_t>(encode(format, own) + 1));
    x[i] = static_cast<float>(i % 3 == 0 ? own : i % 3 == 1 ? (own + next) / 2 : x[i] * size);
  }
  std::vector<double> y(n);
  std::ranges::transform(x, y.begin(), [&](float v) { return double(encode(format, v)); });
  return {std::string("to_") + format.name + " " + std::to_string(n),
          "half",
          std::string("to_") + format.name,
          {parts(n, 256), 1, 1},
          pack({u32(n)}),
          {reads(x), writes(n * 2)},
          {{1, Element::u16, y}}};
}

/// All finite numbers of the format, of both signs, or the first `n` of them.
Case from_format(const Format& format, std::size_t n) {
  const std::uint16_t end = static_cast<std::uint16_t>(encode(format, format.largest) + 1);
  Halves x(n);
  for (std::size_t i = 0; i < n; ++i)
    x[i] = static_cast<std::uint16_t>(i * 2654435761u % end | (i % 2 == 0 ? 0 : 0x8000));
  std::vector<double> y(n);
  std::ranges::transform(x, y.begin(), [&](std::uint16_t bits) { return decode(format, bits); });
  return {std::string("from_") + format.name + " " + std::to_string(n),
          "half",
          std::string("from_") + format.name,
          {parts(n, 256), 1, 1},
          pack({u32(n)}),
          {reads(x), writes(n * 4)},
          {{1, Element::f32, y}}};
}

}  // namespace

void add_half_cases(std::vector<Case>& cases) {
  for (const Format* format : {&half_format, &bfloat_format}) {
    cases.push_back(gemm(*format, 1, 1, 1, 1, 0));
    cases.push_back(gemm(*format, 65, 70, 33, -0.5f, 0.25f));
    cases.push_back(gemm(*format, 3, 130, 17, 2, 1));
    cases.push_back(gemm(*format, 300, 530, 3, 1, 0.5f));
    cases.push_back(gemm(*format, 9, 17, 1700, 1, 0.5f));  // the processor's parts of k, and more
    cases.push_back(softmax(*format, 2, 1, 5));
    cases.push_back(softmax(*format, 3, 300, 5));
    cases.push_back(to_format(*format, 5000));
    cases.push_back(from_format(*format, 5000));
  }
}

}  // namespace aios::conformance
