// What NVIDIA's library does with its own process and host before it looks for a device.
#pragma once

namespace aios::cuda_double {

/// Does the same. False: something was refused that the real one cannot start without; it then ends
/// with CUDA_ERROR_OPERATING_SYSTEM. Done once; later calls answer the same.
bool host_serves();

}  // namespace aios::cuda_double
