// A store's device memory as kernels address it.
#ifndef LATENTD_KERNELS_CUDA_ARENA_H_
#define LATENTD_KERNELS_CUDA_ARENA_H_

#include <cuda.h>

#include <cstdint>

#include "kernels/mla.h"

namespace latentd {

struct Arena {
  CacheView cache;
  RecordFormat format = RecordFormat::kBf16;
  Geometry geometry;
  // bf16 only: the records as (value in box, token, box, layer, page), for copies of one, three or
  // four boxes of 64 values x 64 tokens.
  CUtensorMap one_box;
  CUtensorMap three_boxes;
  CUtensorMap four_boxes;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_ARENA_H_
