// Functions of the CUDA driver, which is not linked: a process without one still starts.
#ifndef LATENTD_KERNELS_CUDA_DRIVER_FUNCTION_H_
#define LATENTD_KERNELS_CUDA_DRIVER_FUNCTION_H_

#include <cuda_runtime.h>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace latentd {

// As CUDA 12.0 has it. FAILED_PRECONDITION naming the function where the driver has none.
template <typename Function>
absl::StatusOr<Function> FindDriverFunction(const char* name) {
  constexpr unsigned int kVersion = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &function, kVersion, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    return absl::FailedPreconditionError(absl::StrCat("this CUDA driver has no ", name, " (error ",
                                                      static_cast<int>(error), ", result ",
                                                      static_cast<int>(found), ")"));
  }
  return reinterpret_cast<Function>(function);
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_DRIVER_FUNCTION_H_
