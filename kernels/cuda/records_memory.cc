#include "kernels/cuda/records_memory.h"

#include "absl/strings/str_cat.h"
#include "kernels/cuda/devices.h"

#if LATENTD_HAVE_CUDA
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/records.h"
#endif

namespace latentd {

#if LATENTD_HAVE_CUDA
namespace {

// What a lane's backend needs on the device besides: kernels, their partial results, page tables.
constexpr uint64_t kReservedBytes = uint64_t{768} << 20;

// A copy goes slice by slice: the host's part of one and the device's of another go on together.
constexpr uint64_t kSliceBytes = uint64_t{4} << 20;
constexpr uint32_t kSliceRuns = 4096;
constexpr int kSlices = 2;
// A grid's y dimension covers a run.
constexpr uint64_t kMaxRunBytes = kSliceBytes;
constexpr uint64_t kAlignment = 16;

uint64_t AlignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Pinned memory that one launch reads or writes.
class Slice {
 public:
  absl::Status Init() {
    absl::Status status = memory_.Grow(kSliceRuns * sizeof(CopyRun) + kSliceBytes);
    if (!status.ok()) return status;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming));
    return absl::OkStatus();
  }
  ~Slice() {
    if (done_ != nullptr) cudaEventDestroy(done_);
  }

  std::byte* data() const { return memory_.data() + kSliceRuns * sizeof(CopyRun); }
  CopyRun* runs() const { return reinterpret_cast<CopyRun*>(memory_.data()); }
  uint64_t used = 0;
  uint32_t count = 0;
  uint32_t max_bytes = 0;

  void Clear() {
    used = 0;
    count = 0;
    max_bytes = 0;
  }
  absl::Status Record(cudaStream_t stream) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventRecord(done_, stream));
    return absl::OkStatus();
  }
  // Spins: a slice takes microseconds, a sleep tens of them.
  absl::Status Wait() {
    cudaError_t error = cudaErrorNotReady;
    while (error == cudaErrorNotReady) error = cudaEventQuery(done_);
    return CudaStatus(error, "copying records");
  }

 private:
  PinnedMemory memory_;
  cudaEvent_t done_ = nullptr;
};

class CudaRecordMemory : public RecordMemory {
 public:
  explicit CudaRecordMemory(int device) : device_(device) {}
  ~CudaRecordMemory() override {
    cudaSetDevice(device_);
    if (stream_ != nullptr) {
      cudaStreamSynchronize(stream_);
      cudaStreamDestroy(stream_);
    }
  }

