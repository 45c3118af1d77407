#include <cuda_runtime.h>

#include <string>

#include "kernels/cuda/runtime_devices.h"

namespace latentd {
namespace {

std::string Describe(cudaError_t error) {
  return "CUDA error " + std::to_string(static_cast<int>(error)) + ": " + cudaGetErrorString(error);
}

cudaError_t ReadDevice(int index, CudaDevice& device) {
  cudaDeviceProp properties;
  if (cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
    return error;
  }
  char bus_id[32];
  if (cudaError_t error = cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), index);
      error != cudaSuccess) {
    return error;
  }
  device.index = index;
  device.name = properties.name;
  device.compute_major = properties.major;
  device.compute_minor = properties.minor;
  device.multiprocessors = properties.multiProcessorCount;
  device.memory_bytes = properties.totalGlobalMem;
  device.pci_bus_id = bus_id;
  return cudaSuccess;
}

}  // namespace

CudaDevices ListRuntimeDevices() {
  int count = 0;
  if (cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    // The runtime remembers errors; nobody should meet this one later.
    cudaGetLastError();
    return {{}, Describe(error)};
  }
  CudaDevices found;
  for (int i = 0; i < count; ++i) {
    CudaDevice device;
    if (cudaError_t error = ReadDevice(i, device); error != cudaSuccess) {
      cudaGetLastError();
      return {{}, "device " + std::to_string(i) + ": " + Describe(error)};
    }
    found.devices.push_back(device);
  }
  if (found.devices.empty()) found.reason = "no CUDA device";
  return found;
}

}  // namespace latentd
