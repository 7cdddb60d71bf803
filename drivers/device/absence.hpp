// What a driver looked for and did not find.
#pragma once

#include <string>

namespace aios::device {

/// For people.
struct Absence {
  std::string backend;  ///< "cuda", "opencl"
  std::string why;      ///< what was looked for, and what was wrong
  std::string advice;   ///< what to do to have it
  bool operator==(const Absence&) const = default;
};

}  // namespace aios::device
