#include "daemon/store/page_arena.h"

#include <limits>
#include <utility>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

// The all-ones number is nobody's page.
constexpr uint64_t kMaxPages = std::numeric_limits<uint32_t>::max() - 1;

}  // namespace

absl::StatusOr<std::unique_ptr<PageArena>> PageArena::Create(uint64_t page_bytes, uint64_t pages,
                                                             const AllocateRecordMemory& allocate) {
  if (page_bytes == 0 || pages == 0 || pages > kMaxPages) {
    return absl::InvalidArgumentError(absl::StrCat("a cache of ", pages, " pages of ", page_bytes,
                                                   " bytes each; it needs 1 to ", kMaxPages,
                                                   " pages of at least one byte"));
  }
  const uint64_t bytes = page_bytes * pages;
  if (bytes / pages != page_bytes || bytes > uint64_t{1} << 46) {
    return absl::ResourceExhaustedError(absl::StrCat("a cache of ", pages, " pages of ", page_bytes,
                                                     " bytes has no address space"));
  }
  absl::StatusOr<std::unique_ptr<RecordMemory>> memory = allocate(bytes);
  if (!memory.ok()) return memory.status();
  return std::unique_ptr<PageArena>(
      new PageArena(*std::move(memory), page_bytes, static_cast<uint32_t>(pages)));
}

PageArena::PageArena(std::unique_ptr<RecordMemory> memory, uint64_t page_bytes, uint32_t pages)
    : memory_(std::move(memory)),
      page_bytes_(page_bytes),
      pages_total_(pages),
      allocated_(pages, false) {}

std::optional<uint32_t> PageArena::Allocate() {
  uint32_t id = 0;
  if (!freed_.empty()) {
    id = freed_.back();
    freed_.pop_back();
  } else if (next_fresh_ < pages_total_) {
    id = next_fresh_++;
  } else {
    return std::nullopt;
  }
  allocated_[id] = true;
  ++pages_used_;
  return id;
}

void PageArena::Free(uint32_t id) {
  ABSL_ASSERT(IsAllocated(id));
  allocated_[id] = false;
  --pages_used_;
  freed_.push_back(id);
}

}  // namespace latentd
