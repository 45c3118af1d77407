#include "kernels/cuda/plan.h"

#include <algorithm>
#include <functional>
#include <tuple>

namespace latentd {
namespace {

constexpr float kLog2E = 1.44269504088896f;
constexpr uint32_t kNone = 0xffffffff;

constexpr uint32_t CeilDiv(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

uint32_t Blocks(uint32_t tokens) { return CeilDiv(tokens, kPageTokens); }

uint32_t VisibleOf(const WorkSpan& span, uint32_t hidden_tokens) {
  const uint32_t cut = hidden_tokens > span.tokens_after ? hidden_tokens - span.tokens_after : 0;
  return span.visible_tokens > cut ? span.visible_tokens - cut : 0;
}

bool SameSpan(const WorkSpan& a, const WorkSpan& b) {
  return a.page_ids == b.page_ids && a.visible_tokens == b.visible_tokens &&
         a.tokens_after == b.tokens_after;
}

WorkRow RowOf(const Geometry& geometry, const Problem& problem, uint32_t problem_index,
              uint32_t row) {
  const uint64_t out_bytes = uint64_t{geometry.latent_width} * OutValueBytes(problem.out_format);
  return {.query = problem.rows + uint64_t{row} * geometry.row_width(),
          .out = static_cast<std::byte*>(problem.out) + row * out_bytes,
          .lse = problem.lse + row,
          .scale_log2 = problem.scale * kLog2E,
          .hidden_tokens = 0,
          .problem = problem_index,
          .row = row,
          .out_format = problem.out_format};
}

// The throughput form's cost in microseconds, from measurements (README.md): what makes one cut
// better than another, not a prediction.
constexpr double kCtaUs = 2;            // start, rows, first block, answer
constexpr double kCrowdUs = 8;          // and as much when all multiprocessors are at it
constexpr double kBlockUs = 1.5;        // 64 rows x 64 tokens
constexpr double kNarrowBlockUs = 1.9;  // 16 rows x 64 tokens, fp8
constexpr double kFp8BlockUs = 5;       // 64 rows x 64 tokens, fp8
constexpr double kExchangeUs = 1.0;     // a cluster's sum
constexpr double kExchangeCtaUs = 0.2;  // for each CTA of it
constexpr double kCombineUs = 2.5;
constexpr double kSlotUs = 1e-3;  // 2 KiB out and in again
// The latency form's, besides kLatencyKernels: meeting in global memory.
constexpr double kMeetUs = 1.3;
constexpr double kMeetSplitUs = 0.05;

}  // namespace

void BatchPlan::Build(const Geometry& geometry, std::span<const Problem> problems,
                      const PlanDevice& device) {
  for (auto* list : {&pieces_, &batch_row_, &row_tiles_, &row_pieces_, &row_work_row_}) {
    list->clear();
  }
  rows_.clear();
  spans_.clear();
  tiles_.clear();
  items_.clear();
  latency_queries_.clear();
  merges_.clear();
  passes_.clear();
  pass_spans_.clear();
  uses_.clear();
  slots_ = 0;
  latency_head_tiles_ = 0;
  cluster_size_ = 1;
  shape_ = {};

  ListPasses(problems);
  SortPasses();
  MakeTiles(geometry, problems);
  form_ = ChooseForm(device);
  const Cut cut = ChooseCut(device);
  if (device.matrix_kernels && device.latency_form && PlanLatency(problems, device, cut.us)) {
    MakeLatencyQueries(geometry, problems);
    return;
  }
  MakeItems(geometry, cut);
  MakeMerges(geometry, problems);
}

// A group attends its segments in one pass when everybody who attends one of them attends the same
// list; else each segment in a pass of its own, so that others can share it.
void BatchPlan::ListPasses(std::span<const Problem> problems) {
  struct GroupOf {
    const Problem* problem;
    const Group* group;
  };
  std::vector<GroupOf> groups;
  for (const Problem& problem : problems) {
    for (const Group& group : problem.groups) {
      for (const Segment& s : problem.segments.subspan(group.first_segment, group.segments)) {
        if (s.visible_tokens == 0) continue;
        uses_.push_back({s.page_ids, problem.layer, static_cast<uint32_t>(groups.size())});
      }
      groups.push_back({&problem, &group});
    }
  }
  std::sort(uses_.begin(), uses_.end(), [](const ChunkUse& a, const ChunkUse& b) {
    if (a.page_ids != b.page_ids) return std::less<>()(a.page_ids, b.page_ids);
    return std::tie(a.layer, a.group) < std::tie(b.layer, b.group);
  });
  auto segments_of = [](const GroupOf& g) {
    return g.problem->segments.subspan(g.group->first_segment, g.group->segments);
  };
  auto same_list = [&](const GroupOf& a, const GroupOf& b) {
    const auto x = segments_of(a);
    const auto y = segments_of(b);
    return std::equal(x.begin(), x.end(), y.begin(), y.end(),
                      [](const Segment& s, const Segment& t) {
                        return s.page_ids == t.page_ids && s.visible_tokens == t.visible_tokens &&
                               s.tokens_after == t.tokens_after;
                      });
  };
  whole_.assign(groups.size(), 1);
  for (auto first = uses_.begin(); first != uses_.end();) {
    auto last = first;
    bool same = true;
    for (; last != uses_.end() && last->page_ids == first->page_ids && last->layer == first->layer;
         ++last) {
      // Twice in one group is two passes too.
      if (last != first) {
        same = same && last->group != (last - 1)->group &&
               same_list(groups[first->group], groups[last->group]);
      }
    }
    if (!same) {
      for (; first != last; ++first) whole_[first->group] = 0;
    }
    first = last;
  }
  // One group that is not whole unsettles those that share another list with it.
  for (bool changed = true; changed;) {
    changed = false;
    for (auto first = uses_.begin(); first != uses_.end();) {
      auto last = first;
      bool any_split = false;
      for (;
           last != uses_.end() && last->page_ids == first->page_ids && last->layer == first->layer;
           ++last) {
        any_split = any_split || !whole_[last->group];
      }
      for (; first != last; ++first) {
        if (any_split && whole_[first->group]) {
          whole_[first->group] = 0;
          changed = true;
        }
      }
    }
  }

  uint32_t group_index = 0;
  uint32_t first_row = 0;
  for (uint32_t p = 0; p < problems.size(); ++p) {
    for (const Group& group : problems[p].groups) {
      ListGroup(problems[p], p, group, whole_[group_index++] != 0);
    }
    first_row += problems[p].tokens * problems[p].heads;
  }
  row_tiles_.assign(first_row, 0);
  row_pieces_.assign(first_row, 0);
  row_work_row_.assign(first_row, kNone);
}

void BatchPlan::ListGroup(const Problem& problem, uint32_t problem_index, const Group& group,
                          bool whole) {
  const auto first_pass = static_cast<uint32_t>(pass_spans_.size());
  uint32_t nonempty = 0;
  for (const Segment& s : problem.segments.subspan(group.first_segment, group.segments)) {
    if (s.visible_tokens == 0) continue;
    pass_spans_.push_back({s.page_ids, s.visible_tokens, s.tokens_after});
    ++nonempty;
  }
  if (nonempty == 0) return;
  const uint32_t lists = whole ? 1 : nonempty;
  const uint32_t length = whole ? nonempty : 1;
  for (uint32_t token = 0; token < group.tokens; ++token) {
    const uint32_t hidden = group.causal ? group.tokens - 1 - token : 0;
    for (uint32_t list = 0; list < lists; ++list) {
      uint32_t visible = 0;
      for (uint32_t s = 0; s < length; ++s) {
        visible += VisibleOf(pass_spans_[first_pass + list + s], hidden);
      }
      if (visible == 0) continue;
      passes_.push_back({.first_span = first_pass + list,
                         .spans = length,
                         .layer = problem.layer,
                         .hidden_tokens = hidden,
                         .problem = problem_index,
                         .token = group.first_token + token});
    }
  }
}

// Whether rows of both passes fit one tile. A pass over one span is a prefix of its chunk, whatever
// its length; longer lists must be the same.
bool BatchPlan::SameSpans(const TokenPass& a, const TokenPass& b) const {
  if (a.layer != b.layer || a.spans != b.spans) return false;
  const WorkSpan* x = &pass_spans_[a.first_span];
  const WorkSpan* y = &pass_spans_[b.first_span];
  if (a.spans == 1) return x->page_ids == y->page_ids;
  return std::equal(x, x + a.spans, y, SameSpan);
}

// Neighbours in this order share tiles; those that see most come first.
void BatchPlan::SortPasses() {
  auto visible = [this](const TokenPass& p) {
    return VisibleOf(pass_spans_[p.first_span], p.hidden_tokens);
  };
  std::stable_sort(passes_.begin(), passes_.end(), [&](const TokenPass& a, const TokenPass& b) {
    const WorkSpan& x = pass_spans_[a.first_span];
    const WorkSpan& y = pass_spans_[b.first_span];
    if (x.page_ids != y.page_ids) return std::less<>()(x.page_ids, y.page_ids);
    if (a.layer != b.layer) return a.layer < b.layer;
    if (a.spans != b.spans) return a.spans < b.spans;
    if (a.spans == 1) return visible(a) > visible(b);
    for (uint32_t s = 0; s < a.spans; ++s) {
      const WorkSpan& u = pass_spans_[a.first_span + s];
      const WorkSpan& v = pass_spans_[b.first_span + s];
      if (u.page_ids != v.page_ids) return std::less<>()(u.page_ids, v.page_ids);
      if (u.visible_tokens != v.visible_tokens) return u.visible_tokens < v.visible_tokens;
      if (u.tokens_after != v.tokens_after) return u.tokens_after < v.tokens_after;
    }
    return a.hidden_tokens < b.hidden_tokens;
  });
}

void BatchPlan::MakeTiles(const Geometry& geometry, std::span<const Problem> problems) {
  first_batch_row_.clear();
  uint32_t batch_rows = 0;
  uint32_t pass_rows = 0;
  for (const Problem& problem : problems) {
    first_batch_row_.push_back(batch_rows);
    batch_rows += problem.tokens * problem.heads;
  }
  for (const TokenPass& pass : passes_) pass_rows += problems[pass.problem].heads;
  rows_.reserve(pass_rows + batch_rows);
  batch_row_.reserve(pass_rows);
  const TokenPass* tile_pass = nullptr;
  for (const TokenPass& pass : passes_) {
    const uint32_t heads = problems[pass.problem].heads;
    bool same = tile_pass != nullptr && SameSpans(*tile_pass, pass);
    for (uint32_t head = 0; head < heads;) {
      if (!same || tiles_.back().rows == kTileRows) {
        StartTile(pass);
        tile_pass = &pass;
        same = true;
      }
      const uint32_t count = std::min(kTileRows - tiles_.back().rows, heads - head);
      AddRows(geometry, problems[pass.problem], pass, head, count);
      head += count;
    }
  }
}

void BatchPlan::StartTile(const TokenPass& pass) {
  tiles_.push_back({.first_row = static_cast<uint32_t>(rows_.size()),
                    .rows = 0,
                    .first_span = static_cast<uint32_t>(spans_.size()),
                    .spans = pass.spans,
                    .layer = pass.layer});
  for (uint32_t s = 0; s < pass.spans; ++s) spans_.push_back(pass_spans_[pass.first_span + s]);
  if (pass.spans != 1) return;
  // A prefix; each row hides from its end what it does not see.
  WorkSpan& span = spans_.back();
  span.visible_tokens = VisibleOf(span, pass.hidden_tokens);
  span.tokens_after = 0;
}

// Heads [first_head, first_head + count) of the pass go to the last tile.
void BatchPlan::AddRows(const Geometry& geometry, const Problem& problem, const TokenPass& pass,
                        uint32_t first_head, uint32_t count) {
  WorkTile& tile = tiles_.back();
  const uint32_t first_row = pass.token * problem.heads + first_head;
  const uint32_t first_batch_row = first_batch_row_[pass.problem] + first_row;
  WorkRow row = RowOf(geometry, problem, pass.problem, first_row);
  row.hidden_tokens = pass.spans == 1
                          ? spans_[tile.first_span].visible_tokens -
                                VisibleOf(pass_spans_[pass.first_span], pass.hidden_tokens)
                          : pass.hidden_tokens;
  const uint64_t out_bytes = uint64_t{geometry.latent_width} * OutValueBytes(problem.out_format);
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t batch_row = first_batch_row + i;
    ++row_tiles_[batch_row];
    if (row_work_row_[batch_row] == kNone) {
      row_work_row_[batch_row] = static_cast<uint32_t>(rows_.size());
    }
    batch_row_.push_back(batch_row);
    rows_.push_back(row);
    row.query += geometry.row_width();
    row.out = static_cast<std::byte*>(row.out) + out_bytes;
    ++row.lse;
    ++row.row;
  }
  tile.rows += count;
}

uint32_t BatchPlan::TileBlocks(const WorkTile& tile) const {
  uint32_t blocks = 0;
  for (uint32_t s = 0; s < tile.spans; ++s) {
    blocks += Blocks(spans_[tile.first_span + s].visible_tokens);
  }
  return blocks;
}

// Whether the batch is few query tokens over one short context each, and a latency kernel answers
// it sooner than `other_us`: chooses that kernel.
bool BatchPlan::PlanLatency(std::span<const Problem> problems, const PlanDevice& device,
                            double other_us) {
  if (passes_.empty() || passes_.size() > kMaxLatencyQueries) return false;
  uint32_t tokens = 0;
  for (const Problem& problem : problems) tokens += problem.tokens;
  // Every token in one pass: none sees nothing, none has something to merge.
  if (tokens != passes_.size()) return false;
  uint32_t heads = 0;
  uint32_t longest = 0;
  uint32_t pages = 0;
  for (const TokenPass& pass : passes_) {
    if (pass.spans != 1) return false;
    const uint32_t blocks = Blocks(VisibleOf(pass_spans_[pass.first_span], pass.hidden_tokens));
    longest = std::max(longest, blocks);
    pages += blocks;
    heads = std::max(heads, problems[pass.problem].heads);
  }
  if (pages > kMaxLatencyPages) return false;
  for (uint32_t row_tiles : row_tiles_) {
    if (row_tiles != 1) return false;
  }

  double best_us = other_us;
  for (uint32_t k = 0; k < kLatencyKernelCount; ++k) {
    LatencyShape shape = kLatencyKernels[k].shape;
    shape.splits = CeilDiv(longest, shape.cluster_size * shape.blocks);
    const uint32_t head_tiles = CeilDiv(heads, shape.heads);
    const auto clusters = static_cast<uint32_t>(passes_.size()) * head_tiles * shape.splits;
    if (clusters > device.latency_clusters[k]) continue;
    const double us =
        kLatencyKernels[k].us + (shape.splits > 1 ? kMeetUs + shape.splits * kMeetSplitUs : 0.0);
    if (us >= best_us) continue;
    best_us = us;
    shape_ = shape;
    latency_head_tiles_ = head_tiles;
    form_ = Form::kLatency;
  }
  return form_ == Form::kLatency;
}

void BatchPlan::MakeLatencyQueries(const Geometry& geometry, std::span<const Problem> problems) {
  for (const TokenPass& pass : passes_) {
    const Problem& problem = problems[pass.problem];
    const WorkSpan& span = pass_spans_[pass.first_span];
    LatencyQuery& query = latency_queries_.emplace_back();
    query.row = RowOf(geometry, problem, pass.problem, pass.token * problem.heads);
    query.heads = problem.heads;
    query.layer = pass.layer;
    query.visible_tokens = VisibleOf(span, pass.hidden_tokens);
    query.page_table = span.page_ids;
  }
}

Form BatchPlan::ChooseForm(const PlanDevice& device) const {
  if (!device.matrix_kernels) return Form::kSimple;
  if (!device.narrow_form) return Form::kThroughput;
  for (const WorkTile& tile : tiles_) {
    if (tile.rows > kNarrowRows) return Form::kThroughput;
  }
  return Form::kNarrow;
}

// Spreads the tiles' blocks over the device: the size of clusters and the blocks of a CTA that cost
// least, over a few candidates.
BatchPlan::Cut BatchPlan::ChooseCut(const PlanDevice& device) {
  uint32_t longest = 0;
  lengths_.clear();
  for (const WorkTile& tile : tiles_) {
    const uint32_t blocks = TileBlocks(tile);
    longest = std::max(longest, blocks);
    if (lengths_.empty() || lengths_.back().blocks != blocks) lengths_.push_back({blocks, 0, 0});
    ++lengths_.back().tiles;
    lengths_.back().rows += tile.rows;
  }
  Cut best{.cluster_size = 1, .blocks = std::max(longest, 1u)};
  if (tiles_.empty()) return best;
  bool found = false;
  auto consider = [&](uint32_t size, uint32_t at_once) {
    constexpr uint32_t kBlocks[] = {1,  2,  3,  4,  5,  6,  8,  10, 12,  14,  16,
                                    20, 24, 28, 32, 40, 48, 64, 96, 128, 256, 1024};
    if (at_once == 0) return;
    for (const uint32_t blocks : kBlocks) {
      const Cut cut = CutFor(device, size, blocks, at_once);
      if (!found || cut.us < best.us) best = cut;
      found = true;
      if (size * blocks >= longest) break;
    }
  };
  switch (form_) {
    case Form::kSimple:
      consider(1, 8 * device.multiprocessors / kTileRows + 1);
      break;
    case Form::kNarrow:
      consider(1, device.multiprocessors);
      break;
    default:
      for (const uint32_t size : {1u, 2u, 3u, 4u, 6u, 8u}) {
        consider(size, device.active_clusters[size]);
      }
  }
  return best;
}

// `at_once`: clusters that run at the same time.
BatchPlan::Cut BatchPlan::CutFor(const PlanDevice& device, uint32_t cluster_size, uint32_t blocks,
                                 uint32_t at_once) const {
  const double block_us = form_ == Form::kNarrow ? kNarrowBlockUs
                          : device.narrow_form   ? kFp8BlockUs
                                                 : kBlockUs;
  uint64_t clusters = 0;
  for (const TileLength& length : lengths_) {
    clusters += uint64_t{length.tiles} * CeilDiv(length.blocks, cluster_size * blocks);
  }
  const double crowd_us = kCrowdUs * std::min(1.0, static_cast<double>(clusters * cluster_size) /
                                                       device.multiprocessors);
  uint64_t slots = 0;
  double busy_us = 0;
  double longest_us = 0;
  for (const TileLength& length : lengths_) {
    const uint32_t splits = CeilDiv(length.blocks, cluster_size * blocks);
    if (splits > 1) slots += uint64_t{splits} * length.rows;
    const double us = kCtaUs + crowd_us +
                      CeilDiv(CeilDiv(length.blocks, splits), cluster_size) * block_us +
                      (cluster_size > 1 ? kExchangeUs + cluster_size * kExchangeCtaUs : 0.0);
    busy_us += us * splits * length.tiles;
    longest_us = std::max(longest_us, us);
  }
  // Whole waves while they are few; a stream of clusters when they are many.
  const double waves = static_cast<double>(CeilDiv(static_cast<uint32_t>(clusters), at_once));
  const double mean_us = busy_us / static_cast<double>(clusters);
  const double us =
      (waves < 4 ? waves * mean_us
                 : mean_us * static_cast<double>(clusters) / at_once + 0.5 * mean_us) +
      (longest_us - mean_us) +
      (slots > 0 ? kCombineUs + static_cast<double>(slots) * kSlotUs : 0.0);
  return {cluster_size, blocks, us};
}

void BatchPlan::MakeItems(const Geometry& geometry, const Cut& cut) {
  cluster_size_ = cut.cluster_size;
  for (uint32_t t = 0; t < tiles_.size(); ++t) MakeTileItems(geometry, cut, t);
  // The longest first: the last to start is then short.
  const auto length = [](const WorkItem& item) { return item.end_block - item.first_block; };
  std::stable_sort(items_.begin(), items_.end(),
                   [&](const WorkItem& a, const WorkItem& b) { return length(a) > length(b); });
}

void BatchPlan::MakeTileItems(const Geometry& geometry, const Cut& cut, uint32_t tile_index) {
  const WorkTile& tile = tiles_[tile_index];
  const uint32_t blocks = TileBlocks(tile);
  const uint32_t splits = CeilDiv(blocks, cut.cluster_size * cut.blocks);
  bool alone = splits == 1;
  for (uint32_t r = 0; alone && r < tile.rows; ++r) {
    alone = row_tiles_[batch_row_[tile.first_row + r]] == 1;
  }
  bool contiguous = true;
  const Bf16* query = rows_[tile.first_row].query;
  for (uint32_t r = 1; contiguous && r < tile.rows; ++r) {
    contiguous = rows_[tile.first_row + r].query == (query += geometry.row_width());
  }
  for (uint32_t s = 0; s < splits; ++s) {
    const auto at = [&](uint32_t i) {
      return static_cast<uint32_t>(uint64_t{blocks} * i / splits);
    };
    WorkItem& item = items_.emplace_back();
    item.tile = tile;
    item.tile_index = tile_index;
    item.first_block = at(s);
    item.end_block = at(s + 1);
    item.first_slot = alone ? kFinal : slots_;
    item.span_index = tile.first_span;
    item.block_in_span = item.first_block;
    while (item.block_in_span >= Blocks(spans_[item.span_index].visible_tokens)) {
      item.block_in_span -= Blocks(spans_[item.span_index++].visible_tokens);
    }
    item.span = spans_[item.span_index];
    if (contiguous) item.queries = rows_[tile.first_row].query;
    if (alone) continue;
    slots_ += tile.rows;
    for (uint32_t r = 0; r < tile.rows; ++r) ++row_pieces_[batch_row_[tile.first_row + r]];
  }
}

// One merge for every row with pieces and for every row that sees nothing.
void BatchPlan::MakeMerges(const Geometry& geometry, std::span<const Problem> problems) {
  uint32_t batch_row = 0;
  uint32_t first_piece = 0;
  // From here on row_pieces_ is where a row's next piece goes.
  for (uint32_t p = 0; p < problems.size(); ++p) {
    const Problem& problem = problems[p];
    for (uint32_t row = 0; row < problem.tokens * problem.heads; ++row, ++batch_row) {
      const uint32_t pieces = row_pieces_[batch_row];
      if (row_tiles_[batch_row] == 0) {
        merges_.push_back({.row = static_cast<uint32_t>(rows_.size())});
        rows_.push_back(RowOf(geometry, problem, p, row));
        continue;
      }
      if (pieces == 0) continue;
      merges_.push_back(
          {.row = row_work_row_[batch_row], .first_piece = first_piece, .pieces = pieces});
      row_pieces_[batch_row] = first_piece;
      first_piece += pieces;
    }
  }
  pieces_.resize(first_piece);
  if (first_piece == 0) return;
  // In the order of tiles and blocks, whatever the order of items.
  std::vector<WorkItem> in_order(items_);
  std::sort(in_order.begin(), in_order.end(), [](const WorkItem& a, const WorkItem& b) {
    return std::tie(a.tile_index, a.first_block) < std::tie(b.tile_index, b.first_block);
  });
  for (const WorkItem& item : in_order) {
    if (item.first_slot == kFinal) continue;
    const WorkTile& tile = item.tile;
    for (uint32_t r = 0; r < tile.rows; ++r) {
      pieces_[row_pieces_[batch_row_[tile.first_row + r]]++] = item.first_slot + r;
    }
  }
}

}  // namespace latentd
