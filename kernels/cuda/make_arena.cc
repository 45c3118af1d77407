#include "kernels/cuda/make_arena.h"

#include <cuda_runtime.h>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/driver_function.h"

namespace latentd {
namespace {

constexpr uint64_t kTmaStrideLimit = uint64_t{1} << 40;

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                 const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                 const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

const absl::StatusOr<EncodeTiled>& FindEncodeTiled() {
  static const auto found = FindDriverFunction<EncodeTiled>("cuTensorMapEncodeTiled");
  return found;
}

absl::Status EncodeBoxes(EncodeTiled encode, const CacheView& cache, uint32_t pages,
                         uint32_t record_bytes, uint32_t boxes, CUtensorMap& map) {
  const uint64_t layers = cache.page_bytes / cache.layer_bytes;
  const cuuint64_t dimensions[] = {64, kPageTokens, 9, layers, pages};
  const cuuint64_t strides[] = {record_bytes, 128, cache.layer_bytes, cache.page_bytes};
  const cuuint32_t box[] = {64, kPageTokens, boxes, 1, 1};
  const cuuint32_t steps[] = {1, 1, 1, 1, 1};
  const CUresult result = encode(
      &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 5, const_cast<std::byte*>(cache.arena), dimensions,
      strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cuTensorMapEncodeTiled: error ",
                                          static_cast<int>(result), " for ", pages, " pages of ",
                                          cache.page_bytes, " bytes"));
}

}  // namespace

bool HasMatrixGeometry(const Geometry& geometry, const CacheView& cache) {
  return geometry == Geometry{512, 64} && reinterpret_cast<uintptr_t>(cache.arena) % 16 == 0 &&
         cache.layer_bytes > 0 && cache.page_bytes >= cache.layer_bytes &&
         cache.page_bytes % 16 == 0 && cache.layer_bytes % 16 == 0 &&
         cache.page_bytes < kTmaStrideLimit;
}

absl::StatusOr<Arena> MakeArena(const Geometry& geometry, RecordFormat format,
                                const CacheView& cache, uint32_t pages) {
  Arena arena = {};
  arena.cache = cache;
  arena.format = format;
  arena.geometry = geometry;
  if (format != RecordFormat::kBf16 || !HasMatrixGeometry(geometry, cache)) return arena;
  const absl::StatusOr<EncodeTiled>& encode = FindEncodeTiled();
  if (!encode.ok()) return encode.status();
  const auto record_bytes = static_cast<uint32_t>(RecordBytes(geometry, format));
  struct {
    uint32_t boxes;
    CUtensorMap* map;
  } const maps[] = {{1, &arena.one_box}, {3, &arena.three_boxes}, {4, &arena.four_boxes}};
  for (const auto& [boxes, map] : maps) {
    absl::Status status = EncodeBoxes(*encode, cache, pages, record_bytes, boxes, *map);
    if (!status.ok()) return status;
  }
  return arena;
}

absl::Status MakeRowsMap(const Bf16* lowest, CUtensorMap& map) {
  const absl::StatusOr<EncodeTiled>& encode = FindEncodeTiled();
  if (!encode.ok()) return encode.status();
  const cuuint64_t dimensions[] = {64, 64, 9, uint64_t{1} << 31};
  const cuuint64_t strides[] = {1152, 128, 16};
  const cuuint32_t box[] = {64, 64, 1, 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  const CUresult result =
      (*encode)(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<Bf16*>(lowest), dimensions,
                strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("cuTensorMapEncodeTiled: error ", static_cast<int>(result), " for rows"));
}

}  // namespace latentd
