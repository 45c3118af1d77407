#include "daemon/lane/lane_device.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "daemon/store/host_memory.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/records_memory.h"

namespace latentd {
namespace {

// The host prepares one batch while the device computes another; a third would only close batches
// early.
constexpr int kCudaInFlight = 2;

// Buffers of `allocate`'s memory, cut from one piece: each of its own would cost the lane a
// millisecond when load grows.
class SlabBuffers {
 public:
  using Allocate = void* (*)(int device, size_t bytes);
  using Free = void (*)(void* memory);

  // Beyond the slab buffers are taken one by one, if `beyond`.
  SlabBuffers(int device, Allocate allocate, Free free, bool beyond)
      : device_(device), allocate_(allocate), free_(free), beyond_(beyond) {}
  ~SlabBuffers() { free_(slab_); }
  SlabBuffers(const SlabBuffers&) = delete;
  SlabBuffers& operator=(const SlabBuffers&) = delete;

  void TakeSlab() { slab_ = static_cast<std::byte*>(allocate_(device_, kSlabBytes)); }
  // Empty when there was no memory for it.
  std::span<std::byte> slab() const {
    return slab_ == nullptr ? std::span<std::byte>() : std::span(slab_, kSlabBytes);
  }

  void* Take(size_t bytes) {
    std::vector<void*>& freed = freed_[bytes];
    if (!freed.empty()) {
      void* memory = freed.back();
      freed.pop_back();
      return memory;
    }
    if (slab_ == nullptr || kSlabBytes - used_ < bytes) {
      return beyond_ ? allocate_(device_, bytes) : nullptr;
    }
    used_ += bytes;
    return slab_ + used_ - bytes;
  }

  void PutBack(void* memory, size_t bytes) {
    const auto* at = static_cast<std::byte*>(memory);
    if (slab_ != nullptr && at >= slab_ && at < slab_ + kSlabBytes) {
      freed_[bytes].push_back(memory);
    } else {
      free_(memory);
    }
  }

 private:
  static constexpr size_t kSlabBytes = size_t{64} << 20;

  const int device_;
  const Allocate allocate_;
  const Free free_;
  const bool beyond_;
  std::byte* slab_ = nullptr;
  size_t used_ = 0;
  absl::flat_hash_map<size_t, std::vector<void*>> freed_;  // by size, of the slab
};

PayloadMemory MemoryOf(const std::shared_ptr<SlabBuffers>& buffers) {
  return {.allocate = [buffers](size_t bytes) { return buffers->Take(bytes); },
          .free = [buffers](void* memory, size_t bytes) { buffers->PutBack(memory, bytes); }};
}

LaneDevice OfCpu(const LaneOptions& options) {
  LaneDevice device;
  device.allocate_records = MakeHostMemory;
  device.payloads = HostPayloadMemory();
  device.make_backend = [options](const CacheView& cache,
                                  uint32_t pages) -> absl::StatusOr<std::unique_ptr<Backend>> {
    (void)pages;
    return MakeCpuBackend({.geometry = options.layout.geometry(),
                           .format = options.layout.record_format,
                           .cache = cache,
                           .threads = std::max(options.threads, 0),
                           .cpus = options.cpus});
  };
  // Helpers need a second batch to go on with while the lane collects the first; without helpers it
  // would only close the batch early.
  device.max_in_flight = options.threads > 0 ? 2 : 1;
  return device;
}

LaneDevice OfCuda(const LaneOptions& options, int index) {
  LaneDevice device;
  device.allocate_records = [index](uint64_t bytes) { return MakeCudaRecordMemory(index, bytes); };
  const auto pinned = std::make_shared<SlabBuffers>(index, AllocatePinned, FreePinned, true);
  const auto on_device =
      std::make_shared<SlabBuffers>(index, AllocateOnDevice, FreeOnDevice, false);
  device.payloads = MemoryOf(pinned);
  device.rows_in_payloads = true;
  device.device_payloads = MemoryOf(on_device);
  device.slabs = [pinned, on_device] {
    return std::vector<std::span<std::byte>>{pinned->slab(), on_device->slab()};
  };
  device.make_backend = [options, index, pinned, on_device](const CacheView& cache,
                                                            uint32_t pages) {
    pinned->TakeSlab();
    on_device->TakeSlab();
    return MakeCudaBackend({.device = index,
                            .geometry = options.layout.geometry(),
                            .format = options.layout.record_format,
                            .cache = cache,
                            .pages = pages,
                            .max_in_flight = kCudaInFlight,
                            .pinned_payloads = true,
                            .device_payloads = on_device->slab()});
  };
  device.enter_thread = [index] { UseDevice(index); };
  device.max_in_flight = kCudaInFlight;
  return device;
}

}  // namespace

absl::StatusOr<LaneDevice> MakeLaneDevice(const LaneOptions& options) {
  if (options.device == "cpu") return OfCpu(options);
  const std::optional<int> index = ParseCudaDevice(options.device);
  if (!index.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", options.device, " is neither cpu nor cuda:N"));
  }
  if (absl::Status s = CheckCudaDevice(ListCudaDevices(), *index); !s.ok()) return s;
  return OfCuda(options, *index);
}

}  // namespace latentd
