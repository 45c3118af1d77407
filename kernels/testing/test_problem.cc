#include "kernels/testing/test_problem.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/reference/reference.h"

namespace latentd {
namespace {

uint32_t Between(uint32_t least, uint32_t most, std::mt19937_64& random) {
  return std::uniform_int_distribution<uint32_t>(least, most)(random);
}

std::string RowName(uint64_t row, uint32_t heads) {
  return "token " + std::to_string(row / heads) + ", head " + std::to_string(row % heads);
}

}  // namespace

uint32_t TestProblem::tokens() const {
  return groups.empty() ? 0 : groups.back().first_token + groups.back().tokens;
}

void TestProblem::AddGroup(uint32_t count, bool causal, const std::vector<Segment>& attended) {
  groups.push_back({.first_token = tokens(),
                    .tokens = count,
                    .first_segment = static_cast<uint32_t>(segments.size()),
                    .segments = static_cast<uint32_t>(attended.size()),
                    .causal = causal});
  segments.insert(segments.end(), attended.begin(), attended.end());
}

void TestProblem::Fill(const Geometry& geometry, std::mt19937_64& random) {
  std::normal_distribution<float> normal;
  rows.resize(uint64_t{tokens()} * heads * geometry.row_width());
  for (Bf16& value : rows) value = FloatToBf16(normal(random));
  PoisonOutputs(geometry);
}

void TestProblem::PoisonOutputs(const Geometry& geometry) {
  const uint64_t count = uint64_t{tokens()} * heads;
  out.assign(count * geometry.latent_width * OutValueBytes(out_format), std::byte{0xff});
  lse.assign(count, std::numeric_limits<float>::quiet_NaN());
}

Problem TestProblem::View() {
  return {.layer = layer,
          .tokens = tokens(),
          .heads = heads,
          .scale = scale,
          .groups = groups,
          .segments = segments,
          .rows = rows.data(),
          .out_format = out_format,
          .out = out.data(),
          .lse = lse.data()};
}

float TestProblem::Out(uint64_t i) const {
  if (out_format == OutFormat::kFp32) return reinterpret_cast<const float*>(out.data())[i];
  return Bf16ToFloat(reinterpret_cast<const Bf16*>(out.data())[i]);
}

TestProblem RandomProblem(const TestStore& store, uint32_t layers, uint32_t max_heads,
                          uint32_t max_tokens, std::mt19937_64& random) {
  TestProblem problem;
  problem.layer = Between(0, layers - 1, random);
  problem.heads = Between(1, max_heads, random);
  problem.scale = std::uniform_real_distribution<float>(0.01f, 0.3f)(random);
  problem.out_format = Between(0, 1, random) ? OutFormat::kBf16 : OutFormat::kFp32;
  for (uint32_t left = Between(1, max_tokens, random); left > 0;) {
    const uint32_t tokens = Between(1, left, random);
    left -= tokens;
    std::vector<Segment> segments(Between(0, 4, random));
    uint32_t after = 0;
    // From the end of the sequence, for tokens_after counts what follows.
    for (auto segment = segments.rbegin(); segment != segments.rend(); ++segment) {
      const uint32_t chunk = Between(0, store.chunks() - 1, random);
      // All, none, one, or any number of its tokens.
      const uint32_t visible[] = {store.tokens(chunk), 0, 1,
                                  Between(0, store.tokens(chunk), random)};
      segment->page_ids = store.page_ids(chunk);
      segment->visible_tokens = std::min(store.tokens(chunk), visible[Between(0, 3, random)]);
      segment->tokens_after = after;
      after += segment->visible_tokens;
    }
    problem.AddGroup(tokens, Between(0, 1, random) == 1, segments);
  }
  problem.Fill(store.geometry(), random);
  return problem;
}

Error CompareWithReference(const TestStore& store, TestProblem& problem) {
  const ReferencePartials expected =
      ReferenceAttendFp64(store.geometry(), store.format(), store.view(), problem.View());
  const uint32_t width = store.geometry().latent_width;
  Error error;
  for (uint64_t row = 0; row < expected.lse.size(); ++row) {
    double difference = 0;
    double norm = 0;
    bool finite = true;
    for (uint64_t i = row * width; i < (row + 1) * width; ++i) {
      const double value = problem.Out(i);
      finite = finite && std::isfinite(value);
      difference += (value - expected.out[i]) * (value - expected.out[i]);
      norm += expected.out[i] * expected.out[i];
    }
    const double lse = problem.lse[row];
    const bool empty = std::isinf(expected.lse[row]);
    if (!finite || (empty && difference != 0) ||
        (empty ? lse != expected.lse[row] : !std::isfinite(lse))) {
      if (error.defect.empty()) error.defect = RowName(row, problem.heads);
      continue;
    }
    if (empty) continue;
    error.out = std::max(error.out, std::sqrt(difference / norm));
    error.lse = std::max(error.lse, std::fabs(lse - expected.lse[row]));
  }
  return error;
}

}  // namespace latentd
