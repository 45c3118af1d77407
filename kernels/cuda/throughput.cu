// 64 rows over a run of blocks, by one CTA or by a cluster that shares the blocks.
//
// Two warpgroups hold the 64 x 512 output, half of its columns each (128 registers a thread). They
// take the blocks in pairs: warpgroup 0 computes S and P of the even block, warpgroup 1 of the odd
// one, and each multiplies both Ps with its columns of both blocks, half a pair apart, so that
// one's softmax hides behind the other's products:
//
//   warpgroup 0                                    warpgroup 1
//   S0, m0, P0 = exp2(S0 - m0)                     O = O + P1 V1[right] (of the pair before)
//   P0 and m0 to shared memory      -- P0, m0 -->  S1, once S0 is on its way
//   O = O exp2(m - m0) + P0 V0[left]               O = O exp2(m - m0) + P0 V0[right]
//                                                  m1, P1 = exp2(S1 - m1)
//                                  <-- P1, m1 --   P1 and m1 to shared memory
//   O = O exp2(m0 - m1) + P1 V1[left]              O = O exp2(m0 - m1) + P1 V1[right]
//
// m is a base near the row's maximum that seldom moves (throughput_blocks.cuh): mostly O is not
// multiplied by anything.
//
// P takes the place of its block's rope box, which only S reads. A third warpgroup loads, in parts
// (left, right, rope) because each is free at another time; the even block is free in the middle of
// a pair.
//
// In a cluster each CTA takes an equal run of the blocks; at the end every one reads its share of
// the columns from all of them through distributed shared memory.
//
// Files: throughput_cta.cuh (shared memory), _load (records and rows in), _blocks (the arithmetic),
// _answer (the way out); this one is the kernel and its launch.
#include "kernels/cuda/throughput.h"

#include "kernels/cuda/blocks.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/row_output.cuh"
#include "kernels/cuda/throughput_answer.cuh"
#include "kernels/cuda/throughput_blocks.cuh"
#include "kernels/cuda/throughput_cta.cuh"
#include "kernels/cuda/throughput_load.cuh"
#include "kernels/cuda/work.h"

namespace latentd {
namespace throughput {
namespace {

template <RecordFormat kFormat>
struct Registers;
// 256 and 128 threads; 65,536 registers. Dequantising wants some.
template <>
struct Registers<RecordFormat::kBf16> {
  static constexpr int kMath = 232;
  static constexpr int kLoad = 40;
};
template <>
struct Registers<RecordFormat::kFp8> {
  static constexpr int kMath = 208;
  static constexpr int kLoad = 88;
};

template <RecordFormat kFormat, int kGroup>
__device__ __forceinline__ void Compute(const Work& work, Shared& shared, const Assignment& mine,
                                        uint32_t cluster_size, uint32_t rank) {
  const uint32_t thread = threadIdx.x % 128;
  if (!HasRowsMap(work, mine.item)) {
    LoadQueries(work, mine.item, shared, threadIdx.x);
    MbarrierArrive(SharedAddress(&shared.queries_loaded));
  }
  Rows rows;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const uint32_t row = thread / 32 * 16 + thread % 32 / 4 + 8 * r;
    const bool real = row < mine.item.tile.rows;
    const WorkRow* from = &work.rows[mine.item.tile.first_row + (real ? row : 0)];
    rows.scale[r] = real ? __ldg(&from->scale_log2) : 0.0f;
    rows.hidden[r] = __ldg(&from->hidden_tokens);
    rows.base[r] = -INFINITY;
    rows.sum[r] = 0;
  }
  float o[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) o[i] = 0;
  MbarrierWait(SharedAddress(&shared.queries_loaded), 0);

