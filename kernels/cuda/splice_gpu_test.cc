// The rotation of a chunk in a device's memory against fp64 and against the host's. Needs a GPU of
// compute capability 9.0: run by tests/gpu/run.sh, not by `bazel test`.
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/splice.h"
#include "kernels/records.h"
#include "kernels/rope.h"
#include "kernels/rotate.h"

namespace latentd {
namespace {

struct Shape {
  Geometry geometry;
  RecordFormat format;
  RopePairs pairs;
  uint32_t layers;
  uint32_t tokens;
  bool yarn = true;
};

constexpr uint32_t kPages = 40;

// Pages of finite bf16 values, whatever they mean, and a chunk in some of them.
struct Chunk {
  explicit Chunk(const Shape& shape)
      : geometry(shape.geometry),
        format(shape.format),
        layer_bytes(kPageTokens * RecordBytes(geometry, format)),
        page_bytes((shape.layers + 1) * layer_bytes),  // one layer that is not to be touched
        layers(shape.layers),
        tokens(shape.tokens),
        bytes(kPages * page_bytes) {
    std::mt19937 random(shape.tokens);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i + sizeof(Bf16) <= bytes.size(); i += sizeof(Bf16)) {
      const Bf16 value = FloatToBf16(normal(random));
      std::memcpy(bytes.data() + i, &value, sizeof(value));
    }
    for (uint32_t i = 0; i < kPages; ++i) page_ids.push_back(i);
    std::shuffle(page_ids.begin(), page_ids.end(), random);
    page_ids.resize((tokens + kPageTokens - 1) / kPageTokens);
  }

  uint64_t RopeAt(uint32_t layer, uint32_t token) const {
    return page_ids[token / kPageTokens] * page_bytes + layer * layer_bytes +
           token % kPageTokens * RecordBytes(geometry, format) + RopeOffset(geometry, format);
  }

