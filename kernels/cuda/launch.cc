#include "kernels/cuda/launch.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cuda/combine.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/throughput.h"

namespace latentd {
namespace {

constexpr uint64_t kAlignment = 256;

// Lays arrays out one after the other.
class Layout {
 public:
  uint64_t Add(uint64_t bytes) {
    const uint64_t offset = bytes_;
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }
  template <typename T>
  uint64_t Add(std::span<const T> array) {
    return Add(array.size_bytes());
  }
  uint64_t bytes() const { return bytes_; }

 private:
  uint64_t bytes_ = 0;
};

uint64_t PageTableEntries(std::span<const WorkSpan> spans) {
  uint64_t entries = 0;
  for (const WorkSpan& span : spans) {
    entries += (span.visible_tokens + kPageTokens - 1) / kPageTokens;
  }
  return entries;
}

}  // namespace

absl::StatusOr<PlanDevice> PreparePlanDevice(const Arena& arena) {
  PlanDevice device;
  int index = 0;
  LATENTD_RETURN_IF_CUDA_ERROR(cudaGetDevice(&index));
  int multiprocessors = 0;
  LATENTD_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index));
  device.multiprocessors = static_cast<uint32_t>(multiprocessors);
  device.matrix_kernels = HasMatrixGeometry(arena.geometry, arena.cache);
  device.latency_form = false;
  if (!device.matrix_kernels) return device;
  LATENTD_RETURN_IF_CUDA_ERROR(PrepareThroughputKernels());
  for (uint32_t size = 1; size <= kMaxClusterSize; ++size) {
    device.active_clusters[size] = static_cast<uint32_t>(MaxActiveThroughputClusters(size));
  }
  return device;
}

absl::Status UploadedPlan::Upload(const Plan& plan, uint32_t problems, const Arena& arena,
                                  bool device_page_tables, cudaStream_t stream) {
  form_ = plan.form();
  shape_ = plan.latency_shape();
  cluster_size_ = plan.cluster_size();
  items_ = static_cast<uint32_t>(form_ == Form::kLatency ? plan.latency_items().size()
                                                         : plan.items().size());
  merges_ = static_cast<uint32_t>(plan.merges().size());
  problems_ = problems;

  Layout layout;
  const uint64_t rows = layout.Add(plan.rows());
  const uint64_t spans = layout.Add(plan.spans());
  const uint64_t tiles = layout.Add(plan.tiles());
  const uint64_t items = layout.Add(plan.items());
  const uint64_t latency_items = layout.Add(plan.latency_items());
  const uint64_t merges = layout.Add(plan.merges());
  const uint64_t pieces = layout.Add(plan.pieces());
  const uint64_t pages =
      layout.Add(device_page_tables ? 0 : PageTableEntries(plan.spans()) * sizeof(uint32_t));
  bad_rows_offset_ = layout.Add(problems * sizeof(uint32_t));
  absl::Status status = staging_.Grow(layout.bytes());
  if (status.ok()) status = memory_.Grow(layout.bytes());
  if (!status.ok()) return status;

  auto copy = [this](uint64_t offset, const auto& array) {
    std::memcpy(staging_.data() + offset, array.data(), array.size_bytes());
  };
  copy(rows, plan.rows());
  copy(spans, plan.spans());
  copy(tiles, plan.tiles());
  copy(items, plan.items());
  copy(latency_items, plan.latency_items());
  copy(merges, plan.merges());
  copy(pieces, plan.pieces());
  if (!device_page_tables) {
    auto* to = reinterpret_cast<uint32_t*>(staging_.data() + pages);
    const auto* on_device = reinterpret_cast<const uint32_t*>(memory_.data() + pages);
    for (auto* span = reinterpret_cast<WorkSpan*>(staging_.data() + spans);
         const WorkSpan& host : plan.spans()) {
      const uint32_t entries = (host.visible_tokens + kPageTokens - 1) / kPageTokens;
      std::copy_n(host.page_ids, entries, to);
      (span++)->page_ids = on_device;
      to += entries;
      on_device += entries;
    }
  }
  std::fill_n(reinterpret_cast<uint32_t*>(staging_.data() + bad_rows_offset_), problems, kNoBadRow);
  LATENTD_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(memory_.data(), staging_.data(), layout.bytes(),
                                               cudaMemcpyHostToDevice, stream));

  auto at = [this](uint64_t offset) { return memory_.data() + offset; };
  work_.rows = reinterpret_cast<const WorkRow*>(at(rows));
  work_.spans = reinterpret_cast<const WorkSpan*>(at(spans));
  work_.tiles = reinterpret_cast<const WorkTile*>(at(tiles));
  work_.items = reinterpret_cast<const WorkItem*>(at(items));
  work_.latency_items = reinterpret_cast<const LatencyItem*>(at(latency_items));
  work_.merges = reinterpret_cast<const WorkMerge*>(at(merges));
  work_.pieces = reinterpret_cast<const uint32_t*>(at(pieces));
  work_.bad_rows = reinterpret_cast<uint32_t*>(at(bad_rows_offset_));

  const uint64_t out_bytes = uint64_t{plan.slots()} * arena.geometry.latent_width * sizeof(float);
  status = partials_.Grow(out_bytes + plan.slots() * sizeof(float));
  if (!status.ok()) return status;
  work_.partial_out = reinterpret_cast<float*>(partials_.data());
  work_.partial_lse = reinterpret_cast<float*>(partials_.data() + out_bytes);
  return MakeMeetings(plan, stream);
}

absl::Status UploadedPlan::MakeMeetings(const Plan& plan, cudaStream_t stream) {
  (void)plan;
  (void)stream;
  return absl::OkStatus();
}

absl::Status UploadedPlan::Launch(const Arena& arena, cudaStream_t stream) const {
  switch (form_) {
    case Form::kSimple:
      LATENTD_RETURN_IF_CUDA_ERROR(LaunchSimple(arena, work_, items_, stream));
      break;
    case Form::kThroughput:
      LATENTD_RETURN_IF_CUDA_ERROR(LaunchThroughput(arena, work_, items_, cluster_size_, stream));
      break;
    case Form::kLatency:
      return absl::UnimplementedError("the latency form");
  }
  LATENTD_RETURN_IF_CUDA_ERROR(LaunchCombine(work_, merges_, arena.geometry.latent_width, stream));
  return absl::OkStatus();
}

absl::Status UploadedPlan::CopyBadRows(cudaStream_t stream) {
  LATENTD_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(staging_.data() + bad_rows_offset_, memory_.data() + bad_rows_offset_,
                      problems_ * sizeof(uint32_t), cudaMemcpyDeviceToHost, stream));
  return absl::OkStatus();
}

}  // namespace latentd
