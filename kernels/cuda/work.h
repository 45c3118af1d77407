// The list of work that the host plans (plan.h) and the kernels read: flat arrays, no ownership.
//
// A *tile* is up to kTileRows rows that attend the same tokens of one layer, perhaps each fewer of
// them; its tokens are a list of *spans* of chunks, cut into blocks of one page. An *item* is what
// one cluster of CTAs computes: a run of a tile's blocks. Its answer is final when nothing else
// contributes to the tile's rows; else it is a partial in fp32, one slot for each row, and
// *merges* say which slots make a row.
//
// Pointers are the device's.
#ifndef LATENTD_KERNELS_CUDA_WORK_H_
#define LATENTD_KERNELS_CUDA_WORK_H_

#include <cstdint>

#include "kernels/mla.h"

struct float4;

namespace latentd {

// Rows of a tile of the throughput form: the M of its matrix products.
inline constexpr uint32_t kTileRows = 64;
// Of the narrow form, which is for fp8 records.
inline constexpr uint32_t kNarrowRows = 16;
// CTAs of a cluster, at most. More than 8 needs cudaFuncAttributeNonPortableClusterSizeAllowed.
inline constexpr uint32_t kMaxClusterSize = 16;
inline constexpr uint32_t kFinal = 0xffffffff;
inline constexpr uint32_t kNoBadRow = 0xffffffff;

struct WorkRow {
  const Bf16* query = nullptr;  // 16-byte aligned
  void* out = nullptr;          // 16-byte aligned
  float* lse = nullptr;
  float scale_log2 = 0;  // the request's scale times log2(e)
  // The row sees clamp(visible_tokens - max(0, hidden_tokens - tokens_after)) of a span.
  uint32_t hidden_tokens = 0;
  uint32_t problem = 0;  // and its row, for a report that the logits left fp32
  uint32_t row = 0;
  OutFormat out_format = OutFormat::kBf16;
};

struct WorkSpan {
  const uint32_t* page_ids = nullptr;
  uint32_t visible_tokens = 0;  // what the row that sees most sees; not 0
  uint32_t tokens_after = 0;
};

struct WorkTile {
  uint32_t first_row = 0;
  uint32_t rows = 0;
  uint32_t first_span = 0;
  uint32_t spans = 0;
  uint32_t layer = 0;
};

// Carries copies of what its CTAs need first: each load that waits for another before the first
// records are on their way is half a microsecond.
struct WorkItem {
  WorkTile tile;
  uint32_t tile_index = 0;
  uint32_t first_block = 0;  // of the tile's spans, one after the other
  uint32_t end_block = 0;
  uint32_t first_slot = kFinal;  // of the tile's first row; kFinal: write the answer itself
  // The span that has first_block, and that block's number within it.
  WorkSpan span;
  uint32_t span_index = 0;
  uint32_t block_in_span = 0;
  // The rows' queries, if they lie one behind the other.
  const Bf16* queries = nullptr;
};

struct WorkMerge {
  uint32_t row = 0;  // index of a WorkRow: where the answer goes
  uint32_t first_piece = 0;
  uint32_t pieces = 0;  // 0: a row that sees nothing
};

// Everything that a kernel reads and writes besides rows and cache.
struct Work {
  const WorkRow* rows = nullptr;
  const WorkSpan* spans = nullptr;
  const WorkItem* items = nullptr;
  const WorkMerge* merges = nullptr;
  const uint32_t* pieces = nullptr;  // slots
  float* partial_out = nullptr;      // [slot][latent_width], normalised
  float* partial_lse = nullptr;      // [slot], base 2
  uint32_t* bad_rows = nullptr;      // [problem]: the first row that left fp32, or kNoBadRow
  // What the rows' tensor map (make_arena.h) counts from; null: there is no such map.
  const Bf16* lowest_queries = nullptr;
};

// How the latency form is cut: `heads` rows and up to 64 * `blocks` tokens for each CTA,
// `cluster_size` CTAs along the tokens, and `splits` such clusters that meet in global memory.
struct LatencyShape {
  uint32_t heads = 0;
  uint32_t cluster_size = 0;
  uint32_t blocks = 0;
  uint32_t splits = 1;
  friend bool operator==(const LatencyShape&, const LatencyShape&) = default;
};

inline constexpr uint32_t kMaxLatencyQueries = 8;
inline constexpr uint32_t kMaxLatencyPages = 256;

// One query token's heads over one span of a chunk, all of which each head sees.
struct LatencyQuery {
  WorkRow row;  // of head 0; the other heads' rows, out and lse follow it
  uint32_t heads = 0;
  uint32_t layer = 0;
  uint32_t visible_tokens = 0;  // not 0
  uint32_t first_page = 0;      // in LatencyWork::page_ids
  // The device's page table, if that is where it is; else LatencyWork::page_ids has the pages.
  const uint32_t* page_table = nullptr;
};

// The latency form's work travels as the kernel's argument: every load that comes before the
// first copy of records is half a microsecond.
struct LatencyWork {
  uint32_t queries = 0;
  uint32_t head_tiles = 0;  // of the query that has most
  // Where clusters of a shape with splits > 1 meet: fp32 partials by (query, head tile, split), and
  // counters of arrivals that are zero between launches.
  float4* meeting_out = nullptr;
  float* meeting_lse = nullptr;
  uint32_t* meeting_arrivals = nullptr;
  uint32_t* bad_rows = nullptr;  // as Work's, but any bad row, and host memory will do
  LatencyQuery query[kMaxLatencyQueries];
  uint32_t page_ids[kMaxLatencyPages];
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_WORK_H_
