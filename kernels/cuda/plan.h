// From problems to the kernels' list of work (work.h): which rows share a pass over which records,
// how the blocks are spread over the device, and what has to be merged afterwards.
//
// Pure: no device, no clock, no threads, no memory but its own vectors. The same batch on the same
// device gives the same plan.
#ifndef LATENTD_KERNELS_CUDA_PLAN_H_
#define LATENTD_KERNELS_CUDA_PLAN_H_

#include <array>
#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "kernels/cuda/work.h"
#include "kernels/mla.h"

namespace latentd {

// The latency form's kernels: every (heads, cluster size, blocks), and what a launch takes, about.
struct LatencyKernelCost {
  LatencyShape shape;
  double us;
};
inline constexpr LatencyKernelCost kLatencyKernels[] = {
    {{.heads = 8, .cluster_size = 8, .blocks = 1}, 3.5},
    {{.heads = 16, .cluster_size = 8, .blocks = 1}, 4.1},
    {{.heads = 16, .cluster_size = 8, .blocks = 2}, 6.0},
    {{.heads = 24, .cluster_size = 16, .blocks = 2}, 7.5},
};
inline constexpr uint32_t kLatencyKernelCount = std::size(kLatencyKernels);

// What the planner needs to know of a device and a store.
struct PlanDevice {
  uint32_t multiprocessors = 132;
  // [c]: how many clusters of c CTAs of the throughput form run at the same time. 0: none.
  std::array<uint32_t, kMaxClusterSize + 1> active_clusters = {};
  // The same for each of kLatencyKernels.
  std::array<uint32_t, kLatencyKernelCount> latency_clusters = {};
  // The widths and the arena suit the matrix kernels (make_arena.h).
  bool matrix_kernels = true;
  // The latency form reads bf16 records only.
  bool latency_form = true;
  // The narrow form reads fp8 records only.
  bool narrow_form = false;
};

enum class Form : uint8_t {
  kSimple,      // any geometry
  kThroughput,  // 64 rows a CTA or cluster
  kNarrow,      // 16 rows a CTA
  kLatency,     // a few heads a CTA, one short context: one launch, no merge afterwards
};

// Keeps its memory from one use to the next.
class BatchPlan {
 public:
  // REQUIRES: valid problems (validate.h) of one store. Page tables are not looked at.
  void Build(const Geometry& geometry, std::span<const Problem> problems, const PlanDevice& device);

  Form form() const { return form_; }
  uint32_t cluster_size() const { return cluster_size_; }       // of the throughput form
  const LatencyShape& latency_shape() const { return shape_; }  // of the latency form

  std::span<const WorkRow> rows() const { return rows_; }
  // With the problems' own page tables.
  std::span<const WorkSpan> spans() const { return spans_; }
  std::span<const WorkTile> tiles() const { return tiles_; }
  std::span<const WorkItem> items() const { return items_; }
  // The latency form's queries, with the problems' own page tables; no items then.
  std::span<const LatencyQuery> latency_queries() const { return latency_queries_; }
  uint32_t latency_head_tiles() const { return latency_head_tiles_; }
  std::span<const WorkMerge> merges() const { return merges_; }
  std::span<const uint32_t> pieces() const { return pieces_; }
  uint32_t slots() const { return slots_; }

 private:
  // Rows of one query token, all heads, and the spans they attend: spans_of_token_[first_span...].
  struct TokenPass {
    uint32_t first_span;
    uint32_t spans;
    uint32_t layer;
    uint32_t hidden_tokens;
    uint32_t problem;
    uint32_t token;
  };

  // One group's use of a chunk.
  struct ChunkUse {
    const uint32_t* page_ids;
    uint32_t layer;
    uint32_t group;  // of all groups of the batch
  };

  void ListPasses(std::span<const Problem> problems);
  void ListGroup(const Problem& problem, uint32_t problem_index, const Group& group, bool whole);
  bool SameSpans(const TokenPass& a, const TokenPass& b) const;
  void SortPasses();
  void MakeTiles(const Geometry& geometry, std::span<const Problem> problems);
  void StartTile(const TokenPass& pass);
  void AddRows(const Geometry& geometry, const Problem& problem, const TokenPass& pass,
               uint32_t first_head, uint32_t count);
  bool PlanLatency(std::span<const Problem> problems, const PlanDevice& device, double other_us);
  void MakeLatencyQueries(const Geometry& geometry, std::span<const Problem> problems);
  // Neighbouring tiles of one length.
  struct TileLength {
    uint32_t blocks = 0;
    uint32_t tiles = 0;
    uint32_t rows = 0;
  };
  struct Cut {
    uint32_t cluster_size = 1;
    uint32_t blocks = 1;  // of a CTA
    double us = 0;
  };
  Form ChooseForm(const PlanDevice& device) const;
  Cut ChooseCut(const PlanDevice& device);
  Cut CutFor(const PlanDevice& device, uint32_t cluster_size, uint32_t blocks,
             uint32_t at_once) const;
  void MakeItems(const Geometry& geometry, const Cut& cut);
  void MakeTileItems(const Geometry& geometry, const Cut& cut, uint32_t tile_index);
  void MakeMerges(const Geometry& geometry, std::span<const Problem> problems);
  uint32_t TileBlocks(const WorkTile& tile) const;

  Form form_ = Form::kThroughput;
  uint32_t cluster_size_ = 1;
  LatencyShape shape_;
  std::vector<WorkRow> rows_;
  std::vector<WorkSpan> spans_;
  std::vector<WorkTile> tiles_;
  std::vector<WorkItem> items_;
  std::vector<LatencyQuery> latency_queries_;
  uint32_t latency_head_tiles_ = 0;
  std::vector<WorkMerge> merges_;
  std::vector<uint32_t> pieces_;
  uint32_t slots_ = 0;

  std::vector<TokenPass> passes_;
  std::vector<TileLength> lengths_;
  std::vector<WorkSpan> pass_spans_;
  std::vector<ChunkUse> uses_;
  std::vector<uint8_t> whole_;             // [group of the batch]
  std::vector<uint32_t> first_batch_row_;  // [problem]
  std::vector<uint32_t> batch_row_;        // [WorkRow]: which row of all the batch's
  std::vector<uint32_t> row_tiles_;        // [row of the batch]: tiles it is in
  std::vector<uint32_t> row_pieces_;       // [row of the batch]
  std::vector<uint32_t> row_work_row_;     // [row of the batch]: its first WorkRow
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_PLAN_H_
