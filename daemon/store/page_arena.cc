#include "daemon/store/page_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <limits>

#include "absl/base/optimization.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
// Below this a huge page would waste a good part of the cache.
constexpr size_t kHugePagesFrom = 32 * kHugePageBytes;
// The all-ones number is nobody's page.
constexpr uint64_t kMaxPages = std::numeric_limits<uint32_t>::max() - 1;

std::byte* AlignUp(std::byte* address, size_t alignment) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return address + (alignment - value % alignment) % alignment;
}

}  // namespace

absl::StatusOr<std::unique_ptr<PageArena>> PageArena::Create(uint64_t page_bytes, uint64_t pages) {
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
  const bool huge = bytes >= kHugePagesFrom;
  const size_t mapping_bytes = bytes + (huge ? kHugePageBytes : 0);
  // NORESERVE: nothing is committed or touched here, which is what makes start-up instant.
  void* mapping = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot reserve ", mapping_bytes, " bytes for the cache: ", strerror(errno)));
  }
  auto* start = static_cast<std::byte*>(mapping);
  std::byte* base = huge ? AlignUp(start, kHugePageBytes) : start;
  // Attention streams through pages: huge ones save most of its TLB misses. Advice only; a kernel
  // without them is fine.
  if (huge) madvise(base, bytes, MADV_HUGEPAGE);
  // A core dump of the whole cache helps nobody.
  madvise(base, bytes, MADV_DONTDUMP);
  return std::unique_ptr<PageArena>(
      new PageArena(start, mapping_bytes, base, page_bytes, static_cast<uint32_t>(pages)));
}

PageArena::PageArena(std::byte* mapping, size_t mapping_bytes, std::byte* base, uint64_t page_bytes,
                     uint32_t pages)
    : mapping_(mapping),
      mapping_bytes_(mapping_bytes),
      base_(base),
      page_bytes_(page_bytes),
      pages_total_(pages),
      allocated_(pages, false) {}

PageArena::~PageArena() { munmap(mapping_, mapping_bytes_); }

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
