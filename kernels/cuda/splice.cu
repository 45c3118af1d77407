#include <algorithm>
#include <cstddef>

#include "kernels/cuda/splice.h"

namespace latentd {
namespace {

// One CTA for 64 records of one layer of one page. At 64 rope values each thread has four 16-byte
// units, all on their way at once: 7 MB in flight over a chunk of 2,048 tokens and 27 layers.
constexpr uint32_t kThreads = 128;
constexpr uint32_t kDepth = 4;

// Of every pair: cosine, sine. Travels with the launch, so it is as small as the usual model's where
// that is enough.
template <uint32_t kMaxPairs>
struct Turns {
  float2 turn[kMaxPairs];
};
constexpr uint32_t kUsualPairs = 32;
constexpr uint32_t kMostPairs = 512;  // of kMaxRopeWidth, kernels/validate.h

struct Splice {
  std::byte* arena;
  uint64_t page_bytes;
  uint64_t layer_bytes;
  const uint32_t* page_ids;
  uint32_t record_bytes;
  uint32_t rope_offset;
  uint32_t pairs;
  uint32_t tokens;
};

// To nearest even, and to bf16's largest value what would round to infinity; the lower half is of no
// meaning.
__device__ uint32_t RoundToUpperHalf(float value) {
  constexpr float kBf16Max = 0x1.fep127f;
  const uint32_t bits = __float_as_uint(fminf(fmaxf(value, -kBf16Max), kBf16Max));
  return bits + 0x7fff + (bits >> 16 & 1);
}
__device__ float LowerHalf(uint32_t word) { return __uint_as_float(word << 16); }
__device__ float UpperHalf(uint32_t word) { return __uint_as_float(word & 0xffff0000); }
__device__ uint32_t Join(float lower, float upper) {
  return __byte_perm(RoundToUpperHalf(lower), RoundToUpperHalf(upper), 0x7632);
}

// The order of roundings is that of kernels/rotate.cc.
__device__ float2 TurnPair(float x, float y, float2 turn) {
  return make_float2(fmaf(-y, turn.y, __fmul_rn(x, turn.x)), fmaf(y, turn.x, __fmul_rn(x, turn.y)));
}

__device__ uint32_t TurnWord(uint32_t word, float2 turn) {
  const float2 turned = TurnPair(LowerHalf(word), UpperHalf(word), turn);
  return Join(turned.x, turned.y);
}

// Two pairs, of the same places in both halves.
__device__ void TurnWords(uint32_t& x, uint32_t& y, float2 first, float2 second) {
  const float2 a = TurnPair(LowerHalf(x), LowerHalf(y), first);
  const float2 b = TurnPair(UpperHalf(x), UpperHalf(y), second);
  x = Join(a.x, b.x);
  y = Join(a.y, b.y);
}

// What one thread takes of a record at a time.

struct InterleavedUnit {
  static constexpr uint32_t kPairs = 4;
  uint4 values;

  __device__ void Load(const std::byte* rope, uint32_t unit, uint32_t) {
    values = reinterpret_cast<const uint4*>(rope)[unit];
  }
  __device__ void Turn(const float2* turns) {
    values.x = TurnWord(values.x, turns[0]);
    values.y = TurnWord(values.y, turns[1]);
    values.z = TurnWord(values.z, turns[2]);
    values.w = TurnWord(values.w, turns[3]);
  }
  __device__ void Store(std::byte* rope, uint32_t unit, uint32_t) const {
    reinterpret_cast<uint4*>(rope)[unit] = values;
  }
};

struct HalvesUnit {
  static constexpr uint32_t kPairs = 8;
  uint4 x, y;

  __device__ void Load(const std::byte* rope, uint32_t unit, uint32_t pairs) {
    x = reinterpret_cast<const uint4*>(rope)[unit];
    y = reinterpret_cast<const uint4*>(rope + pairs * sizeof(Bf16))[unit];
  }
  __device__ void Turn(const float2* turns) {
    TurnWords(x.x, y.x, turns[0], turns[1]);
    TurnWords(x.y, y.y, turns[2], turns[3]);
    TurnWords(x.z, y.z, turns[4], turns[5]);
    TurnWords(x.w, y.w, turns[6], turns[7]);
  }
  __device__ void Store(std::byte* rope, uint32_t unit, uint32_t pairs) const {
    reinterpret_cast<uint4*>(rope)[unit] = x;
    reinterpret_cast<uint4*>(rope + pairs * sizeof(Bf16))[unit] = y;
  }
};

// Any width and alignment.
template <RopePairs kLayout>
struct SinglePair {
  static constexpr uint32_t kPairs = 1;
  uint16_t x, y;

