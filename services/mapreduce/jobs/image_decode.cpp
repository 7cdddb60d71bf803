#include "services/mapreduce/jobs/image_decode.hpp"

#include <aios/mapreduce.hpp>
#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

// Needs what is declared above.
#include <jpeglib.h>
#include <png.h>
#include <unistd.h>

namespace aios::images {

namespace {

using mapreduce::Failure;

constexpr std::int32_t not_supported = 15;  // of aios.h

constexpr const char* ends_early = "the file ends in the middle of the image";
constexpr const char* shorter = "the file has become shorter since the job began";

/// Why decoding stopped: written before the jump out of a library, thrown after it. The libraries
/// are C, so nothing between the two may need destroying.
struct Stop {
  std::jmp_buf jump;
  std::int32_t code = 0;
  char text[JMSG_LENGTH_MAX] = {};

  [[noreturn]] void at(std::int32_t why, const char* what) {
    code = why;
    std::snprintf(text, sizeof text, "%s", what);
    std::longjmp(jump, 1);
  }
  [[noreturn]] void raise() const { throw Failure(code, text); }
};

/// Bytes from `at` on, at most `room`; 0 at the end. Ends by `stop` when they cannot be read.
std::size_t read_some(const File& file, std::uint64_t at, void* to, std::size_t room, Stop& stop) {
  ssize_t got;
  do {
    got = ::pread(file.fd, to, room, static_cast<off_t>(at));
  } while (got < 0 && errno == EINTR);
  if (got < 0) stop.at(Failure::io_error, std::strerror(errno));
  if (got == 0 && at < file.size_bytes) stop.at(Failure::source_changed, shorter);
  return static_cast<std::size_t>(got);
}

// ---- JPEG ---------------------------------------------------------------------------------------

constexpr std::size_t chunk_bytes = 64u << 10;
/// Each scan of a progressive file goes over the whole image, however few bytes it has.
constexpr int max_scans = 500;

struct Jpeg {
  jpeg_decompress_struct image{};
  jpeg_error_mgr errors{};
  jpeg_source_mgr source{};
  jpeg_progress_mgr progress{};
  Stop stop{};
  File file{};
  std::uint64_t at = 0;
  JOCTET bytes[chunk_bytes];

