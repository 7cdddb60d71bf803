#include "tools/protodump/dump.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "tools/protodump/protocols.hpp"

namespace aios::protodump {

namespace {

template <class T>
void print_struct(std::string& out, std::string_view title) {
  static_assert(proto::fields_cover<T>(), "AIOS_FIELDS must name every field, in order");
  out += fmt::format("    {} {}\n", title, sizeof(T));
  for (const proto::FieldInfo& field : T::fields())
    out += fmt::format("      {} {} {}\n", field.offset, field.size, field.name);
}

template <class M>
void print_method(std::string& out) {
  out += fmt::format("  method {} {}\n", M::opcode, M::name);
  print_struct<typename M::Request>(out, "request");
  print_struct<typename M::Reply>(out, "reply");
  if constexpr (proto::Trimmed<M>)
    out += fmt::format("    of zeros {} bytes are sent, and {}\n",
                       M::used_bytes(typename M::Request{}), M::used_bytes(typename M::Reply{}));
}

template <class... Methods>
void print_methods([[maybe_unused]] std::string& out, proto::MethodList<Methods...>) {
  (print_method<Methods>(out), ...);
}

template <Literal Name, class T>
void print_part(std::string& out, Record<Name, T>) {
  out += fmt::format("  struct {}\n", Name.bytes);
  print_struct<T>(out, "bytes");
}

template <Literal Name, std::uint64_t Value>
void print_part(std::string& out, Constant<Name, Value>) {
  out += fmt::format("  constant {} {}\n", Name.bytes, Value);
}

template <class Protocol, class... Parts>
void print_entry(std::string& out, Entry<Protocol, Parts...>) {
  out += fmt::format("\nprotocol {} version {}\n", Protocol::name, Protocol::version);
  print_methods(out, typename Protocol::Methods{});
  (print_part(out, Parts{}), ...);
}

template <class... Entries>
void print_entries(std::string& out, EntryList<Entries...>) {
  (print_entry(out, Entries{}), ...);
}

const Block* find(const std::vector<Block>& blocks, std::string_view name) {
  const auto found = std::find_if(blocks.begin(), blocks.end(),
                                  [&](const Block& block) { return block.name == name; });
  return found == blocks.end() ? nullptr : &*found;
}

/// The first line of `b` that is not the same in `a`, without its indentation.
std::string_view first_difference(std::string_view a, std::string_view b) {
  const auto place = std::mismatch(b.begin(), b.end(), a.begin(), a.end()).first;
  if (place == b.end()) return "(its end)";
  auto at = static_cast<std::size_t>(place - b.begin());
  // A mismatch at a line's end lies in that line.
  const std::size_t before = at == 0 ? std::string_view::npos : b.rfind('\n', at - 1);
  const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
  std::string_view line = b.substr(begin, b.find('\n', at) - begin);
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  return line;
}

constexpr std::string_view how_to_record = "record it with: ninja -C build protocols-lock";

}  // namespace

std::string dump_all() {
  std::string out =
      "# Layout of every message between processes: offset, size and name of each field.\n"
      "# Written by tools/protodump; a layout changes only together with its version.\n";
  print_entries(out, AllProtocols{});
  return out;
}

std::vector<Block> parse(std::string_view text) {
  static constexpr std::string_view opening = "protocol ";
  static constexpr std::string_view separator = " version ";
  std::vector<Block> blocks;
  while (!text.empty()) {
    const std::size_t length = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, length);
    text.remove_prefix(std::min(length + 1, text.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const std::size_t split = line.find(separator);
    if (line.starts_with(opening) && split != std::string_view::npos) {
      const std::string version(line.substr(split + separator.size()));
      blocks.push_back({std::string(line.substr(opening.size(), split - opening.size())),
                        std::strtoul(version.c_str(), nullptr, 10),
                        {}});
    } else if (!blocks.empty()) {
      blocks.back().text += std::string(line) + "\n";
    }
  }
  return blocks;
}

std::vector<std::string> drifted(std::string_view lock, std::string_view current) {
  const std::vector<Block> recorded = parse(lock);
  std::vector<std::string> wrong;
  for (const Block& now : parse(current)) {
    const Block* then = find(recorded, now.name);
    if (then == nullptr) continue;
    if (now.version < then->version)
      wrong.push_back(fmt::format("protocol {}: its version went back from {} to {}", now.name,
                                  then->version, now.version));
    else if (now.version == then->version && now.text != then->text)
      wrong.push_back(fmt::format(
          "protocol {}: its layout changed but its version is still {}, from '{}' on; raise "
          "Protocol::version in its header in abi/proto, then {}",
          now.name, now.version, first_difference(then->text, now.text), how_to_record));
  }
  return wrong;
}

std::vector<std::string> compare(std::string_view lock, std::string_view current) {
  const std::vector<Block> recorded = parse(lock);
  const std::vector<Block> present = parse(current);
  std::vector<std::string> wrong = drifted(lock, current);
  for (const Block& now : present) {
    const Block* then = find(recorded, now.name);
    if (then == nullptr)
      wrong.push_back(
          fmt::format("protocol {}: not in protocols.lock; {}", now.name, how_to_record));
    else if (now.version > then->version)
      wrong.push_back(fmt::format("protocol {}: version {} is recorded, {} is current; {}",
                                  now.name, then->version, now.version, how_to_record));
  }
  for (const Block& then : recorded)
    if (find(present, then.name) == nullptr)
      wrong.push_back(fmt::format("protocol {}: it is in protocols.lock but exists no more; {}",
                                  then.name, how_to_record));
  return wrong;
}

}  // namespace aios::protodump
