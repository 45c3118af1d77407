// The throughput form's way in: blocks of records and the tile's rows to shared memory.
#ifndef LATENTD_KERNELS_CUDA_THROUGHPUT_LOAD_CUH_
#define LATENTD_KERNELS_CUDA_THROUGHPUT_LOAD_CUH_

#include <cstdint>

#include "kernels/cuda/arena.h"
#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/throughput_cta.cuh"
#include "kernels/cuda/work.h"

namespace latentd::throughput {

using namespace ptx;  // NOLINT: one wrapper per instruction, all of them used here

// A block's place, read before it is needed.
struct Block {
  uint32_t page = 0;
  StageInfo info = {};
};

template <RecordFormat kFormat>
__device__ __forceinline__ void LoadPart(const Arena& arena, Shared& shared, uint32_t stage,
                                         uint32_t part, const Block& block, uint32_t layer,
                                         uint32_t parity, uint32_t thread) {
  const uint32_t ready = SharedAddress(&shared.ready[stage][part]);
  MbarrierWait(SharedAddress(&shared.free[stage][part]), parity);
  // The part that its reader waits for first.
  if (part == (stage == 0 ? kLeft : kRight) && thread == 0) shared.info[stage] = block.info;
  std::byte* boxes = shared.stage[stage];
  if constexpr (kFormat == RecordFormat::kBf16) {
    const uint32_t destination = SharedAddress(boxes) + part * 4 * kBoxBytes;
    MbarrierExpect(ready, part == kRope ? kBoxBytes : 4 * kBoxBytes);
    LoadBoxes(destination, part == kRope ? &arena.one_box : &arena.four_boxes, part * 4, layer,
              block.page, ready);
  } else {
    const std::byte* records =
        arena.cache.arena + block.page * arena.cache.page_bytes + layer * arena.cache.layer_bytes;
    const uint32_t tokens = block.info.visible_tokens - block.info.first_token;
    if (part == kRope) {
      CopyRope<128>(records, tokens, boxes, thread);
    } else {
      DequantiseHalf<128>(records, tokens, part, boxes, thread);
    }
    FenceProxyAsync();
    MbarrierArrive(ready);
  }
}

// bf16: one thread. fp8: the whole warpgroup.
template <RecordFormat kFormat>
__device__ __forceinline__ void Load(const Arena& arena, const Work& work, Shared& shared,
                                     const Assignment& mine, uint32_t thread) {
  BlockWalk walk(work, mine.item, mine.first_block - mine.item.first_block);
  // Block b, which the walk is at.
  auto take = [&](uint32_t b) {
    Block block;
    if (b >= mine.blocks) return block;
    block = {walk.page(),
             {walk.span().visible_tokens, walk.span().tokens_after, walk.first_token(), 0}};
    if (b + 1 < mine.blocks) walk.Next();
    return block;
  };
  Block even = take(0);
  Block odd = take(1);
  for (uint32_t b = 0; b < mine.blocks; b += 2) {
    const uint32_t parity = (b / 2 & 1) ^ 1;
    // The next pair's pages travel meanwhile.
    const Block next_even = take(b + 2);
    const Block next_odd = take(b + 3);
    auto load = [&](uint32_t stage, uint32_t part) {
      LoadPart<kFormat>(arena, shared, stage, part, stage == 0 ? even : odd, mine.item.tile.layer,
                        parity, thread);
    };
    load(0, kLeft);
    load(0, kRight);
    load(0, kRope);
    // The first S needs the rows and the first block, nothing else: copies share the bandwidth of
    // the multiprocessor's group.
    if (b == 0) MbarrierWait(SharedAddress(&shared.queries_loaded), 0);
    if (b + 1 < mine.blocks) {
      load(1, kRight);
      load(1, kLeft);
      load(1, kRope);
    }
    even = next_even;
    odd = next_odd;
  }
}

// The tile's rows to the nine boxes of q; rows beyond the tile's are zeros. `source(index)`: where
// the rows' chunk `index` of 16 bytes is.
template <typename Source>
__device__ __forceinline__ void CopyQueries(uint32_t rows, Shared& shared, uint32_t thread,
                                            const Source& source) {
  constexpr uint32_t kChunksPerRow = kRowBytes / 16;
  constexpr int kChunks = kTileRows * kChunksPerRow / kMathThreads;
  constexpr int kAtOnce = 9;
  static_assert(kChunks % kAtOnce == 0);
#pragma unroll
  for (int first = 0; first < kChunks; first += kAtOnce) {
    uint4 bytes[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kMathThreads;
      bytes[i] = make_uint4(0, 0, 0, 0);
      if (index < rows * kChunksPerRow) bytes[i] = __ldg(source(index));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const uint32_t index = thread + (first + i) * kMathThreads;
      const uint32_t chunk = index % kChunksPerRow;
      *reinterpret_cast<uint4*>(shared.q + chunk / 8 * kBoxBytes +
                                Swizzled(index / kChunksPerRow, chunk % 8)) = bytes[i];
    }
  }
}

// Whether tensor copies bring the tile's rows.
__device__ __forceinline__ bool HasRowsMap(const Work& work, const WorkItem& item) {
  return work.lowest_queries != nullptr && item.queries != nullptr && item.tile.rows == kTileRows;
}

// One thread; the CTAs of a cluster copy different boxes, each for all.
__device__ __forceinline__ void CopyRows(const CUtensorMap& map, const Work& work,
                                         const WorkItem& item, Shared& shared,
                                         uint32_t cluster_size, uint32_t rank) {
  const uint32_t bar = SharedAddress(&shared.queries_loaded);
  const auto offset = static_cast<uint32_t>((item.queries - work.lowest_queries) / 8);
  MbarrierExpect(bar, kBlockBytes);
  for (uint32_t box = rank; box < kBoxes; box += cluster_size) {
    const uint32_t destination = SharedAddress(shared.q) + box * kBoxBytes;
    if (cluster_size == 1) {
      LoadRows(destination, &map, box, offset, bar);
    } else {
      LoadRowsMulticast(destination, &map, box, offset, bar, (1u << cluster_size) - 1);
    }
  }
}

__device__ __forceinline__ void LoadQueries(const Work& work, const WorkItem& item, Shared& shared,
                                            uint32_t thread) {
  constexpr uint32_t kChunksPerRow = kRowBytes / 16;
  if (item.queries != nullptr) {
    const auto* queries = reinterpret_cast<const uint4*>(item.queries);
    CopyQueries(item.tile.rows, shared, thread, [&](uint32_t index) { return queries + index; });
  } else {
    const WorkRow* rows = work.rows + item.tile.first_row;
    CopyQueries(item.tile.rows, shared, thread, [&](uint32_t index) {
      return reinterpret_cast<const uint4*>(rows[index / kChunksPerRow].query) +
             index % kChunksPerRow;
    });
  }
  FenceProxyAsync();
}

}  // namespace latentd::throughput

#endif  // LATENTD_KERNELS_CUDA_THROUGHPUT_LOAD_CUH_
