// The CUDA devices of this host, as far as the lanes' configuration needs to know them.
//
// Any thread. Works in every build: without CUDA, or without a driver, there are no devices and a
// reason.
#ifndef LATENTD_KERNELS_CUDA_DEVICES_H_
#define LATENTD_KERNELS_CUDA_DEVICES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace latentd {

struct CudaDevice {
  int index = 0;
  std::string name;       // "NVIDIA H100 80GB HBM3"
  int compute_major = 0;  // 9 of 9.0
  int compute_minor = 0;
  int multiprocessors = 0;
  uint64_t memory_bytes = 0;
  std::string pci_bus_id;  // "0000:1b:00.0"
};

struct CudaDevices {
  std::vector<CudaDevice> devices;
  // Why there are none: "built without CUDA", "no CUDA driver is installed", "the CUDA driver is of
  // CUDA 12.4, this build needs 13.0", "CUDA error 999: ...". Empty if there are some.
  std::string reason;
};

// N of "cuda:N"; nothing of another name.
std::optional<int> ParseCudaDevice(std::string_view name);

// Asks the CUDA runtime. Creates no context and takes no device memory.
CudaDevices ListCudaDevices();

// OK where the kernels run on `device`: it is one of `found`, of compute capability 9.0. Else
// FAILED_PRECONDITION (the reason why there is none, or the capability found) or INVALID_ARGUMENT
// (there are others). Pure.
absl::Status CheckCudaDevice(const CudaDevices& found, int device);

// The runtime this was built with as CUDART_VERSION has it (13000 is 13.0); 0: built without CUDA.
int CudaRuntimeVersion();

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_DEVICES_H_
