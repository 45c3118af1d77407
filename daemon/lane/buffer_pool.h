// `BufferPool` lends memory for payloads that come by rendezvous and for replies. Buffers come in
// sizes of powers of two and are kept for the next borrower, up to a bound; how much is lent at
// once is bounded by admission.
//
// Lane thread only. A pool outlives its buffers.
#ifndef LATENTD_DAEMON_LANE_BUFFER_POOL_H_
#define LATENTD_DAEMON_LANE_BUFFER_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace latentd {

// Where a pool's memory comes from, aligned to BufferPool::kAlignment; null when there is none.
struct BufferMemory {
  std::function<void*(size_t bytes)> allocate;
  std::function<void(void*, size_t bytes)> free;
};
BufferMemory HostBufferMemory();

class BufferPool {
 public:
  // Move-only; gives its memory back when destroyed.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept;
    ~Buffer() { Reset(); }

    std::byte* data() const { return data_; }
    size_t size() const { return size_; }
    std::span<std::byte> span() const { return {data_, size_}; }
    void Reset();

   private:
    friend class BufferPool;
    BufferPool* pool_ = nullptr;
    std::byte* data_ = nullptr;
    size_t size_ = 0;
    int size_class_ = 0;
  };

  explicit BufferPool(uint64_t max_kept_bytes, BufferMemory memory = HostBufferMemory())
      : max_kept_bytes_(max_kept_bytes), memory_(std::move(memory)) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Aligned to kAlignment; contents are whatever they were. An empty buffer when the machine has no
  // memory.
  Buffer Get(size_t bytes);

  uint64_t lent_bytes() const { return lent_bytes_; }
  uint64_t kept_bytes() const { return kept_bytes_; }

  static constexpr size_t kAlignment = 64;

 private:
  static constexpr int kClasses = 64;

  void PutBack(std::byte* data, int size_class);

  const uint64_t max_kept_bytes_;
  const BufferMemory memory_;
  uint64_t lent_bytes_ = 0;
  uint64_t kept_bytes_ = 0;
  std::array<std::vector<std::byte*>, kClasses> kept_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_BUFFER_POOL_H_
