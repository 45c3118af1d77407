#include "client/device.h"

#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "kernels/cuda/devices.h"

#if LATENTD_HAVE_CUDA
#include <cuda_runtime.h>

#include <deque>
#include <utility>

#include "kernels/cuda/check.h"
#include "kernels/cuda/merge.h"
#include "kernels/cuda/records_memory.h"
#endif

namespace latentd {

#if LATENTD_HAVE_CUDA
namespace {

// Queries in flight of a whole node's frontends fit: 1,024 rows take 2 MiB there and back.
constexpr size_t kSlabBytes = size_t{256} << 20;
constexpr size_t kBufferAlignment = 256;

class CudaMark final : public StreamMark {
 public:
  explicit CudaMark(cudaEvent_t event) : event_(event) {}
  ~CudaMark() override {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  CudaMark(const CudaMark&) = delete;
  CudaMark& operator=(const CudaMark&) = delete;

  absl::StatusOr<bool> Reached() override {
    if (event_ == nullptr) return true;
    const cudaError_t error = cudaEventQuery(event_);
    if (error == cudaErrorNotReady) return false;
    if (error != cudaSuccess) return CudaStatus(error, "waiting for a stream");
    return true;
  }
  void Wait() override {
    if (event_ != nullptr) cudaEventSynchronize(event_);
  }

 private:
  const cudaEvent_t event_;  // null: it has been reached
};

class CudaClientDevice final : public ClientDevice {
 public:
  explicit CudaClientDevice(int index) : index_(index) {}
  ~CudaClientDevice() override {
    EnterThread();
    for (Kept& kept : kept_) cudaEventSynchronize(kept.end);
    while (!kept_.empty()) DropFirst();
    for (const cudaEvent_t event : spare_events_) cudaEventDestroy(event);
    pool_.reset();
    FreeOnDevice(slab_);
  }

  absl::Status Init() {
    EnterThread();
    slab_ = static_cast<std::byte*>(AllocateOnDevice(index_, kSlabBytes));
    if (slab_ == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("cuda:", index_, ": no ", kSlabBytes, " bytes for a client's buffers"));
    }
    return absl::OkStatus();
  }

  PayloadPool& pool() override { return *pool_; }
  std::span<std::byte> slab() override { return {slab_, kSlabBytes}; }
  PayloadPool& pinned_pool() override { return pinned_; }
  void EnterThread() override { UseDevice(index_); }

  absl::Status Check(std::string_view what, const void* memory) override {
    cudaPointerAttributes attributes = {};
    if (cudaPointerGetAttributes(&attributes, memory) == cudaSuccess) {
      const bool there = attributes.type == cudaMemoryTypeManaged ||
                         (attributes.type == cudaMemoryTypeDevice && attributes.device == index_);
      if (there) return absl::OkStatus();
    }
    cudaGetLastError();
    return absl::InvalidArgumentError(absl::StrCat(absl::string_view(what.data(), what.size()),
                                                   ": not memory of cuda:", index_,
                                                   ", which the query says it is"));
  }

  absl::StatusOr<std::unique_ptr<StreamMark>> Mark(CudaStream stream) override {
    const auto cuda = static_cast<cudaStream_t>(stream);
    const cudaError_t error = cudaStreamQuery(cuda);
    if (error == cudaSuccess) return std::make_unique<CudaMark>(nullptr);
    if (error != cudaErrorNotReady) return CudaStatus(error, "asking a stream");
    cudaEvent_t event = nullptr;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    auto mark = std::make_unique<CudaMark>(event);
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventRecord(event, cuda));
    return mark;
  }

