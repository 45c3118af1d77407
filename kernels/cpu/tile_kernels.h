// The arithmetic of the CPU backend, one copy per instruction set, chosen once per process by
// Highway.
//
// Lane order. Kernels keep vectors of fp32 in "split" order: each block of two vectors' worth of
// values is stored as its even-indexed values, then its odd-indexed ones. A 32-bit word that holds
// two neighbouring bf16 values becomes two fp32 with one shift and one mask; in split order that is
// all it takes to read a record, and queries and outputs are put into and out of this order once
// per tile.
//
// Thread rule: a TileScratch belongs to one thread at a time; everything else is read-only or named
// by the tile.
#ifndef LATENTD_KERNELS_CPU_TILE_KERNELS_H_
#define LATENTD_KERNELS_CPU_TILE_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "hwy/aligned_allocator.h"
#include "kernels/cpu/tile.h"
#include "kernels/mla.h"

namespace latentd {

// Widths padded for any vector length: multiples of kPadWidth values, latent and rope part each.
inline constexpr uint32_t kPadWidth = 32;
constexpr uint32_t PadWidth(uint32_t width) {
  return (width + kPadWidth - 1) / kPadWidth * kPadWidth;
}

// How kernels get at a page's records.
enum class RecordPath : uint8_t {
  kInPlace,  // bf16, widths multiples of kPadWidth: vectors straight from the cache
  kFp8,      // fp8, widths multiples of kPadWidth: few rows in place, else a page decoded to fp32
  kGeneral,  // any other widths: decoded one value after the other
};

// What is the same for all tiles of a backend.
struct KernelShape {
  Geometry geometry;
  RecordFormat format = RecordFormat::kBf16;
  CacheView cache;
  uint64_t record_bytes = 0;
  RecordPath path = RecordPath::kGeneral;
  uint32_t padded_latent = 0;
  uint32_t padded_row = 0;  // padded latent + padded rope
};

// The records of a tile's chunk and layer in its page `page`.
inline const std::byte* PageRecords(const KernelShape& shape, const Tile& tile, uint32_t page) {
  return shape.cache.arena + tile.page_ids[page] * shape.cache.page_bytes +
         tile.layer * shape.cache.layer_bytes;
}

KernelShape MakeKernelShape(const Geometry& geometry, RecordFormat format, const CacheView& cache);

// One thread's buffers: about 190 KiB at the usual widths, so that they stay in the second-level
// cache.
class TileScratch {
 public:
  explicit TileScratch(const KernelShape& shape);

  float* queries() { return queries_.get(); }  // [kRowsPerTile][padded_row], split order
  float* records() {
    return records_.get();
  }  // [kPageTokens][padded_row], split order: one decoded page
  float* scores() { return scores_.get(); }  // [kRowsPerTile][kPageTokens]: logits, then weights
  float* record() { return record_.get(); }  // [row_width]: one record in its natural order

  // Per row of the tile being computed.
  float max[kRowsPerTile];
  float sum[kRowsPerTile];
  float rescale[kRowsPerTile];  // of the sums so far, when a page raises the maximum

 private:
  hwy::AlignedFreeUniquePtr<float[]> queries_;
  hwy::AlignedFreeUniquePtr<float[]> records_;
  hwy::AlignedFreeUniquePtr<float[]> scores_;
  hwy::AlignedFreeUniquePtr<float[]> record_;
};

// Computing a tile is BeginTile, TilePage for each page from first_page to end_page - 1, then
// EndTile. `rows` are the tile's rows.
struct TileKernels {
  const char* name;
  void (*begin_tile)(const KernelShape&, const Tile&, const TileRow* rows, const PieceStore&,
                     TileScratch&);
  // `next_page`: the records that this thread is likely to compute with next, or null; only a hint.
  void (*tile_page)(const KernelShape&, const Tile&, const TileRow* rows, const PieceStore&,
                    uint32_t page, const std::byte* next_page, TileScratch&);
  void (*end_tile)(const Tile&, const TileRow* rows, const PieceStore&, TileScratch&);
  // Merges a row's pieces. False if a logit or an output left the range of fp32; out and lse are
  // then unspecified.
  bool (*merge_pieces)(const KernelShape&, const FinishRow&, const PieceStore&);
};

// The kernels for the best instruction set that this machine has.
TileKernels BestTileKernels();

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_TILE_KERNELS_H_
