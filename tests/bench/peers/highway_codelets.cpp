#include "tests/bench/peers/highway_codelets.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

// Compiled once for each set of instructions.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/peers/highway_codelets.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// After it.
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace aios::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

// Rows here are whole numbers of vectors, but for their ends, which are done one by one.
void Add(const float* a, const float* b, float* c, std::size_t n) {
  const Floats d;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, c + i);
  for (; i < n; ++i) c[i] = a[i] + b[i];
}

void AddToAll(float value, float* y, std::size_t n) {
  const Floats d;
  const auto added = hn::Set(d, value);
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::Add(hn::LoadU(d, y + i), added), d, y + i);
  for (; i < n; ++i) y[i] += value;
}

float Sum(const float* x, std::size_t n) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, hn::LoadU(d, x + i));
    s1 = hn::Add(s1, hn::LoadU(d, x + i + lanes));
    s2 = hn::Add(s2, hn::LoadU(d, x + i + 2 * lanes));
    s3 = hn::Add(s3, hn::LoadU(d, x + i + 3 * lanes));
  }
  float rest = 0;
  for (; i < n; ++i) rest += x[i];
  return rest + hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

void Softmax(const float* x, float* y, std::size_t columns) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t whole = columns - columns % lanes;
  auto most = hn::Set(d, -3.4e38f);
  for (std::size_t i = 0; i < whole; i += lanes) most = hn::Max(most, hn::LoadU(d, x + i));
  float largest = hn::GetLane(hn::MaxOfLanes(d, most));
  for (std::size_t i = whole; i < columns; ++i) largest = std::max(largest, x[i]);
  const auto all = hn::Set(d, largest);
  auto sums = hn::Zero(d);
  for (std::size_t i = 0; i < whole; i += lanes) {
    const auto power = hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), all));
    hn::StoreU(power, d, y + i);
    sums = hn::Add(sums, power);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (std::size_t i = whole; i < columns; ++i) sum += y[i] = std::exp(x[i] - largest);
  const auto scale = hn::Set(d, 1 / sum);
  for (std::size_t i = 0; i < whole; i += lanes)
    hn::StoreU(hn::Mul(hn::LoadU(d, y + i), scale), d, y + i);
  for (std::size_t i = whole; i < columns; ++i) y[i] /= sum;
}

void LayerNorm(const float* x, const float* gamma, const float* beta, float epsilon, float* y,
               std::size_t columns) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  const std::size_t whole = columns - columns % lanes;
  const float mean = Sum(x, columns) / static_cast<float>(columns);
  const auto middle = hn::Set(d, mean);
  auto sums = hn::Zero(d);
  for (std::size_t i = 0; i < whole; i += lanes) {
    const auto off = hn::Sub(hn::LoadU(d, x + i), middle);
    sums = hn::MulAdd(off, off, sums);
  }
  float squares = hn::GetLane(hn::SumOfLanes(d, sums));
  for (std::size_t i = whole; i < columns; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(squares / static_cast<float>(columns) + epsilon);
  const auto scales = hn::Set(d, scale);
  for (std::size_t i = 0; i < whole; i += lanes)
    hn::StoreU(hn::MulAdd(hn::Mul(hn::Sub(hn::LoadU(d, x + i), middle), scales),
                          hn::LoadU(d, gamma + i), hn::LoadU(d, beta + i)),
               d, y + i);
  for (std::size_t i = whole; i < columns; ++i) y[i] = (x[i] - mean) * scale * gamma[i] + beta[i];
}

void Grey(const std::uint8_t* rgb, std::uint8_t* out, std::size_t pixels) {
  const hn::ScalableTag<std::uint16_t> d16;
  const hn::Rebind<std::uint8_t, decltype(d16)> d8;
  const std::size_t lanes = hn::Lanes(d16);
  std::size_t i = 0;
  for (; i + lanes <= pixels; i += lanes) {
    hn::Vec<decltype(d8)> red, green, blue;
    hn::LoadInterleaved3(d8, rgb + 3 * i, red, green, blue);
    const auto weighted = [&](auto colour, std::uint16_t by) {
      return hn::Mul(hn::PromoteTo(d16, colour), hn::Set(d16, by));
    };
    const auto sum = hn::Add(hn::Add(weighted(red, 77), weighted(green, 150)),
                             hn::Add(weighted(blue, 29), hn::Set(d16, 128)));
    hn::StoreU(
        hn::DemoteTo(d8, hn::BitCast(hn::RebindToSigned<decltype(d16)>(), hn::ShiftRight<8>(sum))),
        d8, out + i);
  }
  for (; i < pixels; ++i)
    out[i] = static_cast<std::uint8_t>(
        (77 * rgb[3 * i] + 150 * rgb[3 * i + 1] + 29 * rgb[3 * i + 2] + 128) / 256);
}

