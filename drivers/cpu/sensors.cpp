#include "drivers/cpu/sensors.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string_view>
#include <vector>

#include "abi/runtime/time.hpp"

namespace aios::cpu {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t shortest_ns = 200 * ns_per_ms;

/// Drivers of Linux that measure the processor, and its zones; the first value of the first such is
/// that of the whole package.
constexpr std::string_view monitors[] = {"coretemp", "k10temp", "zenpower", "cpu_thermal"};
constexpr std::string_view zones[] = {"x86_pkg_temp", "cpu-thermal", "cpu_thermal", "soc_thermal"};

std::string first_word(const fs::path& file) {
  std::ifstream stream(file);
  std::string word;
  stream >> word;
  return word;
}

/// The `value` file beside a `label` file with one of these words; empty: there is none.
fs::path find_value(const fs::path& folder, const char* label, std::span<const std::string_view> of,
                    const char* value) {
  std::error_code failure;
  std::vector<fs::path> found;
  for (fs::directory_iterator at(folder, failure); !failure && at != fs::directory_iterator();
       at.increment(failure))
    if (std::ranges::find(of, first_word(at->path() / label)) != of.end())
      found.push_back(at->path() / value);
  return found.empty() ? fs::path() : *std::ranges::min_element(found);
}

Fd open_read_only(const fs::path& path) {
  return path.empty() ? Fd() : Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

/// From its beginning, as far as is of use.
std::string content(const Fd& file) {
  char text[512];
  const ssize_t count = file.valid() ? ::pread(file.get(), text, sizeof text, 0) : -1;
  return {text, static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
}

}  // namespace

Sensors::Sensors(const std::string& root)
    : stat_(open_read_only(root + "/proc/stat")),
      temperature_(
          open_read_only(find_value(root + "/sys/class/hwmon", "name", monitors, "temp1_input"))) {
  if (!temperature_.valid())
    temperature_ = open_read_only(find_value(root + "/sys/class/thermal", "type", zones, "temp"));
  last_ = ticks();
  last_ns_ = now_ns();
}

device::Readings Sensors::read(std::uint64_t now_ns) {
  const std::optional<Ticks> now = ticks();
  if (now && last_ && now_ns >= last_ns_ + shortest_ns && now->all > last_->all) {
    const double busy = static_cast<double>(now->busy - std::min(now->busy, last_->busy));
    busy_ = std::min(1.0, busy / static_cast<double>(now->all - last_->all));
    last_ = now;
    last_ns_ = now_ns;
  }
  return {.celsius = celsius(), .busy = busy_};
}

/// The first line of /proc/stat: "cpu user nice system idle iowait irq softirq steal ...".
std::optional<Sensors::Ticks> Sensors::ticks() const {
  std::istringstream line(content(stat_));
  std::string name;
  std::uint64_t values[8] = {};
  line >> name;
  for (std::uint64_t& value : values) line >> value;
  if (!line || name != "cpu") return std::nullopt;
  Ticks ticks{0, 0};
  for (const std::uint64_t value : values) ticks.all += value;
  ticks.busy = ticks.all - values[3] - values[4];
  return ticks;
}

/// Linux writes thousandths of a degree.
std::optional<double> Sensors::celsius() const {
  const std::string text = content(temperature_);
  int value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc())
    return std::nullopt;
  return value / 1000.0;
}

}  // namespace aios::cpu
