#include "tests/conformance/cases.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "tests/conformance/case_parts.hpp"

namespace aios::conformance {

namespace {

// ---- vectors -----------------------------------------------------------------------------------

Case vector_add(std::size_t n) {
  Inputs in(1);
  const Floats a = in.floats(n);
  const Floats b = in.floats(n);
  std::vector<double> c(n);
  for (std::size_t i = 0; i < n; ++i) c[i] = double(a[i]) + double(b[i]);
  return {"vector_add " + std::to_string(n),
          "vector",
          "vector_add",
          {parts(n, 256), 1, 1},
          pack({u32(n)}),
          {reads(a), reads(b), writes(n * 4)},
          {{2, Element::f32, c, 0, rounding}}};
}

Case axpy(std::size_t n) {
  Inputs in(2);
  const Floats x = in.floats(n);
  const Floats y = in.floats(n);
  constexpr float a = 0.75f;
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = double(a) * x[i] + y[i];
  return {"axpy " + std::to_string(n),
          "vector",
          "axpy",
          {parts(n, 256), 1, 1},
          pack({u32(n), std::bit_cast<std::uint32_t>(a)}),
          {reads(x), changes(y)},
          {{1, Element::f32, out, rounding, rounding}}};
}

Case reduce(std::size_t n) {
  Inputs in(3);
  const Floats x = in.floats(n);
  const std::uint32_t blocks = parts(n, 1024);
  std::vector<double> sums(blocks, 0);
  for (std::size_t i = 0; i < n; ++i) sums[i / 1024] += x[i];
  // 11 additions deep, of at most 1024 numbers of at most 1.
  return {"reduce " + std::to_string(n),
          "vector",
          "reduce",
          {blocks, 1, 1},
          pack({u32(n)}),
          {reads(x), writes(blocks * 4)},
          {{1, Element::f32, sums, 1024 * 11 * rounding, 0}}};
}

Case scan(std::size_t n) {
  Inputs in(4);
  const Floats x = in.floats(n);
  const std::uint32_t blocks = parts(n, 256);
  std::vector<double> y(n);
  std::vector<double> sums(blocks, 0);
  for (std::size_t i = 0; i < n; ++i) {
    sums[i / 256] += x[i];
    y[i] = sums[i / 256];
  }
  constexpr double off = 256 * 8 * rounding;
  return {"scan " + std::to_string(n),
          "vector",
          "scan",
          {blocks, 1, 1},
          pack({u32(n)}),
          {reads(x), writes(n * 4), writes(blocks * 4)},
          {{1, Element::f32, y, off, 0}, {2, Element::f32, sums, off, 0}}};
}

Case scan_add(std::size_t n) {
  Inputs in(5);
  const std::uint32_t blocks = parts(n, 256);
  const Floats sums = in.floats(blocks);
  const Floats y = in.floats(n);
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = i < 256 ? y[i] : double(y[i]) + sums[i / 256 - 1];
  return {"scan_add " + std::to_string(n),
          "vector",
          "scan_add",
          {blocks, 1, 1},
          pack({u32(n)}),
          {reads(sums), changes(y)},
          {{1, Element::f32, out, 0, rounding}}};
}

Case histogram(std::size_t n) {
  Inputs in(6);
  const Bytes values = in.bytes(n);
  const Words bins = in.below(256, 1000);
  std::vector<double> out(bins.begin(), bins.end());
  for (const std::uint8_t value : values) ++out[value];
  return {"histogram " + std::to_string(n), "vector",       "histogram",
          {parts(n, 4096), 1, 1},           pack({u32(n)}), {reads(values), changes(bins)},
          {{1, Element::u32, out}}};
}

// ---- matrices ----------------------------------------------------------------------------------

Case sgemm(std::size_t m, std::size_t n, std::size_t k, float alpha, float beta) {
  Inputs in(7);
  const Floats a = in.floats(m * k);
  const Floats b = in.floats(k * n);
  const Floats c = in.floats(m * n);
  std::vector<double> out(m * n);
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t l = 0; l < k; ++l) sum += double(a[i * k + l]) * b[l * n + j];
      out[i * n + j] = alpha * sum + beta * double(c[i * n + j]);
    }
  return {"sgemm " + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
          "matrix",
          "sgemm",
          {parts(n, 64), parts(m, 64), 1},
          pack({u32(m), u32(n), u32(k), std::bit_cast<std::uint32_t>(alpha),
                std::bit_cast<std::uint32_t>(beta)}),
          {reads(a), reads(b), changes(c)},
          {{2, Element::f32, out, double(k + 4) * 2 * rounding, 0}}};
}

