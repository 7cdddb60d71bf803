#include "services/storage/checksums.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace aios::storage {

std::uint64_t block_checksum(std::uint64_t version, std::uint64_t block_number,
                             std::span<const std::byte> bytes) {
  const std::uint64_t place[] = {version, block_number};
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), XXH3_64bits(place, sizeof(place)));
}

std::uint64_t object_checksum(std::span<const std::uint64_t> blocks) {
  return XXH3_64bits(blocks.data(), blocks.size_bytes());
}

}  // namespace aios::storage
