#include "kernels/cuda/plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "kernels/testing/test_problem.h"
#include "kernels/testing/test_store.h"

namespace latentd {
namespace {

constexpr Geometry kUsual{512, 64};
constexpr Geometry kTiny{8, 4};

// An H100, as its occupancy calculator answers.
PlanDevice Hopper(bool latency_form = true) {
  PlanDevice device;
  device.active_clusters = {0, 132, 66, 39, 30, 22, 17, 15, 15, 9, 7, 7, 7, 7, 7, 7, 7};
  device.latency_clusters = {15, 15, 15, 7};
  device.latency_form = latency_form;
  return device;
}

// Problems over chunks that are page tables only: the planner looks at nothing else.
class Batch {
 public:
  const uint32_t* Chunk() {
    chunks_.push_back(std::make_unique<uint32_t[]>(1));
    return chunks_.back().get();
  }
  TestProblem& Add(uint32_t heads, uint32_t tokens, const std::vector<Segment>& segments,
                   bool causal = false) {
    TestProblem& problem = problems_.emplace_back();
    problem.heads = heads;
    problem.AddGroup(tokens, causal, segments);
    return problem;
  }
  std::vector<Problem> Views() {
    std::vector<Problem> views;
    for (TestProblem& problem : problems_) {
      const uint64_t rows = uint64_t{problem.tokens()} * problem.heads;
      problem.rows.resize(rows * kUsual.row_width());
      problem.PoisonOutputs(kUsual);
      views.push_back(problem.View());
    }
    return views;
  }
  BatchPlan Build(const PlanDevice& device = Hopper()) {
    const std::vector<Problem> views = Views();
    BatchPlan plan;
    plan.Build(kUsual, views, device);
    return plan;
  }

