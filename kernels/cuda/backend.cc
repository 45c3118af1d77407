#include "kernels/cuda/backend.h"

#include "absl/strings/str_cat.h"

#if LATENTD_HAVE_CUDA
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/plan.h"
#endif

namespace latentd {

#if LATENTD_HAVE_CUDA
namespace {

constexpr uint64_t kAlignment = 16;

uint64_t AlignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool Aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0; }

// Whether kernels can use the memory in place.
bool DeviceCanReach(const void* pointer) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type != cudaMemoryTypeUnregistered;
}

// One batch in flight: its stream and everything that must live until it is done.
//
//   idle      Start    running
//   running   Take     idle, once the device is done
class InFlight {
 public:
  absl::Status Init() {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventCreate(&start_));
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventCreate(&end_));
    return absl::OkStatus();
  }
  ~InFlight() {
    if (busy_) cudaStreamSynchronize(stream_);
    if (end_ != nullptr) cudaEventDestroy(end_);
    if (start_ != nullptr) cudaEventDestroy(start_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  bool busy() const { return busy_; }

  void Start(uint64_t id, std::span<const Problem> problems, const Arena& arena,
             const PlanDevice& device, bool device_page_tables) {
    busy_ = true;
    id_ = id;
    status_ = Enqueue(problems, arena, device, device_page_tables);
  }

  // True once the batch is done; appends its result.
  bool Take(const Arena& arena, std::vector<BatchResult>& done) {
    if (status_.ok()) {
      const cudaError_t error = cudaEventQuery(end_);
      if (error == cudaErrorNotReady) return false;
      status_ = CudaStatus(error, "attention");
    } else {
      // What was enqueued before the error may still use the problem's memory.
      cudaStreamSynchronize(stream_);
    }
    BatchResult& result = done.emplace_back();
    result.batch_id = id_;
    result.statuses.assign(problems_.size(), status_);
    if (status_.ok()) {
      float milliseconds = 0;
      if (cudaEventElapsedTime(&milliseconds, start_, end_) == cudaSuccess) {
        result.compute_ns = static_cast<uint64_t>(static_cast<double>(milliseconds) * 1e6);
      }
      CopyOut(arena.geometry);
      ReportBadRows(result);
    }
    busy_ = false;
    return true;
  }

 private:
  // Where a problem's buffers are while the device works, if not where the caller has them. Offsets
  // into staging memory, which host and device have alike.
  struct Staged {
    bool rows = false;
    bool out = false;
    uint64_t rows_offset = 0;
    uint64_t out_offset = 0;
    uint64_t lse_offset = 0;
  };

  absl::Status Enqueue(std::span<const Problem> problems, const Arena& arena,
                       const PlanDevice& device, bool device_page_tables) {
    problems_.assign(problems.begin(), problems.end());
    absl::Status status = Stage(arena.geometry);
    if (!status.ok()) return status;
    plan_.Build(arena.geometry, device_problems_, device);
    status = uploaded_.Upload(plan_, static_cast<uint32_t>(problems.size()), arena,
                              device_page_tables, stream_);
    if (!status.ok()) return status;
    if (in_bytes_ > 0) {
      LATENTD_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(staged_on_device_.data(), staged_.data(),
                                                   in_bytes_, cudaMemcpyHostToDevice, stream_));
    }
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventRecord(start_, stream_));
    status = uploaded_.Launch(arena, stream_);
    if (!status.ok()) return status;
    if (out_bytes_ > 0) {
      LATENTD_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(staged_.data() + in_bytes_,
                                                   staged_on_device_.data() + in_bytes_, out_bytes_,
                                                   cudaMemcpyDeviceToHost, stream_));
    }
    status = uploaded_.CopyBadRows(stream_);
    if (!status.ok()) return status;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventRecord(end_, stream_));
    return absl::OkStatus();
  }

  // Copies rows that the device cannot use where they are, and finds room for such outputs.
  absl::Status Stage(const Geometry& geometry) {
    staging_.assign(problems_.size(), {});
    device_problems_ = problems_;
    in_bytes_ = out_bytes_ = 0;
    for (size_t p = 0; p < problems_.size(); ++p) {
      const Problem& problem = problems_[p];
      const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
      if (rows == 0) continue;
      if (!Aligned(problem.rows) || !DeviceCanReach(problem.rows)) {
        staging_[p].rows = true;
        staging_[p].rows_offset = in_bytes_;
        in_bytes_ += AlignUp(rows * geometry.row_width() * sizeof(Bf16));
      }
      if (!Aligned(problem.out) || !DeviceCanReach(problem.out) || !DeviceCanReach(problem.lse)) {
        staging_[p].out = true;
      }
    }
    for (size_t p = 0; p < problems_.size(); ++p) {
      if (!staging_[p].out) continue;
      const Problem& problem = problems_[p];
      const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
      staging_[p].out_offset = in_bytes_ + out_bytes_;
      out_bytes_ += AlignUp(rows * geometry.latent_width * OutValueBytes(problem.out_format));
      staging_[p].lse_offset = in_bytes_ + out_bytes_;
      out_bytes_ += AlignUp(rows * sizeof(float));
    }
    absl::Status status = staged_.Grow(in_bytes_ + out_bytes_);
    if (status.ok()) status = staged_on_device_.Grow(in_bytes_ + out_bytes_);
    if (!status.ok()) return status;
    for (size_t p = 0; p < problems_.size(); ++p) {
      const Staged& staged = staging_[p];
      Problem& problem = device_problems_[p];
      const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
      if (staged.rows) {
        LATENTD_RETURN_IF_CUDA_ERROR(cudaMemcpy(staged_.data() + staged.rows_offset, problem.rows,
                                                rows * geometry.row_width() * sizeof(Bf16),
                                                cudaMemcpyDefault));
        problem.rows = reinterpret_cast<const Bf16*>(staged_on_device_.data() + staged.rows_offset);
      }
      if (staged.out) {
        problem.out = staged_on_device_.data() + staged.out_offset;
        problem.lse = reinterpret_cast<float*>(staged_on_device_.data() + staged.lse_offset);
      }
    }
    return absl::OkStatus();
  }

  void CopyOut(const Geometry& geometry) {
    for (size_t p = 0; p < problems_.size(); ++p) {
      if (!staging_[p].out) continue;
      const Problem& problem = problems_[p];
      const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
      cudaMemcpy(problem.out, staged_.data() + staging_[p].out_offset,
                 rows * geometry.latent_width * OutValueBytes(problem.out_format),
                 cudaMemcpyDefault);
      cudaMemcpy(problem.lse, staged_.data() + staging_[p].lse_offset, rows * sizeof(float),
                 cudaMemcpyDefault);
    }
  }

  void ReportBadRows(BatchResult& result) const {
    for (size_t p = 0; p < problems_.size(); ++p) {
      const uint32_t row = uploaded_.bad_rows()[p];
      if (row == kNoBadRow) continue;
      const uint32_t heads = problems_[p].heads;
      result.statuses[p] = absl::OutOfRangeError(
          absl::StrCat("token ", row / heads, ", head ", row % heads,
                       ": the row's logits or output left the range of fp32"));
    }
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
  bool busy_ = false;
  uint64_t id_ = 0;
  absl::Status status_;
  std::vector<Problem> problems_;
  std::vector<Problem> device_problems_;
  std::vector<Staged> staging_;
  uint64_t in_bytes_ = 0;
  uint64_t out_bytes_ = 0;
  PinnedMemory staged_;
  DeviceMemory staged_on_device_;
  Plan plan_;
  UploadedPlan uploaded_;
};

