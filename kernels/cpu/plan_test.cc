#include "kernels/cpu/plan.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace latentd {
namespace {

constexpr Geometry kGeometry{8, 4};

// Problems over made-up chunks: plans look at no record.
struct World {
  std::vector<std::vector<uint32_t>> pages =
      std::vector<std::vector<uint32_t>>(4, std::vector<uint32_t>(1000));
  std::vector<std::vector<Segment>> segments;
  std::vector<std::vector<Group>> groups;
  std::vector<std::vector<Bf16>> rows;
  std::vector<std::vector<float>> outs;
  std::vector<Problem> problems;

  void Add(uint32_t layer, uint32_t tokens, uint32_t heads, bool causal,
           std::vector<Segment> attended) {
    const size_t count = size_t{tokens} * heads;
    segments.push_back(std::move(attended));
    groups.push_back({{0, tokens, 0, static_cast<uint32_t>(segments.back().size()), causal}});
    rows.emplace_back(count * kGeometry.row_width());
    outs.emplace_back(count * (kGeometry.latent_width + 1));
    problems.push_back({.layer = layer,
                        .tokens = tokens,
                        .heads = heads,
                        .scale = 1,
                        .groups = groups.back(),
                        .segments = segments.back(),
                        .rows = rows.back().data(),
                        .out_format = OutFormat::kFp32,
                        .out = outs.back().data(),
                        .lse = outs.back().data() + count * kGeometry.latent_width});
  }
  Segment Chunk(size_t chunk, uint32_t visible, uint32_t after = 0) {
    return {pages[chunk].data(), visible, after};
  }
};

// Every piece of every row is computed by exactly one tile, over pages that the row sees, and
// merged into that row.
void CheckPlan(const WavePlan& plan) {
  std::set<uint32_t> computed;
  for (const Tile& tile : plan.tiles()) {
    REQUIRE(tile.rows >= 1);
    REQUIRE(tile.rows <= kRowsPerTile);
    REQUIRE(tile.first_page < tile.end_page);
    uint32_t most_visible = 0;
    for (const TileRow& row : plan.rows(tile)) {
      REQUIRE(row.visible_tokens > tile.first_page * kPageTokens);
      REQUIRE(computed.insert(row.piece).second);
      most_visible = std::max(most_visible, row.visible_tokens);
    }
    REQUIRE(most_visible > (tile.end_page - 1) * kPageTokens);
  }
  std::set<uint32_t> merged;
  for (const FinishRow& row : plan.finish_rows()) {
    for (uint32_t p = 0; p < row.pieces; ++p) REQUIRE(merged.insert(row.first_piece + p).second);
  }
  REQUIRE(merged == computed);
  REQUIRE(merged.size() == plan.pieces());
}

TEST_CASE("rows of different problems over the same chunk and layer share tiles") {
  World world;
  for (int i = 0; i < 4; ++i) world.Add(3, 1, 4, false, {world.Chunk(0, 100)});
  WavePlan plan;
  PlanCursor cursor;
  REQUIRE(plan.Build(kGeometry, world.problems, 1000, cursor));
  CheckPlan(plan);
  REQUIRE(plan.tiles().size() == 1);
  REQUIRE(plan.tiles()[0].rows == 16);
  REQUIRE(plan.tiles()[0].end_page == 2);
  REQUIRE_FALSE(plan.Build(kGeometry, world.problems, 1000, cursor));
}

TEST_CASE("rows of another layer or another chunk do not share") {
  World world;
  world.Add(0, 1, 4, false, {world.Chunk(0, 100)});
  world.Add(1, 1, 4, false, {world.Chunk(0, 100)});
  world.Add(0, 1, 4, false, {world.Chunk(1, 100)});
  WavePlan plan;
  PlanCursor cursor;
  REQUIRE(plan.Build(kGeometry, world.problems, 1000, cursor));
  CheckPlan(plan);
  REQUIRE(plan.tiles().size() == 3);
}

TEST_CASE("one query over two thousand tokens is work for eight threads") {
  World world;
  world.Add(0, 1, 16, false, {world.Chunk(0, 2048)});
  WavePlan plan;
  PlanCursor cursor;
  REQUIRE(plan.Build(kGeometry, world.problems, 1000, cursor));
  CheckPlan(plan);
  REQUIRE(plan.tiles().size() == 8);
}

TEST_CASE("a row that sees less leaves the later runs to the others") {
  World world;
  world.Add(0, 1, 2, false, {world.Chunk(0, 2048)});
  world.Add(0, 1, 2, false, {world.Chunk(0, 300)});
  WavePlan plan;
  PlanCursor cursor;
  REQUIRE(plan.Build(kGeometry, world.problems, 1000, cursor));
  CheckPlan(plan);
  std::map<uint32_t, uint32_t> rows_from_page;
  for (const Tile& tile : plan.tiles()) rows_from_page[tile.first_page] = tile.rows;
  REQUIRE(rows_from_page[0] == 4);
  REQUIRE(rows_from_page[4] == 4);
  REQUIRE(rows_from_page[8] == 2);
}

TEST_CASE("a batch is planned in waves that respect the limit and cover every row once") {
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    World world;
    size_t rows = 0;
    for (uint64_t i = 0; i < 1 + random() % 4; ++i) {
      std::vector<Segment> attended;
      for (uint64_t s = 0; s < random() % 4; ++s) {
        attended.push_back(world.Chunk(random() % 4, static_cast<uint32_t>(random() % 900)));
      }
      const auto tokens = static_cast<uint32_t>(1 + random() % 5);
      const auto heads = static_cast<uint32_t>(1 + random() % 40);
      world.Add(static_cast<uint32_t>(random() % 2), tokens, heads, random() % 2 == 0, attended);
      rows += size_t{tokens} * heads;
    }
    const auto limit = static_cast<uint32_t>(1 + random() % 60);
    std::set<const float*> answered;
    WavePlan plan;
    PlanCursor cursor;
    while (plan.Build(kGeometry, world.problems, limit, cursor)) {
      CheckPlan(plan);
      // Only a row that needs more by itself may have more; rows that attend nothing cost nothing.
      const auto costly = std::count_if(plan.finish_rows().begin(), plan.finish_rows().end(),
                                        [](const FinishRow& row) { return row.pieces > 0; });
      REQUIRE((plan.pieces() <= limit || costly == 1));
      for (const FinishRow& row : plan.finish_rows()) REQUIRE(answered.insert(row.lse).second);
    }
    REQUIRE(answered.size() == rows);
  }
}

TEST_CASE("pieces of a segment grow with it, to 64 at most") {
  for (uint32_t tokens = 1; tokens < 10'000'000; tokens = tokens * 3 + 1) {
    const uint32_t run = RunPages(tokens);
    REQUIRE(run >= 4);
    REQUIRE(uint64_t{run} * kPageTokens * 64 >= tokens);
    if (run > 4) REQUIRE(uint64_t{run / 2} * kPageTokens * 64 < tokens);
  }
}

}  // namespace
}  // namespace latentd
