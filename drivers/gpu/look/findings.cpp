#include "drivers/gpu/look/findings.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>

namespace aios::gpu {

namespace {

constexpr std::string_view device_word = "device";
constexpr std::string_view absent_word = "absent";
constexpr std::string_view end_line = "end";
constexpr std::size_t max_devices = 64;
constexpr std::uint32_t max_multiprocessors = 1u << 20;

/// What a vendor's library says may be anything; lines and fields stay what they are.
std::string plain(std::string text) {
  for (char& c : text)
    if (c < ' ' || c > '~') c = ' ';
  return text;
}

template <class T>
bool parse(const std::string& text, T& number) {
  const char* const end = text.data() + text.size();
  return std::from_chars(text.data(), end, number).ptr == end && !text.empty();
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> fields;
  std::string field;
  for (const char c : line + '\t') {
    if (c != '\t') {
      field += c;
      continue;
    }
    fields.push_back(std::move(field));
    field.clear();
  }
  return fields;
}

/// Nothing when it is no device, or none that could be.
std::optional<DeviceInfo> read_device(const std::vector<std::string>& fields) {
  DeviceInfo info;
  int shares = 0;
  int exports = 0;
  int emulated = 0;
  if (fields.size() != 14 || !parse(fields[4], info.multiprocessors) ||
      !parse(fields[5], info.memory_bytes) || !parse(fields[6], shares) ||
      !parse(fields[7], emulated) || !parse(fields[9], info.numa_node) ||
      !parse(fields[10], info.peers) || !parse(fields[12], exports))
    return std::nullopt;
  info.kind = fields[1];
  info.backend = fields[2];
  info.uuid = fields[3];
  info.shares_memory = shares != 0;
  info.emulated = emulated != 0;
  info.pci_address = fields[8];
  info.library = fields[11];
  info.exports_memory = exports != 0;
  info.model = fields[13];
  const bool named = info.model.find_first_not_of(' ') != std::string::npos;
  const bool sized = info.memory_bytes != 0 && info.multiprocessors != 0 &&
                     info.multiprocessors <= max_multiprocessors;
  if (!named || !sized || info.uuid.empty()) return std::nullopt;
  return info;
}

void read_line(const std::string& line, Findings& into) {
  const std::vector<std::string> fields = split(line);
  if (fields.front() == absent_word && fields.size() == 4) {
    into.absent.push_back({fields[1], fields[2], fields[3]});
  } else if (auto info = read_device(fields); info && into.devices.size() < max_devices) {
    into.devices.push_back(std::move(*info));
  } else {
    const std::string backend = fields.size() > 2 ? fields[2] : "gpu";
    into.absent.push_back({backend,
                           "a driver lists a device that makes no sense (without name, memory or "
                           "processors)",
                           "install the vendor's driver again, or remove it"});
  }
}

}  // namespace

void Findings::merge(Findings other) {
  for (DeviceInfo& info : other.devices) devices.push_back(std::move(info));
  for (device::Absence& one : other.absent)
    if (std::ranges::find(absent, one) == absent.end()) absent.push_back(std::move(one));
}

std::string to_text(const Findings& findings) {
  std::ostringstream text;
  for (const DeviceInfo& info : findings.devices)
    text << device_word << '\t' << plain(info.kind) << '\t' << plain(info.backend) << '\t'
         << plain(info.uuid) << '\t' << info.multiprocessors << '\t' << info.memory_bytes << '\t'
         << info.shares_memory << '\t' << info.emulated << '\t' << plain(info.pci_address) << '\t'
         << info.numa_node << '\t' << info.peers << '\t' << plain(info.library) << '\t'
         << info.exports_memory << '\t' << plain(info.model) << '\n';
  for (const device::Absence& one : findings.absent)
    text << absent_word << '\t' << plain(one.backend) << '\t' << plain(one.why) << '\t'
         << plain(one.advice) << '\n';
  text << end_line << '\n';
  return text.str();
}

std::optional<Findings> from_text(std::string_view text) {
  Findings findings;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    if (line == end_line) return findings;
    read_line(line, findings);
  }
  return std::nullopt;
}

}  // namespace aios::gpu