class CudaBackend : public Backend {
 public:
  CudaBackend(int device, std::string name, const Arena& arena, const PlanDevice& plan_device,
              bool device_page_tables)
      : device_(device),
        name_(std::move(name)),
        arena_(arena),
        plan_device_(plan_device),
        device_page_tables_(device_page_tables) {}

  absl::Status Init(int max_in_flight) {
    for (int i = 0; i < max_in_flight; ++i) {
      batches_.push_back(std::make_unique<InFlight>());
      absl::Status status = batches_.back()->Init();
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::string Describe() const override {
    return absl::StrCat("cuda:", device_, " (", name_, ", ", plan_device_.multiprocessors,
                        " multiprocessors", plan_device_.matrix_kernels ? "" : ", slow form", ")");
  }

  void Submit(uint64_t batch_id, std::span<const Problem> problems) override {
    cudaSetDevice(device_);
    const auto free = std::find_if(batches_.begin(), batches_.end(),
                                   [](const std::unique_ptr<InFlight>& b) { return !b->busy(); });
    (*free)->Start(batch_id, problems, arena_, plan_device_, device_page_tables_);
    ++in_flight_;
  }

  bool Poll(std::vector<BatchResult>& done) override {
    if (in_flight_ == 0) return false;
    bool progress = false;
    for (const std::unique_ptr<InFlight>& batch : batches_) {
      if (!batch->busy() || !batch->Take(arena_, done)) continue;
      --in_flight_;
      progress = true;
    }
    return progress;
  }

  int in_flight() const override { return in_flight_; }
  int max_in_flight() const override { return static_cast<int>(batches_.size()); }

 private:
  const int device_;
  const std::string name_;
  const Arena arena_;
  const PlanDevice plan_device_;
  const bool device_page_tables_;
  std::vector<std::unique_ptr<InFlight>> batches_;
  int in_flight_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  int devices = 0;
  cudaError_t error = cudaGetDeviceCount(&devices);
  if (error != cudaSuccess) {
    return absl::FailedPreconditionError(CudaStatus(error, "no CUDA device").message());
  }
  if (options.device < 0 || options.device >= devices) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuda:", options.device, ": this host has ", devices, " CUDA devices"));
  }
  cudaDeviceProp properties;
  LATENTD_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, options.device));
  if (properties.major != 9 || properties.minor != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cuda:", options.device, " (", properties.name, ") has compute capability ",
                     properties.major, ".", properties.minor, ", expected 9.0"));
  }
  LATENTD_RETURN_IF_CUDA_ERROR(cudaSetDevice(options.device));
  const absl::StatusOr<Arena> arena =
      MakeArena(options.geometry, options.format, options.cache, options.pages);
  if (!arena.ok()) return arena.status();
  const absl::StatusOr<PlanDevice> device = PreparePlanDevice(*arena);
  if (!device.ok()) return device.status();
  auto backend = std::make_unique<CudaBackend>(options.device, properties.name, *arena, *device,
                                               options.device_page_tables);
  absl::Status status = backend->Init(options.max_in_flight);
  if (!status.ok()) return status;
  return backend;
}

#else  // !LATENTD_HAVE_CUDA

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  return absl::FailedPreconditionError(
      absl::StrCat("cuda:", options.device, ": built without CUDA"));
}

#endif

}  // namespace latentd
