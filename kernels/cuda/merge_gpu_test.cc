// Merging on a device against the host's own. Needs a GPU: run by tests/gpu/run.sh, not by
// `bazel test`.
#include "kernels/cuda/merge.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/memory.h"
#include "kernels/merge.h"

namespace latentd {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

struct Partials {
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  std::vector<std::byte> out;
  std::vector<float> lse;
};

float ValueAt(const std::vector<std::byte>& out, OutFormat format, uint64_t i) {
  if (format == OutFormat::kFp32) return reinterpret_cast<const float*>(out.data())[i];
  return Bf16ToFloat(reinterpret_cast<const Bf16*>(out.data())[i]);
}

// A third of the rows empty, with NaN in their out.
Partials RandomPartials(uint32_t first_token, uint32_t tokens, const MergeShape& shape,
                        std::mt19937_64& random) {
  Partials partials{.first_token = first_token, .tokens = tokens};
  const uint64_t rows = uint64_t{tokens} * shape.heads;
  partials.out.assign(rows * shape.latent_width * OutValueBytes(shape.format), std::byte{0xff});
  partials.lse.assign(rows, kEmpty);
  std::normal_distribution<float> normal;
  for (uint64_t row = 0; row < rows; ++row) {
    if (random() % 3 == 0) continue;
    partials.lse[row] = 5 * normal(random);
    for (uint64_t i = row * shape.latent_width; i < (row + 1) * shape.latent_width; ++i) {
      if (shape.format == OutFormat::kFp32) {
        reinterpret_cast<float*>(partials.out.data())[i] = normal(random);
      } else {
        reinterpret_cast<Bf16*>(partials.out.data())[i] = FloatToBf16(normal(random));
      }
    }
  }
  return partials;
}

DeviceMemory OnDevice(const void* from, uint64_t bytes) {
  DeviceMemory memory;
  REQUIRE(memory.Grow(bytes).ok());
  REQUIRE(cudaMemcpy(memory.data(), from, bytes, cudaMemcpyHostToDevice) == cudaSuccess);
  return memory;
}

struct Merged {
  std::vector<std::byte> out;
  std::vector<float> lse;
};

Merged MergeOnDevice(const std::vector<Partials>& partials, const MergeShape& shape) {
  std::vector<DeviceMemory> memory;
  std::vector<MergeRun> runs;
  for (const Partials& p : partials) {
    memory.push_back(OnDevice(p.out.data(), p.out.size()));
    const void* out = memory.back().data();
    memory.push_back(OnDevice(p.lse.data(), p.lse.size() * sizeof(float)));
    runs.push_back({.out = out,
                    .lse = reinterpret_cast<const float*>(memory.back().data()),
                    .first_token = p.first_token,
                    .tokens = p.tokens});
  }
  const uint64_t rows = uint64_t{shape.tokens} * shape.heads;
  Merged merged;
  merged.out.assign(rows * shape.latent_width * OutValueBytes(shape.format), std::byte{0xff});
  merged.lse.assign(rows, std::nanf(""));
  const DeviceMemory out = OnDevice(merged.out.data(), merged.out.size());
  const DeviceMemory lse = OnDevice(merged.lse.data(), rows * sizeof(float));
  REQUIRE(LaunchMerge(runs, shape, out.data(), reinterpret_cast<float*>(lse.data()), nullptr) ==
          cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  cudaMemcpy(merged.out.data(), out.data(), merged.out.size(), cudaMemcpyDeviceToHost);
  cudaMemcpy(merged.lse.data(), lse.data(), rows * sizeof(float), cudaMemcpyDeviceToHost);
  return merged;
}

// Of each token by itself, as the host merges it.
Merged MergeOnHost(const std::vector<Partials>& partials, const MergeShape& shape) {
  const uint64_t token_bytes =
      uint64_t{shape.heads} * shape.latent_width * OutValueBytes(shape.format);
  Merged merged;
  merged.out.resize(shape.tokens * token_bytes);
  merged.lse.resize(uint64_t{shape.tokens} * shape.heads);
  for (uint32_t token = 0; token < shape.tokens; ++token) {
    std::vector<PartialView> views;
    for (const Partials& p : partials) {
      if (token < p.first_token || token >= p.first_token + p.tokens) continue;
      const uint64_t at = token - p.first_token;
      views.push_back(
          {p.out.data() + at * token_bytes, p.lse.data() + at * shape.heads, shape.format});
    }
    MergePartials(views, shape.heads, shape.latent_width, shape.format,
                  merged.out.data() + token * token_bytes,
                  merged.lse.data() + uint64_t{token} * shape.heads);
  }
  return merged;
}

TEST_CASE("rows are merged as the host merges them") {
  const auto seed = GENERATE(range(1U, 25U));
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  const MergeShape shape = {
      .tokens = 1 + static_cast<uint32_t>(random() % 6),
      .heads = 1 + static_cast<uint32_t>(random() % 40),
      .latent_width = seed % 3 == 0 ? 2 + 2 * static_cast<uint32_t>(random() % 40) : 512,
      .format = seed % 2 == 0 ? OutFormat::kFp32 : OutFormat::kBf16};
  // More than a launch takes as parameters, now and then; none at all as well.
  const uint64_t count = seed % 6 == 0 ? 60 + random() % 20 : random() % 5;
  std::vector<Partials> partials;
  for (uint64_t i = 0; i < count; ++i) {
    const auto first = static_cast<uint32_t>(random() % shape.tokens);
    const auto tokens = 1 + static_cast<uint32_t>(random() % (shape.tokens - first));
    partials.push_back(RandomPartials(first, tokens, shape, random));
  }
  CAPTURE(shape.tokens, shape.heads, shape.latent_width, count);
  const Merged got = MergeOnDevice(partials, shape);
  const Merged expected = MergeOnHost(partials, shape);
  const double tolerance = shape.format == OutFormat::kFp32 ? 1e-5 : 8e-3;
  for (size_t row = 0; row < got.lse.size(); ++row) {
    CAPTURE(row);
    if (expected.lse[row] == kEmpty) {
      REQUIRE(got.lse[row] == kEmpty);
    } else {
      REQUIRE(std::abs(got.lse[row] - expected.lse[row]) < 1e-5 * (1 + std::abs(got.lse[row])));
    }
    double worst = 0;
    for (uint64_t i = row * shape.latent_width; i < (row + 1) * shape.latent_width; ++i) {
      const double e = ValueAt(expected.out, shape.format, i);
      const double g = ValueAt(got.out, shape.format, i);
      worst = std::isnan(g) ? 1e9 : std::max(worst, std::abs(g - e) / (1 + std::abs(e)));
    }
    REQUIRE(worst < tolerance);
  }
}

TEST_CASE("one partial alone keeps its bits, and one that is no number shows") {
  const auto format = GENERATE(OutFormat::kBf16, OutFormat::kFp32);
  std::mt19937_64 random(7);
  const MergeShape shape = {.tokens = 2, .heads = 3, .latent_width = 512, .format = format};
  std::vector<Partials> partials = {RandomPartials(0, 2, shape, random)};
  for (float& lse : partials[0].lse) lse = 1.5f;
  std::memset(partials[0].out.data(), 0x3c, partials[0].out.size());
  const Merged got = MergeOnDevice(partials, shape);
  CHECK(got.out == partials[0].out);
  CHECK(got.lse == partials[0].lse);

  partials.push_back(partials[0]);
  partials[1].lse[4] = std::nanf("");
  const Merged bad = MergeOnDevice(partials, shape);
  CHECK(std::isnan(bad.lse[4]));
  CHECK(std::isnan(ValueAt(bad.out, format, 4 * 512)));
  CHECK_FALSE(std::isnan(bad.lse[3]));
}

}  // namespace
}  // namespace latentd
