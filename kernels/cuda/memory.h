// Memory of a device and pinned memory of the host, owned. They grow, outside the steady state, and
// never shrink; growing loses what was in them.
#ifndef LATENTD_KERNELS_CUDA_MEMORY_H_
#define LATENTD_KERNELS_CUDA_MEMORY_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "kernels/cuda/check.h"

namespace latentd {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceMemory() { cudaFree(data_); }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  uint64_t bytes() const { return bytes_; }

  // At least `bytes`.
  absl::Status Grow(uint64_t bytes) {
    if (bytes <= bytes_) return absl::OkStatus();
    bytes = std::max(bytes, 2 * bytes_);
    cudaFree(std::exchange(data_, nullptr));
    bytes_ = 0;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaMalloc(&data_, bytes));
    bytes_ = bytes;
    return absl::OkStatus();
  }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(PinnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~PinnedMemory() { cudaFreeHost(data_); }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  uint64_t bytes() const { return bytes_; }

  absl::Status Grow(uint64_t bytes) {
    if (bytes <= bytes_) return absl::OkStatus();
    bytes = std::max(bytes, 2 * bytes_);
    cudaFreeHost(std::exchange(data_, nullptr));
    bytes_ = 0;
    LATENTD_RETURN_IF_CUDA_ERROR(cudaHostAlloc(&data_, bytes, cudaHostAllocDefault));
    bytes_ = bytes;
    return absl::OkStatus();
  }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_MEMORY_H_
