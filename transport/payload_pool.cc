#include "transport/payload_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>

namespace latentd {
namespace {

// Smaller ones would not be worth their bookkeeping; larger ones no machine has, and their next
// power of two may not exist.
constexpr size_t kSmallest = 4096;
constexpr size_t kLargest = size_t{1} << 62;

}  // namespace

PayloadMemory HostPayloadMemory() {
  return {
      .allocate = [](size_t bytes) { return std::aligned_alloc(PayloadPool::kAlignment, bytes); },
      .free = [](void* data, size_t) { std::free(data); }};
}

PayloadBuffer& PayloadBuffer::operator=(PayloadBuffer&& other) noexcept {
  if (this == &other) return *this;
  Reset();
  pool_ = std::exchange(other.pool_, nullptr);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  size_class_ = other.size_class_;
  return *this;
}

void PayloadBuffer::Reset() {
  if (data_ != nullptr) pool_->PutBack(data_, size_class_);
  pool_ = nullptr;
  data_ = nullptr;
  size_ = 0;
}

PayloadPool::~PayloadPool() {
  for (size_t size_class = 0; size_class < idle_.size(); ++size_class) {
    for (std::byte* data : idle_[size_class]) memory_.free(data, size_t{1} << size_class);
  }
}

PayloadBuffer PayloadPool::Take(size_t bytes) {
  PayloadBuffer buffer;
  if (bytes > kLargest) return buffer;
  const size_t rounded = std::bit_ceil(std::max(bytes, kSmallest));
  const int size_class = std::countr_zero(rounded);
  std::byte* data = nullptr;
  if (auto& idle = idle_[size_class]; !idle.empty()) {
    data = idle.back();
    idle.pop_back();
    idle_bytes_ -= rounded;
  } else {
    data = static_cast<std::byte*>(memory_.allocate(rounded));
    if (data == nullptr) return buffer;
  }
  lent_bytes_ += rounded;
  buffer.pool_ = this;
  buffer.data_ = data;
  buffer.size_ = bytes;
  buffer.size_class_ = size_class;
  return buffer;
}

void PayloadPool::PutBack(std::byte* data, int size_class) {
  const uint64_t bytes = uint64_t{1} << size_class;
  lent_bytes_ -= bytes;
  if (idle_bytes_ + bytes > max_idle_bytes_) {
    memory_.free(data, bytes);
    return;
  }
  idle_bytes_ += bytes;
  idle_[size_class].push_back(data);
}

}  // namespace latentd
