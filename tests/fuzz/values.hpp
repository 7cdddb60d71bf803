// Fills wire structs field by field from the fuzzer's bytes, mostly with values that a program
// might send, and judges replies.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "abi/proto/kernel.hpp"
#include "tests/fuzz/bytes.hpp"
#include "tests/fuzz/shapes.hpp"

namespace aios::fuzz {

/// Numbers that have a meaning to the server at this moment.
class Known {
 public:
  void handle(std::uint64_t number) { remember(handles_, number); }
  void word(std::uint64_t number) { remember(words_, number); }
  /// Every small field of a reply.
  void reply(const RecordShape& shape, std::span<const std::byte> bytes);
  std::uint64_t pick_handle(Bytes& input) const { return pick(handles_, input); }
  std::uint64_t pick_word(Bytes& input) const { return pick(words_, input); }
  /// What a reply, or somebody else, last said under the field's name and size; null: nothing.
  const std::uint64_t* named(const proto::FieldInfo& field) const;
  void name(const char* field, std::size_t size, std::uint64_t value);
  /// The latest handle; 0 without any.
  std::uint64_t last_handle() const { return handles_.empty() ? 0 : handles_.back(); }

 private:
  static void remember(std::deque<std::uint64_t>& to, std::uint64_t number);
  static std::uint64_t pick(const std::deque<std::uint64_t>& from, Bytes& input);
  std::deque<std::uint64_t> handles_;
  std::deque<std::uint64_t> words_;
  std::map<std::pair<std::string, std::size_t>, std::uint64_t> named_;
};

/// Each field begins with a byte that says what it becomes. 0 is what its name suggests, so that a
/// struct of zero bytes of input is mostly a valid one.
void fill(Bytes& input, const Known& known, const RecordShape& shape, std::span<std::byte> to);

/// A field that begins with this byte has one of `edge_count` edges of ranges, pages, tables and
/// integers; the next byte numbers it.
inline constexpr char at_edge = 4;
extern const std::size_t edge_count;

/// What a field names by a handle; none: it does not.
proto::kernel::ObjectType handle_in(const proto::FieldInfo& field);

/// What is wrong with the reply's bytes; empty when nothing is.
std::string flaw_of(const RecordShape& shape, std::span<const std::byte> bytes);

/// Prints `what` and aborts: a finding.
[[noreturn]] void finding(const std::string& what);

}  // namespace aios::fuzz