Case softmax(std::size_t rows, std::size_t columns, float spread) {
  Inputs in(8);
  const Floats x = in.floats(rows * columns, -spread, spread);
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < rows; ++row) {
    const auto from = x.begin() + static_cast<std::ptrdiff_t>(row * columns);
    const double most = *std::max_element(from, from + static_cast<std::ptrdiff_t>(columns));
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += std::exp(x[row * columns + i] - most);
    for (std::size_t i = 0; i < columns; ++i)
      y[row * columns + i] = std::exp(x[row * columns + i] - most) / sum;
  }
  return {"softmax " + std::to_string(rows) + "x" + std::to_string(columns) + " +-" +
              std::to_string(static_cast<int>(spread)),
          "matrix",
          "softmax",
          {u32(rows), 1, 1},
          pack({u32(columns)}),
          {reads(x), writes(x.size() * 4)},
          {{1, Element::f32, y, 1e-37, (double(spread) * 4 + 24) * rounding}}};
}

Case layer_norm(std::size_t rows, std::size_t columns) {
  Inputs in(9);
  const Floats x = in.floats(rows * columns, -3, 5);
  const Floats gamma = in.floats(columns);
  const Floats beta = in.floats(columns);
  constexpr float epsilon = 1e-5f;
  std::vector<double> y(x.size());
  for (std::size_t row = 0; row < rows; ++row) {
    double sum = 0;
    for (std::size_t i = 0; i < columns; ++i) sum += x[row * columns + i];
    const double mean = sum / double(columns);
    double squares = 0;
    for (std::size_t i = 0; i < columns; ++i) squares += std::pow(x[row * columns + i] - mean, 2);
    const double scale = 1 / std::sqrt(squares / double(columns) + epsilon);
    for (std::size_t i = 0; i < columns; ++i)
      y[row * columns + i] = (x[row * columns + i] - mean) * scale * gamma[i] + beta[i];
  }
  return {"layer_norm " + std::to_string(rows) + "x" + std::to_string(columns),
          "matrix",
          "layer_norm",
          {u32(rows), 1, 1},
          pack({u32(columns), std::bit_cast<std::uint32_t>(epsilon)}),
          {reads(x), reads(gamma), reads(beta), writes(x.size() * 4)},
          {{3, Element::f32, y, 5e-6, 5e-6}}};
}

Case conv2d(std::size_t channels, std::size_t height, std::size_t width, std::size_t filters,
            std::size_t size) {
  Inputs in(10);
  const Floats x = in.floats(channels * height * width);
  const Floats weights = in.floats(filters * channels * size * size);
  std::vector<double> y(filters * height * width, 0);
  const auto half = static_cast<std::ptrdiff_t>(size / 2);
  const auto at = [&](std::size_t channel, std::ptrdiff_t row, std::ptrdiff_t column) {
    const bool inside =
        row >= 0 && row < std::ptrdiff_t(height) && column >= 0 && column < std::ptrdiff_t(width);
    return inside ? double(x[(channel * height + std::size_t(row)) * width + std::size_t(column)])
                  : 0.0;
  };
  for (std::size_t f = 0; f < filters; ++f)
    for (std::size_t r = 0; r < height; ++r)
      for (std::size_t c = 0; c < width; ++c)
        for (std::size_t ch = 0; ch < channels; ++ch)
          for (std::size_t i = 0; i < size; ++i)
            for (std::size_t j = 0; j < size; ++j)
              y[(f * height + r) * width + c] +=
                  at(ch, std::ptrdiff_t(r + i) - half, std::ptrdiff_t(c + j) - half) *
                  weights[((f * channels + ch) * size + i) * size + j];
  return {"conv2d " + std::to_string(channels) + "x" + std::to_string(height) + "x" +
              std::to_string(width) + " by " + std::to_string(filters) + "x" + std::to_string(size),
          "matrix",
          "conv2d",
          {parts(width, 16), parts(height, 16), u32(filters)},
          pack({u32(channels), u32(height), u32(width), u32(filters), u32(size)}),
          {reads(x), reads(weights), writes(y.size() * 4)},
          {{2, Element::f32, y, double(channels * size * size + 1) * rounding * 2, 0}}};
}

