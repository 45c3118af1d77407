// The throughput form: 64 rows at a time over any number of blocks, for many rows or many tokens.
// See throughput.cu and README.md.
#ifndef LATENTD_KERNELS_CUDA_THROUGHPUT_H_
#define LATENTD_KERNELS_CUDA_THROUGHPUT_H_

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/arena.h"
#include "kernels/cuda/work.h"

namespace latentd {

// Once per device and process, before the first launch; sets the kernels' limits.
cudaError_t PrepareThroughputKernels();

// How many clusters of `cluster_size` CTAs run at the same time.
int MaxActiveThroughputClusters(uint32_t cluster_size);

// One cluster for each of `items` items. `rows`: see Work::lowest_queries.
cudaError_t LaunchThroughput(const Arena& arena, const CUtensorMap& rows, const Work& work,
                             uint32_t items, uint32_t cluster_size, cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_THROUGHPUT_H_
