#include "kernels/cpu/plan.h"

#include <algorithm>
#include <functional>
#include <tuple>

namespace latentd {
namespace {

constexpr uint32_t CeilDiv(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

uint32_t Pieces(uint32_t visible_tokens, uint32_t run_pages) {
  return CeilDiv(visible_tokens, run_pages * kPageTokens);
}

// RunPages of the whole segment, not of what this token sees of it: a causal group's tokens stay
// together.
uint32_t RunPagesOf(const Segment& segment) { return RunPages(segment.visible_tokens); }

uint32_t PiecesPerRow(const Problem& problem, const Group& group, uint32_t token) {
  uint32_t pieces = 0;
  for (const Segment& segment : problem.segments.subspan(group.first_segment, group.segments)) {
    pieces += Pieces(VisibleTokens(segment, group, token), RunPagesOf(segment));
  }
  return pieces;
}

}  // namespace

bool WavePlan::Build(const Geometry& geometry, std::span<const Problem> problems,
                     uint32_t max_pieces, PlanCursor& cursor) {
  passes_.clear();
  tiles_.clear();
  rows_.clear();
  finish_rows_.clear();
  pieces_ = 0;

  for (; cursor.problem < problems.size(); ++cursor.problem, cursor.group = 0) {
    const Problem& problem = problems[cursor.problem];
    for (; cursor.group < problem.groups.size(); ++cursor.group, cursor.token = 0) {
      const Group& group = problem.groups[cursor.group];
      for (; cursor.token < group.tokens; ++cursor.token, cursor.head = 0) {
        const uint32_t per_row = PiecesPerRow(problem, group, cursor.token);
        const uint32_t left = problem.heads - cursor.head;
        const uint32_t room = max_pieces > pieces_ ? max_pieces - pieces_ : 0;
        uint32_t heads = per_row == 0 ? left : std::min(left, room / per_row);
        if (heads == 0 && finish_rows_.empty()) heads = 1;
        if (heads > 0) AddToken(geometry, problem, cursor, heads, per_row);
        if (heads < left) {
          cursor.head += heads;
          goto full;
        }
      }
    }
  }
full:
  // Neighbours in this order share passes; the most visible first, so that a run's rows are a
  // prefix.
  std::sort(passes_.begin(), passes_.end(), [](const Pass& a, const Pass& b) {
    if (a.page_ids != b.page_ids) return std::less<>()(a.page_ids, b.page_ids);
    return std::tie(a.layer, a.run_pages, b.visible_tokens, a.first_piece) <
           std::tie(b.layer, b.run_pages, a.visible_tokens, b.first_piece);
  });
  for (auto first = passes_.begin(); first != passes_.end();) {
    const auto last =
        std::find_if(first, passes_.end(), [&](const Pass& p) { return !Share(*first, p); });
    AddTiles(geometry, {first, last});
    first = last;
  }
  return !finish_rows_.empty();
}

bool WavePlan::Share(const Pass& a, const Pass& b) {
  return a.page_ids == b.page_ids && a.layer == b.layer && a.run_pages == b.run_pages;
}

void WavePlan::AddToken(const Geometry& geometry, const Problem& problem, const PlanCursor& cursor,
                        uint32_t heads, uint32_t pieces_per_row) {
  const Group& group = problem.groups[cursor.group];
  const uint64_t first_row =
      uint64_t{group.first_token + cursor.token} * problem.heads + cursor.head;

  uint32_t piece = pieces_;
  for (const Segment& segment : problem.segments.subspan(group.first_segment, group.segments)) {
    const uint32_t visible = VisibleTokens(segment, group, cursor.token);
    if (visible == 0) continue;
    passes_.push_back({.page_ids = segment.page_ids,
                       .layer = problem.layer,
                       .run_pages = RunPagesOf(segment),
                       .visible_tokens = visible,
                       .query = problem.rows + first_row * geometry.row_width(),
                       .scale = problem.scale,
                       .heads = heads,
                       .first_piece = piece,
                       .pieces_per_row = pieces_per_row});
    piece += Pieces(visible, RunPagesOf(segment));
  }

  const uint64_t out_bytes = uint64_t{geometry.latent_width} * OutValueBytes(problem.out_format);
  for (uint32_t h = 0; h < heads; ++h) {
    finish_rows_.push_back(
        {.first_piece = pieces_ + h * pieces_per_row,
         .pieces = pieces_per_row,
         .out_format = problem.out_format,
         .out = static_cast<std::byte*>(problem.out) + (first_row + h) * out_bytes,
         .lse = problem.lse + first_row + h,
         .problem = cursor.problem,
         .row = static_cast<uint32_t>(first_row + h)});
  }
  pieces_ += heads * pieces_per_row;
}

void WavePlan::AddTiles(const Geometry& geometry, std::span<const Pass> passes) {
  const uint32_t run_pages = passes[0].run_pages;
  const uint32_t runs = Pieces(passes[0].visible_tokens, run_pages);
  for (uint32_t run = 0; run < runs; ++run) {
    const uint32_t first_page = run * run_pages;
    Tile tile;
    auto close = [&] {
      if (tile.rows > 0) tiles_.push_back(tile);
    };
    for (const Pass& pass : passes) {
      if (pass.visible_tokens <= first_page * kPageTokens) break;
      for (uint32_t h = 0; h < pass.heads; ++h) {
        if (tile.rows == 0 || tile.rows == kRowsPerTile) {
          close();
          // Its first row sees most: passes are in that order.
          tile = {.page_ids = pass.page_ids,
                  .layer = pass.layer,
                  .first_page = first_page,
                  .end_page =
                      std::min(first_page + run_pages, CeilDiv(pass.visible_tokens, kPageTokens)),
                  .first_row = static_cast<uint32_t>(rows_.size()),
                  .rows = 0};
        }
        rows_.push_back({.query = pass.query + uint64_t{h} * geometry.row_width(),
                         .scale = pass.scale,
                         .visible_tokens = pass.visible_tokens,
                         .piece = pass.first_piece + h * pass.pieces_per_row + run});
        ++tile.rows;
      }
    }
    close();
  }
}

}  // namespace latentd
