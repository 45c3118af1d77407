// `PayloadPool` lends memory for payloads and takes it back: a fresh allocation of this size would
// be mapped, cleared and faulted in page by page on every request. Buffers come in sizes of powers
// of two and are kept for the next borrower, up to a bound; how much is lent at once is the
// borrower's to bound.
//
// Not synchronised. A pool outlives its buffers.
#ifndef LATENTD_TRANSPORT_PAYLOAD_POOL_H_
#define LATENTD_TRANSPORT_PAYLOAD_POOL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

namespace latentd {

class PayloadPool;

// Where a pool's memory comes from, aligned to PayloadPool::kAlignment; null when there is none.
struct PayloadMemory {
  std::function<void*(size_t bytes)> allocate;
  std::function<void(void*, size_t bytes)> free;
};
PayloadMemory HostPayloadMemory();

// Move-only; gives its memory back when destroyed.
class PayloadBuffer {
 public:
  PayloadBuffer() = default;
  PayloadBuffer(PayloadBuffer&& other) noexcept { *this = std::move(other); }
  PayloadBuffer& operator=(PayloadBuffer&& other) noexcept;
  ~PayloadBuffer() { Reset(); }

  // True of one that was moved from, reset, or not to be had.
  bool empty() const { return data_ == nullptr; }
  std::byte* data() { return data_; }
  std::span<std::byte> bytes() { return {data_, size_}; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  void Reset();

 private:
  friend class PayloadPool;

  PayloadPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  int size_class_ = 0;
};

class PayloadPool {
 public:
  // A cache line, and what vector loads and DMA like best.
  static constexpr size_t kAlignment = 64;

  // Keeps at most `max_idle_bytes` of memory that nobody uses.
  explicit PayloadPool(uint64_t max_idle_bytes = uint64_t{64} << 20,
                       PayloadMemory memory = HostPayloadMemory())
      : max_idle_bytes_(max_idle_bytes), memory_(std::move(memory)) {}
  ~PayloadPool();
  PayloadPool(const PayloadPool&) = delete;
  PayloadPool& operator=(const PayloadPool&) = delete;

  // Aligned to kAlignment; contents are whatever they were. An empty buffer when the machine has no
  // memory.
  PayloadBuffer Take(size_t bytes);

  // Whether the buffer is one of this pool's.
  bool Lent(const PayloadBuffer& buffer) const { return buffer.pool_ == this; }

  uint64_t lent_bytes() const { return lent_bytes_; }
  uint64_t idle_bytes() const { return idle_bytes_; }

 private:
  friend class PayloadBuffer;

  void PutBack(std::byte* data, int size_class);

  const uint64_t max_idle_bytes_;
  const PayloadMemory memory_;
  uint64_t lent_bytes_ = 0;
  uint64_t idle_bytes_ = 0;
  std::array<std::vector<std::byte*>, 64> idle_;  // by the logarithm of their size
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_PAYLOAD_POOL_H_
