#include "client/chunk_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/rope.h"
#include "kernels/rotate.h"
#include "routing/layout_rope.h"

namespace latentd {
namespace {

// Of a large page, where the system has some.
constexpr uint64_t kAlignment = uint64_t{2} << 20;

}  // namespace

absl::StatusOr<std::unique_ptr<ChunkCache>> ChunkCache::Create(const Layout& layout, uint64_t bytes,
                                                               int threads) {
  const uint64_t whole = bytes / layout.page_bytes() * layout.page_bytes();
  if (whole == 0) {
    return absl::InvalidArgumentError(absl::StrCat("cache_bytes: got ", bytes,
                                                   ", expected at least the ", layout.page_bytes(),
                                                   " of a page of the layout"));
  }
  const uint64_t size = (whole + kAlignment - 1) / kAlignment * kAlignment;
  Memory memory(size < whole ? nullptr
                             : static_cast<std::byte*>(std::aligned_alloc(kAlignment, size)));
  if (memory == nullptr)
    return absl::ResourceExhaustedError(absl::StrCat("cache_bytes: no memory for ", whole));
  madvise(memory.get(), size, MADV_HUGEPAGE);
  return std::unique_ptr<ChunkCache>(new ChunkCache(layout, whole, std::move(memory), threads));
}

ChunkCache::ChunkCache(const Layout& layout, uint64_t bytes, Memory memory, int threads)
    : layout_(layout),
      memory_(std::move(memory)),
      pages_(layout.layers, layout.page_bytes(), bytes),
      attention_(MakeCpuBackend({.geometry = layout.geometry(),
                                 .format = layout.record_format,
                                 .cache = {.arena = memory_.get(),
                                           .page_bytes = layout.page_bytes(),
                                           .layer_bytes = layout.layer_bytes()},
                                 .threads = threads})) {}

absl::StatusOr<Rotation> ChunkCache::RotationBy(int32_t position_shift) const {
  if (position_shift == 0) return Rotation();
  const absl::StatusOr<Rope> rope = Rope::Make(RopeOf(layout_));
  if (!rope.ok()) return rope.status();
  return rope->RotationBy(position_shift);
}

std::byte* ChunkCache::RecordAt(uint32_t page, uint32_t layer, uint32_t token) const {
  return memory_.get() + page * layout_.page_bytes() + layer * layout_.layer_bytes() +
         token * layout_.record_bytes();
}

void ChunkCache::Store(PageCache::Use& use, const Rotation& rotation, const ChunkRange& range,
                       std::span<const std::byte> records) {
  const uint64_t record_bytes = layout_.record_bytes();
  const uint32_t page = range.first_token / kPageTokens;
  const uint32_t first = range.first_token % kPageTokens;
  const uint64_t here =
      (range.tokens == kPageTokens ? ~uint64_t{0} : (uint64_t{1} << range.tokens) - 1) << first;
  for (uint32_t i = 0; i < range.layers; ++i) {
    const uint32_t layer = range.first_layer + i;
    const std::byte* from = records.data() + i * range.tokens * record_bytes;
    uint64_t lacks = here & ~use.Arrived(layer, page);
    use.MarkArrived(layer, page, lacks);
    while (lacks != 0) {
      const auto at = static_cast<uint32_t>(std::countr_zero(lacks));
      const auto tokens = static_cast<uint32_t>(std::countr_one(lacks >> at));
      std::byte* to = RecordAt(use.page_ids()[page], layer, at);
      std::memcpy(to, from + (at - first) * record_bytes, tokens * record_bytes);
      if (!rotation.identity()) {
        RotateRecords(layout_.geometry(), layout_.record_format, rotation, to, tokens);
        spliced_records_ += tokens;
      }
      fetched_bytes_ += tokens * record_bytes;
      // Adding to the lowest bit of a run clears the run.
      lacks &= lacks + (uint64_t{1} << at);
    }
  }
}

const std::byte* ChunkCache::Find(const PageCache::Use& use, uint32_t layer, uint32_t token) const {
  const uint32_t page = token / kPageTokens;
  if ((use.Arrived(layer, page) >> token % kPageTokens & 1) == 0) return nullptr;
  return RecordAt(use.page_ids()[page], layer, token % kPageTokens);
}

CacheCounters ChunkCache::counters() const {
  return {.capacity_bytes = pages_.capacity_bytes(),
          .bytes = pages_.bytes_in_use(),
          .peak_bytes = pages_.peak_bytes(),
          .evictions = pages_.evictions(),
          .fetched_bytes = fetched_bytes_,
          .spliced_records = spliced_records_,
          .hits = hits_,
          .misses = misses_};
}

}  // namespace latentd
