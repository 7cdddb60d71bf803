// Images that libjpeg and libpng wrote come back as their pixels; images that are cut short or
// damaged anywhere end in an error.
#include "services/mapreduce/jobs/image_decode.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/encoded_images.hpp"
#include "tests/unit/mapreduce/local_job.hpp"

namespace {

using aios::images::Size;
using aios::mapreduce::Failure;
using namespace aios::test;

Bytes as_rgb(const Bytes& grey) {
  Bytes pixels;
  for (const std::uint8_t one : grey) pixels.insert(pixels.end(), 3, one);
  return pixels;
}

/// Pixels, or why there are none.
struct Outcome {
  Bytes pixels;
  std::int32_t code = 0;
  std::string why;
};

Outcome decoded(const std::string& contents) {
  const aios::Fd fd = aios::test::file_with(contents);
  const aios::images::File file{fd.get(), contents.size()};
  Outcome outcome;
  try {
    const Size found = aios::images::read_size(file);
    // Damaged headers may say anything.
    if (found.width * found.height > 1u << 20 || found.width > 1u << 20) {
      outcome.code = Failure::too_large;
      return outcome;
    }
    outcome.pixels.assign(found.width * found.height * 3, 0xee);
    aios::images::decode(file, found, outcome.pixels.data());
  } catch (const Failure& failure) {
    outcome = {{}, failure.code(), failure.what()};
  }
  return outcome;
}

int farthest(const Bytes& a, const Bytes& b) {
  if (a.size() != b.size()) return 256;
  int most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(int{a[i]} - int{b[i]}));
  return most;
}

}  // namespace

TEST_CASE("A PNG of every form comes back as its pixels") {
  const Bytes grey = picture(1), rgb = picture(3);
  for (const bool interlaced : {false, true}) {
    CHECK(decoded(png({PNG_COLOR_TYPE_GRAY, 8, interlaced}, rows_of(grey))).pixels == as_rgb(grey));
    CHECK(decoded(png({PNG_COLOR_TYPE_RGB, 8, interlaced}, rows_of(rgb))).pixels == rgb);
    Bytes with_alpha, wide;
    for (std::size_t i = 0; i < rgb.size(); i += 3) {
      with_alpha.insert(with_alpha.end(), rgb.begin() + static_cast<std::ptrdiff_t>(i),
                        rgb.begin() + static_cast<std::ptrdiff_t>(i + 3));
      with_alpha.push_back(static_cast<std::uint8_t>(i));
    }
    CHECK(decoded(png({PNG_COLOR_TYPE_RGB_ALPHA, 8, interlaced}, rows_of(with_alpha))).pixels ==
          rgb);
    // 16 bits: the nearest of 8, which is value / 257 rounded.
    Bytes rounded;
    for (const std::uint8_t one : rgb) {
      const std::uint8_t low = static_cast<std::uint8_t>(one * 7);
      wide.push_back(one);
      wide.push_back(low);
      rounded.push_back(static_cast<std::uint8_t>(((one << 8 | low) + 128) / 257));
    }
    CHECK(decoded(png({PNG_COLOR_TYPE_RGB, 16, interlaced}, rows_of(wide))).pixels == rounded);
  }
}

TEST_CASE("A PNG of few bits is spread over the whole range, one with a palette has its colours") {
  std::vector<Bytes> rows(picture_height, Bytes((picture_width + 1) / 2));
  std::vector<png_color> palette;
  for (int i = 0; i < 16; ++i)
    palette.push_back({static_cast<png_byte>(i * 3), static_cast<png_byte>(255 - i),
                       static_cast<png_byte>(i * i)});
  Bytes grey, colours;
  for (std::size_t y = 0; y < picture_height; ++y)
    for (std::size_t x = 0; x < picture_width; ++x) {
      const auto value = static_cast<std::uint8_t>((x * 3 + y) % 16);
      rows[y][x / 2] =
          static_cast<std::uint8_t>(rows[y][x / 2] | (x % 2 == 0 ? value << 4 : value));
      grey.push_back(static_cast<std::uint8_t>(value * 17));
      colours.insert(colours.end(),
                     {palette[value].red, palette[value].green, palette[value].blue});
    }
  CHECK(decoded(png({PNG_COLOR_TYPE_GRAY, 4, false}, rows)).pixels == as_rgb(grey));
  CHECK(decoded(png({PNG_COLOR_TYPE_PALETTE, 4, true}, rows, palette)).pixels == colours);
}

