// From problems to the kernels' list of work (work.h): which rows share a pass over which records,
// how the blocks are spread over the device, and what has to be merged afterwards.
//
// Pure: no device, no clock, no threads, no memory but its own vectors. The same batch on the same
// device gives the same plan.
#ifndef LATENTD_KERNELS_CUDA_PLAN_H_
#define LATENTD_KERNELS_CUDA_PLAN_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/work.h"
#include "kernels/mla.h"

namespace latentd {

// What the planner needs to know of a device and a store.
struct PlanDevice {
  uint32_t multiprocessors = 132;
  // [c]: how many clusters of c CTAs of the throughput form run at the same time. 0: none.
  std::array<uint32_t, kMaxClusterSize + 1> active_clusters = {};
  // The same for the latency form's clusters of 8 and 16 CTAs.
  uint32_t latency_clusters_of_8 = 0;
  uint32_t latency_clusters_of_16 = 0;
  // The widths and the arena suit the matrix kernels (make_arena.h).
  bool matrix_kernels = true;
  // The latency form reads bf16 records only.
  bool latency_form = true;
};

enum class Form : uint8_t {
  kSimple,      // any geometry
  kThroughput,  // 64 rows a CTA or cluster
  kLatency,     // a few heads a CTA, one short context: one launch, no merge afterwards
};

// How the latency form is cut: `heads` rows and 64 * `blocks` tokens for each CTA, `cluster_size`
// CTAs along the tokens, and `splits` such clusters that meet in global memory.
struct LatencyShape {
  uint32_t heads = 0;
  uint32_t cluster_size = 0;
  uint32_t blocks = 0;
  uint32_t splits = 1;
  friend bool operator==(const LatencyShape&, const LatencyShape&) = default;
};

// Keeps its memory from one use to the next.
class Plan {
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
  std::span<const LatencyItem> latency_items() const { return latency_items_; }
  std::span<const WorkMerge> merges() const { return merges_; }
  std::span<const uint32_t> pieces() const { return pieces_; }
  uint32_t slots() const { return slots_; }
  uint32_t meetings() const { return meetings_; }  // of the latency form's clusters

 private:
  // Rows of one query token, all heads, and the spans they attend: spans_of_token_[first_span...].
  struct TokenPass {
    uint32_t first_span;
    uint32_t spans;
    uint32_t layer;
    uint32_t hidden_tokens;
    uint32_t problem;
    uint32_t token;
    uint32_t first_row;  // of all rows of the batch
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
  bool PlanLatency(std::span<const Problem> problems, const PlanDevice& device);
  void MakeItems(const PlanDevice& device);
  void MakeMerges(const Geometry& geometry, std::span<const Problem> problems);
  uint32_t TileBlocks(const WorkTile& tile) const;

  Form form_ = Form::kThroughput;
  uint32_t cluster_size_ = 1;
  LatencyShape shape_;
  std::vector<WorkRow> rows_;
  std::vector<WorkSpan> spans_;
  std::vector<WorkTile> tiles_;
  std::vector<WorkItem> items_;
  std::vector<LatencyItem> latency_items_;
  std::vector<WorkMerge> merges_;
  std::vector<uint32_t> pieces_;
  uint32_t slots_ = 0;
  uint32_t meetings_ = 0;

  std::vector<TokenPass> passes_;
  std::vector<WorkSpan> pass_spans_;
  std::vector<ChunkUse> uses_;
  std::vector<uint8_t> whole_;          // [group of the batch]
  std::vector<uint32_t> batch_row_;     // [WorkRow]: which row of all the batch's
  std::vector<uint32_t> row_tiles_;     // [row of the batch]: tiles it is in
  std::vector<uint32_t> row_pieces_;    // [row of the batch]
  std::vector<uint32_t> row_work_row_;  // [row of the batch]: its first WorkRow
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_PLAN_H_