  absl::Status Init(uint64_t bytes) {
    bytes_ = bytes;
    absl::Status status = memory_.Grow(bytes);
    if (!status.ok()) return status;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    for (Slice& slice : slices_) {
      if (absl::Status s = slice.Init(); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  std::byte* base() const override { return memory_.data(); }
  uint64_t bytes() const override { return bytes_; }
  bool on_host() const override { return false; }

  absl::Status Write(std::span<const RecordRun> runs, const std::byte* from) override {
    int turn = 0;
    bool waiting[kSlices] = {};
    return Named(Cut(runs, [&](std::span<const RecordRun> some) -> absl::Status {
      Slice& slice = slices_[turn % kSlices];
      bool& waits = waiting[turn++ % kSlices];
      if (waits) {
        if (absl::Status s = slice.Wait(); !s.ok()) return s;
      }
      Fill(slice, some, true);
      for (uint32_t i = 0; i < slice.count; ++i) {
        std::memcpy(slice.data() + slice.runs()[i].from, from + some[i].host_offset, some[i].bytes);
      }
      waits = true;
      return Launch(slice, memory_.data(), slice.data());
    }));
  }

  absl::Status Read(std::span<const RecordRun> runs, std::byte* to) override {
    return Named(Visit(runs, [to](const RecordRun& run, const std::byte* here) {
      std::memcpy(to + run.host_offset, here, run.bytes);
      return true;
    }));
  }

  absl::StatusOr<std::optional<uint64_t>> FirstDifference(std::span<const RecordRun> runs,
                                                          const std::byte* from) override {
    std::optional<uint64_t> difference;
    absl::Status status =
        Named(Visit(runs, [&difference, from](const RecordRun& run, const std::byte* here) {
          const std::byte* expected = from + run.host_offset;
          if (std::memcmp(expected, here, run.bytes) == 0) return true;
          const auto at = std::mismatch(expected, expected + run.bytes, here).first;
          difference = static_cast<uint64_t>(at - from);
          return false;
        }));
    if (!status.ok()) return status;
    return difference;
  }

 private:
  // Calls `each` with pieces of `runs` that fit one slice, and waits for the stream at the end.
  template <typename Each>
  absl::Status Cut(std::span<const RecordRun> runs, Each each) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaSetDevice(device_));
    cut_.clear();
    uint64_t used = 0;
    for (RecordRun run : runs) {
      while (run.bytes > 0) {
        if (used + kAlignment >= kSliceBytes || cut_.size() == kSliceRuns) {
          if (absl::Status s = each(std::span<const RecordRun>(cut_)); !s.ok()) return s;
          cut_.clear();
          used = 0;
        }
        const uint64_t bytes = std::min(run.bytes, (kSliceBytes - used) / kAlignment * kAlignment);
        cut_.push_back({run.memory_offset, run.host_offset, bytes});
        used += AlignUp(bytes);
        run = {run.memory_offset + bytes, run.host_offset + bytes, run.bytes - bytes};
      }
    }
    if (!cut_.empty()) {
      if (absl::Status s = each(std::span<const RecordRun>(cut_)); !s.ok()) return s;
    }
    for (Slice& slice : slices_) {
      if (absl::Status s = slice.Wait(); !s.ok()) return s;
    }
    return absl::OkStatus();
  }

  // Reads slice by slice; `visit` returns false when it has seen enough.
  template <typename VisitRun>
  absl::Status Visit(std::span<const RecordRun> runs, VisitRun visit) {
    bool enough = false;
    return Cut(runs, [&](std::span<const RecordRun> some) -> absl::Status {
      if (enough) return absl::OkStatus();
      Slice& slice = slices_[0];
      Fill(slice, some, false);
      if (absl::Status s = Launch(slice, slice.data(), memory_.data()); !s.ok()) return s;
      if (absl::Status s = slice.Wait(); !s.ok()) return s;
      for (uint32_t i = 0; i < slice.count && !enough; ++i) {
        enough = !visit(some[i], slice.data() + slice.runs()[i].to);
      }
      return absl::OkStatus();
    });
  }

  // Lays runs out in a slice.
  static void Fill(Slice& slice, std::span<const RecordRun> runs, bool write) {
    slice.Clear();
    for (const RecordRun& run : runs) {
      const auto bytes = static_cast<uint32_t>(run.bytes);
      slice.runs()[slice.count++] =
          write ? CopyRun{.to = run.memory_offset, .from = slice.used, .bytes = bytes}
                : CopyRun{.to = slice.used, .from = run.memory_offset, .bytes = bytes};
      slice.used += AlignUp(bytes);
      slice.max_bytes = std::max(slice.max_bytes, bytes);
    }
  }

  absl::Status Launch(Slice& slice, std::byte* to, const std::byte* from) {
    const cudaError_t error =
        LaunchCopyRuns(to, from, slice.runs(), slice.count, slice.max_bytes, {}, stream_);
    if (error != cudaSuccess) return CudaStatus(error, "launching a copy of records");
    return slice.Record(stream_);
  }

  absl::Status Named(const absl::Status& status) const {
    if (status.ok()) return status;
    return absl::InternalError(absl::StrCat("cuda:", device_, " failed: ", status.message()));
  }

  const int device_;
  uint64_t bytes_ = 0;
  DeviceMemory memory_;
  cudaStream_t stream_ = nullptr;
  Slice slices_[kSlices];
  std::vector<RecordRun> cut_;
};

std::string InGiB(uint64_t bytes) {
  return absl::StrCat(bytes >> 30, ".", (bytes >> 20) % 1024 * 10 / 1024, " GiB");
}

}  // namespace

absl::StatusOr<std::unique_ptr<RecordMemory>> MakeCudaRecordMemory(int device, uint64_t bytes) {
  if (absl::Status s = CheckCudaDevice(ListCudaDevices(), device); !s.ok()) return s;
  LATENTD_RETURN_IF_CUDA_ERROR(cudaSetDevice(device));
  size_t free = 0, total = 0;
  LATENTD_RETURN_IF_CUDA_ERROR(cudaMemGetInfo(&free, &total));
  if (bytes > free || free - bytes < kReservedBytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cuda:", device, " has ", InGiB(free), " of its ", InGiB(total), " free: a cache of ",
        InGiB(bytes), " and ", InGiB(kReservedBytes), " to work with do not fit"));
  }
  auto memory = std::make_unique<CudaRecordMemory>(device);
  if (absl::Status s = memory->Init(bytes); !s.ok()) return s;
  return memory;
}

void* AllocatePinned(int device, size_t bytes) {
  void* memory = nullptr;
  cudaSetDevice(device);
  if (cudaHostAlloc(&memory, bytes, cudaHostAllocPortable) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void FreePinned(void* memory) { cudaFreeHost(memory); }

void* AllocateOnDevice(int device, size_t bytes) {
  void* memory = nullptr;
  cudaSetDevice(device);
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void FreeOnDevice(void* memory) { cudaFree(memory); }

void UseDevice(int device) {
  if (cudaSetDevice(device) != cudaSuccess) cudaGetLastError();
}

#else  // !LATENTD_HAVE_CUDA

absl::StatusOr<std::unique_ptr<RecordMemory>> MakeCudaRecordMemory(int device, uint64_t bytes) {
  (void)bytes;
  return absl::FailedPreconditionError(absl::StrCat("cuda:", device, ": built without CUDA"));
}

void* AllocatePinned(int device, size_t bytes) {
  (void)device;
  (void)bytes;
  return nullptr;
}

void FreePinned(void* memory) { (void)memory; }

void* AllocateOnDevice(int device, size_t bytes) { return AllocatePinned(device, bytes); }
void FreeOnDevice(void* memory) { FreePinned(memory); }

void UseDevice(int device) { (void)device; }

#endif

}  // namespace latentd
