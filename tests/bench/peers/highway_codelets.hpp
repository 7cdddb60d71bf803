// What codelets-bench measures the standard codelets beside: the same written with Google's
// Highway, for the best instructions that the processor has. Each on the calling thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aios::bench::highway {

void add(const float* a, const float* b, float* c, std::size_t n);
void add_to_all(float value, float* y, std::size_t n);
float sum(const float* x, std::size_t n);
void softmax(const float* x, float* y, std::size_t columns);
void layer_norm(const float* x, const float* gamma, const float* beta, float epsilon, float* y,
                std::size_t columns);
void grey(const std::uint8_t* rgb, std::uint8_t* out, std::size_t pixels);
/// Rows `first` to before `last` of an image, but for two pixels at its edges.
void blur(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
          std::size_t first, std::size_t last);
void sobel(const std::uint8_t* in, std::uint8_t* out, std::size_t height, std::size_t width,
           std::size_t first, std::size_t last);
void to_half(const float* x, std::uint16_t* y, std::size_t n);
void from_half(const std::uint16_t* x, float* y, std::size_t n);
void from_bfloat(const std::uint16_t* x, float* y, std::size_t n);

}  // namespace aios::bench::highway
