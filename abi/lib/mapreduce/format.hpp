// Input formats on the client's side: what the user says of them, and where records begin.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "abi/include/aios/mapreduce/format.hpp"
#include "abi/lib/mapreduce/input.hpp"
#include "abi/runtime/status.hpp"

namespace aios::mapreduce_client {

using InputFormat = mapreduce::engine::InputFormat;

/// `format`: "" or "text"; "csv", or "csv:D" with another delimiter than a comma ("tab" is one);
/// "jsonl"; "fixed:N" for records of N bytes, at most 16 MiB.
///
/// `field` is the part of a record that the job sees; "": all of it. csv: its number, from 1, or
/// its name in the header that every file then begins with ("=NAME" where the name is a number).
/// jsonl: the name of a member, or a JSON pointer, which begins with '/'. fixed: "OFFSET:BYTES".
/// invalid_argument, naming what is wrong; too_large: the field's name.
Result<InputFormat> parse_input_format(const std::string& format, const std::string& field);

/// Moves where pieces begin and end to where records do, if tasks could not find that by
/// themselves: always to the next record, so that every record is still in one piece. A piece that
/// a record covers whole becomes empty. `pieces` are in order of their files and offsets. CSV files
/// that are in more than one piece are read for that, as far as the last of them.
///
/// `keep_going` is asked now and then. cancelled; what opening an input gives; io_error.
Result<void> align_pieces(const InputFormat& format, std::span<const InputFile> files,
                          std::span<Piece> pieces, const std::function<bool()>& keep_going);

/// Moves each of these offsets of one file as align_pieces does. The file is read once while they
/// ascend, and again from its beginning where one does not. io_error; source_changed: it is shorter
/// than it was.
Result<void> align_offsets(const InputFormat& format, int fd, std::span<std::uint64_t> offsets);

}  // namespace aios::mapreduce_client
