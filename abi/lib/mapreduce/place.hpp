// Where in its input a task failed: what a codelet wrote in front of its message.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>

namespace aios::mapreduce_client {

struct PlacedText {
  struct Place {
    std::uint64_t piece;   ///< of the task's split
    std::uint64_t offset;  ///< in that piece's file
  };
  std::optional<Place> place;
  std::string text;
};

/// Takes "@PIECE:OFFSET " off a message, when it begins with that.
inline PlacedText take_place(const std::string& text) {
  const char* const end = text.data() + text.size();
  PlacedText::Place place{};
  if (text.empty() || text[0] != '@') return {{}, text};
  const auto first = std::from_chars(text.data() + 1, end, place.piece);
  if (first.ec != std::errc() || first.ptr == end || *first.ptr != ':') return {{}, text};
  const auto second = std::from_chars(first.ptr + 1, end, place.offset);
  if (second.ec != std::errc() || second.ptr == end || *second.ptr != ' ') return {{}, text};
  return {place, std::string(second.ptr + 1, end)};
}

}  // namespace aios::mapreduce_client
