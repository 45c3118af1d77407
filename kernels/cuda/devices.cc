#include "kernels/cuda/devices.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#if LATENTD_HAVE_CUDA
#include <cuda_runtime.h>

#include <string>
#endif

namespace latentd {

#if LATENTD_HAVE_CUDA

namespace {

std::string Describe(cudaError_t error) {
  return "CUDA error " + std::to_string(static_cast<int>(error)) + ": " + cudaGetErrorString(error);
}

std::string Version(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

// The runtime calls a missing driver and one that is too old by the same name.
std::string WhyNone(cudaError_t error) {
  int driver = 0;
  if (error != cudaErrorInsufficientDriver || cudaDriverGetVersion(&driver) != cudaSuccess) {
    return Describe(error);
  }
  if (driver == 0) return "no CUDA driver is installed";
  return "the CUDA driver is of CUDA " + Version(driver) + ", this build needs " +
         Version(CUDART_VERSION);
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

CudaDevices ListCudaDevices() {
  int count = 0;
  if (cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    // The runtime remembers errors; nobody should meet this one later.
    cudaGetLastError();
    return {{}, WhyNone(error)};
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

#else

CudaDevices ListCudaDevices() { return {{}, "built without CUDA"}; }

#endif

absl::Status CheckCudaDevice(const CudaDevices& found, int device) {
  if (found.devices.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("cuda:", device, ": ", found.reason));
  }
  const int count = static_cast<int>(found.devices.size());
  if (device < 0 || device >= count) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuda:", device, " is not there: this host has ", count,
                     count == 1 ? " CUDA device, cuda:0"
                                : absl::StrCat(" CUDA devices, cuda:0 to ", count - 1)));
  }
  const CudaDevice& it = found.devices[device];
  if (it.compute_major == 9 && it.compute_minor == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cuda:", device, " (", it.name, ") has compute capability ", it.compute_major,
                   ".", it.compute_minor, "; the kernels need 9.0"));
}

int CudaRuntimeVersion() { return LATENTD_CUDA_VERSION; }

std::optional<int> ParseCudaDevice(std::string_view name) {
  absl::string_view rest(name.data(), name.size());
  int index = 0;
  if (!absl::ConsumePrefix(&rest, "cuda:") || !absl::SimpleAtoi(rest, &index)) return std::nullopt;
  return index;
}

}  // namespace latentd
