// Takes lent files from a file channel: descriptors and their description, both checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "abi/runtime/fd.hpp"
#include "abi/runtime/status.hpp"
#include "drivers/device/buffer_table.hpp"

namespace aios::device {

/// The pieces that `description` (a FileSplitHeader and its FilePieces) names, with fd -1.
/// invalid_argument: its length or a reserved field is wrong, a piece exceeds its file, or it does
/// not describe exactly `fd_count` files.
Result<std::vector<aios_file_piece>> parse_split(std::span<const std::byte> description,
                                                 std::size_t fd_count);

/// Reads the packet on `channel` without taking it, so that a later attempt finds it again; never
/// blocks. not_found: nothing was lent yet. invalid_argument: the description is wrong, or a
/// descriptor is no regular file open for reading. quota: this process has no room for so many
/// descriptors. On an error every received descriptor is closed.
Result<FileSplit> receive_split(const Fd& channel);

}  // namespace aios::device
