#include "client/buffer_pool.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace latentd {

PooledBuffer& PooledBuffer::operator=(PooledBuffer&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(memory_, other.memory_);
  std::swap(size_, other.size_);
  return *this;
}

PooledBuffer::~PooledBuffer() {
  if (memory_ != nullptr) pool_->Return(std::move(memory_), size_);
}

int BufferPool::ClassOf(size_t bytes) { return std::bit_width(std::max<size_t>(bytes, 4096) - 1); }

PooledBuffer BufferPool::Take(size_t bytes) {
  const int size_class = ClassOf(bytes);
  PooledBuffer buffer;
  buffer.pool_ = this;
  buffer.size_ = bytes;
  auto& idle = idle_[size_class];
  if (idle.empty()) {
    buffer.memory_ = std::make_unique_for_overwrite<std::byte[]>(size_t{1} << size_class);
  } else {
    buffer.memory_ = std::move(idle.back());
    idle.pop_back();
    idle_bytes_ -= uint64_t{1} << size_class;
  }
  return buffer;
}

void BufferPool::Return(std::unique_ptr<std::byte[]> memory, size_t bytes) {
  const int size_class = ClassOf(bytes);
  const uint64_t class_bytes = uint64_t{1} << size_class;
  if (idle_bytes_ + class_bytes > max_idle_bytes_) return;
  idle_[size_class].push_back(std::move(memory));
  idle_bytes_ += class_bytes;
}

}  // namespace latentd
