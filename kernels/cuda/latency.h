// The latency form: a few query tokens' heads, each over one short context, answered by one launch.
// See latency.cuh and README.md.
#ifndef LATENTD_KERNELS_CUDA_LATENCY_H_
#define LATENTD_KERNELS_CUDA_LATENCY_H_

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/work.h"

namespace latentd {

// Once per device and process, before the first launch; sets the kernels' limits.
cudaError_t PrepareLatencyKernels();

// How many clusters of `shape` run at the same time. 0: there is no such kernel.
int MaxActiveLatencyClusters(const LatencyShape& shape);

// `three_boxes`: the arena's. One launch of shape.cluster_size * shape.splits CTAs for each head
// tile of each query.
cudaError_t LaunchLatency(const CUtensorMap& three_boxes, const LatencyWork& work,
                          const LatencyShape& shape, cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LATENCY_H_
