// `PageArena` owns a lane's cache memory as one range of equal pages and hands out page numbers.
//
// The range is only reserved at first: a page costs memory when it is first written, so a daemon
// with a large cache starts at once. Pages that were freed are handed out again before fresh ones,
// the warmest first.
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

namespace latentd {

class PageArena {
 public:
  // RESOURCE_EXHAUSTED when the address space cannot be had; INVALID_ARGUMENT for pages of 0 bytes,
  // no pages, or more than page numbers can name.
  static absl::StatusOr<std::unique_ptr<PageArena>> Create(uint64_t page_bytes, uint64_t pages);
  ~PageArena();
  PageArena(const PageArena&) = delete;
  PageArena& operator=(const PageArena&) = delete;

  std::byte* base() const { return base_; }
  uint64_t bytes() const { return page_bytes_ * pages_total_; }
  uint64_t page_bytes() const { return page_bytes_; }
  std::byte* page(uint32_t id) const { return base_ + id * page_bytes_; }

  uint32_t pages_total() const { return pages_total_; }
  uint32_t pages_free() const { return pages_total_ - pages_used_; }

  // A page whose contents are whatever they were; nothing when the arena is full.
  std::optional<uint32_t> Allocate();
  // REQUIRES: `id` is allocated.
  void Free(uint32_t id);
  bool IsAllocated(uint32_t id) const { return id < pages_total_ && allocated_[id]; }

 private:
  PageArena(std::byte* mapping, size_t mapping_bytes, std::byte* base, uint64_t page_bytes,
            uint32_t pages);

  std::byte* mapping_;
  size_t mapping_bytes_;
  std::byte* base_;
  uint64_t page_bytes_;
  uint32_t pages_total_;
  uint32_t pages_used_ = 0;
  uint32_t next_fresh_ = 0;  // pages from here on were never handed out
  std::vector<uint32_t> freed_;
  std::vector<bool> allocated_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_PAGE_ARENA_H_
