// What the driver's binary interface calls a stream.
#pragma once

#include "tests/support/cuda_double/device.hpp"

namespace aios::gpu::cuda {

struct StreamObject {
  aios::cuda_double::WorkStream work;
};

}  // namespace aios::gpu::cuda
