// Merging partials into answers, and the form for every shape that the matrix kernels do not take.
#ifndef LATENTD_KERNELS_CUDA_COMBINE_H_
#define LATENTD_KERNELS_CUDA_COMBINE_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/arena.h"
#include "kernels/cuda/work.h"

namespace latentd {

// Merges the pieces of each of `merges` rows, in their order. `latent_width`: a multiple of 4 is
// not required.
cudaError_t LaunchCombine(const Work& work, uint32_t merges, uint32_t latent_width,
                          cudaStream_t stream);

// Items one row at a time with ordinary arithmetic, for any widths and alignment.
cudaError_t LaunchSimple(const Arena& arena, const Work& work, uint32_t items, cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_COMBINE_H_
