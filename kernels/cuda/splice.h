// Re-adapts a chunk in a device's memory: kernels/rotate.h's RotateChunk in one launch.
#ifndef LATENTD_KERNELS_CUDA_SPLICE_H_
#define LATENTD_KERNELS_CUDA_SPLICE_H_

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/mla.h"
#include "kernels/rotation.h"

namespace latentd {

// Enqueues the rotation, in place, of the rope part of the first `tokens` records of a chunk in its
// first `layers` layers; results are rounded as kernels/rotate.h has it. `page_ids`
// [ceil(tokens / kPageTokens)], no page twice, is memory that the device can read, unchanged until
// the kernel is done; the rotation travels with the launch.
//
// cudaErrorInvalidValue: a rotation of another width than the geometry's, or more layers than a grid
// has rows (65,535). REQUIRES: finite rope values, and all of `memory` aligned to 2 bytes. 16-byte
// alignment and a width of whole 16-byte units (of each half, where pairs are halves) is the quick
// way.
cudaError_t LaunchRotateChunk(const Geometry& geometry, RecordFormat format,
                              const Rotation& rotation, const PageMemory& memory,
                              const uint32_t* page_ids, uint32_t layers, uint32_t tokens,
                              cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_SPLICE_H_