// ---- images ------------------------------------------------------------------------------------

/// The pixel, or the nearest one at the edge.
double edge(const Bytes& image, std::size_t h, std::size_t w, std::ptrdiff_t r, std::ptrdiff_t c) {
  const auto row = std::clamp<std::ptrdiff_t>(r, 0, std::ptrdiff_t(h) - 1);
  const auto column = std::clamp<std::ptrdiff_t>(c, 0, std::ptrdiff_t(w) - 1);
  return image[std::size_t(row) * w + std::size_t(column)];
}

Case grey(std::size_t pixels) {
  Inputs in(11);
  const Bytes rgb = in.bytes(pixels * 3);
  std::vector<double> out(pixels);
  for (std::size_t i = 0; i < pixels; ++i)
    out[i] = std::floor((77.0 * rgb[3 * i] + 150.0 * rgb[3 * i + 1] + 29.0 * rgb[3 * i + 2]) / 256 +
                        0.5);
  return {"grey " + std::to_string(pixels),
          "image",
          "grey",
          {parts(pixels, 256), 1, 1},
          pack({u32(pixels)}),
          {reads(rgb), writes(pixels)},
          {{1, Element::u8, out}}};
}

Case resize(std::size_t h, std::size_t w, std::size_t nh, std::size_t nw) {
  Inputs in(12);
  const Bytes image = in.bytes(h * w);
  std::vector<double> out(nh * nw);
  for (std::size_t r = 0; r < nh; ++r)
    for (std::size_t c = 0; c < nw; ++c) {
      const double y = std::max((double(r) + 0.5) * double(h) / double(nh) - 0.5, 0.0);
      const double x = std::max((double(c) + 0.5) * double(w) / double(nw) - 0.5, 0.0);
      const auto top = std::ptrdiff_t(y);
      const auto left = std::ptrdiff_t(x);
      const double down = y - double(top);
      const double right = x - double(left);
      const double upper =
          edge(image, h, w, top, left) * (1 - right) + edge(image, h, w, top, left + 1) * right;
      const double lower = edge(image, h, w, top + 1, left) * (1 - right) +
                           edge(image, h, w, top + 1, left + 1) * right;
      out[r * nw + c] = std::floor(upper * (1 - down) + lower * down + 0.5);
    }
  // A value that lies just between two may become either.
  return {"resize " + std::to_string(h) + "x" + std::to_string(w) + " to " + std::to_string(nh) +
              "x" + std::to_string(nw),
          "image",
          "resize",
          {parts(nw, 16), parts(nh, 16), 1},
          pack({u32(h), u32(w), u32(nh), u32(nw)}),
          {reads(image), writes(nh * nw)},
          {{1, Element::u8, out, 1, 0}}};
}

Case blur(std::size_t h, std::size_t w) {
  Inputs in(13);
  const Bytes image = in.bytes(h * w);
  constexpr double weights[] = {1, 4, 6, 4, 1};
  std::vector<double> out(h * w);
  for (std::size_t r = 0; r < h; ++r)
    for (std::size_t c = 0; c < w; ++c) {
      double sum = 0;
      for (int i = 0; i < 5; ++i)
        for (int j = 0; j < 5; ++j)
          sum += weights[i] * weights[j] *
                 edge(image, h, w, std::ptrdiff_t(r) + i - 2, std::ptrdiff_t(c) + j - 2);
      out[r * w + c] = std::floor(sum / 256 + 0.5);
    }
  return {"blur " + std::to_string(h) + "x" + std::to_string(w),
          "image",
          "blur",
          {parts(w, 16), parts(h, 16), 1},
          pack({u32(h), u32(w)}),
          {reads(image), writes(h * w)},
          {{1, Element::u8, out}}};
}

