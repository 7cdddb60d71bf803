#include "tests/fuzz/values.hpp"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace aios::fuzz {

namespace {

constexpr std::size_t max_known = 32;
constexpr std::uint64_t page = proto::page_bytes;
/// Edges of ranges, pages, tables and integers; the first handles of a process.
// clang-format off
constexpr std::uint64_t interesting[] = {
    1, 2, 3, 7, 8, 16, 63, 64, 65, 255, 256, 511, 512, 1023, 1024, 1025, 4095, page, page + 1,
    2 * page, 65535, 65536, 65537, 1ull << 20, 8ull << 20, 1ull << 24, (1ull << 31) - 1, 1ull << 31,
    (1ull << 32) - 1, 1ull << 32, (1ull << 32) + 1, (1ull << 32) + 2, (1ull << 32) + 3,
    (1ull << 32) + 5, (2ull << 32) + 1, 1ull << 40, 1ull << 62, (1ull << 63) - 1, 1ull << 63,
    ~0ull - page, ~0ull - 1, ~0ull};
// clang-format on

bool contains(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::any_of(words.begin(), words.end(),
                     [text](std::string_view word) { return text.find(word) != text.npos; });
}

/// What a field of up to 8 bytes is when nothing else is said.
std::uint64_t suggested(const proto::FieldInfo& field, const Known& known) {
  const std::string_view name = field.name;
  if (const std::uint64_t* said = known.named(field)) return *said;
  if (name == "memory_bytes") return 8ull << 20;
  if (name == "parameter_offset") return page;
  if (name == "channel_count") return 1;
  if (contains(name, {"reserved", "offset", "limit", "after", "cursor", "index", "flags",
                      "freezable", "split", "number", "_count", "nodes"}))
    return 0;
  if (contains(name, {"length", "bytes"})) return field.size == 8 ? page : 8;
  if (contains(name,
               {"version", "count", "pieces", "reducers", "threads", "writable", "freezable"}))
    return 1;
  return field.size == 8 ? known.last_handle() : 0;
}

/// What a longer one is: texts get a letter, arrays stay empty.
void suggest_long(const proto::FieldInfo& field, const Known& known, std::span<std::byte> to) {
  const std::string_view name = field.name;
  if (const std::uint64_t* said = known.named({field.name, 0, 8}))
    std::memcpy(to.data(), said, sizeof *said);
  else if (name == "grid")
    for (std::size_t at = 0; at < to.size(); at += 4) to[at] = std::byte{1};
  else if (!contains(name, {"reserved", "arguments", "bytes", "buffers", "dependencies", "handles",
                            "entries", "channels", "quota"}))
    to[0] = std::byte{'a'};
  if (name == "prefix") to[0] = std::byte{'a'}, to[1] = std::byte{'/'};
}

std::uint64_t number(Bytes& input, const Known& known, const proto::FieldInfo& field) {
  switch (input.byte() % 8) {
    case 0:
      return suggested(field, known);
    case 1:
      return input.byte();
    case 2:
      return known.pick_handle(input);
    case 3:
      return known.pick_word(input);
    case at_edge:
      return interesting[input.below(std::size(interesting))];
    case 5:
      return 0;
    case 6:
      return std::uint64_t{1} << input.below(64);
    default:
      return input.take<std::uint64_t>();
  }
}

void put(std::uint64_t value, std::span<std::byte> to) {
  // A wire struct is little-endian, as the machine is.
  std::memcpy(to.data(), &value, std::min(to.size(), sizeof value));
}

/// A short name, ended by zeros.
void fill_text(Bytes& input, std::span<std::byte> to) {
  const std::size_t length = std::min(1 + input.below(16), to.size() - 1);
  for (std::byte& at : to.first(length)) {
    const std::uint8_t next = input.byte();
    at = static_cast<std::byte>(next == 0 ? 'a' : next);
  }
}

void fill_long(Bytes& input, const Known& known, const proto::FieldInfo& field,
               std::span<std::byte> to) {
  const std::size_t word = to.size() % 8 == 0 ? 8 : 4;
  switch (input.byte() % 6) {
    case 0:
      return suggest_long(field, known, to);
    case 1:
      return fill_text(input, to);
    case 2:  // an array of 64-bit words
    case 3: {
      const std::size_t width = input.byte() % 2 == 0 ? word : 4;
      std::size_t count = std::min(1 + input.below(24), to.size() / width);
      for (; count != 0; --count, to = to.subspan(width))
        put(number(input, known, {field.name, 0, width}), to.first(width));
      return;
    }
    case 4:
      return input.fill(to.first(std::min(to.size(), input.below(to.size() + 1))));
    default:
      return std::fill(to.begin(), to.end(), static_cast<std::byte>(input.byte()));
  }
}

}  // namespace

const std::size_t edge_count = std::size(interesting);

void Known::remember(std::deque<std::uint64_t>& to, std::uint64_t number) {
  to.push_back(number);
  if (to.size() > max_known) to.pop_front();
}

std::uint64_t Known::pick(const std::deque<std::uint64_t>& from, Bytes& input) {
  const std::uint8_t back = input.byte();
  return from.empty() ? 0 : from[from.size() - 1 - back % from.size()];
}

void Known::reply(const RecordShape& shape, std::span<const std::byte> bytes) {
  for (const proto::FieldInfo& field : shape.fields) {
    std::uint64_t value = 0;
    if (field.size > sizeof value) continue;
    std::memcpy(&value, bytes.data() + field.offset, field.size);
    if (value == 0) continue;
    word(value);
    this->name(field.name, field.size, value);
  }
}

const std::uint64_t* Known::named(const proto::FieldInfo& field) const {
  const auto found = named_.find({field.name, field.size});
  return found == named_.end() ? nullptr : &found->second;
}

void Known::name(const char* field, std::size_t size, std::uint64_t value) {
  named_[{field, size}] = value;
}

void fill(Bytes& input, const Known& known, const RecordShape& shape, std::span<std::byte> to) {
  for (const proto::FieldInfo& field : shape.fields) {
    const std::span<std::byte> place = to.subspan(field.offset, field.size);
    if (field.size > 8)
      fill_long(input, known, field, place);
    else
      put(number(input, known, field), place);
  }
}

std::string flaw_of(const RecordShape& shape, std::span<const std::byte> bytes) {
  if (bytes.size() != shape.size)
    return std::to_string(bytes.size()) + " bytes instead of " + std::to_string(shape.size);
  for (const proto::FieldInfo& field : shape.fields) {
    const auto place = bytes.subspan(field.offset, field.size);
    const bool zero =
        std::all_of(place.begin(), place.end(), [](std::byte b) { return b == std::byte{0}; });
    if (std::string_view(field.name).starts_with("reserved") && !zero)
      return "a reserved field that is not zero";
  }
  return {};
}

proto::kernel::ObjectType handle_in(const proto::FieldInfo& field) {
  using proto::kernel::ObjectType;
  const std::string_view name = field.name;
  if (name == "channels") return ObjectType::file;
  if (field.size != sizeof(proto::kernel::Handle)) return ObjectType::none;
  if (name == "job" || name == "tenant") return ObjectType::job;
  return name == "region" || name == "object" ? ObjectType::region : ObjectType::none;
}

void finding(const std::string& what) {
  std::fprintf(stderr, "== finding: %s\n", what.c_str());
  std::abort();
}

}  // namespace aios::fuzz
