// Pictures as files, encoded by libjpeg and libpng, for tests of what decodes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// Needs <cstdio>.
#include <jpeglib.h>
#include <png.h>

namespace aios::test {

using Bytes = std::vector<std::uint8_t>;

inline constexpr std::uint32_t picture_width = 37, picture_height = 21;

/// A smooth picture with something in every channel.
inline Bytes picture(std::size_t channels) {
  Bytes pixels;
  for (std::uint64_t y = 0; y < picture_height; ++y)
    for (std::uint64_t x = 0; x < picture_width; ++x)
      for (std::size_t c = 0; c < channels; ++c)
        pixels.push_back(static_cast<std::uint8_t>((c == 0   ? 6 * x
                                                    : c == 1 ? 11 * y
                                                             : 3 * x + y) +
                                                   c));
  return pixels;
}

inline std::string jpeg(const Bytes& pixels, int channels, bool progressive, J_COLOR_SPACE space,
                        const std::vector<jpeg_scan_info>& scans = {}) {
  jpeg_compress_struct image{};
  jpeg_error_mgr errors{};
  unsigned char* bytes = nullptr;
  unsigned long length = 0;
  image.err = jpeg_std_error(&errors);
  jpeg_create_compress(&image);
  jpeg_mem_dest(&image, &bytes, &length);
  image.image_width = picture_width;
  image.image_height = picture_height;
  image.input_components = channels;
  image.in_color_space = space;
  jpeg_set_defaults(&image);
  jpeg_set_quality(&image, 100, TRUE);
  if (progressive) jpeg_simple_progression(&image);
  if (!scans.empty()) {
    image.scan_info = scans.data();
    image.num_scans = static_cast<int>(scans.size());
  }
  jpeg_start_compress(&image, TRUE);
  while (image.next_scanline < image.image_height) {
    auto* row = const_cast<JSAMPROW>(pixels.data()) +
                image.next_scanline * picture_width * static_cast<std::size_t>(channels);
    jpeg_write_scanlines(&image, &row, 1);
  }
  jpeg_finish_compress(&image);
  jpeg_destroy_compress(&image);
  std::string file(reinterpret_cast<char*>(bytes), length);
  std::free(bytes);
  return file;
}

struct PngForm {
  int colour;
  int bits;
  bool interlaced;
};

/// `rows` as libpng takes them: packed, 16 bits with the high byte first.
inline std::string png(const PngForm& form, const std::vector<Bytes>& rows,
                       const std::vector<png_color>& palette = {}) {
  std::string file;
  png_structp image = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(image);
  png_set_write_fn(
      image, &file,
      [](png_structp of, png_bytep bytes, std::size_t count) {
        static_cast<std::string*>(png_get_io_ptr(of))
            ->append(reinterpret_cast<char*>(bytes), count);
      },
      nullptr);
  png_set_IHDR(image, info, picture_width, picture_height, form.bits, form.colour,
               form.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
  if (!palette.empty()) png_set_PLTE(image, info, palette.data(), static_cast<int>(palette.size()));
  png_write_info(image, info);
  std::vector<png_bytep> pointers;
  for (const Bytes& row : rows) pointers.push_back(const_cast<png_bytep>(row.data()));
  png_write_image(image, pointers.data());
  png_write_end(image, info);
  png_destroy_write_struct(&image, &info);
  return file;
}

inline std::vector<Bytes> rows_of(const Bytes& pixels) {
  const std::size_t row = pixels.size() / picture_height;
  std::vector<Bytes> rows;
  for (std::size_t y = 0; y < picture_height; ++y)
    rows.emplace_back(pixels.begin() + static_cast<std::ptrdiff_t>(y * row),
                      pixels.begin() + static_cast<std::ptrdiff_t>((y + 1) * row));
  return rows;
}

inline std::string some_png() {
  return png({PNG_COLOR_TYPE_RGB, 8, false}, rows_of(picture(3)));
}
inline std::string some_jpeg() {
  return jpeg(picture(3), 3, false, JCS_RGB);
}

}  // namespace aios::test
