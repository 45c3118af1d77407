#include "kernels/cuda/devices.h"

#include "kernels/cuda/runtime_devices.h"

namespace latentd {

CudaDevices ListCudaDevices() {
#if LATENTD_HAVE_CUDA
  return ListRuntimeDevices();
#else
  return {{}, "built without CUDA"};
#endif
}

int CudaRuntimeVersion() { return LATENTD_CUDA_VERSION; }

}  // namespace latentd
