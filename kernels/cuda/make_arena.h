// Describing a store's memory to the kernels.
#ifndef LATENTD_KERNELS_CUDA_MAKE_ARENA_H_
#define LATENTD_KERNELS_CUDA_MAKE_ARENA_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/cuda/arena.h"
#include "kernels/mla.h"

namespace latentd {

// True where the matrix kernels apply: 512 + 64 values, and an arena and strides that 16-byte
// accesses and TMA can address.
bool HasMatrixGeometry(const Geometry& geometry, const CacheView& cache);

// `cache` is in device memory and has `pages` pages of whole layers. Needs a CUDA driver where
// HasMatrixGeometry.
absl::StatusOr<Arena> MakeArena(const Geometry& geometry, RecordFormat format,
                                const CacheView& cache, uint32_t pages);

// Rows of queries from `lowest` on as (value in box, row, box, 16 bytes): the last coordinate says
// where a run of rows begins, up to 32 GiB further on. For copies of one box of 64 rows. REQUIRES:
// `lowest` 16-byte aligned.
absl::Status MakeRowsMap(const Bf16* lowest, CUtensorMap& map);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_MAKE_ARENA_H_
