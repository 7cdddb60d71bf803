// Where GPUs may be found, and looking there. What is looked at may hang or crash: each place is
// for a process of its own.
#pragma once

#include <string>
#include <vector>

#include "drivers/gpu/look/findings.hpp"

namespace aios::gpu {

/// One driver of one vendor.
struct Place {
  std::string backend;  ///< "cuda" or "opencl"
  std::string icd;      ///< the file that names an OpenCL driver; empty: there is none
};

/// The CUDA driver, and each OpenCL driver that is installed: those of /etc/OpenCL/vendors or of
/// what OCL_ICD_VENDORS names, a folder or one file. Loads nothing.
std::vector<Place> places();

/// Loads the driver into this process. What is wrong with it is an absence.
Findings look(const Place& place);

/// That `place` could not be looked at: `how` it went wrong.
device::Absence unusable(const Place& place, const std::string& how);

/// All that was found, without what two drivers show of the same: NVIDIA's OpenCL has its GPUs once
/// more.
Findings together(std::vector<Findings> found);

}  // namespace aios::gpu
