// The part of devices.h that needs the CUDA runtime; linked only where there is one.
#ifndef LATENTD_KERNELS_CUDA_RUNTIME_DEVICES_H_
#define LATENTD_KERNELS_CUDA_RUNTIME_DEVICES_H_

#include "kernels/cuda/devices.h"

namespace latentd {

CudaDevices ListRuntimeDevices();

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_RUNTIME_DEVICES_H_
