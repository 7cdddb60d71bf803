// What a look for GPUs has found, and how one process tells it to another.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/device/absence.hpp"
#include "drivers/gpu/gpu.hpp"

namespace aios::gpu {

struct Findings {
  std::vector<DeviceInfo> devices;
  std::vector<device::Absence> absent;

  /// Adds what another look has found, the same absence once.
  void merge(Findings other);
};

/// Lines of fields between tabs; the last line says that these are all.
std::string to_text(const Findings& findings);
/// Nothing when the text is cut off. A device whose description makes no sense (no name, no memory,
/// no multiprocessor: a library that returns garbage) becomes an absence that says so.
std::optional<Findings> from_text(std::string_view text);

}  // namespace aios::gpu
