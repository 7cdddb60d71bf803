// Shares of the standard codelets that take memory for their work: whether or not each gets it,
// they do together what the grid says, once.
#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "tests/unit/cpu/starved/starved.hpp"

using aios::test::most_taken;
using aios::test::starved;

namespace {

/// Small whole numbers, so that results are exact however they are added.
std::vector<float> whole_numbers(std::size_t n, std::uint32_t seed) {
  std::mt19937 engine(seed);
  std::vector<float> made(n);
  for (float& value : made) value = static_cast<float>(static_cast<int>(engine() % 4) - 1);
  return made;
}

/// bf16, of numbers of up to 8 bits.
std::uint16_t bfloat_of(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}
/// Rounded to the nearest, of two as near the even one.
std::uint16_t rounded(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
std::vector<std::uint16_t> bfloats(const std::vector<float>& values) {
  std::vector<std::uint16_t> made;
  for (const float value : values) made.push_back(bfloat_of(value));
  return made;
}

struct Work {
  const aios_module_table& module;
  std::string_view name;
  std::array<std::uint32_t, 3> grid;
  std::vector<std::uint32_t> arguments;
  std::vector<aios_buffer> buffers;
};

/// Runs all shares; those whose bit is set in `without` get no memory.
void run(const Work& work, std::uint32_t shares, std::uint32_t without) {
  aios_codelet_function share = nullptr;
  for (const aios_codelet& codelet : std::span(work.module.codelets, work.module.count))
    if (codelet.name == work.name) share = codelet.run;
  REQUIRE((share != nullptr));
  char message[384] = {};
  aios_task task{};
  for (int i = 0; i < 3; ++i) task.grid[i] = work.grid[i];
  task.buffer_count = static_cast<std::uint32_t>(work.buffers.size());
  task.argument_bytes = static_cast<std::uint32_t>(work.arguments.size() * 4);
  task.buffers = work.buffers.data();
  task.arguments = work.arguments.data();
  task.message = message;
  task.message_bytes = sizeof message;
  task.shares = shares;
  for (task.share = 0; task.share < shares; ++task.share) {
    starved = (without >> task.share & 1) != 0;
    CHECK_MESSAGE(share(&task) == 0, message);
  }
  starved = false;
}

template <class T>
aios_buffer buffer(std::vector<T>& values, std::uint32_t mode) {
  return {values.data(), values.size() * sizeof(T), mode, 0, nullptr};
}

struct Size {
  std::uint32_t m, n, k;
};

/// C = 2 A B + 3 C of bf16.
void check_product(Size size, std::uint32_t shares, std::uint32_t without) {
  CAPTURE(size.m);
  CAPTURE(size.n);
  CAPTURE(size.k);
  CAPTURE(without);
  const auto [m, n, k] = size;
  const std::vector<float> a = whole_numbers(std::size_t{m} * k, 1);
  const std::vector<float> b = whole_numbers(std::size_t{k} * n, 2);
  const std::vector<float> c = whole_numbers(std::size_t{m} * n, 3);
  std::vector<std::uint16_t> expected(c.size());
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      float sum = 0;
      for (std::size_t l = 0; l < k; ++l) sum += a[i * k + l] * b[l * n + j];
      expected[i * n + j] = rounded(2 * sum + 3 * c[i * n + j]);
    }
  std::vector<std::uint16_t> of_a = bfloats(a), of_b = bfloats(b), result = bfloats(c);
  run({half_shares,
       "bfloat_gemm",
       {(n + 63) / 64, (m + 63) / 64, 1},
       {m, n, k, std::bit_cast<std::uint32_t>(2.0f), std::bit_cast<std::uint32_t>(3.0f)},
       {buffer(of_a, AIOS_MODE_READ), buffer(of_b, AIOS_MODE_READ),
        buffer(result, AIOS_MODE_READ_WRITE)}},
      shares, without);
  CHECK(result == expected);
}

struct Image {
  std::uint32_t channels, height, width, filters, size;
};

void check_convolution(Image image, std::uint32_t shares, std::uint32_t without) {
  CAPTURE(image.channels);
  CAPTURE(image.size);
  CAPTURE(without);
  const auto [channels, height, width, filters, size] = image;
  const std::size_t pixels = std::size_t{height} * width;
  std::vector<float> x = whole_numbers(pixels * channels, 4);
  std::vector<float> weights = whole_numbers(std::size_t{filters} * channels * size * size, 5);
  std::vector<float> y(pixels * filters, 1e9f), expected(y.size());
  const int half = static_cast<int>(size / 2);
  for (std::size_t filter = 0; filter < filters; ++filter)
    for (int row = 0; row < static_cast<int>(height); ++row)
      for (int column = 0; column < static_cast<int>(width); ++column) {
        float sum = 0;
        const float* weight = &weights[filter * channels * size * size];
        for (std::size_t channel = 0; channel < channels; ++channel)
          for (int i = row - half; i <= row + half; ++i)
            for (int j = column - half; j <= column + half; ++j, ++weight)
              if (i >= 0 && j >= 0 && i < static_cast<int>(height) && j < static_cast<int>(width))
                sum += x[channel * pixels + static_cast<std::size_t>(i) * width +
                         static_cast<std::size_t>(j)] *
                       *weight;
        expected[filter * pixels + static_cast<std::size_t>(row) * width +
                 static_cast<std::size_t>(column)] = sum;
      }
  run({matrix_shares,
       "conv2d",
       {(width + 15) / 16, (height + 15) / 16, filters},
       {channels, height, width, filters, size},
       {buffer(x, AIOS_MODE_READ), buffer(weights, AIOS_MODE_READ), buffer(y, AIOS_MODE_WRITE)}},
      shares, without);
  CHECK(y == expected);
}

}  // namespace