TEST_CASE("A JPEG comes back as what it shows, progressive ones alike") {
  const Bytes grey = picture(1), rgb = picture(3);
  const Outcome of_grey = decoded(jpeg(grey, 1, false, JCS_GRAYSCALE));
  CHECK(farthest(of_grey.pixels, as_rgb(grey)) <= 2);
  CHECK(decoded(jpeg(grey, 1, true, JCS_GRAYSCALE)).pixels == of_grey.pixels);
  const Outcome of_rgb = decoded(jpeg(rgb, 3, false, JCS_RGB));
  // Colour has half the resolution.
  CHECK(farthest(of_rgb.pixels, rgb) <= 24);
  CHECK(decoded(jpeg(rgb, 3, true, JCS_RGB)).pixels == of_rgb.pixels);
}

TEST_CASE("An image that ends early is an error, wherever it ends") {
  for (const std::string& whole : {some_png(), some_jpeg(), jpeg(picture(3), 3, true, JCS_RGB)}) {
    REQUIRE(decoded(whole).code == 0);
    for (std::size_t length = 8; length < whole.size(); ++length) {
      const Outcome outcome = decoded(whole.substr(0, length));
      CHECK_MESSAGE(outcome.code != 0, "cut to " << length);
      CHECK(outcome.pixels.empty());
    }
    CHECK(decoded(whole.substr(0, whole.size() / 2)).code == Failure::corrupt);
    CHECK(decoded(whole.substr(0, whole.size() / 2)).why ==
          "the file ends in the middle of the image");
    // What follows an image does not count.
    CHECK(decoded(whole + "tail").code == 0);
  }
}

TEST_CASE("Damage is an error or another picture, and never more than that") {
  std::mt19937 random(7);
  for (const std::string& whole :
       {some_png(), some_jpeg(), jpeg(picture(3), 3, true, JCS_RGB),
        png({PNG_COLOR_TYPE_PALETTE, 8, true}, rows_of(picture(1)), std::vector<png_color>(256))}) {
    int failed = 0;
    for (int i = 0; i < 1000; ++i) {
      std::string damaged = whole;
      for (std::uint32_t n = 1 + random() % 3; n > 0; --n)
        damaged[random() % damaged.size()] = static_cast<char>(random());
      failed += decoded(damaged).code != 0;
    }
    CHECK(failed > 100);
  }
}

TEST_CASE("What is no image is told") {
  for (const std::string& text : {std::string(), std::string("GIF89a............"),
                                  std::string("\x89PNG"), std::string(100, '\0')}) {
    CHECK(decoded(text).code == Failure::invalid_argument);
    CHECK(decoded(text).why == "the file is neither a JPEG nor a PNG image");
  }
}

TEST_CASE("A JPEG of printing inks is not supported") {
  const Outcome inks = decoded(jpeg(picture(4), 4, false, JCS_CMYK));
  CHECK(inks.code == 15);
  CHECK(inks.why == "its colours are inks (CMYK); save it as RGB");
}

TEST_CASE("A JPEG with more scans than anybody needs is refused") {
  // Every coefficient by itself, bit by bit.
  std::vector<jpeg_scan_info> scans{{1, {0, 0, 0, 0}, 0, 0, 0, 0}};
  constexpr int lowest_first = 8;
  for (int k = 1; k < 64; ++k)
    for (int low = lowest_first; low >= 0; --low)
      scans.push_back({1, {0, 0, 0, 0}, k, k, low == lowest_first ? 0 : low + 1, low});
  const auto file = [&](std::size_t count) {
    return jpeg(picture(1), 1, true, JCS_GRAYSCALE, {scans.begin(), scans.begin() + count});
  };
  CHECK(decoded(file(400)).code == 0);
  const Outcome many = decoded(file(scans.size()));
  CHECK(many.code == Failure::corrupt);
  CHECK(many.why == "the image has more than 500 scans");
}

TEST_CASE("A file that changed between its two readings is told") {
  for (const std::string& whole : {some_png(), some_jpeg()}) {
    const aios::Fd fd = aios::test::file_with(whole);
    Bytes pixels(3 * 38 * 21);
    try {
      aios::images::decode({fd.get(), whole.size()}, {38, 21}, pixels.data());
      FAIL("it was decoded");
    } catch (const Failure& failure) {
      CHECK(failure.code() == Failure::source_changed);
    }
    try {
      (void)aios::images::read_size({fd.get(), 8});
      aios::images::decode({fd.get(), whole.size() + 5000}, {picture_width, picture_height},
                           pixels.data());
    } catch (const Failure& failure) {
      CHECK(failure.code() == Failure::source_changed);
    }
  }
}
