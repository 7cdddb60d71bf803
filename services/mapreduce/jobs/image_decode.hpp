// JPEG and PNG files to pixels, by libjpeg-turbo and libpng. The bytes may be anything: what is not
// a whole, sound image is an error.
#pragma once

#include <cstdint>

namespace aios::images {

/// A file that is read by pread.
struct File {
  int fd;
  std::uint64_t size_bytes;  ///< when it was opened
};

struct Size {
  std::uint64_t width;
  std::uint64_t height;
};

/// What the header says. Throws aios::mapreduce::Failure: invalid_argument when it is neither JPEG
/// nor PNG; corrupt; not_supported, of colours that are printing inks; io_error; source_changed
/// when it is shorter than it was.
Size read_size(const File& file);

/// All pixels by rows, three bytes each: red, green, blue. Grey becomes three equal ones; of 16
/// bits the nearest 8 are taken; transparency and colour profiles do not count. `pixels` has room
/// for `expected`; source_changed when that is not the image's size. Throws as read_size; also
/// corrupt when anything is missing or damaged, be it the last byte.
void decode(const File& file, const Size& expected, std::uint8_t* pixels);

}  // namespace aios::images