TEST_CASE("Products of halves are whole, whichever shares get memory") {
  for (const std::uint32_t without : {0b0000u, 0b0001u, 0b0110u, 0b1010u, 0b1111u}) {
    check_product({130, 70, 33}, 4, without);
    check_product({3, 150, 800}, 4, without);
  }
}

TEST_CASE("Products of halves larger than a part of the work are whole and take 4 MiB at most") {
  most_taken = 0;
  check_product({520, 3, 1600}, 1, 0);
  check_product({3, 520, 1600}, 1, 0);
  check_product({520, 520, 5}, 1, 0);
  check_product({2, 2, 100'000}, 1, 0);
  CHECK(most_taken > 0);
  CHECK(most_taken <= 4u << 20);
}

TEST_CASE("Convolutions are whole, whichever shares get memory") {
  for (const std::uint32_t without : {0b0000u, 0b0001u, 0b0110u, 0b1010u, 0b1111u}) {
    check_convolution({2, 19, 23, 3, 3}, 4, without);
    check_convolution({3, 19, 23, 2, 1}, 4, without);
  }
}

TEST_CASE("Convolutions of many channels are whole and take 512 KiB at most") {
  most_taken = 0;
  check_convolution({300, 9, 11, 2, 5}, 2, 0);
  check_convolution({1, 50, 50, 1, 3}, 1, 0);
  CHECK(most_taken > 0);
  CHECK(most_taken <= 512u << 10);
}

TEST_CASE("Rows that a grid names twice are whole, whichever shares get memory") {
  constexpr std::uint32_t rows = 3, columns = 4;
  for (std::uint32_t without = 0; without < 16; ++without) {
    CAPTURE(without);
    std::vector<std::uint16_t> x(std::size_t{rows} * columns, 0), y(x.size(), 0xA5A5);
    run({half_shares,
         "bfloat_softmax",
         {rows, 2, 1},
         {columns},
         {buffer(x, AIOS_MODE_READ), buffer(y, AIOS_MODE_WRITE)}},
        4, without);
    CHECK(y == std::vector(x.size(), bfloat_of(0.25f)));
  }
}
