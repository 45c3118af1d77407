// The narrow form: up to 16 rows over any run of blocks of fp8 records, one CTA an item.
// See narrow.cu and README.md.
#ifndef LATENTD_KERNELS_CUDA_NARROW_H_
#define LATENTD_KERNELS_CUDA_NARROW_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/arena.h"
#include "kernels/cuda/work.h"

namespace latentd {

// Once per device and process, before the first launch; sets the kernel's limits.
cudaError_t PrepareNarrowKernel();

// REQUIRES: fp8 records of the matrix kernels' widths; tiles of kNarrowRows rows at most.
cudaError_t LaunchNarrow(const Arena& arena, const Work& work, uint32_t items, cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_NARROW_H_
