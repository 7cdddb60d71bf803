// Checksums of objects: XXH3-64 per block of 64 KiB, seeded with the object's version and the
// block's number, so that a block that is stale or lies in the wrong place fails as well.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace aios::storage {

/// `version` is unique among all objects the store ever held.
std::uint64_t block_checksum(std::uint64_t version, std::uint64_t block_number,
                             std::span<const std::byte> bytes);

/// The checksum of an object, from those of its blocks.
std::uint64_t object_checksum(std::span<const std::uint64_t> blocks);

}  // namespace aios::storage