  MultiplyBlocks<kFormat, kGroup>(shared, mine.blocks, thread, rows, o);
  if (cluster_size == 1) {
    float lse[2];
    Normalise<kGroup>(shared, thread, rows, o, lse);
    StoreAnswer<kGroup>(work, mine, thread, o, lse);
    return;
  }
  // Both warpgroups are done with the stages.
  BarSync(kMath, kMathThreads);
  OfferAnswer<kGroup>(shared, thread, rows, o);
  ClusterArrive();
  Collector collector(shared, cluster_size, rank, threadIdx.x);
  const uint32_t row = min(collector.row(), mine.item.tile.rows - 1);
  const WorkRow target = work.rows[mine.item.tile.first_row + row];
  ClusterWait();
  CollectAnswers(work, collector, mine, target, rank == 0 && threadIdx.x % 4 == 0);
  // Nobody leaves while another still reads its memory. Everything read has been used, and nobody
  // in the cluster reads what was stored: relaxed, without waiting for the stores.
  ClusterArriveRelaxed();
  ClusterWait();
}

__device__ __forceinline__ Assignment Assign(const Work& work, uint32_t cluster_size,
                                             uint32_t rank) {
  Assignment mine;
  mine.item = work.items[blockIdx.x / cluster_size];
  const uint32_t blocks = mine.item.end_block - mine.item.first_block;
  mine.first_block = mine.item.first_block + blocks * rank / cluster_size;
  mine.blocks = mine.item.first_block + blocks * (rank + 1) / cluster_size - mine.first_block;
  return mine;
}

// One thread.
__device__ __forceinline__ void InitBarriers(Shared& shared, uint32_t ready_arrivals,
                                             uint32_t queries_arrivals) {
  for (uint32_t stage = 0; stage < kStages; ++stage) {
    for (uint32_t part = 0; part < kParts; ++part) {
      MbarrierInit(SharedAddress(&shared.ready[stage][part]), ready_arrivals);
      MbarrierInit(SharedAddress(&shared.free[stage][part]), 4);
    }
  }
  MbarrierInit(SharedAddress(&shared.queries_loaded), queries_arrivals);
  FenceMbarrierInit();
  FenceProxyAsync();
}

template <RecordFormat kFormat>
__global__ void __launch_bounds__(kThreads, 1)
    ThroughputKernel(const __grid_constant__ Arena arena, const __grid_constant__ CUtensorMap rows,
                     const Work work) {
  extern __shared__ std::byte raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  if (threadIdx.x == kMathThreads && kFormat == RecordFormat::kBf16) {
    PrefetchTensorMap(&rows);
    PrefetchTensorMap(&arena.four_boxes);
    PrefetchTensorMap(&arena.one_box);
  }
  const uint32_t cluster_size = ClusterSize();
  const uint32_t rank = ClusterRank();
  const Assignment mine = Assign(work, cluster_size, rank);

  const bool rows_map = HasRowsMap(work, mine.item);

  if (threadIdx.x == kMathThreads) {
    InitBarriers(shared, kFormat == RecordFormat::kBf16 ? 1 : 128, rows_map ? 1 : kMathThreads);
  }
  __syncthreads();
  if (rows_map && cluster_size > 1) {
    // Everybody's mbarriers are there before anybody copies rows to all.
    ClusterArriveRelaxed();
    ClusterWait();
  }
  // Whoever merges partials may get ready meanwhile.
  GridLaunchDependents();

  if (threadIdx.x >= kMathThreads) {
    DecreaseRegisters<Registers<kFormat>::kLoad>();
    const uint32_t thread = threadIdx.x - kMathThreads;
    if (rows_map && thread == 0) CopyRows(rows, work, mine.item, shared, cluster_size, rank);
    if (mine.blocks > 0 && (kFormat == RecordFormat::kFp8 || thread == 0)) {
      Load<kFormat>(arena, work, shared, mine, thread);
    }
  } else if (threadIdx.x < 128) {
    IncreaseRegisters<Registers<kFormat>::kMath>();
    Compute<kFormat, 0>(work, shared, mine, cluster_size, rank);
  } else {
    IncreaseRegisters<Registers<kFormat>::kMath>();
    Compute<kFormat, 1>(work, shared, mine, cluster_size, rank);
  }
}

using Kernel = void (*)(Arena, CUtensorMap, Work);

constexpr Kernel kBf16 = ThroughputKernel<RecordFormat::kBf16>;
constexpr Kernel kFp8 = ThroughputKernel<RecordFormat::kFp8>;

struct Config {
  cudaLaunchAttribute attribute = {};
  cudaLaunchConfig_t config = {};

  Config(uint32_t ctas, uint32_t cluster_size) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster_size, 1, 1};
    config.gridDim = dim3(ctas);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = sizeof(Shared);
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
};

}  // namespace
}  // namespace throughput

cudaError_t PrepareThroughputKernels() {
  using namespace throughput;  // NOLINT
  for (Kernel kernel : {kBf16, kFp8}) {
    const auto* function = reinterpret_cast<const void*>(kernel);
    cudaError_t error =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared));
    if (error != cudaSuccess) return error;
    error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int MaxActiveThroughputClusters(uint32_t cluster_size) {
  using namespace throughput;  // NOLINT
  const Config launch(cluster_size * 8, cluster_size);
  int clusters = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(
      &clusters, reinterpret_cast<const void*>(kBf16), &launch.config);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return clusters;
}

cudaError_t LaunchThroughput(const Arena& arena, const CUtensorMap& rows, const Work& work,
                             uint32_t items, uint32_t cluster_size, cudaStream_t stream) {
  using namespace throughput;  // NOLINT
  if (items == 0) return cudaSuccess;
  Config launch(items * cluster_size, cluster_size);
  launch.config.stream = stream;
  const Kernel kernel = arena.format == RecordFormat::kFp8 ? kFp8 : kBf16;
  return cudaLaunchKernelEx(&launch.config, kernel, arena, rows, work);
}

}  // namespace latentd
