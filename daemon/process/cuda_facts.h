// The CUDA devices of this host in words, for status, logs and refusals.
//
// Any thread. Asks the CUDA runtime each time; takes no device memory.
#ifndef LATENTD_DAEMON_PROCESS_CUDA_FACTS_H_
#define LATENTD_DAEMON_PROCESS_CUDA_FACTS_H_

#include <string>

#include "kernels/cuda/devices.h"

namespace latentd {

// "13.0, 2 devices: cuda:0 NVIDIA H100 80GB HBM3, cuda:1 ..." or "13.0, no device: <reason>". Pure.
std::string DescribeCuda(const CudaDevices& found, int runtime_version);

// Of this host.
std::string DescribeCuda();

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_CUDA_FACTS_H_
