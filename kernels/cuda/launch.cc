#include "kernels/cuda/launch.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "kernels/cuda/combine.h"
#include "kernels/cuda/latency.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/narrow.h"
#include "kernels/cuda/throughput.h"

namespace latentd {
namespace {

constexpr uint64_t kAlignment = 256;
constexpr uint64_t kMatrixLatentWidth = 512;
// A counter for each CTA of a meeting: as many as there may be.
constexpr uint64_t kArrivalsBytes =
    kMaxLatencyQueries * kMaxHeads / 8 * kMaxClusterSize * sizeof(uint32_t);

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
  device.latency_form = arena.format == RecordFormat::kBf16;
  device.narrow_form = arena.format == RecordFormat::kFp8;
  if (!device.matrix_kernels) return device;
  LATENTD_RETURN_IF_CUDA_ERROR(PrepareThroughputKernels());
  for (uint32_t size = 1; size <= kMaxClusterSize; ++size) {
    device.active_clusters[size] = static_cast<uint32_t>(MaxActiveThroughputClusters(size));
  }
  LATENTD_RETURN_IF_CUDA_ERROR(PrepareNarrowKernel());
  LATENTD_RETURN_IF_CUDA_ERROR(PrepareLatencyKernels());
  for (uint32_t k = 0; k < kLatencyKernelCount; ++k) {
    const LatencyShape& shape = kLatencyKernels[k].shape;
    // Two CTAs of the small kernels fit one multiprocessor, but then share its bandwidth: no gain.
    device.latency_clusters[k] = std::min(static_cast<uint32_t>(MaxActiveLatencyClusters(shape)),
                                          device.active_clusters[shape.cluster_size]);
  }
  return device;
}

absl::Status UploadedPlan::Upload(const BatchPlan& plan, uint32_t problems, const Arena& arena,
                                  bool device_page_tables, cudaStream_t stream) {
  absl::Status status = Prepare(plan, problems, arena, device_page_tables, stream);
  if (!status.ok() || copy_in_.bytes == 0) return status;
  LATENTD_RETURN_IF_CUDA_ERROR(
      cudaMemcpyAsync(copy_in_.to, copy_in_.from, copy_in_.bytes, cudaMemcpyHostToDevice, stream));
  return absl::OkStatus();
}

absl::Status UploadedPlan::Prepare(const BatchPlan& plan, uint32_t problems, const Arena& arena,
                                   bool device_page_tables, cudaStream_t stream) {
  form_ = plan.form();
  shape_ = plan.latency_shape();
  cluster_size_ = plan.cluster_size();
  items_ = static_cast<uint32_t>(plan.items().size());
  merges_ = static_cast<uint32_t>(plan.merges().size());
  problems_ = problems;
  copy_in_ = copy_out_ = {};
  if (form_ == Form::kLatency) return PrepareLatency(plan, device_page_tables, stream);

  Layout layout;
  const uint64_t rows = layout.Add(plan.rows());
  const uint64_t spans = layout.Add(plan.spans());
  const uint64_t items = layout.Add(plan.items());
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
  copy(items, plan.items());
  copy(merges, plan.merges());
  copy(pieces, plan.pieces());
  if (!device_page_tables) {
    auto* to = reinterpret_cast<uint32_t*>(staging_.data() + pages);
    const auto* on_device = reinterpret_cast<const uint32_t*>(memory_.data() + pages);
    auto* device_spans = reinterpret_cast<WorkSpan*>(staging_.data() + spans);
    for (auto* span = device_spans; const WorkSpan& host : plan.spans()) {
      const uint32_t entries = (host.visible_tokens + kPageTokens - 1) / kPageTokens;
      std::copy_n(host.page_ids, entries, to);
      (span++)->page_ids = on_device;
      to += entries;
      on_device += entries;
    }
    auto* device_items = reinterpret_cast<WorkItem*>(staging_.data() + items);
    for (uint32_t i = 0; i < items_; ++i) {
      device_items[i].span.page_ids = device_spans[device_items[i].span_index].page_ids;
    }
  }
  std::fill_n(reinterpret_cast<uint32_t*>(staging_.data() + bad_rows_offset_), problems, kNoBadRow);
  copy_in_ = {.to = memory_.data(), .from = staging_.data(), .bytes = layout.bytes()};
  copy_out_ = {.to = staging_.data() + bad_rows_offset_,
               .from = memory_.data() + bad_rows_offset_,
               .bytes = problems * sizeof(uint32_t)};

  auto at = [this](uint64_t offset) { return memory_.data() + offset; };
  work_.rows = reinterpret_cast<const WorkRow*>(at(rows));
  work_.spans = reinterpret_cast<const WorkSpan*>(at(spans));
  work_.items = reinterpret_cast<const WorkItem*>(at(items));
  work_.merges = reinterpret_cast<const WorkMerge*>(at(merges));
  work_.pieces = reinterpret_cast<const uint32_t*>(at(pieces));
  work_.bad_rows = reinterpret_cast<uint32_t*>(at(bad_rows_offset_));

  status = MapRows(plan);
  if (!status.ok()) return status;
  const uint64_t out_bytes = uint64_t{plan.slots()} * arena.geometry.latent_width * sizeof(float);
  status = partials_.Grow(out_bytes + plan.slots() * sizeof(float));
  if (!status.ok()) return status;
  work_.partial_out = reinterpret_cast<float*>(partials_.data());
  work_.partial_lse = reinterpret_cast<float*>(partials_.data() + out_bytes);
  return absl::OkStatus();
}

// Full tiles whose rows lie one behind the other come by tensor copies, if one map reaches them all.
absl::Status UploadedPlan::MapRows(const BatchPlan& plan) {
  constexpr uint64_t kReach = uint64_t{1} << 35;
  work_.lowest_queries = nullptr;
  if (form_ != Form::kThroughput) return absl::OkStatus();
  uintptr_t lowest = UINTPTR_MAX;
  uintptr_t highest = 0;
  for (const WorkItem& item : plan.items()) {
    if (item.queries == nullptr || item.tile.rows != kTileRows) continue;
    lowest = std::min(lowest, reinterpret_cast<uintptr_t>(item.queries));
    highest = std::max(highest, reinterpret_cast<uintptr_t>(item.queries));
  }
  if (lowest > highest || highest - lowest >= kReach) return absl::OkStatus();
  work_.lowest_queries = reinterpret_cast<const Bf16*>(lowest);
  return MakeRowsMap(work_.lowest_queries, rows_map_);
}

// Everything goes along with the launch; bad rows, which are rare, come straight to host memory.
absl::Status UploadedPlan::PrepareLatency(const BatchPlan& plan, bool device_page_tables,
                                          cudaStream_t stream) {
  bad_rows_offset_ = 0;
  absl::Status status = staging_.Grow(problems_ * sizeof(uint32_t));
  if (!status.ok()) return status;
  latency_work_.bad_rows = reinterpret_cast<uint32_t*>(staging_.data());
  std::fill_n(latency_work_.bad_rows, problems_, kNoBadRow);

  latency_work_.queries = static_cast<uint32_t>(plan.latency_queries().size());
  latency_work_.head_tiles = plan.latency_head_tiles();
  uint32_t page = 0;
  for (uint32_t q = 0; q < latency_work_.queries; ++q) {
    LatencyQuery& query = latency_work_.query[q];
    query = plan.latency_queries()[q];
    if (device_page_tables) continue;
    const uint32_t pages = (query.visible_tokens + kPageTokens - 1) / kPageTokens;
    std::copy_n(query.page_table, pages, latency_work_.page_ids + page);
    query.first_page = page;
    query.page_table = nullptr;
    page += pages;
  }

  if (shape_.splits == 1) return absl::OkStatus();
  const uint64_t meetings = uint64_t{latency_work_.queries} * latency_work_.head_tiles;
  const uint64_t ctas = meetings * shape_.splits * shape_.cluster_size;
  const uint64_t out_bytes =
      meetings * shape_.splits * shape_.heads * kMatrixLatentWidth * sizeof(float);
  const uint64_t lse_bytes = ctas * shape_.heads * sizeof(float);
  status = meetings_.Grow(kArrivalsBytes + out_bytes + lse_bytes);
  if (!status.ok()) return status;
  latency_work_.meeting_arrivals = reinterpret_cast<uint32_t*>(meetings_.data());
  latency_work_.meeting_out = reinterpret_cast<float4*>(meetings_.data() + kArrivalsBytes);
  latency_work_.meeting_lse =
      reinterpret_cast<float*>(meetings_.data() + kArrivalsBytes + out_bytes);
  // A launch leaves the counters as it found them.
  if (arrivals_zeroed_in_ != meetings_.data()) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaMemsetAsync(meetings_.data(), 0, kArrivalsBytes, stream));
    arrivals_zeroed_in_ = meetings_.data();
  }
  return absl::OkStatus();
}

absl::Status UploadedPlan::Launch(const Arena& arena, cudaStream_t stream) const {
  switch (form_) {
    case Form::kSimple:
      LATENTD_RETURN_IF_CUDA_ERROR(LaunchSimple(arena, work_, items_, stream));
      break;
    case Form::kThroughput:
      LATENTD_RETURN_IF_CUDA_ERROR(
          LaunchThroughput(arena, rows_map_, work_, items_, cluster_size_, stream));
      break;
    case Form::kNarrow:
      LATENTD_RETURN_IF_CUDA_ERROR(LaunchNarrow(arena, work_, items_, stream));
      break;
    case Form::kLatency:
      LATENTD_RETURN_IF_CUDA_ERROR(LaunchLatency(arena.three_boxes, latency_work_, shape_, stream));
      return absl::OkStatus();
  }
  LATENTD_RETURN_IF_CUDA_ERROR(LaunchCombine(work_, merges_, arena.geometry.latent_width, stream));
  return absl::OkStatus();
}

}  // namespace latentd
