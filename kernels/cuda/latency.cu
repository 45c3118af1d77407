#include "kernels/cuda/latency.h"

#include "kernels/cuda/latency.cuh"

namespace latentd {
namespace {

using Kernel = void (*)(CUtensorMap, LatencyWork, uint32_t);

// One kernel, for shapes of any number of splits.
struct Instance {
  uint32_t heads;
  uint32_t cluster_size;
  uint32_t blocks;
  Kernel kernel;
  uint32_t shared_bytes;
};

template <int kHeads, int kCluster, int kBlocks>
constexpr Instance Make() {
  return {kHeads, kCluster, kBlocks, LatencyKernel<kHeads, kCluster, kBlocks>,
          sizeof(typename Latency<kHeads, kCluster, kBlocks>::Shared)};
}

// The planner's candidates (plan.cc) are among these.
const Instance kInstances[] = {Make<8, 8, 1>(), Make<16, 8, 1>(), Make<16, 8, 2>(),
                               Make<24, 16, 2>()};

const Instance* Find(const LatencyShape& shape) {
  for (const Instance& instance : kInstances) {
    if (instance.heads == shape.heads && instance.cluster_size == shape.cluster_size &&
        instance.blocks == shape.blocks) {
      return &instance;
    }
  }
  return nullptr;
}

}  // namespace

cudaError_t PrepareLatencyKernels() {
  for (const Instance& instance : kInstances) {
    const auto* kernel = reinterpret_cast<const void*>(instance.kernel);
    cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                             static_cast<int>(instance.shared_bytes));
    if (error != cudaSuccess) return error;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int MaxActiveLatencyClusters(const LatencyShape& shape) {
  const Instance* instance = Find(shape);
  if (instance == nullptr) return 0;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(instance->cluster_size);
  config.blockDim = dim3(kLatencyThreads);
  config.dynamicSmemBytes = instance->shared_bytes;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {instance->cluster_size, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  const cudaError_t error = cudaOccupancyMaxActiveClusters(
      &clusters, reinterpret_cast<const void*>(instance->kernel), &config);
  if (error != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return clusters;
}

cudaError_t LaunchLatency(const CUtensorMap& three_boxes, const LatencyWork& work,
                          const LatencyShape& shape, cudaStream_t stream) {
  const Instance* instance = Find(shape);
  if (instance == nullptr) return cudaErrorInvalidValue;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(work.queries * work.head_tiles * shape.splits * shape.cluster_size);
  config.blockDim = dim3(kLatencyThreads);
  config.dynamicSmemBytes = instance->shared_bytes;
  config.stream = stream;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {shape.cluster_size, 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, instance->kernel, three_boxes, work, shape.splits);
}

}  // namespace latentd