Case sobel(std::size_t h, std::size_t w) {
  Inputs in(14);
  const Bytes image = in.bytes(h * w);
  constexpr int across[3][3] = {{-1, 0, 1}, {-2, 0, 2}, {-1, 0, 1}};
  std::vector<double> out(h * w);
  for (std::size_t r = 0; r < h; ++r)
    for (std::size_t c = 0; c < w; ++c) {
      double gx = 0;
      double gy = 0;
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          const double pixel =
              edge(image, h, w, std::ptrdiff_t(r) + i - 1, std::ptrdiff_t(c) + j - 1);
          gx += across[i][j] * pixel;
          gy += across[j][i] * pixel;
        }
      out[r * w + c] = std::min(std::fabs(gx) + std::fabs(gy), 255.0);
    }
  return {"sobel " + std::to_string(h) + "x" + std::to_string(w),
          "image",
          "sobel",
          {parts(w, 16), parts(h, 16), 1},
          pack({u32(h), u32(w)}),
          {reads(image), writes(h * w)},
          {{1, Element::u8, out}}};
}

// ---- k-means -----------------------------------------------------------------------------------

Case kmeans_assign(std::size_t n, std::size_t dimensions, std::size_t centres) {
  Inputs in(15);
  // Each point near one centre, so that rounding decides nothing.
  const Floats middle = in.floats(centres * dimensions, -100, 100);
  const Words nearest = in.below(n, u32(centres));
  Floats points = in.floats(n * dimensions, -0.1f, 0.1f);
  for (std::size_t i = 0; i < points.size(); ++i)
    points[i] += middle[nearest[i / dimensions] * dimensions + i % dimensions];
  return {"kmeans_assign " + std::to_string(n),
          "kmeans",
          "kmeans_assign",
          {parts(n, 256), 1, 1},
          pack({u32(n), u32(dimensions), u32(centres)}),
          {reads(points), reads(middle), writes(n * 4)},
          {{2, Element::u32, {nearest.begin(), nearest.end()}}}};
}

Case kmeans_sum(std::size_t n, std::size_t dimensions, std::size_t centres, std::size_t share) {
  Inputs in(16);
  const Floats points = in.floats(n * dimensions);
  const Words labels = in.below(n, u32(centres));
  const std::uint32_t blocks = parts(n, share);
  std::vector<double> sums(blocks * centres * dimensions, 0);
  std::vector<double> counts(blocks * centres, 0);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t row = i / share * centres + labels[i];
    ++counts[row];
    for (std::size_t d = 0; d < dimensions; ++d)
      sums[row * dimensions + d] += points[i * dimensions + d];
  }
  return {
      "kmeans_sum " + std::to_string(n),
      "kmeans",
      "kmeans_sum",
      {blocks, 1, 1},
      pack({u32(n), u32(dimensions), u32(centres), u32(share)}),
      {reads(points), reads(labels), writes(sums.size() * 4), writes(counts.size() * 4)},
      {{2, Element::f32, sums, double(share * share) * rounding, 0}, {3, Element::u32, counts}}};
}

Case kmeans_move(std::size_t dimensions, std::size_t centres, std::size_t shares) {
  Inputs in(17);
  const Floats sums = in.floats(shares * centres * dimensions);
  Words counts = in.below(shares * centres, 7);
  for (std::size_t share = 0; share < shares; ++share) counts[share * centres] = 0;  // none here
  const Floats middle = in.floats(centres * dimensions);
  std::vector<double> out(middle.begin(), middle.end());
  for (std::size_t cell = 0; cell < out.size(); ++cell) {
    double sum = 0;
    double count = 0;
    for (std::size_t share = 0; share < shares; ++share) {
      sum += sums[share * out.size() + cell];
      count += counts[share * centres + cell / dimensions];
    }
    if (count != 0) out[cell] = sum / count;
  }
  return {"kmeans_move " + std::to_string(centres),
          "kmeans",
          "kmeans_move",
          {parts(out.size(), 256), 1, 1},
          pack({u32(dimensions), u32(centres), u32(shares)}),
          {reads(sums), reads(counts), changes(middle)},
          {{2, Element::f32, out, double(shares * shares) * rounding, rounding}}};
}

