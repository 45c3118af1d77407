// CUDA's error codes as absl::Status.
#ifndef LATENTD_KERNELS_CUDA_CHECK_H_
#define LATENTD_KERNELS_CUDA_CHECK_H_

#include <cuda_runtime.h>

#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {

// "cudaMalloc of 100 bytes: CUDA error 2: out of memory".
inline absl::Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string message =
      absl::StrCat(absl::string_view(what.data(), what.size()), ": CUDA error ",
                   static_cast<int>(error), ": ", cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(message);
  return absl::InternalError(message);
}

}  // namespace latentd

#define LATENTD_RETURN_IF_CUDA_ERROR(expression)                \
  do {                                                          \
    const cudaError_t latentd_error = (expression);             \
    if (latentd_error != cudaSuccess) {                         \
      return ::latentd::CudaStatus(latentd_error, #expression); \
    }                                                           \
  } while (0)

#endif  // LATENTD_KERNELS_CUDA_CHECK_H_