  static __device__ uint32_t XAt(uint32_t pair) {
    return kLayout == RopePairs::kInterleaved ? 2 * pair : pair;
  }
  static __device__ uint32_t YAt(uint32_t pair, uint32_t pairs) {
    return kLayout == RopePairs::kInterleaved ? 2 * pair + 1 : pair + pairs;
  }
  __device__ void Load(const std::byte* rope, uint32_t pair, uint32_t pairs) {
    x = reinterpret_cast<const uint16_t*>(rope)[XAt(pair)];
    y = reinterpret_cast<const uint16_t*>(rope)[YAt(pair, pairs)];
  }
  __device__ void Turn(const float2* turns) {
    const float2 turned = TurnPair(LowerHalf(x), LowerHalf(y), turns[0]);
    x = static_cast<uint16_t>(RoundToUpperHalf(turned.x) >> 16);
    y = static_cast<uint16_t>(RoundToUpperHalf(turned.y) >> 16);
  }
  __device__ void Store(std::byte* rope, uint32_t pair, uint32_t pairs) const {
    reinterpret_cast<uint16_t*>(rope)[XAt(pair)] = x;
    reinterpret_cast<uint16_t*>(rope)[YAt(pair, pairs)] = y;
  }
};

template <typename Unit, uint32_t kMaxPairs>
__global__ void __launch_bounds__(kThreads)
    RotateChunkKernel(const __grid_constant__ Turns<kMaxPairs> turns, const Splice splice) {
  // Threads of a warp need different pairs: constant memory would serve them one after the other.
  __shared__ alignas(16) float2 shared_turns[kMaxPairs];
  for (uint32_t i = threadIdx.x; i < splice.pairs; i += kThreads) shared_turns[i] = turns.turn[i];
  std::byte* records = splice.arena + splice.page_ids[blockIdx.x] * splice.page_bytes +
                       blockIdx.y * splice.layer_bytes + splice.rope_offset;
  const uint32_t record_units = splice.pairs / Unit::kPairs;
  const uint32_t units = min(splice.tokens - blockIdx.x * kPageTokens, kPageTokens) * record_units;
  __syncthreads();
  for (uint32_t first = threadIdx.x; first < units; first += kThreads * kDepth) {
    Unit values[kDepth];
#pragma unroll
    for (uint32_t i = 0; i < kDepth; ++i) {
      const uint32_t unit = first + i * kThreads;
      if (unit < units) {
        values[i].Load(records + unit / record_units * splice.record_bytes, unit % record_units,
                       splice.pairs);
      }
    }
#pragma unroll
    for (uint32_t i = 0; i < kDepth; ++i) {
      const uint32_t unit = first + i * kThreads;
      if (unit < units) {
        values[i].Turn(shared_turns + unit % record_units * Unit::kPairs);
        values[i].Store(records + unit / record_units * splice.record_bytes, unit % record_units,
                        splice.pairs);
      }
    }
  }
}

template <typename Unit, uint32_t kMaxPairs>
cudaError_t Launch(const Rotation& rotation, const Splice& splice, dim3 grid, cudaStream_t stream) {
  Turns<kMaxPairs> turns;
  for (uint32_t i = 0; i < splice.pairs; ++i) {
    turns.turn[i] = make_float2(rotation.cosines()[i], rotation.sines()[i]);
  }
  RotateChunkKernel<Unit, kMaxPairs><<<grid, kThreads, 0, stream>>>(turns, splice);
  return cudaGetLastError();
}

template <typename Unit>
cudaError_t LaunchOf(const Rotation& rotation, const Splice& splice, dim3 grid,
                     cudaStream_t stream) {
  return splice.pairs <= kUsualPairs ? Launch<Unit, kUsualPairs>(rotation, splice, grid, stream)
                                     : Launch<Unit, kMostPairs>(rotation, splice, grid, stream);
}

template <typename Unit>
bool Fits(const Splice& splice) {
  const uint64_t addresses = reinterpret_cast<uintptr_t>(splice.arena) | splice.page_bytes |
                             splice.layer_bytes | splice.record_bytes | splice.rope_offset;
  return addresses % sizeof(uint4) == 0 && splice.pairs % Unit::kPairs == 0;
}

}  // namespace

cudaError_t LaunchRotateChunk(const Geometry& geometry, RecordFormat format,
                              const Rotation& rotation, const PageMemory& memory,
                              const uint32_t* page_ids, uint32_t layers, uint32_t tokens,
                              cudaStream_t stream) {
  if (rotation.identity() || layers == 0 || tokens == 0) return cudaSuccess;
  const auto pairs = static_cast<uint32_t>(rotation.cosines().size());
  constexpr uint32_t kMaxGridRows = 65535;
  if (2 * pairs != geometry.rope_width || pairs > kMostPairs || layers > kMaxGridRows) {
    return cudaErrorInvalidValue;
  }
  const auto record_bytes = static_cast<uint32_t>(RecordBytes(geometry, format));
  const Splice splice = {.arena = memory.arena,
                         .page_bytes = memory.page_bytes,
                         .layer_bytes = memory.layer_bytes,
                         .page_ids = page_ids,
                         .record_bytes = record_bytes,
                         // The rope part ends the record in both formats.
                         .rope_offset = record_bytes - 2 * pairs * uint32_t{sizeof(Bf16)},
                         .pairs = pairs,
                         .tokens = tokens};
  const dim3 grid((tokens + kPageTokens - 1) / kPageTokens, layers);
  if (rotation.pairs() == RopePairs::kInterleaved) {
    return Fits<InterleavedUnit>(splice)
               ? LaunchOf<InterleavedUnit>(rotation, splice, grid, stream)
               : LaunchOf<SinglePair<RopePairs::kInterleaved>>(rotation, splice, grid, stream);
  }
  return Fits<HalvesUnit>(splice)
             ? LaunchOf<HalvesUnit>(rotation, splice, grid, stream)
             : LaunchOf<SinglePair<RopePairs::kHalves>>(rotation, splice, grid, stream);
}

}  // namespace latentd
