// From problems to tiles: which rows share a pass over which pages, and where their pieces go.
//
// Pure: no clock, no threads, no memory but its own vectors.
#ifndef LATENTD_KERNELS_CPU_PLAN_H_
#define LATENTD_KERNELS_CPU_PLAN_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/tile.h"
#include "kernels/mla.h"

namespace latentd {

// Where a plan stopped: the next row of a batch that is not planned yet.
struct PlanCursor {
  uint32_t problem = 0;
  uint32_t group = 0;
  uint32_t token = 0;  // in the group
  uint32_t head = 0;
};

// A `WavePlan` is one wave of a batch: a run of its rows that needs no more than a given number of
// pieces, all tiles for those rows, and how their pieces come together. Keeps its memory from one
// use to the next.
class WavePlan {
 public:
  // Plans rows from `cursor` on until the next one would need more than `max_pieces` (but always
  // one row) or there are no more, and moves the cursor. False, with an empty plan, if it stood at
  // the end.
  bool Build(const Geometry& geometry, std::span<const Problem> problems, uint32_t max_pieces,
             PlanCursor& cursor);

  std::span<const Tile> tiles() const { return tiles_; }
  std::span<const TileRow> rows(const Tile& tile) const {
    return std::span(rows_).subspan(tile.first_row, tile.rows);
  }
  std::span<const FinishRow> finish_rows() const { return finish_rows_; }
  uint32_t pieces() const { return pieces_; }

 private:
  // Heads [first_head, first_head + heads) of one query token over one segment.
  struct Pass {
    const uint32_t* page_ids;
    uint32_t layer;
    uint32_t run_pages;
    uint32_t visible_tokens;
    const Bf16* query;  // of the first head
    float scale;
    uint32_t heads;
    uint32_t first_piece;     // of the first head
    uint32_t pieces_per_row;  // of all the row's segments: the distance to the next head's
  };

  // Passes of one chunk in one layer that are cut at the same places.
  static bool Share(const Pass& a, const Pass& b);

  void AddToken(const Geometry& geometry, const Problem& problem, const PlanCursor& cursor,
                uint32_t heads, uint32_t pieces_per_row);
  void AddTiles(const Geometry& geometry, std::span<const Pass> passes);

  std::vector<Pass> passes_;
  std::vector<Tile> tiles_;
  std::vector<TileRow> rows_;
  std::vector<FinishRow> finish_rows_;
  uint32_t pieces_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_PLAN_H_