  static Jpeg& of(j_common_ptr image) { return *static_cast<Jpeg*>(image->client_data); }
  static Jpeg& of(j_decompress_ptr image) { return *static_cast<Jpeg*>(image->client_data); }
};

void jpeg_failed(j_common_ptr image) {
  char text[JMSG_LENGTH_MAX];
  image->err->format_message(image, text);
  Jpeg::of(image).stop.at(Failure::corrupt, text);
}

/// Warnings are about damage; what has a level of 0 or more tells what is done.
void jpeg_message(j_common_ptr image, int level) {
  if (level < 0) jpeg_failed(image);
}

void jpeg_no_output(j_common_ptr) {}

boolean jpeg_fill(j_decompress_ptr image) {
  Jpeg& jpeg = Jpeg::of(image);
  const std::size_t got = read_some(jpeg.file, jpeg.at, jpeg.bytes, sizeof jpeg.bytes, jpeg.stop);
  if (got == 0) jpeg.stop.at(Failure::corrupt, ends_early);
  jpeg.at += got;
  jpeg.source.next_input_byte = jpeg.bytes;
  jpeg.source.bytes_in_buffer = got;
  return TRUE;
}

void jpeg_skip(j_decompress_ptr image, long bytes) {
  jpeg_source_mgr& source = Jpeg::of(image).source;
  for (auto left = static_cast<std::size_t>(bytes > 0 ? bytes : 0); left != 0;) {
    if (source.bytes_in_buffer == 0) jpeg_fill(image);
    const std::size_t step = left < source.bytes_in_buffer ? left : source.bytes_in_buffer;
    source.next_input_byte += step;
    source.bytes_in_buffer -= step;
    left -= step;
  }
}

void jpeg_progress(j_common_ptr image) {
  const auto* decoding = reinterpret_cast<j_decompress_ptr>(image);
  if (decoding->input_scan_number > max_scans)
    Jpeg::of(image).stop.at(Failure::corrupt, "the image has more than 500 scans");
}

void jpeg_nothing(j_decompress_ptr) {}

/// Up to its header.
void jpeg_begin(Jpeg& jpeg, const File& file) {
  jpeg.file = file;
  jpeg.image.err = jpeg_std_error(&jpeg.errors);
  jpeg.errors.error_exit = jpeg_failed;
  jpeg.errors.emit_message = jpeg_message;
  jpeg.errors.output_message = jpeg_no_output;
  jpeg.image.client_data = &jpeg;
  jpeg_create_decompress(&jpeg.image);
  jpeg.source.init_source = jpeg_nothing;
  jpeg.source.fill_input_buffer = jpeg_fill;
  jpeg.source.skip_input_data = jpeg_skip;
  jpeg.source.resync_to_restart = jpeg_resync_to_restart;
  jpeg.source.term_source = jpeg_nothing;
  jpeg.image.src = &jpeg.source;
  jpeg.progress.progress_monitor = jpeg_progress;
  jpeg.image.progress = &jpeg.progress;
  jpeg_read_header(&jpeg.image, TRUE);
  if (jpeg.image.jpeg_color_space == JCS_CMYK || jpeg.image.jpeg_color_space == JCS_YCCK)
    jpeg.stop.at(not_supported, "its colours are inks (CMYK); save it as RGB");
}

void jpeg_rows(Jpeg& jpeg, const Size& expected, std::uint8_t* pixels) {
  if (jpeg.image.image_width != expected.width || jpeg.image.image_height != expected.height)
    jpeg.stop.at(Failure::source_changed, "the file was changed since the job began");
  jpeg.image.out_color_space = JCS_RGB;
  jpeg.image.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&jpeg.image);
  while (jpeg.image.output_scanline < jpeg.image.output_height) {
    JSAMPROW row = pixels + std::uint64_t{jpeg.image.output_scanline} * expected.width * 3;
    jpeg_read_scanlines(&jpeg.image, &row, 1);
  }
  jpeg_finish_decompress(&jpeg.image);
}

/// Runs `body(jpeg)`; false when it was left by `stop`.
template <class Body>
bool guard_jpeg(Jpeg& jpeg, const Body& body) {
  if (setjmp(jpeg.stop.jump) != 0) return false;
  body(jpeg);
  return true;
}

template <class Body>
void with_jpeg(const File& file, const Body& body) {
  const auto jpeg = std::make_unique<Jpeg>();
  const bool done = guard_jpeg(*jpeg, [&](Jpeg& begun) {
    jpeg_begin(begun, file);
    body(begun);
  });
  jpeg_destroy_decompress(&jpeg->image);
  if (!done) jpeg->stop.raise();
}

// ---- PNG ----------------------------------------------------------------------------------------

/// Of what is beside the pixels: texts, profiles.
constexpr png_alloc_size_t max_chunk_bytes = 8u << 20;
constexpr png_uint_32 max_chunks = 1000;
constexpr png_uint_32 max_side = 0x7fffffff;

struct Png {
  png_structp image = nullptr;
  png_infop info = nullptr;
  Stop stop{};
  File file{};
  std::uint64_t at = 0;
};

[[noreturn]] void png_failed(png_structp image, png_const_charp text) {
  static_cast<Png*>(png_get_error_ptr(image))->stop.at(Failure::corrupt, text);
}

/// About what is beside the pixels, and is left out then.
void png_warned(png_structp, png_const_charp) {}

void png_fill(png_structp image, png_bytep to, std::size_t bytes) {
  Png& png = *static_cast<Png*>(png_get_io_ptr(image));
  while (bytes != 0) {
    const std::size_t got = read_some(png.file, png.at, to, bytes, png.stop);
    if (got == 0) png.stop.at(Failure::corrupt, ends_early);
    png.at += got;
    to += got;
    bytes -= got;
  }
}

void png_begin(Png& png, const File& file) {
  png.file = file;
  png.image = png_create_read_struct(PNG_LIBPNG_VER_STRING, &png, png_failed, png_warned);
  if (png.image != nullptr) png.info = png_create_info_struct(png.image);
  if (png.info == nullptr) png.stop.at(Failure::no_memory, "no memory to decode the image");
  png_set_read_fn(png.image, &png, png_fill);
  png_set_user_limits(png.image, max_side, max_side);
  png_set_chunk_malloc_max(png.image, max_chunk_bytes);
  png_set_chunk_cache_max(png.image, max_chunks);
  png_read_info(png.image, png.info);
}

void png_rows(Png& png, const Size& expected, std::uint8_t* pixels) {
  if (png_get_image_width(png.image, png.info) != expected.width ||
      png_get_image_height(png.image, png.info) != expected.height)
    png.stop.at(Failure::source_changed, "the file was changed since the job began");
  png_set_expand(png.image);
  png_set_scale_16(png.image);
  png_set_strip_alpha(png.image);
  png_set_gray_to_rgb(png.image);
  const int passes = png_set_interlace_handling(png.image);
  png_read_update_info(png.image, png.info);
  if (png_get_rowbytes(png.image, png.info) != expected.width * 3)
    png.stop.at(Failure::corrupt, "its pixels have a form that is not known");
  for (int pass = 0; pass < passes; ++pass)
    for (std::uint64_t row = 0; row < expected.height; ++row)
      png_read_row(png.image, pixels + row * expected.width * 3, nullptr);
  png_read_end(png.image, nullptr);
}

template <class Body>
bool guard_png(Png& png, const Body& body) {
  if (setjmp(png.stop.jump) != 0) return false;
  body(png);
  return true;
}

template <class Body>
void with_png(const File& file, const Body& body) {
  Png png;
  const bool done = guard_png(png, [&](Png& begun) {
    png_begin(begun, file);
    body(begun);
  });
  png_destroy_read_struct(&png.image, &png.info, nullptr);
  if (!done) png.stop.raise();
}

// ---- both ---------------------------------------------------------------------------------------

bool is_png(const File& file) {
  constexpr std::uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  constexpr std::uint8_t jpeg[] = {0xff, 0xd8, 0xff};
  std::uint8_t begin[sizeof png] = {};
  ssize_t got;
  do {
    got = ::pread(file.fd, begin, sizeof begin, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) throw Failure(Failure::io_error, std::strerror(errno));
  if (std::memcmp(begin, png, sizeof png) == 0) return true;
  if (std::memcmp(begin, jpeg, sizeof jpeg) == 0) return false;
  throw Failure(Failure::invalid_argument, "the file is neither a JPEG nor a PNG image");
}

}  // namespace

Size read_size(const File& file) {
  Size size{};
  if (is_png(file))
    with_png(file, [&](Png& png) {
      size = {png_get_image_width(png.image, png.info), png_get_image_height(png.image, png.info)};
    });
  else
    with_jpeg(file, [&](Jpeg& jpeg) { size = {jpeg.image.image_width, jpeg.image.image_height}; });
  return size;
}

void decode(const File& file, const Size& expected, std::uint8_t* pixels) {
  if (is_png(file))
    with_png(file, [&](Png& png) { png_rows(png, expected, pixels); });
  else
    with_jpeg(file, [&](Jpeg& jpeg) { jpeg_rows(jpeg, expected, pixels); });
}

}  // namespace aios::images
