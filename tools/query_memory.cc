#include "tools/query_memory.h"

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/devices.h"

#if LATENTD_HAVE_CUDA
#include <cuda_runtime.h>

#include "kernels/cuda/check.h"
#endif

namespace latentd {
namespace {

class HostMemory final : public QueryMemory {
 public:
  bool on_device() const override { return false; }
  CudaStream stream() const override { return nullptr; }
  absl::StatusOr<std::span<std::byte>> Allocate(uint64_t bytes) override {
    auto& memory = memory_.emplace_back(bytes / sizeof(std::max_align_t) + 1);
    return std::span(reinterpret_cast<std::byte*>(memory.data()), bytes);
  }
  absl::Status Write(std::span<std::byte> to, const void* from) override {
    std::memcpy(to.data(), from, to.size());
    return absl::OkStatus();
  }
  absl::Status Read(std::span<const std::byte> from, void* to) override {
    std::memcpy(to, from.data(), from.size());
    return absl::OkStatus();
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  std::vector<std::vector<std::max_align_t>> memory_;
};

#if LATENTD_HAVE_CUDA

class CudaMemory final : public QueryMemory {
 public:
  ~CudaMemory() override {
    if (stream_ != nullptr) {
      cudaStreamSynchronize(stream_);
      cudaStreamDestroy(stream_);
    }
    for (void* memory : memory_) cudaFree(memory);
  }

  absl::Status Init(int device) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaSetDevice(device));
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    return absl::OkStatus();
  }
  bool on_device() const override { return true; }
  CudaStream stream() const override { return stream_; }
  absl::StatusOr<std::span<std::byte>> Allocate(uint64_t bytes) override {
    void* memory = nullptr;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaMalloc(&memory, bytes));
    memory_.push_back(memory);
    return std::span(static_cast<std::byte*>(memory), bytes);
  }
  absl::Status Write(std::span<std::byte> to, const void* from) override {
    return Copy(to.data(), from, to.size());
  }
  absl::Status Read(std::span<const std::byte> from, void* to) override {
    return Copy(to, from.data(), from.size());
  }
  absl::Status Finish() override {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(stream_));
    return absl::OkStatus();
  }

 private:
  absl::Status Copy(void* to, const void* from, uint64_t bytes) {
    LATENTD_RETURN_IF_CUDA_ERROR(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
    return Finish();
  }

  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_;
};

absl::StatusOr<std::unique_ptr<QueryMemory>> MakeOnDevice(int index) {
  auto memory = std::make_unique<CudaMemory>();
  if (absl::Status s = memory->Init(index); !s.ok()) return s;
  return memory;
}

#else

absl::StatusOr<std::unique_ptr<QueryMemory>> MakeOnDevice(int index) {
  return absl::FailedPreconditionError(absl::StrCat("cuda:", index, ": built without CUDA"));
}

#endif

}  // namespace

absl::StatusOr<std::unique_ptr<QueryMemory>> QueryMemory::Create(const std::string& device) {
  if (device.empty()) return std::make_unique<HostMemory>();
  const std::optional<int> index = ParseCudaDevice(device);
  if (!index.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("memory: got ", device, ", expected cuda:N"));
  }
  if (absl::Status s = CheckCudaDevice(ListCudaDevices(), *index); !s.ok()) return s;
  return MakeOnDevice(*index);
}

absl::StatusOr<QueryBuffers> QueryBuffers::Create(QueryMemory& memory, uint64_t rows,
                                                  const Geometry& geometry, OutFormat format) {
  QueryBuffers buffers;
  buffers.row_bytes = geometry.row_width() * sizeof(Bf16);
  buffers.out_bytes = geometry.latent_width * OutValueBytes(format);
  const std::pair<std::span<std::byte>*, uint64_t> parts[] = {
      {&buffers.rows, rows * buffers.row_bytes},
      {&buffers.out, rows * buffers.out_bytes},
      {&buffers.lse, rows * sizeof(float)}};
  for (const auto& [part, bytes] : parts) {
    const auto allocated = memory.Allocate(bytes);
    if (!allocated.ok()) return allocated.status();
    *part = *allocated;
  }
  return buffers;
}

void QueryBuffers::Fill(const QueryMemory& memory, uint64_t count, AttendQuery* query) const {
  query->rows = {reinterpret_cast<const Bf16*>(rows.data()), count * row_bytes / sizeof(Bf16)};
  query->out = out.first(count * out_bytes);
  query->lse = {reinterpret_cast<float*>(lse.data()), count};
  query->on_device = memory.on_device();
  query->stream = memory.stream();
}

}  // namespace latentd
