#include "daemon/lane/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <utility>

namespace latentd {
namespace {

// Smaller ones would not be worth their bookkeeping.
constexpr size_t kSmallest = 4096;

}  // namespace

BufferMemory HostBufferMemory() {
  return {
      .allocate = [](size_t bytes) { return std::aligned_alloc(BufferPool::kAlignment, bytes); },
      .free = [](void* data, size_t) { std::free(data); }};
}

BufferPool::Buffer& BufferPool::Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  pool_ = std::exchange(other.pool_, nullptr);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  size_class_ = other.size_class_;
  return *this;
}

void BufferPool::Buffer::Reset() {
  if (data_ != nullptr) pool_->PutBack(data_, size_class_);
  pool_ = nullptr;
  data_ = nullptr;
  size_ = 0;
}

BufferPool::~BufferPool() {
  for (int size_class = 0; size_class < kClasses; ++size_class) {
    for (std::byte* data : kept_[size_class]) memory_.free(data, size_t{1} << size_class);
  }
}

BufferPool::Buffer BufferPool::Get(size_t bytes) {
  const size_t rounded = std::bit_ceil(std::max(bytes, kSmallest));
  const int size_class = std::countr_zero(rounded);
  std::byte* data = nullptr;
  if (!kept_[size_class].empty()) {
    data = kept_[size_class].back();
    kept_[size_class].pop_back();
    kept_bytes_ -= rounded;
  } else {
    data = static_cast<std::byte*>(memory_.allocate(rounded));
  }
  Buffer buffer;
  if (data == nullptr) return buffer;
  lent_bytes_ += rounded;
  buffer.pool_ = this;
  buffer.data_ = data;
  buffer.size_ = bytes;
  buffer.size_class_ = size_class;
  return buffer;
}

void BufferPool::PutBack(std::byte* data, int size_class) {
  const uint64_t bytes = uint64_t{1} << size_class;
  lent_bytes_ -= bytes;
  if (kept_bytes_ + bytes > max_kept_bytes_) {
    memory_.free(data, bytes);
    return;
  }
  kept_bytes_ += bytes;
  kept_[size_class].push_back(data);
}

}  // namespace latentd