  absl::Status Copy(void* to, const void* from, uint64_t bytes, CudaStream stream) override {
    LATENTD_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, static_cast<cudaStream_t>(stream)));
    return absl::OkStatus();
  }

  absl::Status CopyNow(void* to, const void* from, uint64_t bytes) override {
    LATENTD_RETURN_IF_CUDA_ERROR(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cudaStreamPerThread));
    LATENTD_RETURN_IF_CUDA_ERROR(cudaStreamSynchronize(cudaStreamPerThread));
    return absl::OkStatus();
  }

  absl::Status Assemble(std::span<const MessagePartial> partials, const AttendQuery& query,
                        uint32_t tokens, uint32_t latent_width,
                        std::vector<ReplyPayload> answers) override {
    DropDone();
    const uint64_t row_bytes = latent_width * OutValueBytes(query.out_format);
    runs_.clear();
    for (const MessagePartial& message : partials) {
      for (const MessageRun& run : message.runs) {
        const uint64_t first_row = uint64_t{run.message_token} * query.heads;
        runs_.push_back(
            {.out = static_cast<const std::byte*>(message.partial.out) + first_row * row_bytes,
             .lse = message.partial.lse + first_row,
             .first_token = run.first_token,
             .tokens = run.tokens});
      }
    }
    const auto stream = static_cast<cudaStream_t>(query.stream);
    LATENTD_RETURN_IF_CUDA_ERROR(LaunchMerge(runs_,
                                             {.tokens = tokens,
                                              .heads = query.heads,
                                              .latent_width = latent_width,
                                              .format = query.out_format},
                                             query.out.data(), query.lse.data(), stream));
    absl::StatusOr<cudaEvent_t> end = TakeEvent();
    if (!end.ok()) return end.status();
    kept_.push_back({*end, std::move(answers)});
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventRecord(*end, stream));
    return absl::OkStatus();
  }

 private:
  // Answers that a merge in some stream still reads.
  struct Kept {
    cudaEvent_t end;
    std::vector<ReplyPayload> answers;
  };

  absl::StatusOr<cudaEvent_t> TakeEvent() {
    if (!spare_events_.empty()) {
      const cudaEvent_t event = spare_events_.back();
      spare_events_.pop_back();
      return event;
    }
    cudaEvent_t event = nullptr;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
  }

  void DropFirst() {
    spare_events_.push_back(kept_.front().end);
    kept_.pop_front();
  }

  void DropDone() {
    while (!kept_.empty() && cudaEventQuery(kept_.front().end) != cudaErrorNotReady) DropFirst();
  }

  // The pool keeps what it has taken, for good.
  void* TakeOfSlab(size_t bytes) {
    bytes = (bytes + kBufferAlignment - 1) / kBufferAlignment * kBufferAlignment;
    if (kSlabBytes - used_ < bytes) return nullptr;
    used_ += bytes;
    return slab_ + used_ - bytes;
  }

  const int index_;
  std::byte* slab_ = nullptr;
  size_t used_ = 0;
  PayloadPool pinned_{kSlabBytes,
                      {.allocate = [this](size_t bytes) { return AllocatePinned(index_, bytes); },
                       .free = [](void* memory, size_t) { FreePinned(memory); }}};
  std::unique_ptr<PayloadPool> pool_ = std::make_unique<PayloadPool>(
      kSlabBytes, PayloadMemory{.allocate = [this](size_t bytes) { return TakeOfSlab(bytes); },
                                .free = [](void*, size_t) {}});
  std::vector<MergeRun> runs_;
  std::deque<Kept> kept_;
  std::vector<cudaEvent_t> spare_events_;
};

absl::StatusOr<std::unique_ptr<ClientDevice>> MakeDevice(int index) {
  auto device = std::make_unique<CudaClientDevice>(index);
  if (absl::Status s = device->Init(); !s.ok()) return s;
  return device;
}

}  // namespace

#else  // !LATENTD_HAVE_CUDA

namespace {

absl::StatusOr<std::unique_ptr<ClientDevice>> MakeDevice(int index) {
  return absl::FailedPreconditionError(absl::StrCat("cuda:", index, ": built without CUDA"));
}

}  // namespace

#endif

absl::StatusOr<std::unique_ptr<ClientDevice>> ClientDevice::Create(std::string_view name) {
  const std::optional<int> index = ParseCudaDevice(name);
  if (!index.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "device: got ", absl::string_view(name.data(), name.size()), ", expected cuda:N"));
  }
  if (absl::Status s = CheckCudaDevice(ListCudaDevices(), *index); !s.ok()) return s;
  return MakeDevice(*index);
}

}  // namespace latentd
