// What decodes JPEG and PNG files in contexts, for image-histogram. Beside crashes and leaks these
// are findings: a pixel of an image that is taken for whole and was not written, an image that
// shows something else when it is looked at again, and one that is decoded as if it had another
// size.
#include <sys/mman.h>
#include <unistd.h>

#include <aios/mapreduce.hpp>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "services/mapreduce/jobs/image_decode.hpp"
#include "tests/fuzz/entry.hpp"
#include "tests/fuzz/values.hpp"
#include "tests/support/encoded_images.hpp"

namespace {

using namespace aios;
using aios::fuzz::finding;
using images::Size;
using test::Bytes;

/// More would be slow, and no other code.
constexpr std::uint64_t max_pixels = 1u << 18;

/// The input as a file.
images::File file_of(const std::uint8_t* data, std::size_t size) {
  static const int fd = ::memfd_create("image", MFD_CLOEXEC);
  const auto length = static_cast<off_t>(size);
  if (fd < 0 || ::ftruncate(fd, 0) != 0 || ::pwrite(fd, data, size, 0) != length) std::abort();
  return {fd, size};
}

/// False when it is no whole, sound image.
bool decoded(const images::File& file, const Size& size, Bytes& pixels) {
  try {
    images::decode(file, size, pixels.data());
    return true;
  } catch (const mapreduce::Failure&) {
    return false;
  }
}

void look_at(const images::File& file) {
  Size size{};
  try {
    size = images::read_size(file);
  } catch (const mapreduce::Failure&) {
    return;
  }
  if (size.width > max_pixels || size.height > max_pixels || size.width * size.height > max_pixels)
    return;
  // No more room than that: AddressSanitizer watches its end.
  Bytes pixels(3 * size.width * size.height, 0), again(pixels.size(), 0xff);
  const bool whole = decoded(file, size, pixels);
  if (decoded(file, size, again) != whole) finding("an image is whole only now and then");
  if (!whole) return;
  if (pixels != again) finding("a pixel was not written");
  Bytes wider(pixels.size() + 3 * size.height);
  if (decoded(file, {size.width + 1, size.height}, wider))
    finding("an image has the size that was expected, whatever it is");
}

void write_seeds(const std::filesystem::path& folder) {
  const auto write = [&folder](const std::string& name, const std::string& bytes) {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  };
  const Bytes grey = test::picture(1), rgb = test::picture(3);
  const std::vector<png_color> palette(256, {1, 2, 3});
  for (const bool interlaced : {false, true}) {
    const auto png = [&](const std::string& name, int colour, int bits, const Bytes& pixels) {
      write(name + (interlaced ? "-interlaced.png" : ".png"),
            test::png({colour, bits, interlaced}, test::rows_of(pixels),
                      colour == PNG_COLOR_TYPE_PALETTE ? palette : std::vector<png_color>()));
    };
    png("grey-8", PNG_COLOR_TYPE_GRAY, 8, grey);
    png("grey-16", PNG_COLOR_TYPE_GRAY, 16, test::picture(2));
    png("grey-4", PNG_COLOR_TYPE_GRAY, 4, grey);
    png("grey-1", PNG_COLOR_TYPE_GRAY, 1, grey);
    png("palette", PNG_COLOR_TYPE_PALETTE, 8, grey);
    png("grey-alpha", PNG_COLOR_TYPE_GRAY_ALPHA, 8, test::picture(2));
    png("rgb", PNG_COLOR_TYPE_RGB, 8, rgb);
    png("rgb-alpha", PNG_COLOR_TYPE_RGB_ALPHA, 8, test::picture(4));
  }
  for (const bool progressive : {false, true}) {
    const std::string end = progressive ? "-progressive.jpg" : ".jpg";
    write("grey" + end, test::jpeg(grey, 1, progressive, JCS_GRAYSCALE));
    write("rgb" + end, test::jpeg(rgb, 3, progressive, JCS_RGB));
    write("inks" + end, test::jpeg(test::picture(4), 4, progressive, JCS_CMYK));
  }
  write("neither", "GIF89a");
}

void run(std::span<const std::uint8_t> input) {
  look_at(file_of(input.data(), input.size()));
}

}  // namespace

AIOS_FUZZ_PROGRAM(write_seeds, run)
