// How busy and how warm the processors are, as far as the host says.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "abi/runtime/fd.hpp"
#include "drivers/device/driver_server.hpp"

namespace aios::cpu {

class Sensors {
 public:
  /// Opens what there is, for reading after the process has locked itself in. `root` stands for
  /// "/": for tests.
  explicit Sensors(const std::string& root = "");

  /// busy is the share since the last reading that is at least 200 ms old; nothing at first.
  device::Readings read(std::uint64_t now_ns);

 private:
  struct Ticks {
    std::uint64_t busy;
    std::uint64_t all;
  };
  std::optional<Ticks> ticks() const;
  std::optional<double> celsius() const;

  Fd stat_;
  Fd temperature_;
  std::optional<Ticks> last_;
  std::uint64_t last_ns_ = 0;
  std::optional<double> busy_;
};

}  // namespace aios::cpu