  Geometry geometry;
  RecordFormat format;
  uint64_t layer_bytes, page_bytes;
  uint32_t layers, tokens;
  std::vector<std::byte> bytes;
  std::vector<uint32_t> page_ids;
};

// The pages once the device has rotated the chunk; they start `misaligned` bytes into an allocation.
std::vector<std::byte> OnDevice(const Chunk& chunk, const Rotation& rotation, uint64_t misaligned) {
  DeviceMemory memory, ids;
  REQUIRE(memory.Grow(chunk.bytes.size() + misaligned).ok());
  REQUIRE(ids.Grow(chunk.page_ids.size() * sizeof(uint32_t)).ok());
  std::byte* arena = memory.data() + misaligned;
  REQUIRE(cudaMemcpy(arena, chunk.bytes.data(), chunk.bytes.size(), cudaMemcpyHostToDevice) ==
          cudaSuccess);
  REQUIRE(cudaMemcpy(ids.data(), chunk.page_ids.data(), chunk.page_ids.size() * sizeof(uint32_t),
                     cudaMemcpyHostToDevice) == cudaSuccess);
  REQUIRE(LaunchRotateChunk(chunk.geometry, chunk.format, rotation,
                            {arena, chunk.page_bytes, chunk.layer_bytes},
                            reinterpret_cast<const uint32_t*>(ids.data()), chunk.layers,
                            chunk.tokens, nullptr) == cudaSuccess);
  std::vector<std::byte> rotated(chunk.bytes.size());
  REQUIRE(cudaMemcpy(rotated.data(), arena, rotated.size(), cudaMemcpyDeviceToHost) == cudaSuccess);
  return rotated;
}

Rope MakeRope(const Shape& shape) {
  RopeSpec spec{.width = shape.geometry.rope_width, .pairs = shape.pairs};
  if (shape.yarn) {
    spec.yarn_factor = 40;
    spec.original_context = 4096;
  }
  auto rope = Rope::Make(spec);
  REQUIRE(rope.ok());
  return *std::move(rope);
}

double ValueAt(const std::vector<std::byte>& bytes, uint64_t rope_at, uint32_t i) {
  Bf16 value;
  std::memcpy(&value, bytes.data() + rope_at + i * sizeof(value), sizeof(value));
  return static_cast<double>(Bf16ToFloat(value));
}

// The worst error of the rotated rope values against fp64, in units of bf16's rounding.
double WorstError(const Chunk& chunk, const std::vector<std::byte>& rotated, const Rope& rope,
                  RopePairs layout, int64_t shift) {
  double worst = 0;
  const uint32_t pairs = chunk.geometry.rope_width / 2;
  for (uint32_t layer = 0; layer < chunk.layers; ++layer) {
    for (uint32_t token = 0; token < chunk.tokens; ++token) {
      const uint64_t at = chunk.RopeAt(layer, token);
      for (uint32_t i = 0; i < pairs; ++i) {
        const uint32_t x_at = layout == RopePairs::kInterleaved ? 2 * i : i;
        const uint32_t y_at = layout == RopePairs::kInterleaved ? 2 * i + 1 : i + pairs;
        const double angle =
            static_cast<double>(shift) * static_cast<double>(rope.frequencies()[i]);
        const double x = ValueAt(chunk.bytes, at, x_at), y = ValueAt(chunk.bytes, at, y_at);
        const double expected_x = x * std::cos(angle) - y * std::sin(angle);
        const double expected_y = x * std::sin(angle) + y * std::cos(angle);
        const auto error = [&](double expected, uint32_t i_at) {
          // fp32's share, and half a unit of bf16.
          const double allowed = 0x1p-22 * std::hypot(x, y) + 0x1p-8 * std::fabs(expected);
          return std::fabs(ValueAt(rotated, at, i_at) - expected) / std::max(allowed, 1e-300);
        };
        worst = std::max({worst, error(expected_x, x_at), error(expected_y, y_at)});
      }
    }
  }
  return worst;
}

// Everything but the chunk's rope values as it was.
bool OnlyRopeChanged(const Chunk& chunk, std::vector<std::byte> rotated) {
  for (uint32_t layer = 0; layer < chunk.layers; ++layer) {
    for (uint32_t token = 0; token < chunk.tokens; ++token) {
      const uint64_t at = chunk.RopeAt(layer, token);
      std::memcpy(rotated.data() + at, chunk.bytes.data() + at,
                  chunk.geometry.rope_width * sizeof(Bf16));
    }
  }
  return rotated == chunk.bytes;
}

void CheckShape(const Shape& shape, uint64_t misaligned = 0) {
  const Chunk chunk(shape);
  const Rope rope = MakeRope(shape);
  for (const int64_t shift : {1, -777, 150000}) {
    CAPTURE(shape.geometry.latent_width, shape.geometry.rope_width, static_cast<int>(shape.format),
            static_cast<int>(shape.pairs), shape.layers, shape.tokens, shift, misaligned);
    const Rotation rotation = *rope.RotationBy(shift);
    const auto rotated = OnDevice(chunk, rotation, misaligned);
    CHECK(OnlyRopeChanged(chunk, rotated));
    CHECK(WorstError(chunk, rotated, rope, shape.pairs, shift) <= 1);
    auto on_host = chunk.bytes;
    RotateChunk(chunk.geometry, chunk.format, rotation,
                {on_host.data(), chunk.page_bytes, chunk.layer_bytes}, chunk.page_ids, chunk.layers,
                chunk.tokens);
    CHECK(WorstError(chunk, on_host, rope, shape.pairs, shift) <= 1);
  }
}

TEST_CASE("the device rotates a chunk as fp64 and the host do, and touches nothing else") {
  for (const RecordFormat format : {RecordFormat::kBf16, RecordFormat::kFp8}) {
    for (const RopePairs pairs : {RopePairs::kInterleaved, RopePairs::kHalves}) {
      for (const uint32_t tokens : {1u, 64u, 65u, 500u}) {
        CheckShape({{512, 64}, format, pairs, 3, tokens});
      }
      CheckShape({{512, 64}, format, pairs, 1, 2048, false});
    }
  }
}

TEST_CASE("the device rotates records of unusual widths and places") {
  for (const RopePairs pairs : {RopePairs::kInterleaved, RopePairs::kHalves}) {
    // Not of whole 16-byte units; more pairs than fit beside a usual launch; the most there are.
    for (const uint32_t width : {2u, 8u, 24u, 70u, 128u, 1024u}) {
      CheckShape({{128, width}, RecordFormat::kBf16, pairs, 2, 100, false});
      CheckShape({{128, width}, RecordFormat::kFp8, pairs, 2, 100, false});
    }
    CheckShape({{36, 64}, RecordFormat::kBf16, pairs, 2, 100});
    CheckShape({{512, 64}, RecordFormat::kBf16, pairs, 2, 100}, 2);
  }
}

TEST_CASE("the device changes nothing by a rotation by nothing, and refuses one of another width") {
  const Chunk chunk({{512, 64}, RecordFormat::kBf16, RopePairs::kInterleaved, 2, 100});
  CHECK(OnDevice(chunk, Rotation(), 0) == chunk.bytes);
  const Rotation narrow(RopePairs::kInterleaved, std::vector<float>(16), std::vector<float>(16));
  CHECK(LaunchRotateChunk(chunk.geometry, chunk.format, narrow,
                          {nullptr, chunk.page_bytes, chunk.layer_bytes}, nullptr, 2, 100,
                          nullptr) == cudaErrorInvalidValue);
}

}  // namespace
}  // namespace latentd
