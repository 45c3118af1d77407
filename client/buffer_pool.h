// `BufferPool` lends memory for messages and takes it back: a fresh allocation of this size would
// be mapped, cleared and faulted in page by page on every request. Not synchronised; it must
// outlive its buffers.
#ifndef LATENTD_CLIENT_BUFFER_POOL_H_
#define LATENTD_CLIENT_BUFFER_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace latentd {

class BufferPool;

// Move-only; goes back to its pool when destroyed. Aligned for any scalar.
class PooledBuffer {
 public:
  PooledBuffer() = default;
  PooledBuffer(PooledBuffer&& other) noexcept { *this = std::move(other); }
  PooledBuffer& operator=(PooledBuffer&& other) noexcept;
  ~PooledBuffer();

  std::byte* data() { return memory_.get(); }
  std::span<std::byte> bytes() { return {memory_.get(), size_}; }
  std::span<const std::byte> bytes() const { return {memory_.get(), size_}; }
  bool empty() const { return memory_ == nullptr; }

 private:
  friend class BufferPool;

  BufferPool* pool_ = nullptr;
  std::unique_ptr<std::byte[]> memory_;
  size_t size_ = 0;
};

class BufferPool {
 public:
  // Keeps at most `max_idle_bytes` of memory that nobody uses.
  explicit BufferPool(uint64_t max_idle_bytes = uint64_t{64} << 20)
      : max_idle_bytes_(max_idle_bytes) {}
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Contents are arbitrary.
  PooledBuffer Take(size_t bytes);
  uint64_t idle_bytes() const { return idle_bytes_; }

 private:
  friend class PooledBuffer;
  // Sizes are powers of two.
  static int ClassOf(size_t bytes);
  void Return(std::unique_ptr<std::byte[]> memory, size_t bytes);

  const uint64_t max_idle_bytes_;
  uint64_t idle_bytes_ = 0;
  std::array<std::vector<std::unique_ptr<std::byte[]>>, 64> idle_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_BUFFER_POOL_H_
