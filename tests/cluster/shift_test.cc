// Chunks used at other positions than those they were made for, end to end: the client says by how
// much, the holders turn the rows, and the answer is that of records turned the other way.
#include <catch2/catch.hpp>
#include <cstring>

#include "kernels/rope.h"
#include "kernels/rotate.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/frontend.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 150;
constexpr uint32_t kLayers = 2;
constexpr uint32_t kHeads = 8;

// The cluster's layout says nothing of its rope: the parameters are the defaults.
ChunkData Moved(ChunkData chunk, int32_t shift) {
  const auto rotation = Rope::Make({})->RotationBy(shift);
  REQUIRE(rotation.ok());
  RotateRecords(chunk.geometry, chunk.format, *rotation, chunk.records.data(),
                uint64_t{chunk.layers} * chunk.tokens);
  return chunk;
}

TEST_CASE("a query over chunks at several shifts on several nodes equals one over moved records") {
  const auto format = GENERATE(RecordFormat::kBf16, RecordFormat::kFp8);
  Cluster cluster({.nodes = 2, .record = format});
  Frontend frontend(cluster.endpoint());
  std::mt19937_64 random(17);
  const std::vector<int32_t> shifts = {0, 1234, -70000, 1234, 0, -3};
  std::vector<ChunkData> chunks, moved;
  for (size_t i = 0; i < shifts.size(); ++i) {
    const ChunkId id = frontend.IdOn(cluster.node(static_cast<int>(i % 2)).id(), i);
    chunks.push_back(RandomChunk(id, kTokens, kLayers, format, random));
    REQUIRE(frontend.Publish(chunks.back()) == absl::OkStatus());
    moved.push_back(Moved(chunks.back(), shifts[i]));
  }
  for (const bool causal : {false, true}) {
    std::vector<ExpectedPart> parts;
    std::vector<VisibleChunk> visible;
    for (size_t i = 0; i < shifts.size(); ++i) {
      const uint32_t tokens = kTokens - 11 * static_cast<uint32_t>(i);
      parts.push_back({&moved[i], tokens});
      visible.push_back({chunks[i].id, tokens, shifts[i]});
    }
    const Question question = MakeQuestion(1, 3, kHeads, causal, parts, random);
    const QueryGroup group{.tokens = 3, .causal = causal, .chunks = visible};
    Partials answer = question.answer;
    std::fill(answer.out.begin(), answer.out.end(), 0.0f);
    std::fill(answer.lse.begin(), answer.lse.end(), 0.0f);
    const auto told =
        frontend.client().Attend({.layer = question.layer,
                                  .scale = question.scale,
                                  .heads = question.heads,
                                  .groups = {&group, 1},
                                  .rows = question.rows,
                                  .out_format = OutFormat::kFp32,
                                  .out = std::as_writable_bytes(std::span(answer.out)),
                                  .lse = answer.lse},
                                 absl::Seconds(20));
    INFO(told.status().ToString());
    REQUIRE(told.ok());
    CHECK(told->holders.size() == 2);
    const Difference difference = Compare(answer.out, answer.lse, question.answer.out,
                                          question.answer.lse, chunks[0].geometry.latent_width);
    CAPTURE(difference.out_rel_l2, difference.lse_abs);
    // One side's rows and the other's records were rounded to bf16 once more: that is within the
    // bounds of any answer.
    CHECK(difference.Within(kOutBound, kLseBound));
  }
}

}  // namespace
}  // namespace latentd::testing
