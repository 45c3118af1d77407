#include "kernels/cuda/backend.h"

#include "absl/strings/str_cat.h"

#if LATENTD_HAVE_CUDA
#include <cuda.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/devices.h"
#include "kernels/cuda/driver_function.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/records.h"
#endif

namespace latentd {

#if LATENTD_HAVE_CUDA
namespace {

constexpr uint64_t kAlignment = 16;

uint64_t AlignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

bool Aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % kAlignment == 0; }

using WriteValue = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned int);

const absl::StatusOr<WriteValue>& FindWriteValue() {
  static const auto found = FindDriverFunction<WriteValue>("cuStreamWriteValue32");
  return found;
}

enum class Place { kDevice, kPinned, kOrdinary };

Place AskPlaceOf(const void* pointer) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, pointer) != cudaSuccess) {
    cudaGetLastError();
    return Place::kOrdinary;
  }
  switch (attributes.type) {
    case cudaMemoryTypeUnregistered:
      return Place::kOrdinary;
    case cudaMemoryTypeHost:
      return Place::kPinned;
    default:
      return Place::kDevice;
  }
}

uint64_t Address(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// Copies that one launch makes, between addresses.
class Copies {
 public:
  void Clear() { count_ = max_bytes_ = 0; }
  // Room for `runs` in all. REQUIRES: no launch that uses this is under way.
  absl::Status Reserve(size_t runs) { return runs_.Grow(runs * sizeof(CopyRun)); }
  void Add(const void* to, const void* from, uint64_t bytes) {
    runs()[count_++] = {
        .to = Address(to), .from = Address(from), .bytes = static_cast<uint32_t>(bytes)};
    max_bytes_ = std::max(max_bytes_, static_cast<uint32_t>(bytes));
  }
  void Add(const UploadedPlan::Copy& copy) {
    if (copy.bytes > 0) Add(copy.to, copy.from, copy.bytes);
  }
  bool empty() const { return count_ == 0; }
  absl::Status Launch(const CopyDone& done, cudaStream_t stream) const {
    if (empty()) return absl::OkStatus();
    return CudaStatus(count_ <= kFewCopyRuns ? LaunchFewCopyRuns(runs(), count_, done, stream)
                                             : LaunchCopyRuns(nullptr, nullptr, runs(), count_,
                                                              max_bytes_, done, stream),
                      "launching a copy of rows or answers");
  }

 private:
  CopyRun* runs() const { return reinterpret_cast<CopyRun*>(runs_.data()); }

  PinnedMemory runs_;
  uint32_t count_ = 0;
  uint32_t max_bytes_ = 0;
};

// Which memory callers promise.
struct BackendMemory {
  bool device_page_tables = false;
  bool pinned_payloads = false;
  std::span<const std::byte> device_payloads;

  Place PlaceOf(const void* pointer) const {
    if (!pinned_payloads) return AskPlaceOf(pointer);
    const auto* at = static_cast<const std::byte*>(pointer);
    const bool on_device =
        at >= device_payloads.data() && at < device_payloads.data() + device_payloads.size();
    return on_device ? Place::kDevice : Place::kPinned;
  }
};

// One batch in flight: its stream and everything that must live until it is done.
//
//   idle      Start    running
//   running   Take     idle, once the device is done
class InFlight {
 public:
  absl::Status Init(const Geometry& geometry) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    absl::Status status = words_on_device_.Grow(sizeof(uint32_t));
    if (status.ok()) status = words_.Grow(sizeof(uint32_t));
    if (status.ok()) status = WarmUp(geometry);
    if (!status.ok()) return status;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaMemset(words_on_device_.data(), 0, sizeof(uint32_t)));
    Done().store(ticket_);
    return absl::OkStatus();
  }
  ~InFlight() {
    if (busy_) cudaStreamSynchronize(stream_);
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  bool busy() const { return busy_; }

  void Start(uint64_t id, std::span<const Problem> problems, const Arena& arena,
             const PlanDevice& device, const BackendMemory& memory) {
    busy_ = true;
    id_ = id;
    started_ = std::chrono::steady_clock::now();
    status_ = Enqueue(problems, arena, device, memory);
  }

  // True once the batch is done; appends its result.
  bool Take(const Arena& arena, std::vector<BatchResult>& done) {
    if (status_.ok()) {
      if (!IsDone()) return false;
    } else {
      // What was enqueued before the error may still use the problem's memory.
      cudaStreamSynchronize(stream_);
    }
    BatchResult& result = done.emplace_back();
    result.batch_id = id_;
    result.statuses.assign(problems_.size(), status_);
    if (status_.ok()) {
      result.compute_ns = static_cast<uint64_t>(
          std::chrono::nanoseconds(std::chrono::steady_clock::now() - started_).count());
      CopyOut(arena.geometry);
      ReportBadRows(result);
    }
    busy_ = false;
    return true;
  }

 private:
  // Polls of the word in memory for each question to CUDA, which alone knows of errors.
  static constexpr uint32_t kPollsPerQuestion = 256;
  // What a lane's usual batches need, so that the first of them find it.
  static constexpr uint64_t kUsualRows = 1024;
  static constexpr size_t kUsualProblems = 64;

  std::atomic_ref<uint32_t> Done() const {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(words_.data()));
  }

  bool IsDone() {
    if (Done().load(std::memory_order_acquire) == ticket_) return true;
    if (++polls_ % kPollsPerQuestion != 0) return false;
    const cudaError_t error = cudaStreamQuery(stream_);
    if (error == cudaErrorNotReady) return false;
    status_ = CudaStatus(error, "attention");
    return true;
  }

  // Sets the word where no copy is there to do it.
  absl::Status Tell(const CopyDone& done) {
    const absl::StatusOr<WriteValue>& write = FindWriteValue();
    if (!write.ok()) return write.status();
    const CUresult error = (*write)(stream_, reinterpret_cast<CUdeviceptr>(done.done), done.ticket,
                                    CU_STREAM_WRITE_VALUE_DEFAULT);
    if (error == CUDA_SUCCESS) return absl::OkStatus();
    return absl::InternalError(
        absl::StrCat("cuStreamWriteValue32: CUDA error ", static_cast<int>(error)));
  }

  // Takes memory and loads the copy kernels.
  absl::Status WarmUp(const Geometry& geometry) {
    absl::Status status =
        on_device_.Grow(kUsualRows * (geometry.row_width() * sizeof(Bf16) +
                                      (geometry.latent_width + 1) * sizeof(float)));
    if (status.ok()) status = copies_in_.Reserve(kUsualProblems);
    if (status.ok()) status = copies_out_.Reserve(2 * kUsualProblems);
    for (uint32_t runs = kFewCopyRuns; status.ok() && runs <= kFewCopyRuns + 1; ++runs) {
      copies_out_.Clear();
      for (uint32_t i = 0; i < runs; ++i) {
        copies_out_.Add(on_device_.data() + i, on_device_.data() + kFewCopyRuns + 1 + i, 1);
      }
      status = copies_out_.Launch({}, stream_);
    }
    if (!status.ok()) return status;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_));
    return absl::OkStatus();
  }

  // Where the host's part of a problem is while the device works on it, if not where the caller has
  // it: offsets into staged_.
  struct Staged {
    bool out = false;
    uint64_t out_offset = 0;
    uint64_t lse_offset = 0;
  };

  absl::Status Enqueue(std::span<const Problem> problems, const Arena& arena,
                       const PlanDevice& device, const BackendMemory& memory) {
    problems_.assign(problems.begin(), problems.end());
    absl::Status status = Stage(arena.geometry, memory);
    if (!status.ok()) return status;
    plan_.Build(arena.geometry, device_problems_, device);
    status = uploaded_.Prepare(plan_, static_cast<uint32_t>(problems.size()), arena,
                               memory.device_page_tables, stream_);
    if (!status.ok()) return status;
    copies_in_.Add(uploaded_.copy_in());
    copies_out_.Add(uploaded_.copy_out());
    const CopyDone done = {.arrivals = reinterpret_cast<uint32_t*>(words_on_device_.data()),
                           .done = reinterpret_cast<uint32_t*>(words_.data()),
                           .ticket = ++ticket_};
    status = copies_in_.Launch({}, stream_);
    if (status.ok()) status = uploaded_.Launch(arena, stream_);
    // The last: it says that everything is done.
    if (status.ok()) status = copies_out_.empty() ? Tell(done) : copies_out_.Launch(done, stream_);
    return status;
  }

  // Finds memory of the device for whatever is not there, and says what is to be copied. Kernels that
  // use the host's memory in place wait for it again and again: 128 rows over 2k tokens took 81 us
  // between the stream's first event and its last (H100), copied in and out 34.
  absl::Status Stage(const Geometry& geometry, const BackendMemory& memory) {
    device_problems_ = problems_;
    staging_.assign(problems_.size(), {});
    uint64_t bytes = 0;
    for (const Problem& problem : problems_) {
      const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
      bytes += AlignUp(rows * geometry.row_width() * sizeof(Bf16)) +
               AlignUp(rows * geometry.latent_width * OutValueBytes(problem.out_format)) +
               AlignUp(rows * sizeof(float));
    }
    absl::Status status = on_device_.Grow(bytes);
    if (status.ok()) status = copies_in_.Reserve(problems_.size() + 1);
    if (status.ok()) status = copies_out_.Reserve(2 * problems_.size() + 1);
    if (status.ok() && !memory.pinned_payloads) status = staged_.Grow(bytes);
    if (!status.ok()) return status;
    copies_in_.Clear();
    copies_out_.Clear();
    uint64_t offset = 0;
    for (size_t p = 0; p < problems_.size(); ++p) {
      if (problems_[p].tokens == 0) continue;
      StageRows(geometry, p, memory, offset);
      StageOut(geometry, p, memory, offset);
    }
    return absl::OkStatus();
  }

  void StageRows(const Geometry& geometry, size_t p, const BackendMemory& memory,
                 uint64_t& offset) {
    const Problem& problem = problems_[p];
    const Place place = memory.PlaceOf(problem.rows);
    if (place == Place::kDevice && Aligned(problem.rows)) return;
    const uint64_t bytes =
        uint64_t{problem.tokens} * problem.heads * geometry.row_width() * sizeof(Bf16);
    const void* from = problem.rows;
    if (place == Place::kOrdinary) {
      std::memcpy(staged_.data() + offset, problem.rows, bytes);
      from = staged_.data() + offset;
    }
    copies_in_.Add(on_device_.data() + offset, from, bytes);
    device_problems_[p].rows = reinterpret_cast<const Bf16*>(on_device_.data() + offset);
    offset += AlignUp(bytes);
  }

  void StageOut(const Geometry& geometry, size_t p, const BackendMemory& memory, uint64_t& offset) {
    const Problem& problem = problems_[p];
    const Place out = memory.PlaceOf(problem.out);
    const Place lse = memory.PlaceOf(problem.lse);
    if (out == Place::kDevice && Aligned(problem.out) && lse == Place::kDevice) return;
    const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
    const uint64_t out_bytes = rows * geometry.latent_width * OutValueBytes(problem.out_format);
    const uint64_t lse_bytes = rows * sizeof(float);
    Staged& staged = staging_[p];
    staged.out_offset = offset;
    staged.lse_offset = offset + AlignUp(out_bytes);
    offset = staged.lse_offset + AlignUp(lse_bytes);
    device_problems_[p].out = on_device_.data() + staged.out_offset;
    device_problems_[p].lse = reinterpret_cast<float*>(on_device_.data() + staged.lse_offset);
    staged.out = out == Place::kOrdinary || lse == Place::kOrdinary;
    copies_out_.Add(staged.out ? staged_.data() + staged.out_offset : problem.out,
                    device_problems_[p].out, out_bytes);
    copies_out_.Add(staged.out ? static_cast<void*>(staged_.data() + staged.lse_offset)
                               : static_cast<void*>(problem.lse),
                    device_problems_[p].lse, lse_bytes);
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
  bool busy_ = false;
  uint64_t id_ = 0;
  std::chrono::steady_clock::time_point started_;
  uint32_t ticket_ = 0;
  uint32_t polls_ = 0;
  absl::Status status_;
  std::vector<Problem> problems_;
  std::vector<Problem> device_problems_;
  std::vector<Staged> staging_;
  Copies copies_in_;
  Copies copies_out_;
  PinnedMemory staged_;
  DeviceMemory on_device_;
  PinnedMemory words_;  // the ticket of the batch that was done last
  DeviceMemory words_on_device_;
  BatchPlan plan_;
  UploadedPlan uploaded_;
};

