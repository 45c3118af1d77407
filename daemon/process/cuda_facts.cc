#include "daemon/process/cuda_facts.h"

#include "absl/strings/str_cat.h"

namespace latentd {

std::string DescribeCuda(const CudaDevices& found, int runtime_version) {
  std::string text;
  if (runtime_version != 0) {
    absl::StrAppend(&text, runtime_version / 1000, ".", runtime_version % 1000 / 10, ", ");
  }
  if (found.devices.empty()) return absl::StrCat(text, "no device: ", found.reason);
  absl::StrAppend(&text, found.devices.size(), found.devices.size() == 1 ? " device" : " devices");
  const char* separator = ": ";
  for (const CudaDevice& device : found.devices) {
    absl::StrAppend(&text, separator, "cuda:", device.index, " ", device.name);
    separator = ", ";
  }
  return text;
}

std::string DescribeCuda() { return DescribeCuda(ListCudaDevices(), CudaRuntimeVersion()); }

}  // namespace latentd