 private:
  std::vector<std::unique_ptr<uint32_t[]>> chunks_;
  std::deque<TestProblem> problems_;
};

uint32_t Visible(const WorkSpan& span, uint32_t hidden) {
  const uint32_t cut = hidden > span.tokens_after ? hidden - span.tokens_after : 0;
  return span.visible_tokens > cut ? span.visible_tokens - cut : 0;
}

// Every row that sees something is covered exactly once in all its tokens, by items that tile
// their tiles, through slots that one merge collects; every other row has an empty merge.
void RequireWhole(const Geometry& geometry, std::span<const Problem> problems,
                  const BatchPlan& plan) {
  using Seen = std::multiset<std::pair<const uint32_t*, uint32_t>>;  // (chunk, visible tokens)
  std::map<const float*, Seen> expected;
  for (const Problem& problem : problems) {
    for (const Group& group : problem.groups) {
      for (uint32_t t = 0; t < group.tokens; ++t) {
        for (uint32_t h = 0; h < problem.heads; ++h) {
          Seen& seen = expected[problem.lse + (group.first_token + t) * problem.heads + h];
          for (uint32_t s = 0; s < group.segments; ++s) {
            const Segment& segment = problem.segments[group.first_segment + s];
            const uint32_t visible = VisibleTokens(segment, group, t);
            if (visible > 0) seen.insert({segment.page_ids, visible});
          }
        }
      }
    }
  }

  std::map<const float*, Seen> covered;
  std::map<uint32_t, const float*> row_of_slot;
  std::set<const float*> final_rows;
  std::map<uint32_t, std::vector<std::pair<uint32_t, uint32_t>>> blocks_of_tile;
  for (const WorkItem& item : plan.items()) {
    const WorkTile& tile = plan.tiles()[item.tile_index];
    REQUIRE(tile.rows >= 1);
    REQUIRE(tile.rows <= kTileRows);
    REQUIRE(item.end_block > item.first_block);
    blocks_of_tile[item.tile_index].push_back({item.first_block, item.end_block});
    for (uint32_t r = 0; r < tile.rows; ++r) {
      const WorkRow& row = plan.rows()[tile.first_row + r];
      const bool first = blocks_of_tile[item.tile_index].size() == 1;
      uint32_t seen = 0;
      for (uint32_t s = 0; s < tile.spans; ++s) {
        const WorkSpan& span = plan.spans()[tile.first_span + s];
        const uint32_t visible = Visible(span, row.hidden_tokens);
        seen += visible;
        if (visible > 0 && first) covered[row.lse].insert({span.page_ids, visible});
      }
      REQUIRE(seen > 0);
      if (item.first_slot == kFinal) {
        REQUIRE(final_rows.insert(row.lse).second);
      } else {
        REQUIRE(row_of_slot.emplace(item.first_slot + r, row.lse).second);
      }
    }
  }
  REQUIRE(blocks_of_tile.size() == plan.tiles().size());
  for (auto& [tile, runs] : blocks_of_tile) {
    std::sort(runs.begin(), runs.end());
    uint32_t blocks = 0;
    for (uint32_t s = 0; s < plan.tiles()[tile].spans; ++s) {
      blocks += (plan.spans()[plan.tiles()[tile].first_span + s].visible_tokens + 63) / 64;
    }
    uint32_t next = 0;
    for (const auto& [first, end] : runs) {
      REQUIRE(first == next);
      next = end;
    }
    REQUIRE(next == blocks);
  }

  std::set<uint32_t> collected;
  std::set<const float*> merged;
  for (const WorkMerge& merge : plan.merges()) {
    const WorkRow& row = plan.rows()[merge.row];
    REQUIRE(merged.insert(row.lse).second);
    REQUIRE(final_rows.count(row.lse) == 0);
    REQUIRE((merge.pieces == 0) == expected[row.lse].empty());
    for (uint32_t p = 0; p < merge.pieces; ++p) {
      const uint32_t slot = plan.pieces()[merge.first_piece + p];
      REQUIRE(row_of_slot.at(slot) == row.lse);
      REQUIRE(collected.insert(slot).second);
    }
  }
  REQUIRE(collected.size() == row_of_slot.size());
  REQUIRE(plan.slots() == row_of_slot.size());
  for (const auto& [lse, seen] : expected) {
    REQUIRE(covered[lse] == seen);
    REQUIRE(merged.count(lse) + final_rows.count(lse) == 1);
  }
  // Where things are.
  for (const WorkRow& row : plan.rows()) {
    const Problem& problem = problems[row.problem];
    REQUIRE(row.lse == problem.lse + row.row);
    REQUIRE(row.query == problem.rows + uint64_t{row.row} * geometry.row_width());
    REQUIRE(row.out ==
            static_cast<std::byte*>(problem.out) +
                uint64_t{row.row} * geometry.latent_width * OutValueBytes(problem.out_format));
  }
}

TEST_CASE("plans of random batches cover every row's tokens exactly once") {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const Geometry& geometry = kTiny;
    TestStore store(geometry, RecordFormat::kBf16, 2, 128, seed);
    for (uint32_t tokens : {1u, 63u, 64u, 65u, 300u, 3000u}) store.AddChunk(tokens);
    std::vector<TestProblem> problems;
    for (uint64_t i = 0; i < 1 + seed % 7; ++i) {
      problems.push_back(RandomProblem(store, 2, seed % 2 ? 128 : 17, 12, random));
    }
    std::vector<Problem> views;
    for (TestProblem& problem : problems) views.push_back(problem.View());
    PlanDevice device = Hopper(false);
    BatchPlan plan;
    plan.Build(geometry, views, device);
    RequireWhole(geometry, views, plan);
    device.matrix_kernels = false;
    plan.Build(geometry, views, device);
    REQUIRE(plan.form() == Form::kSimple);
    RequireWhole(geometry, views, plan);
    device.matrix_kernels = true;
    device.narrow_form = true;
    plan.Build(geometry, views, device);
    RequireWhole(geometry, views, plan);
  }
}

TEST_CASE("the same batch gives the same plan") {
  Batch batch;
  const uint32_t* hot = batch.Chunk();
  for (int i = 0; i < 20; ++i) batch.Add(16, 1, {{hot, 2048, 0}});
  const BatchPlan a = batch.Build();
  const BatchPlan b = batch.Build();
  REQUIRE(a.items().size() == b.items().size());
  REQUIRE(std::equal(a.rows().begin(), a.rows().end(), b.rows().begin(),
                     [](const WorkRow& x, const WorkRow& y) { return x.row == y.row; }));
}

TEST_CASE("requesters of one chunk fill tiles together") {
  Batch batch;
  const uint32_t* hot = batch.Chunk();
  for (uint32_t i = 0; i < 64; ++i) batch.Add(16, 1, {{hot, 2048 - i, 0}});
  const BatchPlan plan = batch.Build();
  REQUIRE(plan.form() == Form::kThroughput);
  REQUIRE(plan.tiles().size() == 64 * 16 / kTileRows);
  // One wave of clusters, and nothing to merge.
  REQUIRE(plan.items().size() * plan.cluster_size() <= 132);
  REQUIRE(plan.merges().empty());
}

TEST_CASE("another layer of the same chunk is another pass") {
  Batch batch;
  const uint32_t* chunk = batch.Chunk();
  batch.Add(16, 1, {{chunk, 100, 0}});
  batch.Add(16, 1, {{chunk, 100, 0}}).layer = 1;
  REQUIRE(batch.Build(Hopper(false)).tiles().size() == 2);
}

TEST_CASE("a group's chunks are one pass unless somebody else attends one of them") {
  Batch batch;
  const uint32_t* a = batch.Chunk();
  const uint32_t* b = batch.Chunk();
  batch.Add(16, 1, {{a, 100, 200}, {b, 200, 0}});
  {
    const BatchPlan plan = batch.Build();
    REQUIRE(plan.tiles().size() == 1);
    REQUIRE(plan.tiles()[0].spans == 2);
  }
  // The same list: still one pass, for both.
  batch.Add(16, 1, {{a, 100, 200}, {b, 200, 0}});
  REQUIRE(batch.Build().tiles().size() == 1);
  // Only one of them: a pass each, and two rows' partials to merge.
  batch.Add(8, 1, {{a, 50, 0}});
  const BatchPlan plan = batch.Build();
  REQUIRE(plan.tiles().size() == 2);
  REQUIRE(plan.merges().size() >= 32);
}

TEST_CASE("rows of a causal group hide what follows them") {
  Batch batch;
  const uint32_t* chunk = batch.Chunk();
  batch.Add(2, 3, {{chunk, 10, 1}}, true);
  const BatchPlan plan = batch.Build(Hopper(false));
  REQUIRE(plan.tiles().size() == 1);
  REQUIRE(plan.spans()[0].visible_tokens == 10);
  std::map<uint32_t, uint32_t> visible;
  for (const WorkRow& row : plan.rows())
    visible[row.row / 2] = Visible(plan.spans()[0], row.hidden_tokens);
  REQUIRE(visible == std::map<uint32_t, uint32_t>{{0, 9}, {1, 10}, {2, 10}});
}

TEST_CASE("one token's heads over a short context take the latency form") {
  struct {
    uint32_t heads;
    uint32_t tokens;
    LatencyShape shape;
  } const cases[] = {{128, 2048, {24, 16, 2, 1}},
                     {16, 2048, {8, 8, 1, 4}},
                     {16, 512, {8, 8, 1, 1}},
                     {1, 1, {8, 8, 1, 1}},
                     {128, 512, {16, 8, 1, 1}}};
  for (const auto& c : cases) {
    CAPTURE(c.heads, c.tokens);
    Batch batch;
    batch.Add(c.heads, 1, {{batch.Chunk(), c.tokens, 0}});
    const BatchPlan plan = batch.Build();
    REQUIRE(plan.form() == Form::kLatency);
    REQUIRE(plan.latency_shape() == c.shape);
    REQUIRE(plan.latency_queries().size() == 1);
    REQUIRE(plan.latency_queries()[0].visible_tokens == c.tokens);
    REQUIRE(plan.items().empty());
  }
}

TEST_CASE("what the latency form cannot do in one wave of clusters goes another way") {
  for (uint32_t tokens : {4096u, 100000u}) {
    Batch batch;
    batch.Add(128, 1, {{batch.Chunk(), tokens, 0}});
    REQUIRE(batch.Build().form() == Form::kThroughput);
  }
  Batch many;
  for (int i = 0; i < 17; ++i) many.Add(8, 1, {{many.Chunk(), 64, 0}});
  REQUIRE(many.Build().form() == Form::kThroughput);
  // A token that sees nothing needs its answer written by a merge.
  Batch empty;
  empty.Add(8, 1, {{empty.Chunk(), 64, 0}});
  empty.Add(8, 1, {});
  const BatchPlan plan = empty.Build();
  REQUIRE(plan.form() == Form::kThroughput);
  REQUIRE(std::count_if(plan.merges().begin(), plan.merges().end(),
                        [](const WorkMerge& m) { return m.pieces == 0; }) == 8);
}

TEST_CASE("few rows a chunk of fp8 records take the narrow form") {
  PlanDevice device = Hopper(false);
  device.narrow_form = true;
  Batch batch;
  for (int i = 0; i < 100; ++i) batch.Add(16, 1, {{batch.Chunk(), 8192, 0}});
  const BatchPlan plan = batch.Build(device);
  REQUIRE(plan.form() == Form::kNarrow);
  REQUIRE(plan.cluster_size() == 1);
  REQUIRE(plan.items().size() == 100);

  SECTION("one long context is spread over the device") {
    Batch one;
    one.Add(8, 1, {{one.Chunk(), 65536, 0}});
    REQUIRE(one.Build(device).items().size() > 60);
  }
  SECTION("not if one tile has more rows") {
    batch.Add(kNarrowRows + 1, 1, {{batch.Chunk(), 64, 0}});
    REQUIRE(batch.Build(device).form() == Form::kThroughput);
  }
}

TEST_CASE("a plan of nothing is empty") {
  BatchPlan plan;
  plan.Build(kUsual, {}, Hopper());
  REQUIRE(plan.items().empty());
  REQUIRE(plan.merges().empty());
  Batch batch;
  batch.Add(4, 2, {});
  REQUIRE(batch.Build().merges().size() == 8);
}

}  // namespace
}  // namespace latentd
