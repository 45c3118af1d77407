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
  // Bytes that must be copied before the launch or after it, if any.
  struct Copy {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    uint64_t bytes = 0;
  };

  // Finds room. `problems`: how many the plan is of. The plan and, unless `device_page_tables`, the
  // page tables may go when this returns. Somebody else copies copy_in() and copy_out().
  absl::Status Prepare(const BatchPlan& plan, uint32_t problems, const Arena& arena,
                       bool device_page_tables, cudaStream_t stream);
  // Of pinned memory to the device.
  const Copy& copy_in() const { return copy_in_; }
  // Of the device to pinned memory: the bad rows, where they are not written there at once.
  const Copy& copy_out() const { return copy_out_; }

  // Prepare, and enqueues copy_in().
  absl::Status Upload(const BatchPlan& plan, uint32_t problems, const Arena& arena,
                      bool device_page_tables, cudaStream_t stream);

  // Enqueues the kernels. May be repeated.
  absl::Status Launch(const Arena& arena, cudaStream_t stream) const;

  // Valid once copy_out() is done: for each problem its first row that left fp32, or kNoBadRow.
  const uint32_t* bad_rows() const {
    return reinterpret_cast<const uint32_t*>(staging_.data() + bad_rows_offset_);
  }

 private:
  absl::Status PrepareLatency(const BatchPlan& plan, bool device_page_tables, cudaStream_t stream);

  absl::Status MapRows(const BatchPlan& plan);

  Work work_;
  CUtensorMap rows_map_ = {};  // if work_.lowest_queries says so
  LatencyWork latency_work_;
  Form form_ = Form::kSimple;
  LatencyShape shape_;
  uint32_t cluster_size_ = 1;
  uint32_t items_ = 0;
  uint32_t merges_ = 0;
  uint32_t problems_ = 0;
  Copy copy_in_;
  Copy copy_out_;
  uint64_t bad_rows_offset_ = 0;
  PinnedMemory staging_;
  DeviceMemory memory_;
  DeviceMemory partials_;
  DeviceMemory meetings_;
  const std::byte* arrivals_zeroed_in_ = nullptr;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_LAUNCH_H_
