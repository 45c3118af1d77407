// Running a plan: its arrays in device memory, and the launches.
#ifndef LATENTD_KERNELS_CUDA_LAUNCH_H_
#define LATENTD_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/cuda/arena.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/work.h"

namespace latentd {

// Prepares every kernel for the current device and asks what fits on it. REQUIRES: capability 9.0.
absl::StatusOr<PlanDevice> PreparePlanDevice(const Arena& arena);

// A plan in device memory. One plan at a time; keeps its memory.
class UploadedPlan {
 public:
  // Enqueues the copy. `problems`: how many the plan is of. The plan and, unless
  // `device_page_tables`, the page tables may go when this returns.
  absl::Status Upload(const Plan& plan, uint32_t problems, const Arena& arena,
                      bool device_page_tables, cudaStream_t stream);

  // Enqueues the kernels. May be repeated.
  absl::Status Launch(const Arena& arena, cudaStream_t stream) const;

  // Enqueues the copy of the bad rows back, where they are not written to host memory at once.
  absl::Status CopyBadRows(cudaStream_t stream);
  // Valid once that copy is done: for each problem its first row that left fp32, or kNoBadRow.
  const uint32_t* bad_rows() const {
    return reinterpret_cast<const uint32_t*>(staging_.data() + bad_rows_offset_);
  }

 private:
  absl::Status PrepareLatency(const Plan& plan, bool device_page_tables, cudaStream_t stream);

  absl::Status MapRows(const Plan& plan);

  Work work_;
  CUtensorMap rows_map_ = {};  // if work_.lowest_queries says so
  LatencyWork latency_work_;
  Form form_ = Form::kSimple;
  LatencyShape shape_;
  uint32_t cluster_size_ = 1;
  uint32_t items_ = 0;
  uint32_t merges_ = 0;
  uint32_t problems_ = 0;
  uint64_t bad_rows_offset_ = 0;
  PinnedMemory staging_;
  DeviceMemory memory_;
  DeviceMemory partials_;
  DeviceMemory meetings_;
  const std::byte* arrivals_zeroed_in_ = nullptr;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LAUNCH_H_
