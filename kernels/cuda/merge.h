// Merging partials of the same rows over disjoint sets of records, on a device; the rules are those of
// kernels/merge.h. Host code starts it; any thread.
#ifndef LATENTD_KERNELS_CUDA_MERGE_H_
#define LATENTD_KERNELS_CUDA_MERGE_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <span>

#include "kernels/mla.h"

namespace latentd {

// Partials of query tokens [first_token, first_token + tokens), in the device's memory.
struct MergeRun {
  const void* out = nullptr;   // [tokens][heads][latent_width] of the format, aligned to two values
  const float* lse = nullptr;  // [tokens][heads]
  uint32_t first_token = 0;
  uint32_t tokens = 0;
};

// Shapes of what is merged and of the result.
struct MergeShape {
  uint32_t tokens = 0;
  uint32_t heads = 0;
  uint32_t latent_width = 0;  // even
  OutFormat format = OutFormat::kBf16;
};

// Merges into out [tokens][heads][latent_width] and lse [tokens][heads]; tokens that no run has come
// out empty. `runs` are read before it returns. A NaN of a run becomes one of the row.
cudaError_t LaunchMerge(std::span<const MergeRun> runs, const MergeShape& shape, void* out,
                        float* lse, cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_MERGE_H_