template <class T>
double element(const std::vector<std::byte>& bytes, std::size_t i) {
  T value;
  std::memcpy(&value, bytes.data() + i * sizeof value, sizeof value);
  return double(value);
}

std::size_t width_of(Element element) {
  switch (element) {
    case Element::u8:
      return 1;
    case Element::u16:
    case Element::f16:
    case Element::bf16:
      return 2;
    default:
      return 4;
  }
}

double number(Element kind, const std::vector<std::byte>& found, std::size_t i) {
  switch (kind) {
    case Element::u8:
      return element<std::uint8_t>(found, i);
    case Element::u16:
      return element<std::uint16_t>(found, i);
    case Element::u32:
      return element<std::uint32_t>(found, i);
    case Element::f32:
      return element<float>(found, i);
    case Element::f16:
      return decode(half_format, element<std::uint16_t>(found, i));
    case Element::bf16:
      return decode(bfloat_format, element<std::uint16_t>(found, i));
  }
  return 0;
}

}  // namespace

std::vector<Case> standard_cases() {
  std::vector<Case> cases;
  for (const std::size_t n : {1u, 255u, 256u, 5000u}) {
    for (const auto& make : {vector_add, axpy, reduce, scan, scan_add, histogram})
      cases.push_back(make(n));
    cases.push_back(grey(n));
    cases.push_back(kmeans_assign(n, 3, 5));
    cases.push_back(kmeans_sum(n, 3, 5, 600));
  }
  cases.push_back(sgemm(1, 1, 1, 1, 0));
  cases.push_back(sgemm(64, 64, 64, 1, 0));
  cases.push_back(sgemm(65, 70, 33, -0.5f, 0.25f));
  cases.push_back(sgemm(3, 130, 17, 2, 1));
  cases.push_back(sgemm(193, 131, 70, 1, -1));
  for (const std::size_t columns : {1u, 100u, 256u, 1000u}) {
    cases.push_back(softmax(3, columns, 5));
    cases.push_back(softmax(2, columns, 80));
    cases.push_back(layer_norm(3, columns));
  }
  add_half_cases(cases);
  cases.push_back(conv2d(1, 1, 1, 1, 1));
  cases.push_back(conv2d(3, 17, 20, 2, 3));
  cases.push_back(conv2d(2, 16, 33, 3, 5));
  cases.push_back(conv2d(5, 12, 7, 3, 1));
  cases.push_back(conv2d(1, 2, 3, 2, 7));
  cases.push_back(conv2d(2, 90, 60, 1, 3));
  cases.push_back(conv2d(100, 9, 7, 2, 5));  // more weights than the processor does at once
  cases.push_back(resize(1, 1, 3, 3));
  cases.push_back(resize(40, 50, 17, 19));
  cases.push_back(resize(9, 7, 30, 33));
  cases.push_back(resize(3, 4, 20, 600));
  for (const auto& make : {blur, sobel}) {
    cases.push_back(make(1, 1));
    cases.push_back(make(16, 16));
    cases.push_back(make(33, 47));
    cases.push_back(make(2, 513));
    cases.push_back(make(5, 1100));
  }
  cases.push_back(kmeans_assign(700, 40, 9));
  cases.push_back(kmeans_move(3, 5, 9));
  cases.push_back(kmeans_move(20, 40, 2));
  return cases;
}

std::string difference(const Expectation& expected, const std::vector<std::byte>& found) {
  const std::size_t width = width_of(expected.element);
  if (found.size() != expected.values.size() * width)
    return "has " + std::to_string(found.size()) + " bytes, expected " +
           std::to_string(expected.values.size() * width);
  for (std::size_t i = 0; i < expected.values.size(); ++i) {
    const double value = number(expected.element, found, i);
    const double bound = expected.absolute + expected.relative * std::fabs(expected.values[i]);
    // Written so that not-a-number differs.
    if (std::fabs(value - expected.values[i]) <= bound) continue;
    return "element " + std::to_string(i) + " of buffer " + std::to_string(expected.buffer) +
           " is " + std::to_string(value) + ", expected " + std::to_string(expected.values[i]) +
           " within " + std::to_string(bound);
  }
  return {};
}

}  // namespace aios::conformance