void Blur(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
          std::size_t first, std::size_t last) {
  const hn::ScalableTag<std::int16_t> d16;
  const hn::Rebind<std::uint8_t, decltype(d16)> d8;
  const hn::RebindToUnsigned<decltype(d16)> u16;
  const std::size_t lanes = hn::Lanes(d16);
  std::vector<std::int16_t> down(width + lanes);
  // 1 4 6 4 1
  const auto weigh = [&](auto a, auto b, auto c, auto d, auto e) {
    return hn::Add(hn::Add(hn::Add(a, e), hn::ShiftLeft<2>(hn::Add(b, hn::Add(c, d)))),
                   hn::ShiftLeft<1>(c));
  };
  for (std::size_t row = std::max<std::size_t>(first, 2); row < std::min(last, height - 2); ++row) {
    const std::uint8_t* const line = in + (row - 2) * width;
    for (std::size_t i = 0; i + lanes <= width; i += lanes) {
      const auto at = [&](std::size_t r) {
        return hn::PromoteTo(d16, hn::LoadU(d8, line + r * width + i));
      };
      hn::StoreU(weigh(at(0), at(1), at(2), at(3), at(4)), d16, down.data() + i);
    }
    for (std::size_t i = 0; i + lanes + 4 <= width; i += lanes) {
      const auto at = [&](std::size_t c) { return hn::LoadU(d16, down.data() + i + c); };
      const auto sum =
          hn::Add(weigh(at(0), at(1), at(2), at(3), at(4)), hn::Set(d16, std::int16_t{128}));
      hn::StoreU(hn::DemoteTo(d8, hn::BitCast(d16, hn::ShiftRight<8>(hn::BitCast(u16, sum)))), d8,
                 out + row * width + i + 2);
    }
  }
}

void Sobel(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
           std::size_t first, std::size_t last) {
  const hn::ScalableTag<std::int16_t> d16;
  const hn::Rebind<std::uint8_t, decltype(d16)> d8;
  const std::size_t lanes = hn::Lanes(d16);
  for (std::size_t row = std::max<std::size_t>(first, 1); row < std::min(last, height - 1); ++row) {
    const std::uint8_t* const line = in + (row - 1) * width;
    for (std::size_t i = 0; i + lanes + 2 <= width; i += lanes) {
      const auto at = [&](std::size_t r, std::size_t c) {
        return hn::PromoteTo(d16, hn::LoadU(d8, line + r * width + i + c));
      };
      const auto nw = at(0, 0), ne = at(0, 2), sw = at(2, 0), se = at(2, 2);
      const auto across = hn::Add(hn::Sub(hn::Add(ne, se), hn::Add(nw, sw)),
                                  hn::ShiftLeft<1>(hn::Sub(at(1, 2), at(1, 0))));
      const auto down = hn::Add(hn::Sub(hn::Add(sw, se), hn::Add(nw, ne)),
                                hn::ShiftLeft<1>(hn::Sub(at(2, 1), at(0, 1))));
      hn::StoreU(hn::DemoteTo(d8, hn::Add(hn::Abs(across), hn::Abs(down))), d8,
                 out + row * width + i + 1);
    }
  }
}

void ToHalf(const float* x, std::uint16_t* y, std::size_t n) {
  const Floats d;
  const hn::Rebind<hwy::float16_t, Floats> half;
  for (std::size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::DemoteTo(half, hn::LoadU(d, x + i)), half,
               reinterpret_cast<hwy::float16_t*>(y + i));
}

void FromHalf(const std::uint16_t* x, float* y, std::size_t n) {
  const Floats d;
  const hn::Rebind<hwy::float16_t, Floats> half;
  for (std::size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(x + i))), d,
               y + i);
}

void FromBfloat(const std::uint16_t* x, float* y, std::size_t n) {
  const Floats d;
  const hn::Rebind<hwy::bfloat16_t, Floats> bfloat;
  for (std::size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(bfloat, reinterpret_cast<const hwy::bfloat16_t*>(x + i))),
               d, y + i);
}

}  // namespace aios::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace aios::bench {
HWY_EXPORT(Add);
HWY_EXPORT(AddToAll);
HWY_EXPORT(Sum);
HWY_EXPORT(Softmax);
HWY_EXPORT(LayerNorm);
HWY_EXPORT(Grey);
HWY_EXPORT(Blur);
HWY_EXPORT(Sobel);
HWY_EXPORT(ToHalf);
HWY_EXPORT(FromHalf);
HWY_EXPORT(FromBfloat);

namespace highway {

void add(const float* a, const float* b, float* c, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(Add)(a, b, c, n);
}
void add_to_all(float value, float* y, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(AddToAll)(value, y, n);
}
float sum(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(Sum)(x, n);
}
void softmax(const float* x, float* y, std::size_t columns) {
  HWY_DYNAMIC_DISPATCH(Softmax)(x, y, columns);
}
void layer_norm(const float* x, const float* gamma, const float* beta, float epsilon, float* y,
                std::size_t columns) {
  HWY_DYNAMIC_DISPATCH(LayerNorm)(x, gamma, beta, epsilon, y, columns);
}
void grey(const std::uint8_t* rgb, std::uint8_t* out, std::size_t pixels) {
  HWY_DYNAMIC_DISPATCH(Grey)(rgb, out, pixels);
}
void blur(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
          std::size_t first, std::size_t last) {
  HWY_DYNAMIC_DISPATCH(Blur)(in, out, height, width, first, last);
}
void sobel(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
           std::size_t first, std::size_t last) {
  HWY_DYNAMIC_DISPATCH(Sobel)(in, out, height, width, first, last);
}
void to_half(const float* x, std::uint16_t* y, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(ToHalf)(x, y, n);
}
void from_half(const std::uint16_t* x, float* y, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(FromHalf)(x, y, n);
}
void from_bfloat(const std::uint16_t* x, float* y, std::size_t n) {
  HWY_DYNAMIC_DISPATCH(FromBfloat)(x, y, n);
}

}  // namespace highway
}  // namespace aios::bench
#endif
