// `PageArena` divides a lane's cache memory into equal pages and hands out their numbers. Pages
// that were freed are handed out again before fresh ones, the warmest first.
//
// Lane thread only. Memory stays at the same address for the arena's life.
#ifndef LATENTD_DAEMON_STORE_PAGE_ARENA_H_
#define LATENTD_DAEMON_STORE_PAGE_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/record_memory.h"

namespace latentd {

class PageArena {
 public:
  // RESOURCE_EXHAUSTED when the memory cannot be had; INVALID_ARGUMENT for pages of 0 bytes, no
  // pages, or more than page numbers can name.
  static absl::StatusOr<std::unique_ptr<PageArena>> Create(uint64_t page_bytes, uint64_t pages,
                                                           const AllocateRecordMemory& allocate);
  PageArena(const PageArena&) = delete;
  PageArena& operator=(const PageArena&) = delete;

  RecordMemory& memory() const { return *memory_; }
  uint64_t bytes() const { return page_bytes_ * pages_total_; }
  uint64_t page_bytes() const { return page_bytes_; }
  // Where page `id` begins in memory().
  uint64_t page_offset(uint32_t id) const { return id * page_bytes_; }

  uint32_t pages_total() const { return pages_total_; }
  uint32_t pages_free() const { return pages_total_ - pages_used_; }

  // A page whose contents are whatever they were; nothing when the arena is full.
  std::optional<uint32_t> Allocate();
  // REQUIRES: `id` is allocated.
  void Free(uint32_t id);
  bool IsAllocated(uint32_t id) const { return id < pages_total_ && allocated_[id]; }

 private:
  PageArena(std::unique_ptr<RecordMemory> memory, uint64_t page_bytes, uint32_t pages);

  std::unique_ptr<RecordMemory> memory_;
  uint64_t page_bytes_;
  uint32_t pages_total_;
  uint32_t pages_used_ = 0;
  uint32_t next_fresh_ = 0;  // pages from here on were never handed out
  std::vector<uint32_t> freed_;
  std::vector<bool> allocated_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_PAGE_ARENA_H_
