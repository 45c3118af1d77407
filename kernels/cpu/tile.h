// The unit of work of the CPU backend: up to kRowsPerTile rows over a run of pages of one chunk,
// and what it leaves.
//
// A row's attention is cut at fixed places that depend on its own problem only: at the ends of its
// segments, and inside a segment after every RunPages() pages. What a tile computes for a row over
// one such run is a *piece*. All of a piece's arithmetic is in an order that does not depend on the
// other rows of its tile, and pieces are merged in the order of the sequence: so a row's result has
// the same bits whatever it shares a tile, a batch or a machine with.
//
// Values and views only.
#ifndef LATENTD_KERNELS_CPU_TILE_H_
#define LATENTD_KERNELS_CPU_TILE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/mla.h"

namespace latentd {

// Enough for arithmetic to hide the traffic of a page's records (16 rows use each bf16 value 32
// times), few enough for a tile of four pages to take about 100 us on one core, so that one query
// makes work for several.
inline constexpr uint32_t kRowsPerTile = 16;

// Pages of one piece of a segment. Four, doubled until a segment has at most 64 pieces: pieces cost
// memory and merging.
constexpr uint32_t RunPages(uint32_t visible_tokens) {
  const uint32_t pages = (visible_tokens + kPageTokens - 1) / kPageTokens;
  uint32_t run = 4;
  while (pages > 64 * run) run *= 2;
  return run;
}

struct TileRow {
  const Bf16* query = nullptr;  // [row_width]
  float scale = 0;
  uint32_t visible_tokens =
      0;               // of the chunk, counted from its start; beyond the tile's first page
  uint32_t piece = 0;  // index into PieceStore
};

struct Tile {
  const uint32_t* page_ids = nullptr;  // of the chunk
  uint32_t layer = 0;
  uint32_t first_page = 0;
  uint32_t end_page = 0;
  uint32_t first_row = 0;  // rows [first_row, first_row + rows) of the plan
  uint32_t rows = 0;       // 1..kRowsPerTile
};

// Where pieces are: unnormalised sums, relative to the largest logit.
struct PieceStore {
  float* out = nullptr;  // [pieces][padded latent width], in the kernels' own lane order
  float* max = nullptr;  // [pieces]: the largest logit
  float* sum = nullptr;  // [pieces]: sum of exp(logit - max); NaN: a logit left the range of fp32
};

// One row's pieces, in the order of its sequence, and where their merged partial goes.
struct FinishRow {
  uint32_t first_piece = 0;
  uint32_t pieces = 0;  // 0: the row attends nothing
  OutFormat out_format = OutFormat::kBf16;
  void* out = nullptr;   // [latent_width]
  float* lse = nullptr;  // [1]
  uint32_t problem = 0;  // of the batch, and the row of that problem: for messages
  uint32_t row = 0;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_TILE_H_