class CudaBackend : public Backend {
 public:
  CudaBackend(int device, std::string name, const Arena& arena, const PlanDevice& plan_device,
              const BackendMemory& memory)
      : device_(device),
        name_(std::move(name)),
        arena_(arena),
        plan_device_(plan_device),
        memory_(memory) {}

  absl::Status Init(int max_in_flight) {
    for (int i = 0; i < max_in_flight; ++i) {
      batches_.push_back(std::make_unique<InFlight>());
      absl::Status status = batches_.back()->Init(arena_.geometry);
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
    (*free)->Start(batch_id, problems, arena_, plan_device_, memory_);
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
  const BackendMemory memory_;
  std::vector<std::unique_ptr<InFlight>> batches_;
  int in_flight_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options) {
  const CudaDevices found = ListCudaDevices();
  if (absl::Status s = CheckCudaDevice(found, options.device); !s.ok()) return s;
  LATENTD_RETURN_IF_CUDA_ERROR(cudaSetDevice(options.device));
  const absl::StatusOr<Arena> arena =
      MakeArena(options.geometry, options.format, options.cache, options.pages);
  if (!arena.ok()) return arena.status();
  const absl::StatusOr<PlanDevice> device = PreparePlanDevice(*arena);
  if (!device.ok()) return device.status();
  auto backend = std::make_unique<CudaBackend>(
      options.device, found.devices[options.device].name, *arena, *device,
      BackendMemory{.device_page_tables = options.device_page_tables,
                    .pinned_payloads = options.pinned_payloads,
                    .device_payloads = options.device_payloads});
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
