// The sensors of the processors, over folders that look like those of Linux.
#include "drivers/cpu/sensors.hpp"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "abi/runtime/time.hpp"

using namespace aios;

namespace {

namespace fs = std::filesystem;

class Host {
 public:
  Host() {
    char path[] = "/tmp/aios-sensors-XXXXXX";
    root_ = ::mkdtemp(path);
  }
  ~Host() { fs::remove_all(root_); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::string root() const { return root_.string() + "/"; }

 private:
  fs::path root_;
};

}  // namespace

TEST_CASE("A host that says nothing has neither temperature nor use") {
  const Host host;
  const device::Readings read = cpu::Sensors(host.root()).read(now_ns() + ns_per_s);
  CHECK(!read.celsius);
  CHECK(!read.busy);
}

TEST_CASE("The use is the share of time that was not idle since the last reading") {
  const Host host;
  host.write("proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3 4\n");
  cpu::Sensors sensors(host.root());
  const std::uint64_t start = now_ns();
  CHECK(!sensors.read(start).busy);
  // 60 of 100 ticks, of which waiting for a disk is idle, too.
  host.write("proc/stat", "cpu  140 0 120 830 10 0 0 0 0 0\n");
  CHECK(sensors.read(start + ns_per_s).busy == doctest::Approx(0.6));
  // Too soon for another: the last one stays.
  host.write("proc/stat", "cpu  240 0 120 830 10 0 0 0 0 0\n");
  CHECK(sensors.read(start + ns_per_s + 1).busy == doctest::Approx(0.6));
  CHECK(sensors.read(start + 2 * ns_per_s).busy == doctest::Approx(1.0));
}

TEST_CASE("The temperature is the processor's, not that of a disk") {
  const Host host;
  host.write("sys/class/hwmon/hwmon0/name", "nvme\n");
  host.write("sys/class/hwmon/hwmon0/temp1_input", "30000\n");
  host.write("sys/class/hwmon/hwmon1/name", "coretemp\n");
  host.write("sys/class/hwmon/hwmon1/temp1_input", "45500\n");
  cpu::Sensors sensors(host.root());
  CHECK(sensors.read(now_ns()).celsius == doctest::Approx(45.5));
  host.write("sys/class/hwmon/hwmon1/temp1_input", "61000\n");
  CHECK(sensors.read(now_ns()).celsius == doctest::Approx(61.0));
}

TEST_CASE("Without a monitor a thermal zone of the processor serves") {
  const Host host;
  host.write("sys/class/thermal/thermal_zone0/type", "acpitz\n");
  host.write("sys/class/thermal/thermal_zone0/temp", "27800\n");
  host.write("sys/class/thermal/thermal_zone1/type", "x86_pkg_temp\n");
  host.write("sys/class/thermal/thermal_zone1/temp", "52000\n");
  CHECK(cpu::Sensors(host.root()).read(now_ns()).celsius == doctest::Approx(52.0));
}
