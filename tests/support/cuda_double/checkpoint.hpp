// What parks another process and resumes it: cuCheckpointProcess*.
#pragma once

#include "drivers/gpu/cuda/driver_api.hpp"

namespace aios::cuda_double {

using gpu::cuda::CheckpointLock;
using gpu::cuda::Code;

Code checkpoint_lock(int process, CheckpointLock* with);
Code checkpoint_save(int process, void* with);
Code checkpoint_restore(int process, void* with);
Code checkpoint_unlock(int process, void* with);

}  // namespace aios::cuda_double
